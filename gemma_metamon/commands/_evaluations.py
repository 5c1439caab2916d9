"""The flags of `train` that let checkpoints play while it trains."""

import argparse
import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from gemma_metamon.commands._arguments import at_least_one, refuse_void
from gemma_metamon.extras import require_extra

if TYPE_CHECKING:
    from gemma_metamon.loops.background_evaluation import EvaluationPlan, Evaluations
    from gemma_metamon.training.tracking import Tracker

logger = logging.getLogger(__name__)

_USUAL = {
    "eval_every": 1,
    "eval_opponents": ["RandomPlayer", "MaxBasePowerPlayer", "SimpleHeuristicsPlayer"],
    "eval_battles": 50,
    "eval_device": "cpu",
}


def add_evaluation_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds them as a group."""
    evaluation = parser.add_argument_group(
        "evaluation while training",
        "New checkpoints play in a process of their own, at low priority and one at a time; training does not wait for "
        "them. Results go to evaluations.jsonl in the run's folder. A checkpoint that still waits when the next one is "
        "there is passed over; the last one is always played, and what a stop has cut off when the run goes on.",
    )
    evaluation.add_argument(
        "--eval_gens", nargs="*", type=at_least_one, metavar="GEN", help="generations to play: 1 9 is gen1ou and gen9ou"
    )
    evaluation.add_argument(
        "--eval_every", type=at_least_one, default=_USUAL["eval_every"], help="epochs between (default: %(default)s)"
    )
    evaluation.add_argument(
        "--eval_opponents",
        nargs="+",
        default=_USUAL["eval_opponents"],
        help="as of `evaluate` (default: %(default)s)",
    )
    evaluation.add_argument(
        "--eval_battles", type=at_least_one, default=_USUAL["eval_battles"], help="per opponent (default: %(default)s)"
    )
    evaluation.add_argument(
        "--eval_device", default=_USUAL["eval_device"], help="where the agent plays (default: %(default)s)"
    )


def check_evaluation(args: argparse.Namespace) -> None:
    """Raises for what would make every evaluation fail, and ConfigError for what no evaluation would heed."""
    if args.eval_gens is None:
        refuse_void(args, _USUAL, "without --eval_gens no checkpoint plays")
    if not args.eval_gens:  # none behind the flag: a command line of metamon's that turns it off
        return
    require_extra("battle", "--eval_gens")
    from gemma_metamon.commands._players import find_players
    from gemma_metamon.runs.loading import usable_device
    from gemma_metamon.showdown.simulator.installation import find_node
    from gemma_metamon.showdown.simulator.teams import load_teams

    usable_device(args.eval_device)
    find_players(args.eval_opponents)
    for battle_format in _eval_formats(args):
        load_teams(battle_format)
    find_node()


def _eval_formats(args: argparse.Namespace) -> list[str]:
    return [f"gen{gen}ou" for gen in args.eval_gens]


def start_evaluations(
    args: argparse.Namespace, run_dir: Path, tracker: "Tracker"
) -> contextlib.AbstractContextManager["Evaluations | None"]:
    """Of the flags of `train`; nothing where they ask for none."""
    if not args.eval_gens:
        return contextlib.nullcontext()
    from gemma_metamon.loops.background_evaluation import Evaluations, find_missed

    plan = _read_plan(args)
    missed = find_missed(run_dir, plan)
    if missed:
        logger.info("not evaluated yet when the run was stopped, and now: epoch %s", ", ".join(map(str, missed)))
    return Evaluations(run_dir, plan, tracker.log_evaluation, missed)


def play_missed(args: argparse.Namespace, run_dir: Path) -> None:
    """Plays what a stop has left of a run that is trained already; raises as `check_evaluation`, or where it trains."""
    if not args.eval_gens:
        return
    from gemma_metamon.loops.background_evaluation import find_missed
    from gemma_metamon.runs.run_folder import training_lock
    from gemma_metamon.training.tracking import Tracker

    if not find_missed(run_dir, _read_plan(args)):
        return
    check_evaluation(args)
    with (
        training_lock(run_dir),
        Tracker(run_dir, args.run_name, {}, wandb=args.log) as tracker,
        start_evaluations(args, run_dir, tracker),
    ):
        pass  # its end waits for them


def _read_plan(args: argparse.Namespace) -> "EvaluationPlan":
    from gemma_metamon.loops.background_evaluation import EvaluationPlan

    return EvaluationPlan(
        every=args.eval_every,
        last_epoch=args.epochs,
        formats=_eval_formats(args),
        opponents=args.eval_opponents,
        battles=args.eval_battles,
        device=args.eval_device,
    )

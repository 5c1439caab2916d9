"""The flags of `train` that let checkpoints play while it trains."""

import argparse
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from gemma_metamon.extras import require_extra

if TYPE_CHECKING:
    from gemma_metamon.loops.background_evaluation import Evaluations
    from gemma_metamon.training.tracking import Tracker


def check_evaluation(args: argparse.Namespace) -> None:
    """Raises for what would make every evaluation fail."""
    if not args.eval_gens:
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
    from gemma_metamon.loops.background_evaluation import EvaluationPlan, Evaluations

    plan = EvaluationPlan(
        every=args.eval_every,
        last_epoch=args.epochs,
        formats=_eval_formats(args),
        opponents=args.eval_opponents,
        battles=args.eval_battles,
        device=args.eval_device,
    )
    return Evaluations(run_dir, plan, tracker.log_evaluation)

"""`gemma-metamon improve`: collect, prepare, train, evaluate, round after round."""

import argparse
import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemma_metamon.atomic_files import put_in_order
from gemma_metamon.commands._arguments import (
    SPACES,
    add_gin_arguments,
    add_shared_argument,
    add_space_arguments,
    add_tokenizer_argument,
    at_least_one,
    load_view,
    make_folder,
    not_negative,
    share,
    zero_or_above,
)
from gemma_metamon.commands._cluster import require_ray
from gemma_metamon.errors import ConfigError
from gemma_metamon.extras import require_extra
from gemma_metamon.loops.steps import Journal, carry_out, only_worker

if TYPE_CHECKING:
    from gemma_metamon.commands._arguments import Subparsers
    from gemma_metamon.runs.identity import RunDescription

EXAMPLE = """example:
  gemma-metamon improve --run_dir runs/first --format gen1ou --rounds 5 --battles_per_round 200 --steps_per_round 300 \\
      --opponents SimpleHeuristicsPlayer MaxBasePowerPlayer --label_by "LookaheadTrainer(forks=300)" --anew \\
      --out improved
In each round the newest agent plays against itself, the rounds before it and --opponents; its battles are prepared; it
is trained on them, on those of earlier rounds and on the battles it began with; and it is rated: against its parent,
the agent of the round before, and the first by --parent_battles, against the other rounds and --eval_opponents by
--eval_battles. Any player that `evaluate` takes may be an opponent or an expert.
--experts play the same opponents, and their views are learned from like the agent's own. --label_by has a scripted
player say at each state that the agent gets into what it would do there, and training imitates that (DAgger); with it
and an imitation's --train_gin_config the agent comes near that player, from where another expert takes over.
Stopped at any point and started again with the same flags, it goes on where it was;
with a larger --rounds it goes on after the last. Of --out improved, improved/improved is the agent's run: improved@3
is the agent of round 3, improved@0 what it began with. improved/report.html shows ratings and training."""

# what may differ when it is started again
FREE = {
    "rounds",
    "concurrency",
    "device",
    "workers",
    "ray",
    "timeout_s",
    "dloader_workers",
    "json",
    "out",
    "run",
    "command",
    "debug",
}


def add_parser(subparsers: "Subparsers") -> None:
    """Adds `gemma-metamon improve` with its flags."""
    parser = subparsers.add_parser(
        "improve",
        help="let an agent play, learn from it and be rated, round after round",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="the folder for everything, new or to go on with")
    start = parser.add_argument_group("what it begins with")
    start.add_argument("--run_dir", metavar="RUN_DIR[@EPOCH]", help="a run of `train` (default: an untrained agent)")
    start.add_argument("--model_gin_config", help="a model config's name or path (default: what run_dir trained with)")
    add_gin_arguments(start)
    add_space_arguments(start, instead="that of run_dir")
    add_tokenizer_argument(start)
    rounds = parser.add_argument_group("rounds")
    rounds.add_argument("--format", required=True, help="the battle format, such as gen1ou")
    rounds.add_argument("--rounds", type=at_least_one, required=True, help="how many, in all")
    rounds.add_argument("--battles_per_round", type=at_least_one, required=True, help="battles to collect")
    rounds.add_argument("--steps_per_round", type=at_least_one, required=True, help="updates to train")
    battles = parser.add_argument_group("battles")
    battles.add_argument(
        "--opponents",
        nargs="+",
        metavar="PLAYER",
        default=["SimpleHeuristicsPlayer", "MaxBasePowerPlayer"],
        help="besides itself and rounds before; who is named twice is met twice as often (default: %(default)s)",
    )
    battles.add_argument(
        "--past_rounds", type=not_negative, default=2, help="rounds before that it meets (default: %(default)s)"
    )
    battles.add_argument(
        "--experts",
        nargs="+",
        metavar="PLAYER",
        default=[],
        help="play beside the agent, and are learned from like it",
    )
    battles.add_argument("--label_by", metavar="PLAYER", help="a scripted player, whose choices training imitates")
    battles.add_argument(
        "--record_opponents",
        nargs="*",
        metavar="PLAYER",
        default=False,
        help="learn from the views of --opponents as well, or of these among them",
    )
    add_shared_argument(battles, "temperature", type=zero_or_above, help="of its draws (default: %(default)s)")
    battles.add_argument(
        "--max_turns", type=at_least_one, default=300, help="cut off longer battles (default: %(default)s)"
    )
    for name in ("team_dir", "concurrency", "timeout_s"):
        add_shared_argument(battles, name)
    add_shared_argument(battles, "device", help="to play on: cpu, cuda, ... (default: cuda where there is one)")
    training = parser.add_argument_group("training")
    training.add_argument("--parsed_replay_dir", type=Path, help="battles that it begins with (default: the bundled)")
    training.add_argument(
        "--anew",
        action="store_true",
        help="each round begins with its parent's weights alone: optimizer, warm-ups and rate begin anew",
    )
    training.add_argument(
        "--collected_share",
        type=share,
        default=0.5,
        help="share of draws from what it collected (default: %(default)s)",
    )
    training.add_argument(
        "--batch_size_per_gpu", type=at_least_one, default=12, help="battles in a batch (default: %(default)s)"
    )
    training.add_argument(
        "--grad_accum", type=at_least_one, default=1, help="batches in an update (default: %(default)s)"
    )
    training.add_argument(
        "--dloader_workers", type=not_negative, default=0, help="processes that read (default: %(default)s)"
    )
    training.add_argument(
        "--workers",
        type=at_least_one,
        default=os.cpu_count() or 1,
        help="processes that play and prepare (default: one per core)",
    )
    add_shared_argument(training, "ray")
    add_shared_argument(training, "seed", help="of all that is drawn (default: %(default)s)")
    evaluation = parser.add_argument_group("evaluation")
    evaluation.add_argument(
        "--eval_opponents",
        nargs="+",
        metavar="PLAYER",
        default=["RandomPlayer", "MaxBasePowerPlayer", "SimpleHeuristicsPlayer"],
        help="besides all rounds before (default: %(default)s)",
    )
    evaluation.add_argument(
        "--eval_battles", type=at_least_one, default=100, help="against each (default: %(default)s)"
    )
    evaluation.add_argument(
        "--parent_battles",
        type=at_least_one,
        default=1000,
        help="against the round before, and against the first (default: %(default)s)",
    )
    add_shared_argument(parser, "json")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Works through the rounds and prints the ratings of everybody. Returns the exit status."""
    from gemma_metamon.commands._round_steps import Rounds
    from gemma_metamon.loops.round_results import as_table, report

    require_extra("battle", "improve")
    require_extra("report", "improve")
    require_ray(args)
    _check(args)
    begin = _begin(args)
    settings = {name: _as_json(value) for name, value in vars(args).items() if name not in FREE}
    rounds = Rounds(args, begin)
    rounds.check_names()
    make_folder(args.out, "out")
    with only_worker(args.out):
        put_in_order(args.out)
        journal = Journal(args.out / "improve.json", settings)
        rounds.check_folder(journal)
        carry_out(rounds.steps(), journal, rounds.work)
        results = report(args.out, rounds.run_dir, args.rounds)
    print(json.dumps(dataclasses.asdict(results)) if args.json else as_table(results))
    return 0


def _check(args: argparse.Namespace) -> None:
    """Raises ConfigError for flags that cannot work, alone or together, MissingFileError for teams or battles."""
    from gemma_metamon import sample_battles
    from gemma_metamon.battle.replays import find_battles
    from gemma_metamon.data.store_files import is_store
    from gemma_metamon.runs.loading import usable_device
    from gemma_metamon.showdown.simulator.formats import find_teams

    usable_device(args.device)
    if args.run_dir is None and args.model_gin_config is None:
        raise ConfigError(
            "nothing to begin with: give --run_dir of a trained agent, or --model_gin_config for a new one"
        )
    if args.train_gin_config is not None and args.model_gin_config is None:
        # on top of all that the run was trained with, it would leave half of the run's training in force
        raise ConfigError("--train_gin_config needs --model_gin_config, too; without both it trains as run_dir did")
    args.format, _ = find_teams(args.format, args.team_dir)
    if args.parsed_replay_dir is None:
        sample_battles.extract(args.format)
    elif not is_store(args.parsed_replay_dir):
        find_battles(args.parsed_replay_dir, [args.format])


def _begin(args: argparse.Namespace) -> "RunDescription | None":
    """What the agent begins with, None for a new one. Fills in the flags that follow from it.

    Raises ConfigError for a bad configuration, CheckpointMismatchError where run_dir's weights do not fit it.
    """
    from gemma_metamon.runs import resolve
    from gemma_metamon.runs.checkpoints import Checkpoint
    from gemma_metamon.runs.experiment import build_without_weights
    from gemma_metamon.runs.identity import RunIdentity
    from gemma_metamon.runs.loading import require_fit

    checkpoint = begin = None
    if args.run_dir is not None:
        checkpoint = Checkpoint.find_named(args.run_dir)
        args.run_dir = str(checkpoint)
        begin = checkpoint.read_meta()
        for flag in (*SPACES, "tokenizer"):
            if getattr(args, flag) is not None:
                raise ConfigError(f"--{flag} is for a new agent; leave it out: that of --run_dir {args.run_dir} stays")
    view = load_view(args, begin)
    for name in SPACES:
        setattr(args, name, getattr(view, name).name)
    if args.model_gin_config is None and begin is not None:
        resolved = resolve.load_text(begin.config, args.gin_override)
    else:
        resolved = resolve.load(args.model_gin_config, args.train_gin_config, args.gin_override, args.trust_config)
    agent: Any = build_without_weights(view)
    resolved.require_used()
    if checkpoint is not None and begin is not None:
        begin.identity.require(RunIdentity.of(view, agent.tstep_encoder), str(checkpoint.folder))
        require_fit(agent, checkpoint)
    return begin


def _as_json(value: Any) -> Any:
    return str(value.resolve()) if isinstance(value, Path) else value

"""`gemma-metamon sweep`: short trainings over values of bindings and flags, and the best of them as a .gin file."""

import argparse
import json
import logging
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemma_metamon.commands._arguments import (
    add_shared_argument,
    at_least_one,
    check_paths,
    check_texts,
    make_folder,
    seed,
)
from gemma_metamon.commands._parser import Parser
from gemma_metamon.errors import ConfigError, GemmaMetamonError
from gemma_metamon.extras import require_extra

if TYPE_CHECKING:
    from gemma_metamon.commands._arguments import Subparsers
    from gemma_metamon.sweeps.results import SweepResults
    from gemma_metamon.sweeps.space import Dimension
    from gemma_metamon.sweeps.study import Study
    from gemma_metamon.sweeps.trials import Outcome

logger = logging.getLogger(__name__)

EXAMPLE = """example:
  gemma-metamon sweep rates.sweep --out runs/rates --trials 8 --model_gin_config gemma_tiny_multitaskagent.gin \\
      --train_gin_config quick.gin --formats gen1ou --epochs 1 --steps_per_epoch 50
with rates.sweep
  MetamonAMAGOExperiment.learning_rate = log(1e-4, 1e-2)
  TformerTrajEncoder.dropout_ff = uniform(0.0, 0.2)
  --batch_size_per_gpu = choice(8, 16)
(also integer(LOW, HIGH) and log_integer; a line with one value sets it for all). Other flags are train's and go to
every trial. Each is a run of its own in --out, beside results.json, parallel.png and best.gin. The same command goes on
where it was stopped; a trial that was killed is run again, one that fails is set aside with its reason."""

GIVEN = ("run_name", "save_dir", "ckpt")
FAILURES_AT_FIRST = 5
"""With so many and no other end, what is tried cannot work."""


def add_parser(subparsers: "Subparsers") -> None:
    """Adds the command and its own flags; train's are read by train."""
    parser = subparsers.add_parser(
        "sweep",
        help="try values of bindings and flags, each in a training of its own",
        description="Try values of bindings and flags, each in a training of its own. Passes the other flags to train.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sweep", type=Path, help="a file of lines NAME.PARAMETER = VALUES, or --FLAG = VALUES")
    parser.add_argument("--out", type=Path, required=True, help="the sweep's folder; gone on with where it is there")
    parser.add_argument("--trials", type=at_least_one, default=20, help="in all (default: %(default)s)")
    parser.add_argument(
        "--metric",
        default="held_out/agreement",
        help="what to judge by, of a run's metrics.jsonl, or win_rate with --eval_gens (default: %(default)s)",
    )
    parser.add_argument("--direction", choices=("max", "min"), default="max", help="(default: %(default)s)")
    parser.add_argument(
        "--take", choices=("last", "best", "mean"), default="last", help="of a run's values (default: %(default)s)"
    )
    parser.add_argument(
        "--sampler", choices=("tpe", "random"), default="tpe", help="Optuna's that draws values (default: %(default)s)"
    )
    parser.add_argument("--sampler_seed", type=seed, default=0, help="of what is drawn (default: %(default)s)")
    parser.add_argument(
        "--prune", action="store_true", help="stop a trial that is behind the median of the others at the same update"
    )
    parser.add_argument(
        "--backend",
        choices=("local", "wandb"),
        default="local",
        help="who draws the values: Optuna here, or a sweep of wandb's (default: %(default)s)",
    )
    add_shared_argument(parser, "json")
    parser.set_defaults(run=run, passes_on=True)


def run(args: argparse.Namespace) -> int:
    """Runs what is left of the trials; prints the table."""
    require_extra("sweep", "sweep")
    from gemma_metamon.loops.steps import only_worker
    from gemma_metamon.sweeps.results import as_table
    from gemma_metamon.sweeps.space import read_space
    from gemma_metamon.sweeps.study import kept

    check_texts([*map(str, (args.sweep, args.out)), *args.passed])
    check_paths(args)
    dimensions = read_space(args.sweep)
    _require_trainable(args, dimensions)
    make_folder(args.out, "out")
    try:
        with only_worker(args.out), kept(args.out):
            results = _run_with(args, dimensions)
    except KeyboardInterrupt:
        logger.info("the same command goes on: what is complete stays, and the trial that was half done is run again")
        raise
    print(json.dumps(asdict(results)) if args.json else as_table(results, dimensions))
    if results.best is None:
        raise GemmaMetamonError(f"no trial of {len(results.trials)} has a value; their reasons are above")
    if not args.json:
        value = next(row.value for row in results.trials if row.number == results.best)
        tied = sum(row.state == "complete" and row.value == value for row in results.trials)
        which = f"the first of {tied} equally good" if tied > 1 else "the best"
        print(f"\n{which} is {args.out / 'best.gin'}; its first lines say how to train with it")
    return 0


def _run_with(args: argparse.Namespace, dimensions: "tuple[Dimension, ...]") -> "SweepResults":
    from gemma_metamon.sweeps.study import Study

    settings = {
        "sweep": [asdict(dimension) for dimension in dimensions],
        "flags of train": args.passed,
        **{name: getattr(args, name) for name in ("metric", "direction", "take")},
    }
    study = Study(
        args.out,
        dimensions,
        settings,
        maximize=args.direction == "max",
        sampler=args.sampler,
        seed=args.sampler_seed,
        prune=args.prune,
    )
    left = study.take_up()
    if left:
        logger.info("%d trial was left half done, and its values come again", left)
    work = _Work(args, dimensions, study)
    if args.backend == "wandb":
        from gemma_metamon.sweeps import wandb_sweep

        reason = wandb_sweep.why_not()
        if reason is None:
            sweep = wandb_sweep.as_wandb(
                dimensions, metric=args.metric, direction=args.direction, sampler=args.sampler, name=args.out.name
            )
            wandb_sweep.run(args.out, sweep, max(args.trials - work.write(), 0), work.run_trial, args.metric)
            work.write()
            return work.results()
        logger.warning("--backend wandb: %s, so the values are drawn on this machine, as with --backend local", reason)
    while not work.is_done(work.write()):
        work.run_trial()
    return work.results()


class _Work:
    """Trials one after the other, and what they leave in --out."""

    def __init__(self, args: argparse.Namespace, dimensions: "tuple[Dimension, ...]", study: "Study") -> None:
        self.args, self.dimensions, self.study = args, dimensions, study
        self.logs = args.out / "logs"
        make_folder(self.logs, "out")
        takes: dict[str, Callable[[Sequence[float]], float]] = {
            "last": lambda values: values[-1],
            "best": max if args.direction == "max" else min,
            "mean": statistics.fmean,
        }
        self.take = takes[args.take]

    def results(self) -> "SweepResults":
        from gemma_metamon.sweeps.results import collect

        return collect(self.study.rows(), self.args.metric, self.args.direction)

    def write(self) -> int:
        """Writes down what is known; returns how many trials need not come again."""
        from gemma_metamon.sweeps.results import write

        so_far, command = self.results(), list[str]()
        if so_far.best is not None:
            row = next(row for row in so_far.trials if row.number == so_far.best)
            command = _arguments(self.args, self.dimensions, row.values, "NAME")
        write(self.args.out, so_far, self.dimensions, command)
        return sum(row.state != "killed" for row in so_far.trials)

    def is_done(self, ended: int) -> bool:
        """Whether there are enough, or so many that failed and no other."""
        failed = self.study.ended()["failed"]
        return ended >= self.args.trials or (ended == failed >= FAILURES_AT_FIRST)

    def run_trial(self, given: Mapping[str, Any] | None = None) -> "Outcome":
        """The next one; of values that somebody else has drawn, where there are some."""
        from gemma_metamon.commands import main
        from gemma_metamon.sweeps import trials
        from gemma_metamon.sweeps.results import trial_name

        trial, values = self.study.ask(given)
        name = trial_name(trial.number)
        shown = ", ".join(f"{key} = {value}" for key, value in values.items())
        logger.info("%s: %s", name, shown)
        started = time.monotonic()
        outcome = trials.run_trial(
            main,
            _arguments(self.args, self.dimensions, values, name),
            self.args.out / name,
            self.logs / f"{name}.log",
            self.args.metric,
            best_of=self.take,
            should_stop=lambda step, value: self.study.report(trial, step, value),
        )
        self.study.tell(trial, outcome, time.monotonic() - started)
        said = outcome.reason if outcome.value is None else f"{self.args.metric} {outcome.value:.5g}"
        logger.info("%s: %s, %s", name, outcome.state, said)
        return outcome


def _arguments(
    args: argparse.Namespace, dimensions: "tuple[Dimension, ...]", values: dict[str, str], name: str
) -> list[str]:
    from gemma_metamon.sweeps.space import as_arguments

    given = ["--run_name", name, "--save_dir", str(args.out)]
    return ["train", *args.passed, *given, *as_arguments(dimensions, values)]


def _require_trainable(args: argparse.Namespace, dimensions: "tuple[Dimension, ...]") -> None:
    """Raises what train says of the flags, and of the ends of each range and every choice, before any is tried.

    And what is wrong with the metric.
    """
    from gemma_metamon.commands._training_plan import add_flags, plan_training
    from gemma_metamon.runs.experiment import build_without_weights
    from gemma_metamon.sweeps.objective import require_metric

    for argument in args.passed:
        flag = argument.partition("=")[0].removeprefix("--")
        if flag in GIVEN:
            raise ConfigError(f"--{flag} is the sweep's to give: each trial is a run in --out; leave it out")
        if f"--{flag}" in {dimension.name for dimension in dimensions}:
            raise ConfigError(f"--{flag} is in {args.sweep}, too, which would be used; leave it out in one of the two")
    sides: list[dict[str, str]] = []
    most = max(len(dimension.ends()) for dimension in dimensions)
    for place in range(most):
        sides.append({d.name: d.ends()[min(place, len(d.ends()) - 1)] for d in dimensions if not d.is_fixed})
    parser = Parser(prog="gemma-metamon sweep", add_help=False)
    add_flags(parser)
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.WARNING)  # what train says of its battles, each trial's log has
    try:
        for values in sides:
            trial = parser.parse_args(_arguments(args, dimensions, values, "trial_9999")[1:])
            check_paths(trial)
            plan = plan_training(trial, args.out / "trial_9999")
            agent: Any = build_without_weights(plan.dataset.view)
            require_metric(
                args.metric,
                holds_out=bool(plan.held_out),
                uses_critics=agent.uses_critics,
                evaluates=bool(trial.eval_gens),
            )
    finally:
        root.setLevel(level)

"""`gemma-metamon improve`: collect, prepare, train, evaluate, round after round."""

import argparse
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemma_metamon.commands._arguments import (
    SPACES,
    add_gin_arguments,
    add_space_arguments,
    add_tokenizer_argument,
    load_vocabulary,
    make_folder,
    require_at_least_one,
    require_not_negative,
    require_seed,
    require_share,
)
from gemma_metamon.commands._rounds import Journal, Step, carry_out, run_command
from gemma_metamon.errors import ConfigError, GemmaMetamonError
from gemma_metamon.extras import require_extra
from gemma_metamon.whole_files import written_whole

if TYPE_CHECKING:
    from gemma_metamon.commands._arguments import Subparsers
    from gemma_metamon.training.checkpoints import RunDescription

EXAMPLE = """example:
  gemma-metamon improve --run_dir runs/first --format gen1ou --rounds 5 --battles_per_round 200 --steps_per_round 300 \\
      --opponents SimpleHeuristicsPlayer MaxBasePowerPlayer --out improved
In each round the newest agent plays against itself, the rounds before it and --opponents; its battles are prepared; it
is trained on them, on those of earlier rounds and on the battles it began with; and it is rated against all rounds
before it and --eval_opponents. Stopped at any point and started again with the same flags, it goes on where it was;
with a larger --rounds it goes on after the last. Of --out improved, improved/improved is the agent's run: improved@3
is the agent of round 3, improved@0 what it began with. improved/report.html shows ratings and training."""

ROUND = ("collect", "prepare", "train", "evaluate")
BEGIN = "begin"
# what may differ when it is started again
FREE = {"rounds", "concurrency", "device", "workers", "dloader_workers", "json", "out", "run", "command", "debug"}


def add_parser(subparsers: "Subparsers") -> None:
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
    rounds.add_argument("--rounds", type=int, required=True, help="how many, in all")
    rounds.add_argument("--battles_per_round", type=int, required=True, help="battles to collect")
    rounds.add_argument("--steps_per_round", type=int, required=True, help="updates to train")
    battles = parser.add_argument_group("battles")
    battles.add_argument(
        "--opponents",
        nargs="+",
        metavar="PLAYER",
        default=["SimpleHeuristicsPlayer", "MaxBasePowerPlayer"],
        help="besides itself and rounds before; who is named twice is met twice as often (default: %(default)s)",
    )
    battles.add_argument(
        "--past_rounds", type=int, default=2, help="rounds before that it meets (default: %(default)s)"
    )
    battles.add_argument("--record_opponents", action="store_true", help="learn from the opponents' views as well")
    battles.add_argument("--temperature", type=float, default=1.0, help="of its draws (default: %(default)s)")
    battles.add_argument("--max_turns", type=int, default=300, help="cut off longer battles (default: %(default)s)")
    battles.add_argument("--team_dir", type=Path, help="a folder of teams (default: the packaged teams)")
    battles.add_argument("--concurrency", type=int, default=16, help="battles at a time (default: %(default)s)")
    battles.add_argument("--device", help="to play on: cpu, cuda, ... (default: cuda where there is one)")
    training = parser.add_argument_group("training")
    training.add_argument("--parsed_replay_dir", type=Path, help="battles that it begins with (default: the bundled)")
    training.add_argument(
        "--collected_share",
        type=float,
        default=0.5,
        help="share of draws from what it collected (default: %(default)s)",
    )
    training.add_argument(
        "--batch_size_per_gpu", type=int, default=12, help="battles in a batch (default: %(default)s)"
    )
    training.add_argument("--grad_accum", type=int, default=1, help="batches in an update (default: %(default)s)")
    training.add_argument("--dloader_workers", type=int, default=0, help="processes that read (default: %(default)s)")
    training.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes that prepare (default: one per core)"
    )
    training.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    evaluation = parser.add_argument_group("evaluation")
    evaluation.add_argument(
        "--eval_opponents",
        nargs="+",
        metavar="PLAYER",
        default=["RandomPlayer", "MaxBasePowerPlayer", "SimpleHeuristicsPlayer"],
        help="besides all rounds before (default: %(default)s)",
    )
    evaluation.add_argument("--eval_battles", type=int, default=100, help="against each (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from filelock import FileLock, Timeout

    from gemma_metamon.commands._round_results import as_table, report

    require_extra("battle", "improve")
    require_extra("report", "improve")
    _check(args)
    begin = _begin(args)
    settings = {name: _as_json(value) for name, value in vars(args).items() if name not in FREE}
    journal = Journal(args.out / "improve.json", settings)
    rounds = Rounds(args, begin)
    rounds.check_players()
    make_folder(args.out, "out")
    try:
        with FileLock(args.out / ".lock", timeout=0):
            carry_out(rounds.steps(), journal, rounds.work)
    except Timeout as error:
        raise GemmaMetamonError(f"another process works in {args.out}; wait for it, or choose another --out") from error
    results = report(args.out, rounds.run_dir, args.rounds)
    print(json.dumps(results) if args.json else as_table(results))
    return 0


def _check(args: argparse.Namespace) -> None:
    """Raises ConfigError for flags that cannot work, alone or together, MissingFileError for teams or battles."""
    from gemma_metamon import sample_battles
    from gemma_metamon.battle.replays import find_battles
    from gemma_metamon.showdown.formats import find_teams
    from gemma_metamon.training.checkpoints import usable_device
    from gemma_metamon.training.store import is_store

    numbers = ("rounds", "battles_per_round", "steps_per_round", "max_turns", "concurrency", "batch_size_per_gpu")
    require_at_least_one(args, *numbers, "grad_accum", "workers", "eval_battles")
    require_share(args, "collected_share")
    require_not_negative(args, "past_rounds", "temperature", "dloader_workers")
    require_seed(args)
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
    """What the agent begins with, None for a new one. Fills in the flags that follow from it."""
    from gemma_metamon.training import checkpoints

    begin = None
    if args.run_dir is not None:
        folder = checkpoints.find_named(args.run_dir)
        args.run_dir = f"{folder.parent.parent}@{folder.name.removeprefix('epoch_')}"
        begin = checkpoints.read_meta(folder)
        for flag in (*SPACES, "tokenizer"):
            if getattr(args, flag) is not None:
                raise ConfigError(f"--{flag} is for a new agent; leave it out: that of --run_dir {args.run_dir} stays")
    for name, (default, _) in SPACES.items():
        if getattr(args, name) is None:
            setattr(args, name, default if begin is None else getattr(begin.identity, name))
    _check_config(args, begin)
    return begin


def _check_config(args: argparse.Namespace, begin: "RunDescription | None") -> None:
    """Raises ConfigError for a bad configuration, CheckpointMismatchError where run_dir's weights do not fit it."""
    import torch

    from gemma_metamon import configs
    from gemma_metamon.text.view import BattleView
    from gemma_metamon.training import checkpoints

    if args.model_gin_config is None and begin is not None:
        configs.load_text(begin.config, args.gin_override)
    else:
        configs.load(args.model_gin_config, args.train_gin_config, args.gin_override)
    spaces = {name: getattr(args, name) for name in SPACES}
    view = BattleView.from_names(**spaces, vocabulary=load_vocabulary(args)) if begin is None else begin.view()
    with torch.device("meta"):
        agent = configs.configurable(configs.EXPERIMENT)().build_agent(view)
    if begin is not None:
        folder = checkpoints.find_named(args.run_dir)
        begin.identity.require(checkpoints.identify(view), str(folder))
        checkpoints.require_fit(agent, folder)


def _as_json(value: Any) -> Any:
    return str(value.resolve()) if isinstance(value, Path) else value


class Rounds:
    """The steps, and what each of them is: a command, after what a stopped one has left is put in order."""

    def __init__(self, args: argparse.Namespace, begin: "RunDescription | None") -> None:
        self.args = args
        self.begin = begin
        self.out: Path = args.out
        self.run_dir = args.out / args.out.resolve().name  # a run's name is the label of its agents

    def steps(self) -> list[Step]:
        steps = [Step(0, "begin")]
        if self.begin is not None:
            steps.append(Step(0, "evaluate"))
        for number in range(1, self.args.rounds + 1):
            # nothing can be learnt from the battles of an untrained agent
            names = ["train", "evaluate"] if self.begin is None and number == 1 else list(ROUND)
            steps += [Step(number, name) for name in names]
        return steps

    def work(self, step: Step) -> None:
        {
            "begin": self._begin_with,
            "collect": self._collect,
            "prepare": self._prepare,
            "train": self._train,
            "evaluate": self._evaluate,
        }[step.name](step)

    def check_players(self) -> None:
        """Raises ConfigError or MissingFileError for an opponent that there is not, or that has our name."""
        from gemma_metamon.commands._players import checkpoint_folders

        checkpoint_folders(self.args.opponents)
        for spec, folder in checkpoint_folders(self.args.eval_opponents).items():
            if folder.parent.parent.resolve().name == self.run_dir.name:
                raise ConfigError(
                    f"--eval_opponents {spec} and the agents of this run would both be called {self.run_dir.name!r}; "
                    "choose another name for --out"
                )

    def _agent(self, number: int) -> str:
        return f"{self.run_dir}@{number}"

    def _agents_before(self, number: int) -> list[str]:
        return [self._agent(earlier) for earlier in range(1 if self.begin is None else 0, number)]

    def _begin_with(self, step: Step) -> None:
        """Copies the agent, and prepares the battles: every round trains on them."""
        from gemma_metamon import sample_battles
        from gemma_metamon.training.store import is_store

        if self.begin is not None:
            self._copy_agent()
        given = self.args.parsed_replay_dir
        if given is None or not is_store(given):
            battles = sample_battles.extract(self.args.format) if given is None else given
            self._prepare_store(battles, BEGIN, step)

    def _copy_agent(self) -> None:
        from gemma_metamon.training import checkpoints

        source = checkpoints.find_named(self.args.run_dir)
        with written_whole(checkpoints.checkpoint_folder(self.run_dir, 0)) as staged:
            staged.mkdir(parents=True)
            shutil.copyfile(source / checkpoints.WEIGHTS, staged / checkpoints.WEIGHTS)
            meta = replace(checkpoints.read_meta(source), epoch=0, updates=0, draws=0)
            meta.write(staged / checkpoints.META)

    def _collect(self, step: Step) -> None:
        """Goes on with the battles that are there."""
        args, folder = self.args, self.out / "battles" / _folder_name(step)
        played = _count_battles(folder / args.format)
        if played >= args.battles_per_round:
            return
        agent, before = self._agent(step.round - 1), self._agents_before(step.round - 1)
        past = before[max(0, len(before) - args.past_rounds) :]
        command = ["collect", "--format", args.format, "--battles", str(args.battles_per_round - played)]
        command += ["--players", agent, "--opponents", agent, *past, *args.opponents, "--out", str(folder)]
        command += ["--temperature", str(args.temperature), "--max_turns", str(args.max_turns)]
        # other pairings than those that have been played
        command += ["--seed", str(args.seed + 100_000 * step.round + played), *self._playing_flags()]
        run_command([*command, *(["--record_opponents"] if args.record_opponents else [])], step)

    def _prepare(self, step: Step) -> None:
        name = _folder_name(step)
        self._prepare_store(self.out / "battles" / name, name, step)

    def _prepare_store(self, battles: Path, name: str, step: Step) -> None:
        store = self.out / "stores" / name
        shutil.rmtree(store, ignore_errors=True)
        command = ["prepare", "--parsed_replay_dir", str(battles)]
        command += ["--formats", self.args.format, "--out", str(store), "--workers", str(self.args.workers)]
        run_command([*command, *self._view_flags()], step)

    def _train(self, step: Step) -> None:
        from gemma_metamon.training import checkpoints

        args, number = self.args, step.round
        if number in checkpoints.list_checkpoints(self.run_dir):
            return
        command = ["train", "--run_name", self.run_dir.name, "--save_dir", str(self.out), "--epochs", str(number)]
        if number > 1:
            command += ["--ckpt", str(number - 1)]
        else:
            shutil.rmtree(self.run_dir, ignore_errors=True)
            command += ["--init_from", args.run_dir] if args.run_dir is not None else []
        command += [*self._config_flags(), *self._view_flags(), "--formats", args.format]
        stores = self.out / "stores"
        begin = stores / BEGIN if (stores / BEGIN).exists() else args.parsed_replay_dir
        command += ["--parsed_replay_dir", str(begin)]
        collected = [
            str(stores / _folder_name(done)) for done in self.steps() if done.name == "prepare" and done.round <= number
        ]
        if collected:
            command += ["--custom_replay_dir", *collected, "--custom_replay_sample_weight", str(args.collected_share)]
        command += ["--steps_per_epoch", str(args.steps_per_round), "--grad_accum", str(args.grad_accum)]
        command += ["--batch_size_per_gpu", str(args.batch_size_per_gpu), "--seed", str(args.seed)]
        run_command([*command, "--dloader_workers", str(args.dloader_workers)], step)

    def _evaluate(self, step: Step) -> None:
        from gemma_metamon.commands._round_results import as_table, evaluation_folder, is_evaluated, report

        args, folder = self.args, evaluation_folder(self.out, step.round)
        if not is_evaluated(folder):
            shutil.rmtree(folder, ignore_errors=True)
            command = ["evaluate", "--players", self._agent(step.round), "--format", args.format]
            command += ["--opponents", *self._agents_before(step.round), *args.eval_opponents]
            command += ["--battles", str(args.eval_battles), "--out", str(folder), "--seed", str(args.seed)]
            run_command([*command, *self._playing_flags()], step)
        results = report(self.out, self.run_dir, step.round)
        if step.round < args.rounds:  # the last one's is what the command prints
            print(as_table(results), file=sys.stderr)

    def _playing_flags(self) -> list[str]:
        flags = ["--concurrency", str(self.args.concurrency)]
        for name in ("device", "team_dir"):
            if (value := getattr(self.args, name)) is not None:
                flags += [f"--{name}", str(value)]
        return flags

    def _view_flags(self) -> list[str]:
        flags = [text for name in SPACES for text in (f"--{name}", getattr(self.args, name))]
        tokenizer = self.args.tokenizer
        if tokenizer is None and self.begin is not None and self.begin.vocabulary is not None:
            tokenizer = self._kept("words.json", json.dumps(self.begin.vocabulary))
        return flags if tokenizer is None else [*flags, "--tokenizer", str(tokenizer)]

    def _config_flags(self) -> list[str]:
        args = self.args
        if args.model_gin_config is not None or self.begin is None:
            flags = ["--model_gin_config", args.model_gin_config]
        else:
            flags = ["--model_gin_config", str(self._kept("begin.gin", self.begin.config))]
        if args.train_gin_config is not None:
            flags += ["--train_gin_config", args.train_gin_config]
        return flags + [text for override in args.gin_override for text in ("--gin_override", override)]

    def _kept(self, name: str, text: str) -> Path:
        path = self.out / name
        with written_whole(path) as staged:
            staged.write_text(text, encoding="utf-8")
        return path


def _folder_name(step: Step) -> str:
    return f"round_{step.round}"


def _count_battles(folder: Path) -> int:
    """The battles with at least one view in the folder."""
    from gemma_metamon.battle.replays import BattleFileName, is_battle_file

    names = (path.name for path in folder.glob("*.json.lz4"))
    return len({BattleFileName.parse(name).battle_id for name in names if is_battle_file(name)})

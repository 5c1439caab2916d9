"""What each step of `gemma-metamon improve` does: a command, after what a stopped one has left is put in order.

Every step may be stopped at any moment and is then worked on again from its beginning, but for battles that were
collected and epochs that were trained: those stay.
"""

import argparse
import json
import shutil
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gemma_metamon.atomic_files import put_in_order, written_whole
from gemma_metamon.commands._arguments import SEEDS, SPACES
from gemma_metamon.errors import ConfigError
from gemma_metamon.loops.round_results import EVALUATIONS
from gemma_metamon.loops.steps import Journal, Step, run_command

if TYPE_CHECKING:
    from gemma_metamon.battle.replays import BattleFileName
    from gemma_metamon.runs.identity import RunDescription

ROUND = ("collect", "prepare", "train", "evaluate")
BEGIN = "begin"
BATTLES, STORES = "battles", "stores"


class Rounds:
    """The steps, and the work of each.

    Args:
        args: of the command line.
        begin: what the agent begins with, None for a new one.
    """

    def __init__(self, args: argparse.Namespace, begin: "RunDescription | None") -> None:
        self.args = args
        self.begin = begin
        self.out: Path = args.out
        self.run_dir = args.out / args.out.resolve().name  # a run's name is the label of its agents

    def steps(self) -> list[Step]:
        """All of them, in order, finished or not."""
        steps = [Step(0, "begin")]
        if self.begin is not None:
            steps.append(Step(0, "evaluate"))
        for number in range(1, self.args.rounds + 1):
            # nothing can be learnt from the battles of an untrained agent
            names = ["train", "evaluate"] if self.begin is None and number == 1 else list(ROUND)
            steps += [Step(number, name) for name in names]
        return steps

    def work(self, step: Step) -> None:
        """Does a step. Raises GemmaMetamonError where its command fails."""
        {
            "begin": self._begin_with,
            "collect": self._collect,
            "prepare": self._prepare,
            "train": self._train,
            "evaluate": self._evaluate,
        }[step.name](step)

    def check_names(self) -> None:
        """Raises ConfigError or MissingFileError for an opponent that there is not, or that has our name; for no name.

        The folder's name is the agents', and that of their run beside the other folders: "/" has none.
        """
        from gemma_metamon.commands._players import find_expert, find_players, require_named_opponents

        if not self.run_dir.name:
            raise ConfigError(f"--out {self.out} has no name to call the agents by; name a folder in it")
        if self.run_dir.name in (BATTLES, STORES, EVALUATIONS):
            raise ConfigError(f"--out {self.out}: no agent can be called {self.run_dir.name!r}; choose another name")
        find_players([*self.args.opponents, *self.args.experts])
        require_named_opponents(self.args.record_opponents or (), self.args.opponents)
        if self.args.label_by is not None:
            find_expert(self.args.label_by)
        for player in find_players(self.args.eval_opponents):
            if not player.ensemble and any(run.resolve().name == self.run_dir.name for run in player.run_dirs):
                raise ConfigError(
                    f"--eval_opponents {player.text} and the agents of this run would both be called "
                    f"{self.run_dir.name!r}; choose another name for --out"
                )

    def check_folder(self, journal: Journal) -> None:
        """Raises ConfigError where somebody else's run has the place of ours, which the first round makes anew."""
        from gemma_metamon.runs.checkpoints import list_checkpoints

        if not journal.path.exists() and any(epoch > 0 for epoch in list_checkpoints(self.run_dir)):
            raise ConfigError(f"{self.run_dir} is a run that is no part of this; choose another --out")

    def _agent(self, number: int) -> str:
        return f"{self.run_dir}@{number}"

    def _agents_before(self, number: int) -> list[str]:
        return [self._agent(earlier) for earlier in range(1 if self.begin is None else 0, number)]

    def _begin_with(self, step: Step) -> None:
        """Copies the agent, and prepares the battles: every round trains on them."""
        from gemma_metamon import sample_battles
        from gemma_metamon.data.store_files import is_store

        if self.begin is not None:
            self._copy_agent()
        given = self.args.parsed_replay_dir
        if given is None or not is_store(given):
            battles = sample_battles.extract(self.args.format) if given is None else given
            self._prepare_store(battles, BEGIN, step)

    def _copy_agent(self) -> None:
        from gemma_metamon.runs.checkpoints import Checkpoint, copy_as_start

        copy_as_start(Checkpoint.find_named(self.args.run_dir), self.run_dir)

    def _collect(self, step: Step) -> None:
        """Goes on with the battles that are there."""
        args, folder = self.args, self.out / BATTLES / _folder_name(step)
        every = args.record_opponents == []
        named = [f"{self.run_dir.name}@{step.round - 1}", *args.experts, *(args.record_opponents or ())]
        drop_half_recorded(folder / args.format, named, both_views=every)
        played = count_battles(folder / args.format)
        if played >= args.battles_per_round:
            return
        agent, before = self._agent(step.round - 1), self._agents_before(step.round - 1)
        past = before[max(0, len(before) - args.past_rounds) :]
        command = ["collect", "--format", args.format, "--battles", str(args.battles_per_round - played)]
        command += ["--players", agent, *args.experts, "--opponents", agent, *past, *args.opponents]
        command += ["--out", str(folder)]
        command += [] if args.label_by is None else ["--label_by", args.label_by]
        command += [] if args.record_opponents is False else ["--record_opponents", *args.record_opponents]
        command += ["--temperature", str(args.temperature), "--max_turns", str(args.max_turns)]
        # other pairings than those that have been played
        command += ["--seed", str((args.seed + 100_000 * step.round + played) % SEEDS), *self._playing_flags()]
        self._run(command, step)

    def _prepare(self, step: Step) -> None:
        from gemma_metamon.upstream.datasets import write_beside

        name, battles = _folder_name(step), self.out / BATTLES
        write_beside(battles, sorted(folder for folder in battles.iterdir() if folder.is_dir()))
        self._prepare_store(self.out / BATTLES / name, name, step)

    def _prepare_store(self, battles: Path, name: str, step: Step) -> None:
        store = self.out / STORES / name
        if store.exists():
            shutil.rmtree(store)
        command = ["prepare", "--parsed_replay_dir", str(battles)]
        command += ["--formats", self.args.format, "--out", str(store), "--workers", str(self.args.workers)]
        command += [] if self.args.ray is None else ["--ray", self.args.ray]
        self._run([*command, *self._view_flags()], step)

    def _train(self, step: Step) -> None:
        from gemma_metamon.runs.checkpoints import CHECKPOINTS, list_all, list_checkpoints

        args, number = self.args, step.round
        put_in_order(self.run_dir / CHECKPOINTS)
        if number in list_checkpoints(self.run_dir):
            return
        # asked to end in the middle of this round, it was saved there
        between = [one for one in list_all(self.run_dir) if one.update is not None and one.epoch == number - 1]
        command = ["train", "--run_name", self.run_dir.name, "--save_dir", str(self.out), "--epochs", str(number)]
        if between:
            command += ["--resume", "auto"]
        elif number > 1:
            command += ["--ckpt", str(number - 1), *(["--anew"] if args.anew else [])]
        else:
            if self.run_dir.exists():
                shutil.rmtree(self.run_dir)
            command += ["--init_from", args.run_dir] if args.run_dir is not None else []
        command += [*self._config_flags(), *self._view_flags(), "--formats", args.format]
        stores = self.out / STORES
        begin = stores / BEGIN if (stores / BEGIN).exists() else args.parsed_replay_dir
        command += ["--parsed_replay_dir", str(begin)]
        collected = [
            str(stores / _folder_name(done)) for done in self.steps() if done.name == "prepare" and done.round <= number
        ]
        if collected:
            command += ["--custom_replay_dir", *collected, "--custom_replay_sample_weight", str(args.collected_share)]
        command += ["--steps_per_epoch", str(args.steps_per_round), "--grad_accum", str(args.grad_accum)]
        command += ["--batch_size_per_gpu", str(args.batch_size_per_gpu), "--seed", str(args.seed)]
        self._run([*command, "--dloader_workers", str(args.dloader_workers)], step)

    def _evaluate(self, step: Step) -> None:
        """Against the first agent and the parent, and against everybody else."""
        from gemma_metamon.loops.round_results import as_table, evaluation_folder, report

        args, before = self.args, self._agents_before(step.round)
        ends = [*dict.fromkeys([*before[:1], *before[-1:]])]
        if ends:
            self._play(step, evaluation_folder(self.out, step.round, parent=True), ends, args.parent_battles)
        others = [agent for agent in before if agent not in ends]
        self._play(step, evaluation_folder(self.out, step.round), [*others, *args.eval_opponents], args.eval_battles)
        results = report(self.out, self.run_dir, step.round)
        if step.round < args.rounds:  # the last one's is what the command prints
            print(as_table(results), file=sys.stderr)

    def _play(self, step: Step, folder: Path, opponents: list[str], battles: int) -> None:
        """One evaluation: all battles anew where one is missing; where only the page is, the page."""
        from gemma_metamon.loops.round_results import PAGE, is_evaluated

        if is_evaluated(folder):
            if not (folder / PAGE).is_file():
                self._run(["report", str(folder), *self._curves()], step)
            return
        if folder.exists():
            shutil.rmtree(folder)
        command = ["evaluate", "--players", self._agent(step.round), "--format", self.args.format]
        command += ["--opponents", *opponents, "--battles", str(battles), "--out", str(folder)]
        self._run([*command, "--seed", str(self.args.seed), *self._playing_flags()], step)

    def _run(self, command: list[str], step: Step) -> None:
        from gemma_metamon.commands import main

        run_command(main, command, step, self.out)

    def _curves(self) -> list[str]:
        return ["--run_dir", str(self.run_dir)] if (self.run_dir / "metrics.jsonl").is_file() else []

    def _playing_flags(self) -> list[str]:
        flags = ["--concurrency", str(self.args.concurrency), "--workers", str(self.args.workers)]
        for name in ("device", "team_dir", "ray", "timeout_s"):
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
        if args.trust_config:
            flags += ["--trust_config", *args.trust_config]
        return flags + [text for override in args.gin_override for text in ("--gin_override", override)]

    def _kept(self, name: str, text: str) -> Path:
        path = self.out / name
        with written_whole(path) as staged:
            staged.write_text(text, encoding="utf-8")
        return path


def _folder_name(step: Step) -> str:
    return f"round_{step.round}"


def count_battles(folder: Path) -> int:
    """The battles with at least one view in the folder."""
    return len(_views(folder))


def drop_half_recorded(folder: Path, recorded: Sequence[str], *, both_views: bool) -> None:
    """Puts a folder of battles in order after a kill: battles with one view of two are deleted, to be played again.

    Args:
        folder: may be missing.
        recorded: the names of those whose views are recorded; of battles between two of them there are both.
        both_views: both views of all battles are recorded.
    """
    put_in_order(folder)
    # Showdown's names are short: of a long one nobody can tell whose it is, and its battles stay
    own = tuple("".join(char for char in name.removesuffix("Player") if char.isalnum()) + "-" for name in recorded)
    for (path, name), *others in _views(folder).values():
        among_them = name.player.startswith(own) and name.opponent.startswith(own)
        if not others and (both_views or among_them):
            path.unlink()


def _views(folder: Path) -> "dict[str, list[tuple[Path, BattleFileName]]]":
    """Battle -> its files."""
    from gemma_metamon.battle.replays import BattleFileName, is_battle_file

    views = defaultdict(list)
    for path in folder.glob("*.json.lz4"):
        if is_battle_file(path.name):
            name = BattleFileName.parse(path.name)
            views[name.battle_id].append((path, name))
    return views

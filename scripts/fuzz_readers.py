"""Harmed files for every reader of data files: each must be read, or refused by an error of the package's own.

    python scripts/fuzz_readers.py                               # 500 inputs for each reader
    nice python scripts/fuzz_readers.py --count 20000 --seed 1   # the long form
    python scripts/fuzz_readers.py --readers battle --first 123 --count 1 --traceback    # one input again

Counts per reader:

    accepted     read without a complaint, and every number that came out of it is finite
    refused      a GemmaMetamonError in one sentence
    tracebacks   any other exception, a message of several lines, or the end of the process
    hangs        not done within --limit seconds
    memory       more than --memory MiB beyond what the reader has once it is built (on Linux)
    non_finite   read, and a number that came out of it is NaN or infinite

Input number n of a reader depends on the seed and n alone. Each reader works in a process of its own, which is watched
and begun again where it hangs or dies. Exits with 1 unless all but the first two counts are 0. A reader is a class
below: `harm` writes an input, `read` does with it what a command would do. Prints a table, then one line of JSON.
"""

import argparse
import json
import logging
import multiprocessing
import random
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import lz4.frame
import numpy as np
import tiny_agent
from fuzz_texts import GinReader, LogReader, ManifestReader, TeamReader
from memory_bounds import bound_memory, peak_kib, wants_memory
from mutations import harm_columns, harm_numbers, mutate_bytes, mutate_json, mutate_lz4, mutate_safetensors
from service_reader import ChatReader, ServiceReader

from gemma_metamon import sample_battles
from gemma_metamon.battle.replays import find_battles
from gemma_metamon.errors import GemmaMetamonError
from gemma_metamon.view import BattleView

OUTCOMES = ("accepted", "refused", "tracebacks", "hangs", "non_finite", "memory")


class Reader(Protocol):
    """Made once in a process, with an empty folder."""

    def __init__(self, folder: Path) -> None: ...

    def harm(self, rng: random.Random) -> None:
        """Writes an input in place of the one before."""

    def read(self) -> Iterator[Any]:
        """Every array that the input holds. Raises GemmaMetamonError where it is refused."""


class BattleReader:
    """A battle file, as `train`, `prepare` and `inspect` read it: its observations and rewards."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seeds = [short_battle(path) for name in ("gen1ou", "gen9ou") for path in bundled(name, 2)]
        self.view = BattleView.default()

    def harm(self, rng: random.Random) -> None:
        content = rng.choice(self.seeds)
        packed = rng.random() < 0.4
        harmed = mutate_lz4(rng, content) if packed and rng.random() < 0.7 else mutate_json(rng, content)
        if packed and not harmed.startswith(b"\x04\x22"):
            harmed = lz4.frame.compress(harmed)
        for old in self.folder.iterdir():
            old.unlink()
        self.path = self.folder / ("x.json.lz4" if packed else "x.json")
        self.path.write_bytes(harmed)

    def read(self) -> Iterator[Any]:
        from gemma_metamon.data.encoding import encode_battle

        battle = encode_battle(self.path, self.view)
        yield from (battle.numbers, battle.rewards, battle.actions, battle.word_ids)


class StoreReader:
    """A prepared store, as `train` reads it: each of its battles. Whoever harms a shard knows to correct its record."""

    def __init__(self, folder: Path) -> None:
        from gemma_metamon.data.encoding import SetAside
        from gemma_metamon.data.preparing import prepare

        self.whole, self.root = folder / "whole", folder / "store"
        raw = folder / "raw"
        for name in ("gen1ou", "gen9ou"):
            (raw / name).mkdir(parents=True)
            for index, path in enumerate(bundled(name, 3)):
                (raw / name / f"{index}.json").write_bytes(short_battle(path))
        (raw / "gen1ou" / "damaged.json").write_bytes(b"{}")
        prepare(
            raw,
            ["gen1ou", "gen9ou"],
            BattleView.default(),
            self.whole,
            set_aside=SetAside(1.0),
            shard_battles=2,
        )

    def harm(self, rng: random.Random) -> None:
        from gemma_metamon.data.store_files import read_records, write_records

        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self.whole, self.root)
        if rng.random() < 0.5:
            path = self.root / rng.choice(("store.json", "shards.jsonl", "words.json"))
            content = path.read_bytes()
            if path.suffix == ".jsonl":
                lines = content.split(b"\n")
                lines[0] = mutate_json(rng, lines[0])
                path.write_bytes(b"\n".join(lines))
            else:
                path.write_bytes(mutate_json(rng, content))
            return
        records = read_records(self.root)
        shard = rng.choice(sorted(records))
        content = (self.root / shard).read_bytes()
        harmed = rng.choice((mutate_bytes, harm_numbers, harm_columns))(rng, content)
        (self.root / shard).write_bytes(harmed)
        records[shard] = replace(records[shard], size_bytes=len(harmed))
        write_records(self.root, records.values())

    def read(self) -> Iterator[Any]:
        from gemma_metamon.data.store import BattleStore

        store = BattleStore(self.root)
        for battles in store.battles(store.formats).split(0.3):
            battles.damaged()
            for stored in battles:
                if stored.damage is None:
                    battle = stored.load()
                    yield from (battle.numbers, battle.rewards, battle.actions, battle.word_ids)


class CheckpointReader:
    """A checkpoint, as `evaluate` loads and `train --ckpt` resumes it: description, weights and optimizer's moments.

    The configuration's text is not harmed: that is the matter of gin's reader.
    """

    def __init__(self, folder: Path) -> None:
        import torch

        from gemma_metamon.configs.names import EXPERIMENT, configurable
        from gemma_metamon.runs import resolve, resuming
        from gemma_metamon.runs.checkpoints import Checkpoint, write_checkpoint
        from gemma_metamon.runs.identity import CheckpointMeta, RunIdentity
        from gemma_metamon.training.meter import Meter
        from gemma_metamon.training.random_states import random_states

        torch.set_num_threads(1)
        resolved, view = (
            resolve.load("gemma_tiny_multitaskagent.gin", "binary_rl.gin", tiny_agent.OVERRIDES),
            BattleView.default(),
        )
        experiment: Any = configurable(EXPERIMENT)()
        self.agent = experiment.build_agent(view)
        self.optimizer = experiment.build_optimizer(self.agent)
        for parameter in self.agent.parameters():
            parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
        self.optimizer.step()
        self.identity = RunIdentity.of(view, self.agent.tstep_encoder)
        meta = CheckpointMeta(
            identity=self.identity,
            config=resolved.text,
            vocabulary=list(view.vocabulary.words[:50]),
            epoch=1,
            updates=2,
            draws=4,
            settings={"epochs": 1, "formats": ["gen1ou"]},
        )
        meter = Meter()
        meter.add("loss", 1.0)
        meter.end_update(accepted=True)
        own = resuming.TrainingState(random_states(torch.device("cpu")), {0: meter.state()})
        self.whole = write_checkpoint(
            folder / "run",
            meta,
            self.agent.state_dict(),
            resuming.training_state(resuming.moments_of(self.optimizer), self.agent, own),
        )
        self.harmed = Checkpoint(folder / "harmed", 1)

    def harm(self, rng: random.Random) -> None:
        from gemma_metamon.runs.checkpoints import META, TRAINING, WEIGHTS

        shutil.rmtree(self.harmed.folder, ignore_errors=True)
        self.harmed.folder.mkdir(parents=True)
        self.name = rng.choice((META, WEIGHTS, TRAINING))
        content = (self.whole.folder / self.name).read_bytes()
        mutate = mutate_json if self.name == META else mutate_safetensors
        (self.harmed.folder / self.name).write_bytes(mutate(rng, content))

    def read(self) -> Iterator[Any]:
        import torch

        from gemma_metamon.runs import resuming
        from gemma_metamon.runs.checkpoints import META, WEIGHTS
        from gemma_metamon.runs.loading import load_weights
        from gemma_metamon.training.meter import Meter
        from gemma_metamon.training.random_states import restore_random_states

        if self.name == META:
            meta = self.harmed.read_meta()
            meta.view()
            meta.identity.require(self.identity, "x")
            yield [meta.epoch, meta.updates, meta.draws]
        elif self.name == WEIGHTS:
            load_weights(self.agent, self.harmed)
            yield from (value.float() for value in self.agent.state_dict().values())
        else:
            found = resuming.load_training_state(self.harmed, self.optimizer, self.agent)
            restore_random_states(found.random, 0, torch.device("cpu"))
            for measured in found.meters.values():
                Meter().restore(measured)
            moments = self.optimizer.state_dict()["state"].values()
            yield from (value for state in moments for value in state.values())


class PolicyReader:
    """A policy_epoch_<N>.pt of AMAGO's, as `import` reads it."""

    def __init__(self, folder: Path) -> None:
        import torch

        self.path = folder / "policy_epoch_1.pt"
        self.seeds = []
        state = {f"actor.{i}.weight": torch.linspace(-1, 1, 40).reshape(5, 8) * i for i in range(3)}
        for zipped in (True, False):
            torch.save(state, self.path, _use_new_zipfile_serialization=zipped)
            self.seeds.append(self.path.read_bytes())

    def harm(self, rng: random.Random) -> None:
        harmed = rng.choice((mutate_bytes, harm_numbers))(rng, rng.choice(self.seeds))
        self.path.write_bytes(harmed)

    def read(self) -> Iterator[Any]:
        from gemma_metamon.upstream.interchange import read_policy

        yield from (value.float() for value in read_policy(self.path).values())


class VocabularyReader:
    """A word list of --tokenizer, as a list and as a map: the ids of some words of a battle."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "words.json"
        words = list(BattleView.default().vocabulary.words[:200])
        self.seeds = [json.dumps(words).encode(), json.dumps({word: i for i, word in enumerate(words)}).encode()]

    def harm(self, rng: random.Random) -> None:
        self.path.write_bytes(mutate_json(rng, rng.choice(self.seeds)))

    def read(self) -> Iterator[Any]:
        from gemma_metamon.data.store_files import hash_lines
        from gemma_metamon.text.vocabulary import Vocabulary

        vocabulary = Vocabulary.from_file(self.path)
        hash_lines(vocabulary.words)
        yield vocabulary.encode(["<player>", "tauros", "x"])


READERS: dict[str, type[Reader]] = {
    "battle": BattleReader,
    "store": StoreReader,
    "checkpoint": CheckpointReader,
    "policy": PolicyReader,
    "vocabulary": VocabularyReader,
    "service": ServiceReader,
    "chat": ChatReader,
    "gin": GinReader,
    "team": TeamReader,
    "server": LogReader,
    "manifest": ManifestReader,
    # another reader is a class like these, here or in fuzz_texts.py, and a line here
}


def bundled(battle_format: str, count: int) -> list[Path]:
    return find_battles(sample_battles.extract(battle_format), [battle_format])[:count]


def short_battle(path: Path) -> bytes:
    """The first states of a battle and its last: many inputs a second."""
    battle = json.loads(lz4.frame.decompress(path.read_bytes()))
    states, actions = battle["states"], battle["actions"]
    return json.dumps({"states": [*states[:3], states[-1]], "actions": [*actions[:3], -1]}).encode()


def read_one(reader: Reader, most_kib: float = float("inf")) -> tuple[str, str]:
    """The outcome of an input, and what was said of it. More than so much memory may not be resident for it."""
    before = peak_kib()
    outcome, said = _read(reader)
    after = peak_kib()
    if after > max(before, most_kib):
        return "memory", f"{after / 1024:.0f} MiB resident, {(after - before) / 1024:.0f} of them for this"
    return outcome, said


def _read(reader: Reader) -> tuple[str, str]:
    try:
        finite = [bool(np.isfinite(np.asarray(array)).all()) for array in reader.read()]
    except Exception as error:  # noqa: BLE001 that is what is looked for
        if wants_memory(error):
            return "memory", traceback.format_exc()
        if not isinstance(error, GemmaMetamonError):
            return "tracebacks", traceback.format_exc()
        return ("tracebacks" if "\n" in str(error) else "refused"), str(error)
    return ("accepted" if all(finite) else "non_finite"), ""


def work(name: str, seed: int, first: int, stop: int, memory_mib: int, pipe: Connection) -> None:
    """Reads the inputs first ... stop - 1; sends each number before it is read, and its outcome after."""
    logging.disable()
    with tempfile.TemporaryDirectory() as folder:
        reader = READERS[name](Path(folder))
        most_kib = bound_memory(memory_mib)
        for number in range(first, stop):
            reader.harm(random.Random(f"{seed} {name} {number}"))
            pipe.send(number)
            pipe.send(read_one(reader, most_kib))
    pipe.send(None)


def fuzz(name: str, args: argparse.Namespace) -> Counter[str]:
    counts: Counter[str] = Counter(dict.fromkeys(OUTCOMES, 0))
    number, stop = args.first, args.first + args.count
    context = multiprocessing.get_context("spawn")
    while number < stop:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(name, args.seed, number, stop, args.memory, theirs))
        process.start()
        theirs.close()
        begun = False
        try:
            while (begun_with := ours.recv()) is not None:
                number, begun = begun_with, True
                if not ours.poll(args.limit):
                    raise TimeoutError
                outcome, said = ours.recv()
                counts[outcome] += 1
                if outcome not in ("accepted", "refused") or args.traceback:
                    print(f"{name} {number}: {outcome}\n{said}", file=sys.stderr, flush=True)
                number, begun = number + 1, False
            process.join()
        except (TimeoutError, EOFError) as error:
            process.kill()
            process.join()
            if not begun:
                raise SystemExit(f"fuzz_readers: {name} cannot make input {number}") from error
            outcome, said = ("hangs", "not done in time") if isinstance(error, TimeoutError) else ("tracebacks", "died")
            counts[outcome] += 1
            print(f"{name} {number}: {said}", file=sys.stderr, flush=True)
            number += 1
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readers", nargs="+", choices=tuple(READERS), default=list(READERS))
    parser.add_argument("--count", type=int, default=500, help="inputs for each reader (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the first input's number (default: %(default)s)")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for an input (default: %(default)s)")
    parser.add_argument("--memory", type=int, default=1024, help="MiB for an input (default: %(default)s)")
    parser.add_argument("--traceback", action="store_true", help="show what was said of every input")
    args = parser.parse_args()
    results = {name: dict(fuzz(name, args)) for name in args.readers}
    print(f"| reader | {' | '.join(OUTCOMES)} |\n|---{'|---:' * len(OUTCOMES)}|")
    for name, counts in results.items():
        print(f"| {name} | {' | '.join(str(counts[outcome]) for outcome in OUTCOMES)} |")
    print(json.dumps({"count": args.count, "seed": args.seed, "readers": results}))
    return int(any(counts[outcome] for counts in results.values() for outcome in OUTCOMES[2:]))


if __name__ == "__main__":
    sys.exit(main())

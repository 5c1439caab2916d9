"""Thousands of wrong gin texts and overrides: each is accepted or refused in one sentence, and none hangs.

    nice -n 10 python scripts/fuzz_gin.py --inputs 20000 --updates 200
    python scripts/fuzz_gin.py --inputs 500 --only 137     # one input again, with its traceback

An input is a packaged config with something wrong in it: a value, a reference, a macro, a statement, an import, single
characters, a file that includes another, or a configuration as a run saves it. Accepted means that it loads, that an
agent is built of it on torch's meta device, and that the text that it resolves to loads to the same. Of some accepted
ones a small agent is trained for an update, whose weights must be finite.
"""

import argparse
import collections
import contextlib
import json
import logging
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from wrong_gin import Input, make_input

from gemma_metamon.configs.names import EXPERIMENT, configurable
from gemma_metamon.errors import GemmaMetamonError
from gemma_metamon.runs import resolve
from gemma_metamon.view import BattleView

KINDS = ("accepted", "refused", "tracebacks", "hangs")


@dataclass
class Counts:
    """How the inputs ended, and those that ended as none should: number -> what was raised."""

    ends: collections.Counter[str] = field(default_factory=collections.Counter)
    failures: dict[int, str] = field(default_factory=dict)


class TooLong(BaseException):
    """Raised by the alarm; no `except Exception` swallows it."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=500, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit_s", type=float, default=10.0, help="beyond it an input hangs (default: %(default)s)")
    parser.add_argument("--updates", type=int, default=0, help="accepted inputs to train for an update (default: 0)")
    parser.add_argument("--only", type=int, help="run this input alone, print it, and raise what it raises")
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)
    os.environ["HF_HUB_OFFLINE"] = "1"  # read when transformers is imported: no model is looked for
    if args.only is not None:
        given = make_input(args.seed, args.only)
        print(*given, sep="\n", end="\n\n")
        with in_a_folder(given) as first:
            build(given, first)
        return 0
    counts = fuzz_gin(args.inputs, seed=args.seed, limit_s=args.limit_s)
    updates = train_some(args.inputs, seed=args.seed, wanted=args.updates) if args.updates else Counts()
    print("  ".join(f"{kind} {counts.ends[kind]:,}" for kind in KINDS))
    for kind, times in updates.ends.items():
        print(f"after one update: {kind} {times:,}")
    for found in (counts, updates):
        for number, raised in list(found.failures.items())[:20]:
            print(f"input {number}: {raised}", file=sys.stderr)
    print(json.dumps({"gin": counts.ends, "updates": updates.ends}))
    return 1 if counts.failures or updates.failures else 0


def fuzz_gin(inputs: int, *, seed: int = 0, limit_s: float = 10.0) -> Counts:
    """Loads and builds so many inputs, each in a folder of its own that holds a module which must never be run."""
    counts = Counts()
    for number in range(inputs):
        given = make_input(seed, number)
        end, raised = "accepted", None
        try:
            with in_a_folder(given) as first, limited(limit_s):
                build(given, first)
                if Path("was_run").exists():
                    end, raised = "tracebacks", "a module of the folder was imported"
        except GemmaMetamonError as error:
            end = "refused"
            if not str(error).split("\n  In call", 1)[0].strip() or len(str(error)) > 2000:
                end, raised = "tracebacks", f"no sentence: {str(error)[:300]!r}"
        except TooLong:
            end, raised = "hangs", f"more than {limit_s:g} s"
        except Exception:  # noqa: BLE001  what is counted here is anything at all
            end, raised = "tracebacks", traceback.format_exc(limit=-3)
        counts.ends[end] += 1
        if raised is not None:
            counts.failures[number] = raised
        if sys.stderr.isatty() and number % 100 == 0:
            print(f"\r{number:,}", end="", file=sys.stderr)
    return counts


def build(given: Input, first: Path) -> Any:
    """The experiment of an input, and its agent on the meta device; ValueError where its text loads to another."""
    if given.saved:
        resolved = resolve.load_text(given.files[first.name], given.overrides)
    else:
        resolved = resolve.load(str(first), given.training, given.overrides)
    experiment = configurable(EXPERIMENT)()
    with torch.device("meta"):
        agent = experiment.build_agent(VIEW)
    again = resolve.load_text(resolved.text)
    if (again.text, again.bindings) != (resolved.text, resolved.bindings):
        raise ValueError("the resolved text loads to something else")
    return experiment, agent


def train_some(inputs: int, *, seed: int, wanted: int) -> Counts:
    """Trains small agents of accepted inputs for one update each."""
    counts, batch = Counts(), small_batch()
    for number in range(inputs):
        given = make_input(seed, number)
        if counts.ends.total() >= wanted:
            break
        try:
            with in_a_folder(given) as first, limited(60):
                experiment, agent = build(given, first)
                weights = sum(p.numel() for p in agent.parameters())
                if weights > 3_000_000 or agent.tstep_encoder.options.pretrained:
                    continue  # it would take long, or needs a download
                end = one_update(experiment, batch)
                counts.ends[end] += 1
                if end == "weights not finite":
                    counts.failures[number] = end
        except GemmaMetamonError:
            continue
        except TooLong:
            counts.ends["hangs"] += 1
            counts.failures[number] = "more than 60 s"
        except Exception:  # noqa: BLE001  what is counted here is anything at all
            counts.ends["tracebacks"] += 1
            counts.failures[number] = traceback.format_exc(limit=-3)
    return counts


def one_update(experiment: Any, batch: Any) -> str:
    """Whether the weights are finite after it, and whether the loss was (training stops where it is not)."""
    torch.manual_seed(0)
    agent = experiment.build_agent(VIEW).train()
    optimizer = experiment.build_optimizer(agent)
    losses = agent(batch)
    total = experiment.total_loss(agent, losses.actor_loss, losses.critic_loss)
    total.backward()
    norm = torch.nn.utils.clip_grad_norm_(agent.parameters(), experiment.grad_clip)
    if not (total.isfinite() and norm.isfinite()):
        return "loss or gradient not finite"
    agent.update_targets()
    optimizer.step()
    finite = all(tensor.isfinite().all() for tensor in agent.state_dict().values())
    return "finite" if finite else "weights not finite"


def small_batch() -> Any:
    from gemma_metamon import sample_battles
    from gemma_metamon.battle.replays import find_battles
    from gemma_metamon.data.dataset import collate, load_encoded, take_window

    battles = find_battles(sample_battles.extract("gen1ou"), ["gen1ou"])[:2]
    return collate([take_window(load_encoded(path, VIEW), 0, 12) for path in battles])


VIEW = BattleView.default()


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Of the processor, for the machine may be busy; or six times as long by the clock, for a hang may wait."""

    def ring(*_: Any) -> None:
        raise TooLong

    timers = [(signal.ITIMER_PROF, signal.SIGPROF, seconds), (signal.ITIMER_REAL, signal.SIGALRM, 6 * seconds)]
    before = {number: signal.signal(number, ring) for _, number, _ in timers}
    for timer, _, limit in timers:
        signal.setitimer(timer, limit)
    try:
        yield
    finally:
        for timer, number, _ in timers:
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


@contextlib.contextmanager
def in_a_folder(given: Input) -> Iterator[Path]:
    """The input's files in the current folder, beside a module and a package that leave a trace when they are run."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trap = f"open({str(folder / 'was_run')!r}, 'w').close()\n"
        (folder / "evil_module.py").write_text(trap)
        (folder / "evil_package").mkdir()
        (folder / "evil_package" / "__init__.py").write_text(trap)
        for file, text in given.files.items():
            (folder / file).write_bytes(text.encode("utf-8", "surrogatepass"))
        sys.path.insert(0, name)
        os.chdir(folder)
        try:
            yield Path(next(iter(given.files)))
        finally:
            os.chdir(before)
            sys.path.remove(name)
            for module in ("evil_module", "evil_package"):
                sys.modules.pop(module, None)


if __name__ == "__main__":
    sys.exit(main())

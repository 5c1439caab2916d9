"""Kills `gemma-metamon improve` at random moments, starts it again each time, and looks whether all of it is whole.

    python scripts/kill_improve.py                      # 30 kills; about 8 minutes on two cores
    python scripts/kill_improve.py --kills 4 --rounds 1

By turns SIGKILL goes to the process alone, which leaves its step's process behind, and to all of its group. A third of
the kills come within a second of a start, a third within 3 seconds of the begin of a step's own process, a third within
15; they are spread over all steps, and whatever is killed is started again at once. At last it is left alone. Prints
what each kill met, then one JSON object; the exit status is 1 where anything of the end is not whole.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gemma_metamon.battle.replays import BattleFileName, find_battles, load_battle
from gemma_metamon.data.store import BattleStore
from gemma_metamon.errors import GemmaMetamonError
from gemma_metamon.runs.checkpoints import WEIGHTS, Checkpoint, list_checkpoints

BATTLES_HERE = Path(__file__).resolve().parents[1] / "tests" / "goldens" / "battles"
WITHIN_S = (1.0, 3.0, 15.0)
GONE_AFTER_S = 30.0
PER_ROUND = PER_PAIR = 2
SMALL = [
    "GemmaTstepEncoder.backbone_config = {'hidden_size': 16, 'intermediate_size': 16, 'num_hidden_layers': 1, "
    "'num_attention_heads': 1, 'num_key_value_heads': 1, 'head_dim': 16, 'layer_types': ['full_attention']}",
    "GemmaTstepEncoder.text_emb_dim = 16",
    "GemmaTstepEncoder.summary_tokens = 2",
    "TformerTrajEncoder.d_model = 16",
    "TformerTrajEncoder.n_layers = 1",
    "MetamonAMAGOExperiment.max_seq_len = 12",
]


def train_first(folder: Path) -> Path:
    command = ["train", "--run_name", "first", "--save_dir", str(folder), "--parsed_replay_dir", str(BATTLES_HERE)]
    command += ["--model_gin_config", "gemma_tiny_multitaskagent.gin", "--train_gin_config", "binary_rl.gin"]
    command += ["--formats", "gen1ou", "--batch_size_per_gpu", "2", "--steps_per_epoch", "2", "--epochs", "1"]
    command += [text for override in SMALL for text in ("--gin_override", override)]
    subprocess.run([sys.executable, "-m", "gemma_metamon", *command], check=True, stderr=subprocess.DEVNULL)
    return folder / "first"


def improve_command(run_dir: Path, out: Path, rounds: int) -> list[str]:
    command = ["improve", "--run_dir", str(run_dir), "--parsed_replay_dir", str(BATTLES_HERE), "--format", "gen1ou"]
    command += ["--rounds", str(rounds), "--battles_per_round", str(PER_ROUND), "--steps_per_round", "2"]
    command += ["--opponents", "RandomPlayer", "--eval_opponents", "RandomPlayer", "--eval_battles", str(PER_PAIR)]
    command += ["--parent_battles", str(PER_PAIR), "--anew"]
    command += ["--batch_size_per_gpu", "2", "--max_turns", "8", "--record_opponents", "--device", "cpu"]
    command += ["--workers", "2", "--dloader_workers", "1", "--out", str(out)]
    return [sys.executable, "-m", "gemma_metamon", *command]


def finished_steps(out: Path) -> list[tuple[int, str]]:
    """(round, step) of all that the journal has."""
    path = out / "improve.json"
    if not path.exists():
        return []
    return [(entry["round"], entry["step"]) for entry in json.loads(path.read_text(encoding="utf-8"))["finished"]]


def all_steps(rounds: int) -> list[tuple[int, str]]:
    each = ("collect", "prepare", "train", "evaluate")
    return [(0, "begin"), (0, "evaluate"), *((number, name) for number in range(1, rounds + 1) for name in each)]


def begun_steps(log: Path) -> int:
    return log.read_text(encoding="utf-8", errors="replace").count("\n$ gemma-metamon ")


def descendants(pid: int) -> list[int]:
    """Of a process, as Linux counts them; the simulator is one of them."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8")
    except OSError:
        return []
    return [found for child in map(int, text.split()) for found in (child, *descendants(child))]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def kill_and_go_on(command: list[str], out: Path, log: Path, kills: int, rounds: int, seed: int) -> Iterator[str]:
    """Runs the command to its end with so many kills before. Yields a line for each, raises where it does not go on."""
    dice = random.Random(seed)
    left: list[int] = []  # of all that was killed
    for number in range(kills + 1):
        with log.open("ab") as said:
            process = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
            started, begun = time.monotonic(), begun_steps(log)
            delay_s = dice.uniform(0, WITHIN_S[number % 3])
            target = number * len(all_steps(rounds)) // max(kills, 1)
            while number % 3 and number < kills and process.poll() is None:
                if begun_steps(log) > begun and len(finished_steps(out)) >= target:
                    break
                time.sleep(0.02)
            try:
                returned = process.wait(delay_s if number < kills else None)
            except subprocess.TimeoutExpired:
                helpers, everybody = descendants(process.pid), number % 2
                (os.killpg if everybody else os.kill)(process.pid, signal.SIGKILL)
                process.wait()
                left += helpers
                steps = finished_steps(out)
                todo = [step for step in all_steps(rounds) if step not in steps]
                who = "the group" if everybody else "it alone"
                at = f"{todo[0][0]} {todo[0][1]}" if todo else "the end"
                yield f"{time.monotonic() - started:5.2f} s  {at:11}  {who}, {len(helpers)} helpers"
                continue
        if returned != 0:
            tail = log.read_text(encoding="utf-8", errors="replace")[-3000:]
            raise SystemExit(f"after {number} kills it does not go on:\n{tail}")
        if number < kills:
            yield f"       the end    it had ended before kill {number + 1}"
            break
    deadline = time.monotonic() + GONE_AFTER_S
    while any(map(is_running, left)):
        if time.monotonic() > deadline:
            raise SystemExit(f"processes are left: {[pid for pid in left if is_running(pid)]}")
        time.sleep(0.1)


def complaints(out: Path, run_dir: Path, rounds: int) -> Iterator[str]:
    """What is not as it would be without a kill."""
    if finished_steps(out) != all_steps(rounds):
        yield f"finished steps are {finished_steps(out)}"
    own = out / out.name
    if list_checkpoints(own) != list(range(rounds + 1)):
        yield f"checkpoints are {list_checkpoints(own)}"
    first, last = (Checkpoint(*where).folder / WEIGHTS for where in ((run_dir, 1), (own, 0)))
    if first.read_bytes() != last.read_bytes():
        yield "epoch 0 is not what it began with"
    for epoch in list_checkpoints(own):
        Checkpoint(own, epoch).read_weights()
    yield from (f"{path} is left over" for suffix in ("part", "old") for path in out.rglob(f".*.{suffix}"))
    for number in range(1, rounds + 1):
        yield from _battle_complaints(out / "battles" / f"round_{number}")
    for store in sorted((out / "stores").iterdir()):
        yield from (f"{name} {damage}" for name, damage in BattleStore(store).check_shards() if damage is not None)
    for number in range(rounds + 1):
        ends = len({0, number - 1} & set(range(number)))  # the first agent and the parent
        yield from _evaluation_complaints(out / "evaluations" / f"round_{number}", number + 1 - ends)
        if ends:
            yield from _evaluation_complaints(out / "evaluations" / f"round_{number}_parent", ends)
    if not (out / "report.html").is_file() or not (out / "results.json").is_file():
        yield "there is no report of all rounds"


def _battle_complaints(folder: Path) -> Iterator[str]:
    views = find_battles(folder, ["gen1ou"])
    per_battle = Counter(BattleFileName.parse(path.name).battle_id for path in views)
    if list(per_battle.values()) != [2] * PER_ROUND:
        yield f"{folder} has so many views of its battles: {dict(per_battle)}"
    for path in views:
        load_battle(path)


def _evaluation_complaints(folder: Path, pairs: int) -> Iterator[str]:
    played: list[dict[str, Any]] = [
        json.loads(line) for line in (folder / "battles.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    if len(played) != pairs * PER_PAIR:
        yield f"{folder} has {len(played)} battles"
    for battle in played:
        log = folder / battle["log"]
        text = log.read_text(encoding="utf-8")
        if not ("|win|" in text or "|tie" in text) or not log.with_suffix(".html").is_file():
            yield f"{log} is not whole"
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    if results["unfinished"] is not None or not (folder / "report.html").is_file():
        yield f"{folder} is unfinished: {results['unfinished']}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30, help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    parser.add_argument("--run_dir", type=Path, help="what it begins with (default: a tiny run, trained first)")
    parser.add_argument("--out", type=Path, help="folder for all of it, new (default: a temporary one)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        run_dir, out, log = args.run_dir or train_first(folder), folder / "better", folder / "log"
        started = time.monotonic()
        met = []
        command = improve_command(run_dir, out, args.rounds)
        for line in kill_and_go_on(command, out, log, args.kills, args.rounds, args.seed):
            print(line, flush=True)
            met.append(line.split("  ")[1].strip())
        try:
            found = list(complaints(out, run_dir, args.rounds))
        except (OSError, ValueError, GemmaMetamonError) as error:
            found = [str(error)]
    print("\n".join(found))
    seconds = round(time.monotonic() - started)
    print(json.dumps({"kills": len(met), "at": Counter(met), "seconds": seconds, "complaints": len(found)}))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

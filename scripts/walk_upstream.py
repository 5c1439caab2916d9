"""The whole way inside the metamon that is installed, as one row of the table in docs/reference/upstream.md.

    python scripts/walk_upstream.py --folder walked          # in an environment with metamon and amago

Trains gemma_tiny on the bundled gen9ou battles (quick.gin), three epochs; resumes for two more; imports the last
checkpoint here and exports it back, which must be equal bit for bit; lets metamon evaluate both files. Prints the row
and, for programs, a line of JSON. Port 8000 must be free or have a Showdown server. About ten minutes on two cores.
"""

import argparse
import contextlib
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from gemma_metamon import sample_battles
from gemma_metamon.configs.files import find_config
from gemma_metamon.showdown.simulator import server
from gemma_metamon.upstream import checks, interchange, trial, versions
from gemma_metamon.upstream.datasets import dataset_text, link_roots

PROGRAM = Path(__file__).parent.parent / "tests" / "support" / "metamon_process.py"
BASELINES = ["RandomBaseline", "Gen1BossAI"]
FORMAT = "gen9ou"
EPOCHS, RESUMED_FROM, LAST = 3, 2, 4
"""metamon saves every second epoch, and makes the epoch that it resumes from again."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="a new one, for all that is written")
    parser.add_argument("--updates", type=int, default=100, help="in each epoch")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--battles", type=int, default=50, help="of each evaluation, against both baselines together")
    args = parser.parse_args()
    folder = args.folder.absolute()
    folder.mkdir(parents=True)
    trial.fill_cache(folder / "cache")
    trained, took_s = timed(train, folder, args.updates, args.batch_size, EPOCHS, None)
    resumed, _ = timed(train, folder, args.updates, args.batch_size, LAST + 1, RESUMED_FROM)
    made = EPOCHS * args.updates
    expect("optimizer steps", [trained["steps"], resumed["steps"]], [[0, made], [made, 2 * made]])
    losses = [loss for run in (trained, resumed) for pair in run["losses"] for loss in pair]
    expect("losses that are not finite", sum(not math.isfinite(loss) for loss in losses), 0)
    exported = there_and_back(folder)
    with contextlib.ExitStack() as stack:
        if not server.answers(checks.SHOWDOWN_PORT):
            stack.enter_context(server.running_server(checks.SHOWDOWN_PORT))
        won = {
            "its own": evaluate(folder, folder / "run", args.battles),
            "exported": evaluate(folder, exported, args.battles),
        }
    actor = [pair[0] for pair in (*trained["losses"], *resumed["losses"])]
    row = {
        "metamon": versions.find_installed("metamon").version,
        "amago": str(versions.find_installed("amago")).removeprefix("amago "),
        "updates": f"{made} + {made}",
        "updates/s": round(made / took_s, 2),
        "actor loss": " -> ".join(f"{mean(actor[part]):.2f}" for part in (slice(0, 20), slice(-20, None))),
        **{f"{whose}: {name}": f"{w}/{n}" for whose, counts in won.items() for name, (w, n) in counts.items()},
    }
    print(f"| {' | '.join(row)} |\n|{'---|' * len(row)}\n| {' | '.join(map(str, row.values()))} |")
    print(json.dumps(row))


def train(folder: Path, updates: int, batch_size: int, epochs: int, ckpt: int | None) -> Any:
    (root,) = link_roots(sample_battles.extract(FORMAT), [FORMAT], folder / "roots")
    tree = versions.find_tree(versions.find_installed("metamon").version) or versions.TREES[0]
    if tree.dataset_file:
        path = folder / "dataset.yaml"
        path.write_text(dataset_text([(root, 1.0)], [FORMAT], replay_weight=0.0), encoding="utf-8")
        data = ["--dataset_config", str(path)]
    else:
        data = ["--parsed_replay_dir", str(root.folder), "--formats", FORMAT]
    model, training = find_config(trial.CONFIG, "models"), find_config("quick.gin", "training")
    flags = ["--run_name", "run", "--save_dir", str(folder), "--epochs", str(epochs), "--dloader_workers", "0"]
    flags += ["--model_gin_config", str(model.absolute()), "--train_gin_config", str(training.absolute())]
    flags += ["--batch_size_per_gpu", str(batch_size), "--async_env_mp_context", "fork", "--eval_gens", *data]
    return run_program("train", folder, {"flags": flags, "steps_per_epoch": updates, "ckpt": ckpt, "describe": True})


def there_and_back(folder: Path) -> Path:
    """Imports the last checkpoint as a run of ours and exports that; returns the exported run."""
    theirs = interchange.policy_path(folder, "run", LAST)
    here("import", "--from", "amago", str(theirs), "--save_dir", str(folder / "ours"), "--run_name", "run")
    here("export", "--run_dir", str(folder / "ours" / "run"), "--to", "amago", "--out", str(folder / "exported"))
    before, after = (interchange.read_policy(path) for path in (theirs, exported_path(folder)))
    expect("entries", [*after], [*before])
    expect("entries of other bits", [key for key in before if not torch.equal(before[key], after[key])], [])
    return folder / "exported" / "run"


def exported_path(folder: Path) -> Path:
    return interchange.policy_path(folder / "exported", "run", LAST)


def evaluate(folder: Path, run_dir: Path, battles: int) -> dict[str, tuple[int, int]]:
    """Won and played against each baseline, by the names of the files that metamon left of the battles."""
    out = folder / f"battles_{run_dir.parent.name}"
    flags = ["--run_dir", str(run_dir), "--eval_type", "heuristic", "--gens", FORMAT[3], "--formats", FORMAT[4:]]
    flags += ["--total_battles", str(battles), "--async_mp_context", "fork", "--save_trajectories_to", str(out)]
    run_program("evaluate", folder, {"flags": flags, "baselines": BASELINES})
    names = [path.name for path in (out / FORMAT).iterdir()]
    found = {}
    for baseline in BASELINES:
        results = [name.split(".")[0].rsplit("_", 1)[1] for name in names if f"_vs_{baseline}_" in name]
        found[baseline] = (results.count("WIN"), len(results))
    return found


def run_program(name: str, folder: Path, spec: dict[str, Any]) -> Any:
    """Of tests/support/metamon_process.py; what it prints goes to FOLDER/output.txt."""
    (folder / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
    offline = {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled", versions.CACHE_DIR: str(folder / "cache")}
    with (folder / "output.txt").open("ab") as output:
        command = [sys.executable, str(PROGRAM), name, str(folder / "spec.json")]
        done = subprocess.run(command, env={**os.environ, **offline}, stdout=output, stderr=output, check=False)
    if done.returncode != 0:
        sys.exit(f"{name} ended with status {done.returncode}: see {folder / 'output.txt'}")
    return json.loads((folder / "result.json").read_text())


def here(*command: str) -> None:
    subprocess.run([sys.executable, "-m", "gemma_metamon", *command], stdout=sys.stderr, check=True)


def timed(function: Any, *args: Any) -> tuple[Any, float]:
    start = time.monotonic()
    return function(*args), time.monotonic() - start


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def expect(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        sys.exit(f"{what}: {found}, and not {wanted}")


if __name__ == "__main__":
    main()

"""Steps of a long script, each made once: what is there whole is not made again when the script is run again.

What was interrupted is thrown away and begins again.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def command(*arguments: str) -> None:
    """A command of gemma-metamon; its own results go to stderr, so that stdout holds the script's alone."""
    done = subprocess.run([sys.executable, "-m", "gemma_metamon", *arguments], stdout=sys.stderr, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def one_thread() -> None:
    """Commands from now on use one thread each: their numbers then do not hang on the machine's cores."""
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def collected(out: Path, battle_format: str, battles: int, *flags: str) -> Path:
    """A folder of recorded battles."""
    if not out.is_dir():
        part = out.with_name(f"{out.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        command("collect", "--format", battle_format, "--battles", str(battles), "--out", str(part), *flags)
        part.rename(out)
    return out


def trained(run_dir: Path, epochs: int, *flags: str) -> Path:
    """A run."""
    if not (run_dir / "ckpts" / f"epoch_{epochs}").is_dir():
        shutil.rmtree(run_dir, ignore_errors=True)
        names = ["--run_name", run_dir.name, "--save_dir", str(run_dir.parent)]
        command("train", *names, "--epochs", str(epochs), *flags)
    return run_dir


def evaluated(
    out: Path, battle_format: str, players: Sequence[str], opponents: Sequence[str], battles: int, seed: int
) -> dict[str, Any]:
    """results.json of an evaluation; `battles` of each pair."""
    if not (out / "results.json").is_file():
        shutil.rmtree(out, ignore_errors=True)
        flags = ["--format", battle_format, "--battles", str(battles), "--seed", str(seed), "--timeout_s", "600"]
        command("evaluate", "--players", *players, "--opponents", *opponents, *flags, "--out", str(out))
    results: dict[str, Any] = json.loads((out / "results.json").read_text(encoding="utf-8"))
    return results

"""A training of a moment, for tests of what is around trainings: it writes the numbers that its flags say."""

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str]) -> int:
    """train --run_name N --save_dir D --values 0.1,0.5 [--end fail|kill|sleep]; the value of update 10, 20, ..."""
    given = dict(zip(arguments[1::2], arguments[2::2], strict=True))
    run_dir = Path(given["--save_dir"], given["--run_name"])
    run_dir.mkdir(parents=True)
    for place, value in enumerate(given.get("--values", "").split(","), start=1):
        if value:
            with (run_dir / "metrics.jsonl").open("a") as file:
                file.write(json.dumps({"update": 10 * place, "loss/total": 1.0, "score": float(value)}) + "\n")
    end = given.get("--end", "")
    if end == "fail":
        sys.stderr.write("gemma-metamon train: the learning rate is a mountain\n")
        return 1
    if end == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if end == "sleep":
        time.sleep(600)
    return 0

"""Where a run's numbers go: JSON lines files always, wandb when asked.

metrics.jsonl       {"update": 20, "loss/total": 1.6, ...}: means over the updates since the line before
evaluations.jsonl   {"epoch": 1, "format": "gen1ou", "seconds": ..., "pairs": [...]}: one evaluation during training,
                    the pairs as in results.json of `gemma-metamon evaluate`

In wandb the x axis is the update, and of evaluations the epoch.

wandb is offline where no key is set up, so `--log` needs no account: `wandb sync` uploads the run later. The project
and entity are read from METAMON_WANDB_PROJECT and METAMON_WANDB_ENTITY, as metamon does.
"""

import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from gemma_metamon.errors import MissingDependencyError

DEFAULT_PROJECT = "gemma-metamon"


class Tracker:
    """Writes a run's metrics and evaluations, one JSON object per call. A context manager; any thread may log."""

    def __init__(self, run_dir: Path, run_name: str, config: Mapping[str, Any], *, wandb: bool) -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        self.path = run_dir / "metrics.jsonl"
        self._file = self.path.open("a", encoding="utf-8")
        self._evaluations_path = run_dir / "evaluations.jsonl"
        self._wandb_run = _start_wandb(run_dir, run_name, config) if wandb else None
        self._wandb_lock = threading.Lock()
        self._wandb_names: set[str] = set()

    def log(self, update: int, metrics: Mapping[str, float]) -> None:
        self._file.write(json.dumps({"update": update, **metrics}) + "\n")
        self._file.flush()
        self._log_wandb("update", update, metrics)

    def log_evaluation(self, epoch: int, battle_format: str, results: Mapping[str, Any]) -> None:
        """Of what `gemma-metamon evaluate --json` printed. Raises KeyError where it has no pairs."""
        pairs = results["pairs"]
        line = {"epoch": epoch, "format": battle_format, "seconds": results["seconds"], "pairs": pairs}
        with self._evaluations_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        rates = {f"evaluation/{battle_format}/{pair['opponent']}": pair["win_rate"] for pair in pairs}
        self._log_wandb("epoch", epoch, rates)

    def _log_wandb(self, axis: str, value: int, metrics: Mapping[str, float]) -> None:
        # without wandb's own step, which only grows: an evaluation is ready when training has gone on
        if self._wandb_run is None:
            return
        with self._wandb_lock:
            for name in metrics:
                if name not in self._wandb_names:
                    self._wandb_run.define_metric(name, step_metric=axis)
                    self._wandb_names.add(name)
            self._wandb_run.log({axis: value, **metrics})

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._wandb_run is not None:
            self._wandb_run.finish(exit_code=0 if error is None else 1)


def require_wandb() -> None:
    """Raises MissingDependencyError where wandb is not installed."""
    import importlib.util

    if importlib.util.find_spec("wandb") is None:
        raise MissingDependencyError("--log needs wandb: pip install 'gemma-metamon[wandb]', or train without --log")


def _start_wandb(run_dir: Path, run_name: str, config: Mapping[str, Any]) -> Any:
    require_wandb()
    import wandb

    return wandb.init(
        project=os.environ.get("METAMON_WANDB_PROJECT", DEFAULT_PROJECT),
        entity=os.environ.get("METAMON_WANDB_ENTITY"),
        name=run_name,
        dir=str(run_dir),
        config=dict(config),
        # None: what WANDB_MODE says, else online
        mode=None if wandb.api.api_key else "offline",
    )

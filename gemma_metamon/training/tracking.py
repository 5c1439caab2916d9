"""Where a run's numbers go: a JSON lines file always, wandb when asked.

wandb is offline where no key is set up, so `--log` needs no account: `wandb sync` uploads the run later. The project
and entity are read from METAMON_WANDB_PROJECT and METAMON_WANDB_ENTITY, as metamon does.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from gemma_metamon.errors import MissingDependencyError

DEFAULT_PROJECT = "gemma-metamon"


class Tracker:
    """Writes a run's metrics, one JSON object per call of `log`. A context manager."""

    def __init__(self, run_dir: Path, run_name: str, config: Mapping[str, Any], *, wandb: bool) -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        self.path = run_dir / "metrics.jsonl"
        self._file = self.path.open("a", encoding="utf-8")
        self._wandb_run = _start_wandb(run_dir, run_name, config) if wandb else None

    def log(self, update: int, metrics: Mapping[str, float]) -> None:
        self._file.write(json.dumps({"update": update, **metrics}) + "\n")
        self._file.flush()
        if self._wandb_run is not None:
            self._wandb_run.log(dict(metrics), step=update)

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

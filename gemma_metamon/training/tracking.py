"""Where a run's numbers go: JSON lines files always, wandb when asked.

metrics.jsonl       {"update": 20, "loss/total": 1.6, ...}: means over the updates since the line before
evaluations.jsonl   {"epoch": 1, "format": "gen1ou", "seconds": ..., "pairs": [...]}: one evaluation during training
                    (TrainingEvaluation of results/schema.py)

wandb_run.json      which run of wandb's is told all this, and how far: a training that goes on goes on in the same

In wandb the x axis is the update; that of evaluations is the epoch. What a training does again after a kill is not told
again, so that wandb has each value once, as the files have.

Without a key, or where the key or the server does not work, wandb records offline, and `wandb sync` uploads the run
later: so `--log` needs no account. A failure of wandb never stops training. Project and entity are read from
METAMON_WANDB_PROJECT and METAMON_WANDB_ENTITY, as metamon does.
"""

import http.client
import json
import logging
import os
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from gemma_metamon.atomic_files import append_whole, written_whole
from gemma_metamon.errors import DataError
from gemma_metamon.extras import require_extra
from gemma_metamon.results.schema import TrainingEvaluation
from gemma_metamon.runs.run_folder import EVALUATIONS, METRICS, WANDB_RUN
from gemma_metamon.strict_json import read_dataclass, read_json_object

logger = logging.getLogger(__name__)

DEFAULT_PROJECT = "gemma-metamon"
ANSWER_TIMEOUT_S, INIT_TIMEOUT_S, FINISH_TIMEOUT_S = 3.0, 20.0, 60.0
"""How long wandb's server may take to answer at all, to begin a run (WANDB_INIT_TIMEOUT changes it), and to take at the
end what is left to upload."""


class Tracker:
    """Writes a run's metrics and evaluations, one JSON object per call. A context manager; any thread may log."""

    def __init__(self, run_dir: Path, run_name: str, config: Mapping[str, Any], *, wandb: bool) -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        self.path = run_dir / METRICS
        append_whole(self.path, "", durable=False)
        self._evaluations_path = run_dir / EVALUATIONS
        self._wandb_path = run_dir / WANDB_RUN
        known = _read_wandb_run(self._wandb_path) if wandb else None
        self._wandb_run = _start_wandb(run_dir, run_name, config, known) if wandb else None
        self._wandb_lock = threading.Lock()
        self._wandb_names: set[str] = set()
        if self._wandb_run is not None:
            same = known is not None and known.id == self._wandb_run.id
            self._told = known if same and known is not None else WandbRun(id=self._wandb_run.id)
            self._told.write(self._wandb_path)

    def log(self, update: int, metrics: Mapping[str, float]) -> None:
        """Writes a line of metrics: the means up to an update."""
        # the trainer waits for the disk where it saves a checkpoint
        append_whole(self.path, json.dumps({"update": update, **metrics}) + "\n", durable=False)
        self._log_wandb("update", update, metrics)

    def log_evaluation(self, evaluation: TrainingEvaluation) -> None:
        """Adds a line to evaluations.jsonl; in wandb, the win rate against each opponent."""
        append_whole(self._evaluations_path, json.dumps(asdict(evaluation)) + "\n")
        prefix = f"evaluation/{evaluation.format}"
        rates = {f"{prefix}/{pair.opponent}": pair.win_rate for pair in evaluation.pairs if pair.win_rate is not None}
        self._log_wandb("epoch", evaluation.epoch, rates)

    def _log_wandb(self, axis: str, value: int, metrics: Mapping[str, float]) -> None:
        # without wandb's own step, which only grows: an evaluation is ready when training has gone on
        if self._wandb_run is None:
            return
        with self._wandb_lock:
            try:
                new = {name: one for name, one in metrics.items() if value > self._told.up_to.get(name, -1)}
                if not new:
                    return
                for name in new.keys() - self._wandb_names:
                    self._wandb_run.define_metric(name, step_metric=axis)
                    self._wandb_names.add(name)
                self._told.up_to.update(dict.fromkeys(new, value))
                self._told.write(self._wandb_path)
                self._wandb_run.log({axis: value, **new})
            except Exception as error:  # noqa: BLE001 its process may have died, which shows in many ways
                logger.warning("wandb has failed, and is told nothing more (%s); %s has all", error, self.path)
                self._wandb_run = None

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._wandb_run is None:
            return
        try:
            self._wandb_run.finish(exit_code=0 if error is None else 1)
        except Exception as failure:  # noqa: BLE001 as above
            logger.warning(
                "wandb has not uploaded everything (%s); `wandb sync` in %s does",
                failure or type(failure).__name__,
                self.path.parent / "wandb",
            )


@dataclass(frozen=True)
class WandbRun:
    """wandb_run.json.

    Attributes:
        id: of the run, as wandb knows it.
        up_to: name of a number -> the update, or of an evaluation the epoch, up to which wandb was told it.
    """

    id: str
    up_to: dict[str, int] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Whole or not at all. Raises OSError where it cannot be written."""
        with written_whole(path, durable=False) as staged:
            staged.write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")


def _read_wandb_run(path: Path) -> WandbRun | None:
    """Which run of wandb's has been told so far; None where there is none yet, or nobody can tell, which is logged."""
    if not path.exists():
        return None
    try:
        return read_dataclass(WandbRun, read_json_object(path))
    except DataError as error:
        logger.warning("wandb begins another run, because %s is damaged (%s)", path, error)
        return None


def require_wandb() -> None:
    """Raises MissingDependencyError where wandb is not installed."""
    require_extra("wandb", "--log", otherwise="train without --log")


def _start_wandb(run_dir: Path, run_name: str, config: Mapping[str, Any], known: WandbRun | None) -> Any:
    require_wandb()
    # read when wandb loads: without a network its reports to its makers would hold up the program's end
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    # what its variables say of them goes before
    goes_on: dict[str, Any] = {}
    if known is not None and "WANDB_RUN_ID" not in os.environ:
        goes_on["id"] = known.id
    if known is not None and "WANDB_RESUME" not in os.environ:
        goes_on["resume"] = "allow"

    def begin(mode: Literal["offline"] | None) -> Any:
        return wandb.init(
            **goes_on,
            project=os.environ.get("METAMON_WANDB_PROJECT", DEFAULT_PROJECT),
            entity=os.environ.get("METAMON_WANDB_ENTITY"),
            name=run_name,
            dir=str(run_dir),
            config=dict(config),
            mode=mode,
            settings=_settings(wandb),
        )

    try:
        settings = wandb.setup().settings
        if settings.mode == "disabled":  # WANDB_MODE, or WANDB_DISABLED
            logger.warning("wandb is told nothing, because its own settings disable it")
            return None
        if not wandb.api.api_key:
            return begin("offline")
        if settings.mode in (None, "online"):
            require_answer(settings.base_url)
        return begin(None)  # what WANDB_MODE says, else online
    except (wandb.errors.Error, OSError) as error:
        logger.warning(
            "wandb is offline, because it could not begin (%s); `wandb sync` in %s uploads the run later",
            str(error).partition("\n")[0],
            run_dir / "wandb",
        )
        return begin("offline")
    except ValueError as error:  # its checks of WANDB_... variables; whatever it is begun with, they fail
        logger.warning(
            "wandb is told nothing, because its settings cannot work (%s)", " ".join(str(error).split())[:300]
        )
        return None


def require_answer(url: str) -> None:
    """Raises OSError where nobody answers: wandb itself would wait for minutes, and again when the program ends."""
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_TIMEOUT_S):
            pass
    except urllib.error.HTTPError as answer:
        answer.close()
    except urllib.error.URLError as error:
        if not isinstance(error.reason, ssl.SSLError):  # wandb may know certificates that Python does not
            raise OSError(f"{url} does not answer: {error.reason}") from error
    except (TimeoutError, http.client.HTTPException) as error:
        raise OSError(f"{url} does not answer: {error}") from error


def _settings(wandb: Any) -> Any:
    """Ours, as far as this version of wandb has them."""
    ours = {"finish_timeout": FINISH_TIMEOUT_S, "finish_timeout_raises": True}
    if "WANDB_INIT_TIMEOUT" not in os.environ:
        ours["init_timeout"] = INIT_TIMEOUT_S
    known = getattr(wandb.Settings, "model_fields", {"init_timeout"})
    return wandb.Settings(**{name: value for name, value in ours.items() if name in known})

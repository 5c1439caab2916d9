"""A sweep whose values wandb's server draws; the trials run here all the same, and are written down here, too."""

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from gemma_metamon.atomic_files import written_whole
from gemma_metamon.errors import DataError, GemmaMetamonError
from gemma_metamon.strict_json import read_json_object
from gemma_metamon.sweeps.space import Dimension
from gemma_metamon.sweeps.trials import Outcome

logger = logging.getLogger(__name__)

FILE: Final = "wandb_sweep.json"
"""Holds the sweep's id, so that the same command goes on with it."""
_METHODS: Final = {"tpe": "bayes", "random": "random"}


def why_not() -> str | None:
    """Why no sweep of wandb's can be begun here, None where one can."""
    try:
        import wandb
    except ImportError:
        return "wandb is not installed (pip install 'gemma-metamon[wandb]')"
    if wandb.setup().settings.mode in ("disabled", "offline"):
        return "wandb's own settings keep it from its server"
    return None if wandb.api.api_key else "wandb has no key (wandb login)"


def as_wandb(
    dimensions: Sequence[Dimension], *, metric: str, direction: str, sampler: str, name: str
) -> dict[str, Any]:
    """The sweep as wandb writes it; parameters have the names and texts of ours."""
    goal = {"max": "maximize", "min": "minimize"}[direction]
    return {
        "name": name,
        "method": _METHODS[sampler],
        "metric": {"name": metric, "goal": goal},
        "parameters": {dimension.name: _as_parameter(dimension) for dimension in dimensions if not dimension.is_fixed},
    }


def _as_parameter(dimension: Dimension) -> dict[str, Any]:
    if dimension.kind == "choice":
        return {"values": list(dimension.choices)}
    number = int if dimension.is_whole else float
    distribution = {
        "uniform": "uniform",
        "log": "log_uniform_values",
        "integer": "int_uniform",
        "log_integer": "q_log_uniform_values",
    }[dimension.kind]
    return {"distribution": distribution, "min": number(dimension.low), "max": number(dimension.high)}


def run(
    folder: Path, sweep: Mapping[str, Any], count: int, one: Callable[[Mapping[str, Any]], Outcome], metric: str
) -> None:
    """Lets wandb draw values for so many trials, and tells it what each gave; only where `why_not` finds nothing.

    Args:
        folder: of the sweep; has the sweep's id, if it was begun before.
        sweep: as `as_wandb` writes it.
        count: of trials.
        one: runs a trial with the values of its parameters.
        metric: its name.

    Raises:
        DataError: the file with the id holds something else.
        GemmaMetamonError: wandb fails, in whatever way.
    """
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    def work() -> None:
        with wandb.init(dir=str(folder)) as begun:
            outcome = one(dict(begun.config))
            if outcome.value is not None:
                begun.log({metric: outcome.value})

    project = os.environ.get("METAMON_WANDB_PROJECT", "gemma-metamon")
    entity = os.environ.get("METAMON_WANDB_ENTITY")
    try:
        sweep_id = _known_id(folder / FILE)
        if sweep_id is None:
            sweep_id = wandb.sweep(dict(sweep), project=project, entity=entity)
            with written_whole(folder / FILE) as staged:
                staged.write_text(json.dumps({"id": sweep_id, "project": project}) + "\n", encoding="utf-8")
        wandb.agent(sweep_id, function=work, count=count, project=project, entity=entity)
    except wandb.errors.Error as error:
        said = " ".join(str(error).split())[:300]
        raise GemmaMetamonError(f"wandb failed ({said}); go on with --backend local in another --out") from error


def _known_id(path: Path) -> str | None:
    if not path.is_file():
        return None
    found = read_json_object(path).get("id")
    if not isinstance(found, str):
        raise DataError(f"{path} has no id of a sweep; delete it to begin another")
    return found

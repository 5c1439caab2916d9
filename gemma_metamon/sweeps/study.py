"""The study of a sweep in Optuna: which values come next, what became of each trial, going on after any end.

It lies in a SQLite file, so that a killed sweep leaves it whole. One process works on it at a time.
"""

import json
import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from gemma_metamon.errors import ConfigError, DataError, GemmaMetamonError
from gemma_metamon.sweeps.space import Dimension
from gemma_metamon.sweeps.trials import Outcome

logger = logging.getLogger(__name__)

FILE: Final = "study.sqlite3"
MOST_KILLS: Final = 2
"""Values whose trial was killed so often are set aside: perhaps they take too much memory."""
SAMPLERS: Final = ("tpe", "random")
_NAME: Final = "sweep"

_STATE, _REASON, _SECONDS, _KILLS, _SETTINGS, _GIVEN = "state", "reason", "seconds", "kills", "settings", "given"
_ROUNDING: Final = 1e-9
"""Relative: so far beyond an end a value may lie that somebody else has drawn by its logarithm."""


@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """A trial as results.json has it.

    Attributes:
        number: from 0; its run is trial_<number, four digits>.
        state: `failed` was set aside, with its reason; `killed` was begun again under another number, unless somebody
            else draws the values.
        value: of the metric, where there is one.
        seconds: that it took.
        values: name -> what it had, as gin or the command line writes it.
        reason: why there is no value.
    """

    number: int
    state: Literal["complete", "pruned", "failed", "killed"]
    value: float | None
    seconds: float
    values: dict[str, str]
    reason: str


class Study:
    """Asks Optuna for values and tells it what they gave.

    Args:
        folder: of the sweep; the study's file is made there, or gone on with.
        dimensions: what is tried.
        settings: what the trials depend on; a study goes on with no other.
        maximize: whether a larger value is better.
        sampler: one of SAMPLERS.
        seed: of the sampler.
        prune: whether trials that are behind the median of earlier ones are stopped.

    Raises:
        ConfigError: the study in this folder was begun with other settings.
        DataError: the file is none of these.
    """

    def __init__(
        self,
        folder: Path,
        dimensions: Sequence[Dimension],
        settings: Mapping[str, Any],
        *,
        maximize: bool,
        sampler: str = "tpe",
        seed: int = 0,
        prune: bool = False,
    ) -> None:
        import optuna
        import sqlalchemy

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna = optuna
        self.dimensions = tuple(dimensions)
        self._varied = [dimension for dimension in dimensions if not dimension.is_fixed]
        path = folder / FILE
        url = sqlalchemy.URL.create("sqlite", database=str(path.resolve())).render_as_string(hide_password=False)
        try:
            self._storage = optuna.storages.RDBStorage(url)
            self._study = optuna.create_study(
                storage=self._storage,
                study_name=_NAME,
                direction="maximize" if maximize else "minimize",
                load_if_exists=True,
            )
        except (sqlalchemy.exc.DatabaseError, RuntimeError) as error:
            said = str(error).splitlines()[0]
            raise DataError(f"{path} cannot be used as a study ({said}); begin in another --out") from error
        self._require(path, settings)
        tried = len(self._study.get_trials(deepcopy=False))
        kinds = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
        # one that goes on must not draw again what it drew before
        self._study.sampler = kinds[sampler](seed=seed + tried)
        self._study.pruner = optuna.pruners.MedianPruner() if prune else optuna.pruners.NopPruner()

    def _require(self, path: Path, settings: Mapping[str, Any]) -> None:
        wanted: dict[str, Any] = json.loads(json.dumps(settings))
        begun_with = self._study.user_attrs.get(_SETTINGS)
        if begun_with is None:
            self._study.set_user_attr(_SETTINGS, wanted)
            return
        for name, value in wanted.items():
            if begun_with.get(name) != value:
                differs = _difference(begun_with.get(name), value)
                raise ConfigError(
                    f"{path} was begun with another value of {name} ({differs}); go on with it, or choose another --out"
                )

    def ask(self, given: Mapping[str, Any] | None = None) -> tuple[Any, dict[str, str]]:
        """A new trial, and its values: name -> as gin or the command line writes it.

        Args:
            given: the values where somebody else draws them, numbers as numbers. The trial has these and no others,
                whatever waits to come again; and where it is killed they do not come again.

        Raises:
            ConfigError: a value is missing or outside its range.
        """
        kinds = {each.name: _distribution(self._optuna, each) for each in self._varied}
        trial = self._study.ask(kinds) if given is None else self._begin(given, kinds)
        trial.set_user_attr(_STATE, "running")
        return trial, {each.name: _written(each, trial.params[each.name]) for each in self._varied}

    def _begin(self, given: Mapping[str, Any], kinds: dict[str, Any]) -> Any:
        """A trial of these values; not by Optuna's queue, at whose front a killed trial's values may wait."""
        values = {each.name: _within(each, given.get(each.name)) for each in self._varied}
        template = self._optuna.trial.create_trial(
            state=self._optuna.trial.TrialState.RUNNING,
            params=values,
            distributions=kinds,
            user_attrs={_GIVEN: True},
        )
        trial_id = self._storage.create_new_trial(self._storage.get_study_id_from_name(_NAME), template)
        return self._optuna.trial.Trial(self._study, trial_id)

    def report(self, trial: Any, step: int, value: float) -> bool:
        """Notes a value of a trial that runs, and says whether it should be stopped."""
        trial.report(value, step)
        return bool(trial.should_prune())

    def tell(self, trial: Any, outcome: Outcome, seconds: float) -> None:
        """Notes what became of it; values whose trial was killed come again, unless somebody else has drawn them."""
        state, reason = outcome.state, outcome.reason
        kills = trial.user_attrs.get(_KILLS, 0) + 1
        if state == "killed" and kills >= MOST_KILLS:
            state, reason = "failed", f"it was killed {kills} times; {reason}"
        trial.set_user_attr(_SECONDS, seconds)
        trial.set_user_attr(_REASON, reason)
        if state == "killed":
            self._again(trial.number, kills)
            return
        trial.set_user_attr(_STATE, state)
        states = self._optuna.trial.TrialState
        ended = {"complete": states.COMPLETE, "pruned": states.PRUNED, "failed": states.FAIL}[state]
        self._study.tell(trial, outcome.value if state == "complete" else None, state=ended)

    def take_up(self) -> int:
        """Puts in order what a killed sweep left: its trial's values come again. Returns of how many they do."""
        running = self._optuna.trial.TrialState.RUNNING
        left = self._study.get_trials(deepcopy=False, states=(running,))
        return sum(self._again(trial.number, trial.user_attrs.get(_KILLS, 0)) for trial in left)

    def _again(self, number: int, kills: int) -> bool:
        """Ends a trial that was killed, and says whether its values come again."""
        trial = self._study.get_trials(deepcopy=False)[number]
        has_begun = set(trial.params) == {dimension.name for dimension in self._varied}
        comes_again = has_begun and not trial.user_attrs.get(_GIVEN, False)  # whoever gave it draws the next one
        if comes_again:
            self._study.enqueue_trial(trial.params, user_attrs={_KILLS: kills})
        # `tell` by number leaves the state "running" beside FAIL, which `rows` reads as killed
        self._study.tell(number, state=self._optuna.trial.TrialState.FAIL)
        return comes_again

    def rows(self) -> list[TrialRow]:
        """All trials that have ended, in order."""
        states = self._optuna.trial.TrialState
        rows = []
        for trial in self._study.get_trials(deepcopy=False, states=(states.COMPLETE, states.PRUNED, states.FAIL)):
            attrs = trial.user_attrs
            state = attrs.get(_STATE, "running")
            rows.append(
                TrialRow(
                    number=trial.number,
                    state="killed" if state == "running" else state,
                    value=_value(trial),
                    seconds=float(attrs.get(_SECONDS, 0.0)),
                    values={d.name: _written(d, trial.params[d.name]) for d in self._varied if d.name in trial.params},
                    reason=str(attrs.get(_REASON, "")),
                )
            )
        return rows

    def ended(self) -> Counter[str]:
        """How many trials have ended in each way."""
        return Counter(row.state for row in self.rows())


@contextmanager
def kept(folder: Path) -> Iterator[None]:
    """Raises GemmaMetamonError, one sentence, where the study's file cannot be written any more: a disk may be full."""
    import optuna
    import sqlalchemy

    try:
        yield
    except (optuna.exceptions.StorageInternalError, sqlalchemy.exc.DatabaseError) as error:
        said = " ".join(str(error.__cause__ or error).split("[SQL", 1)[0].split())[:200]
        raise GemmaMetamonError(
            f"{folder / FILE} cannot be written ({said}); make room, then run the same command again: what has ended "
            "is kept"
        ) from error


def _value(trial: Any) -> float | None:
    if trial.value is not None:
        return float(trial.value)
    return float(trial.intermediate_values[trial.last_step]) if trial.last_step is not None else None


def _distribution(optuna: Any, dimension: Dimension) -> Any:
    if dimension.kind == "choice":
        return optuna.distributions.CategoricalDistribution(dimension.choices)
    if dimension.is_whole:
        return optuna.distributions.IntDistribution(int(dimension.low), int(dimension.high), log=dimension.is_log)
    return optuna.distributions.FloatDistribution(dimension.low, dimension.high, log=dimension.is_log)


def _within(dimension: Dimension, value: Any) -> Any:
    """A value that somebody else has drawn, as the study has it. Raises ConfigError where it is none of these."""
    if dimension.kind == "choice":
        if value in dimension.choices:
            return value
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        inside = min(max(value, dimension.low), dimension.high)
        if math.isclose(inside, value, rel_tol=_ROUNDING):
            return int(inside) if dimension.is_whole else float(inside)
    wanted = " or ".join(dimension.choices) if dimension.kind == "choice" else f"{dimension.low} to {dimension.high}"
    raise ConfigError(
        f"{dimension.name} was drawn as {value!r}, and the sweep file has {wanted}; begin the sweep in another --out"
    )


def _written(dimension: Dimension, value: Any) -> str:
    return str(value) if dimension.kind == "choice" else dimension.written(value)


def _difference(before: Any, now: Any) -> str:
    """Of two lists what the other lacks; of anything else, and of one list in another order, both."""
    if isinstance(before, list) and isinstance(now, list):
        gone, new = [each for each in before if each not in now], [each for each in now if each not in before]
        if gone or new:
            return f"{' '.join(map(str, gone)) or 'nothing'}, not {' '.join(map(str, new)) or 'nothing'}"
    return f"{before!r}, not {now!r}"

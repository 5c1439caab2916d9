"""A sweep whose values wandb draws. Its server cannot be here, so a stand-in draws in its place; wandb itself is real
where it is asked for its key.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from gemma_metamon.errors import ConfigError, GemmaMetamonError
from gemma_metamon.sweeps import wandb_sweep
from gemma_metamon.sweeps.space import parse_space
from gemma_metamon.sweeps.trials import Outcome

if TYPE_CHECKING:
    from gemma_metamon.sweeps.study import Study

SPACE = parse_space(
    "A.rate = log(1e-4, 1e-2)\nA.layers = integer(1, 4)\nA.kind = choice('@a', None)\nA.fixed = 3\n"
    "--batch_size_per_gpu = log_integer(2, 64)\nA.drop = uniform(0, 1)",
    "x",
)


class StandIn:
    """Of wandb: draws the lowest value of everything, and keeps what it is told."""

    class errors:  # noqa: N801 as wandb has it
        class Error(Exception):
            pass

    def __init__(self) -> None:
        self.swept: list[Mapping[str, Any]] = []
        self.logged: list[Mapping[str, float]] = []
        self.fails = False

    def sweep(self, sweep: Mapping[str, Any], project: str, entity: str | None) -> str:
        self.swept.append(sweep)
        return f"id{len(self.swept)}"

    @contextmanager
    def init(self, dir: str) -> Iterator[Any]:
        drawn = {
            name: parameter["values"][0] if "values" in parameter else parameter["min"]
            for name, parameter in self.swept[0]["parameters"].items()
        }
        yield SimpleNamespace(config=drawn, log=self.logged.append)

    def agent(self, sweep_id: str, *, function: Callable[[], None], count: int, **place: Any) -> None:
        if self.fails:
            raise self.errors.Error("no such\nsweep")
        for _ in range(count):
            function()


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    made = StandIn()
    monkeypatch.setitem(sys.modules, "wandb", made)  # type: ignore[arg-type]
    return made


def test_the_sweep_has_the_names_and_values_of_ours_without_what_is_fixed() -> None:
    sweep = wandb_sweep.as_wandb(SPACE, metric="loss", direction="min", sampler="tpe", name="rates")
    assert (sweep["method"], sweep["metric"]) == ("bayes", {"name": "loss", "goal": "minimize"})
    assert sweep["parameters"] == {
        "A.rate": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2},
        "A.layers": {"distribution": "int_uniform", "min": 1, "max": 4},
        "A.kind": {"values": ["@a", "None"]},
        "--batch_size_per_gpu": {"distribution": "q_log_uniform_values", "min": 2, "max": 64},
        "A.drop": {"distribution": "uniform", "min": 0.0, "max": 1.0},
    }


def test_each_trial_has_what_wandb_drew_and_the_same_sweep_goes_on(stand_in: StandIn, tmp_path: Path) -> None:
    sweep = wandb_sweep.as_wandb(SPACE, metric="score", direction="max", sampler="random", name="x")
    given: list[Mapping[str, Any]] = []

    def one(values: Mapping[str, Any]) -> Outcome:
        given.append(values)
        return Outcome(state="complete", value=0.5) if len(given) < 3 else Outcome(state="failed", reason="No.")

    for count in (2, 1):
        wandb_sweep.run(tmp_path, sweep, count, one, "score")
    assert len(stand_in.swept) == 1
    assert json.loads((tmp_path / wandb_sweep.FILE).read_text())["id"] == "id1"
    assert stand_in.logged == [{"score": 0.5}, {"score": 0.5}]  # what failed has no number
    assert given[0] == {"A.rate": 1e-4, "A.layers": 1, "A.kind": "@a", "--batch_size_per_gpu": 2, "A.drop": 0.0}


DRAWN = {"A.rate": 1e-3, "A.layers": 2, "A.kind": "None", "--batch_size_per_gpu": 8, "A.drop": 0.25}


def study_of(folder: Path) -> "Study":
    pytest.importorskip("optuna", reason="needs optuna: pip install 'gemma-metamon[sweep]'")
    from gemma_metamon.sweeps.study import Study

    return Study(folder, SPACE, {}, maximize=True)


def test_what_wandb_draws_is_a_trial_of_the_study(tmp_path: Path) -> None:
    trial, values = study_of(tmp_path).ask(DRAWN)
    assert values == {name: str(value) for name, value in DRAWN.items()}
    assert trial.params == DRAWN


def test_each_result_stands_under_the_values_that_wandb_drew_whatever_was_killed_before(tmp_path: Path) -> None:
    study = study_of(tmp_path)
    own, _ = study.ask()  # of an earlier session with --backend local, and its values wait
    study.tell(own, Outcome(state="killed", reason="SIGKILL"), 1.0)
    for drop in (0.1, 0.2, 0.3, 0.4, 0.5):
        drawn = {**DRAWN, "A.drop": drop}
        trial, values = study.ask(drawn)
        assert trial.params == drawn
        assert values["A.drop"] == str(drop)
        if drop == 0.3:  # the whole sweep is killed
            study = study_of(tmp_path)
            assert study.take_up() == 0
            continue
        ended = {"state": "killed", "reason": "SIGKILL"} if drop == 0.1 else {"state": "complete", "value": drop}
        study.tell(trial, Outcome(**ended), 1.0)  # type: ignore[arg-type]
    rows = [(row.state, row.value, row.values["A.drop"]) for row in study.rows()[1:]]
    assert rows == [
        ("killed", None, "0.1"),
        ("complete", 0.2, "0.2"),
        ("killed", None, "0.3"),
        ("complete", 0.4, "0.4"),
        ("complete", 0.5, "0.5"),
    ]


def test_a_value_beyond_its_range_is_refused_but_for_rounding(tmp_path: Path) -> None:
    study = study_of(tmp_path)
    trial, _ = study.ask({**DRAWN, "A.rate": 0.010000000000000002})
    assert trial.params["A.rate"] == 1e-2
    for name, value in (("A.rate", 0.02), ("A.layers", 5), ("A.kind", "@b"), ("A.drop", None)):
        with pytest.raises(ConfigError, match=f"{name} was drawn as {value!r}, and the sweep file has"):
            study.ask({**DRAWN, name: value})


def test_a_failure_of_wandb_is_one_sentence(stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.fails = True
    with pytest.raises(GemmaMetamonError, match="wandb failed \\(no such sweep\\); go on with --backend local"):
        wandb_sweep.run(tmp_path, {}, 1, lambda values: Outcome(state="complete", value=1.0), "score")


def test_without_a_key_there_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="needs wandb: pip install 'gemma-metamon[wandb]'")
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert wandb_sweep.why_not() == "wandb has no key (wandb login)"

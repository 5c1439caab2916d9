"""A study: what was tried stays, also when the sweep is killed; no trial is lost, and none counted twice."""

import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.disks import disk_with_room, fill
from support.small_trials import main

from gemma_metamon.errors import ConfigError, DataError, GemmaMetamonError
from gemma_metamon.sweeps.results import as_table, collect, write
from gemma_metamon.sweeps.space import parse_space
from gemma_metamon.sweeps.trials import Outcome, run_trial

pytest.importorskip("optuna", reason="needs optuna: pip install 'gemma-metamon[sweep]'")

from gemma_metamon.sweeps.study import FILE, Study, TrialRow, kept

SPACE = parse_space("A.x = uniform(-1, 1)\nA.kind = choice('@a', '@b')\nA.fixed = 3", "x")
SETTINGS = {"metric": "score"}


def study(folder: Path, *, settings: Mapping[str, Any] = SETTINGS, **options: Any) -> Study:
    return Study(folder, SPACE, settings, maximize=True, **options)


def complete(value: float) -> Outcome:
    return Outcome(state="complete", value=value)


def test_a_study_goes_on_and_draws_nothing_twice(tmp_path: Path) -> None:
    seen = []
    for value in (0.1, 0.7, 0.3):
        at_work = study(tmp_path, sampler="random")  # as of a new process
        trial, values = at_work.ask()
        seen.append(values["A.x"])
        at_work.tell(trial, complete(value), 1.0)
    rows = study(tmp_path).rows()
    assert [row.value for row in rows] == [0.1, 0.7, 0.3]
    assert [row.values["A.x"] for row in rows] == seen
    assert len(set(seen)) == 3
    assert collect(rows, "score", "max").best == 1
    assert collect(rows, "score", "min").best == 0


def test_values_of_a_killed_sweep_come_again(tmp_path: Path) -> None:
    _, values = study(tmp_path).ask()  # and no word of its end
    at_work = study(tmp_path)
    assert at_work.take_up() == 1
    assert at_work.take_up() == 0
    trial, again = at_work.ask()
    assert again == values
    at_work.tell(trial, complete(1.0), 1.0)
    assert [row.state for row in at_work.rows()] == ["killed", "complete"]


def test_a_trial_that_is_killed_comes_again_once(tmp_path: Path) -> None:
    at_work, tried = study(tmp_path), []
    for _ in range(3):
        trial, values = at_work.ask()
        tried.append(values)
        at_work.tell(trial, Outcome(state="killed", reason="SIGKILL"), 1.0)
    assert tried[0] == tried[1] != tried[2]
    assert [row.state for row in at_work.rows()] == ["killed", "failed", "killed"]
    assert at_work.rows()[1].reason == "it was killed 2 times; SIGKILL"


def test_another_sweep_is_refused_in_the_same_folder(tmp_path: Path) -> None:
    study(tmp_path)
    with pytest.raises(ConfigError, match=r"begun with another value of metric \('score', not 'loss'\)"):
        study(tmp_path, settings={"metric": "loss"})
    flags = ["--epochs", "1", "--seed", "0"]
    (tmp_path / "other").mkdir()
    study(tmp_path / "other", settings={"flags": flags})
    with pytest.raises(ConfigError, match=r"another value of flags \(1, not 2 --log\); go on"):
        study(tmp_path / "other", settings={"flags": ["--epochs", "2", "--seed", "0", "--log"]})


def test_a_file_that_is_no_study_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database" * 100)
    with pytest.raises(DataError, match="cannot be used as a study"):
        study(tmp_path)


def test_a_full_disk_is_one_sentence_and_costs_no_trial_that_has_ended(tmp_path: Path) -> None:
    with disk_with_room(tmp_path / "disk", 1 << 20) as place:
        at_work = study(place)
        trial, _ = at_work.ask()
        at_work.tell(trial, complete(0.5), 1.0)
        fill(place, 0)

        def ask_on() -> None:
            with kept(place):
                for _ in range(200):
                    at_work.ask()

        with pytest.raises(GemmaMetamonError, match="cannot be written"):
            ask_on()
        (place / "filler").unlink()
        assert next(row.value for row in study(place).rows()) == 0.5


def test_a_trial_behind_the_median_is_pruned(tmp_path: Path) -> None:
    at_work = study(tmp_path, prune=True)
    for _ in range(5):  # Optuna prunes none of the first five
        trial, _ = at_work.ask()
        assert not at_work.report(trial, 10, 0.9)
        at_work.tell(trial, complete(0.9), 1.0)
    trial, _ = at_work.ask()
    assert at_work.report(trial, 10, 0.1)
    at_work.tell(trial, Outcome(state="pruned", value=0.1), 1.0)
    assert at_work.rows()[-1].state == "pruned"
    assert at_work.rows()[-1].value == 0.1


def ran(folder: Path, *flags: str, should_stop: Callable[[int, float], bool] = lambda step, value: False) -> Outcome:
    folder.mkdir()
    command = ["train", "--run_name", "a", "--save_dir", str(folder), *flags]
    return run_trial(
        main, command, folder / "a", folder / "log", "score", best_of=statistics.fmean, should_stop=should_stop
    )


@pytest.mark.slow
def test_a_trial_gives_its_number_or_the_reason_why_not(tmp_path: Path) -> None:
    assert ran(tmp_path / "1", "--values", "0.25,0.75") == Outcome(state="complete", value=0.5)
    failed = ran(tmp_path / "2", "--values", "0.25", "--end", "fail")
    assert failed == Outcome(state="failed", reason="gemma-metamon train: the learning rate is a mountain")
    killed = ran(tmp_path / "3", "--values", "0.25", "--end", "kill")
    assert (killed.state, killed.value) == ("killed", None)
    without = ran(tmp_path / "4", "--values", "nan")
    assert without == Outcome(state="failed", reason="the run has no finite score; it has loss/total, score")


@pytest.mark.slow
def test_a_trial_that_is_stopped_ends_at_once_with_the_values_it_has(tmp_path: Path) -> None:
    asked: list[tuple[int, float]] = []

    def should_stop(step: int, value: float) -> bool:
        asked.append((step, value))
        return step == 20

    stopped = ran(tmp_path / "1", "--values", "0.25,0.75", "--end", "sleep", should_stop=should_stop)
    assert stopped == Outcome(state="pruned", value=0.5)
    assert asked == [(10, 0.25), (20, 0.75)]


def test_results_are_a_table_a_picture_and_a_file_to_train_with(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'gemma-metamon[sweep]'")
    rows = [
        TrialRow(number=0, state="complete", value=0.25, seconds=3, values={"A.x": "0.5", "A.kind": "@a"}, reason=""),
        TrialRow(number=1, state="failed", value=None, seconds=1, values={"A.x": "0.1", "A.kind": "@b"}, reason="No."),
        TrialRow(number=2, state="pruned", value=0.75, seconds=2, values={"A.x": "0.2", "A.kind": "@b"}, reason=""),
    ]
    results = collect(rows, "score", "max")
    assert results.best == 0  # what was pruned has not shown what it is worth
    assert as_table(results, SPACE).splitlines() == [
        "trial  state     score  seconds  x    kind",
        "2      pruned    0.75   2        0.2  @b",
        "0 *    complete  0.25   3        0.5  @a",
        "1      failed           1        0.1  @b",
        "trial 1: No.",
    ]
    (tmp_path / "trial_0000").mkdir()
    (tmp_path / "trial_0000" / "config.gin").write_text("A.x = 0.5\n")
    command = ["train", "--model_gin_config", "m.gin", "--seed", "3", "--run_name", "NAME", "--save_dir", "x"]
    write(tmp_path, results, SPACE, [*command, "--gin_override", "A.x = 0.5", "--batch_size_per_gpu=4"])
    assert (tmp_path / "best.gin").read_text().splitlines() == [
        "# The best of 3 trials: trial_0000, score 0.25.",
        f"# gemma-metamon train --model_gin_config {tmp_path}/best.gin --run_name NAME --save_dir DIR --seed 3 "
        "--batch_size_per_gpu=4",
        "A.x = 0.5",
    ]
    assert (tmp_path / "parallel.png").read_bytes().startswith(b"\x89PNG")

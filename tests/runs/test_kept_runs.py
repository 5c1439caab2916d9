"""What was left on a disk before the rooms of the package were built is gone on with: runs, stores, folders of battles.

tests/goldens/before_the_house.tar.xz was made by scripts/build_kept_runs.py, which says what is in it. Everything here
goes through the command line, as it was typed then, so that no move of a module touches these tests.
"""

import json
import logging
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from build_kept_runs import ELSEWHERE, batch_digests, losses_after, option_probabilities, run
from support.node import needs_node
from support.paths import GOLDENS

pytestmark = pytest.mark.slow

ARCHIVE = GOLDENS / "before_the_house.tar.xz"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the archive's commands, unpacked, which is also the working directory."""
    with tarfile.open(ARCHIVE) as archive:
        for member in filter(tarfile.TarInfo.isfile, archive):  # extractall's filter is younger than Python 3.11.2
            path = tmp_path / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            content = archive.extractfile(member)
            assert content is not None
            path.write_bytes(content.read().replace(ELSEWHERE.encode(), str(tmp_path).encode()))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def expected(here: Path) -> dict[str, Any]:
    """`commands`, and what came of those that go on: `losses`, `batches`, `probabilities`."""
    content: dict[str, Any] = json.loads((here / "expected.json").read_text())
    return content


def contents(folder: Path) -> dict[str, bytes]:
    """All files beneath a folder but the pages and charts."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".html", ".png")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# --- runs -----------------------------------------------------------------------------------------------------------


def test_a_run_goes_on_and_learns_as_it_would_have(
    here: Path, expected: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    run(expected["commands"]["resume"])
    np.testing.assert_allclose(losses_after(here / "runs" / "first", 32), expected["losses"], rtol=1e-3)
    assert (here / "runs" / "first" / "ckpts" / "epoch_3" / "training.safetensors").is_file()
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_checkpoint_acts_as_it_did(expected: dict[str, Any]) -> None:
    now = option_probabilities(run(expected["commands"]["explain"]))
    assert len(now) == len(expected["probabilities"]) > 20
    for probabilities, before in zip(now, expected["probabilities"], strict=True):
        np.testing.assert_allclose(probabilities, before, rtol=1e-5)


def test_the_kept_probabilities_tell_one_decision_from_another(expected: dict[str, Any]) -> None:
    """Or the test above would pass with any words."""
    most = max(map(len, expected["probabilities"]))
    of_one_choice = np.array([row for row in expected["probabilities"] if len(row) == most])
    assert len(of_one_choice) > 2
    assert (np.ptp(of_one_choice, axis=0) > 1e-3 * of_one_choice.mean(0)).all()


def test_the_resolved_configuration_of_a_run_is_still_a_configuration(here: Path, expected: dict[str, Any]) -> None:
    run(expected["commands"]["from_store"])
    before, now = (here / "runs" / name / "config.gin" for name in ("first", "from_store"))
    assert f"--model_gin_config {before.relative_to(here)}" in expected["commands"]["from_store"]
    assert now.read_text() == before.read_text()


# --- stores and battles ---------------------------------------------------------------------------------------------


def test_a_store_gives_the_batches_that_it_gave(expected: dict[str, Any]) -> None:
    with batch_digests() as batches:
        run(expected["commands"]["from_store"])
    assert len(batches) == 16
    assert batches == expected["batches"]


def test_a_store_has_all_that_preparing_it_again_would_make(here: Path, expected: dict[str, Any]) -> None:
    before = contents(here / "store")
    report = json.loads(run(f"{expected['commands']['prepare']} --verify --json"))
    assert (report["battles"], report["done_before"], report["verified_shards"]) == (4, 4, 2)
    assert contents(here / "store") == before


def test_collected_battles_and_those_of_a_ladder_are_trained_on(
    expected: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    flags = "--run_name more --epochs 1 --steps_per_epoch 2 --custom_replay_dir collected ladder/battles"
    run(f"{expected['commands']['train']} {flags} --custom_replay_sample_weight 0.9 --holdout_share 0")
    assert "8 battles to train on" in caplog.text


# --- evaluations, ladders, rounds -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "says", "charts"),
    [
        ("evaluated", "first@1 against first@2", ["bars.png", "heatmap.png", "battles/battle-gen1ou-1.html"]),
        ("improved/evaluations/round_1", "improved@1 against improved@0", ["bars.png", "heatmap.png"]),
        ("improved", "Elo of the agent after each round", ["bars.png", "heatmap.png", "rating_curve.png"]),
        ("runs/first", "Training of first", []),
    ],
)
def test_a_report_is_made(folder: str, says: str, charts: list[str], here: Path) -> None:
    assert not [name for name in ("report.html", *charts) if (here / folder / name).exists()]
    assert run(f"report {folder} --run_dir runs/first").strip() == f"{folder}/report.html"
    assert says in (here / folder / "report.html").read_text()
    assert all((here / folder / name).is_file() for name in charts)


@pytest.mark.server
@needs_node
def test_a_ladder_goes_on_counting_and_writes_down_a_battle_that_was_cut_off(
    here: Path, expected: dict[str, Any]
) -> None:
    results = here / "ladder" / "results.jsonl"
    first, second = rows(results)
    results.write_text(json.dumps(first) + "\n")  # as if the process had been killed at the end of the second
    report = json.loads(run(f"{expected['commands']['ladder']} --battles 3 --json"))
    assert report["won"] + report["lost"] + report["tied"] == 3
    assert report["this_run"]["battles"] == 2
    assert report["this_run"]["refused"] == report["this_run"]["fallbacks"] == 0
    kept, read, played = rows(results)
    assert kept == first
    same = ("log", "battle", "username", "format", "opponent", "result", "rating_before", "rating_after", "turns")
    assert {name: read[name] for name in same} == {name: second[name] for name in same}
    assert read["reason"] == "read from its log after a restart"
    assert played["decisions"] > 5


@needs_node
def test_rounds_that_are_finished_stay_as_they_are(
    here: Path, expected: dict[str, Any], capsys: pytest.CaptureFixture
) -> None:
    before = contents(here / "improved")
    table = run(expected["commands"]["improve"])
    ratings, _, _ = table.partition("\n\n")
    assert [line.split()[0] for line in ratings.splitlines()[1:]] == ["improved@0", "improved@1", "RandomPlayer"]
    assert "$ gemma-metamon" not in capsys.readouterr().err  # no step was worked on
    after = contents(here / "improved")
    before_all, after_all = (json.loads(files.pop("results.json")) for files in (before, after))
    for row in after_all["contestants"]:
        for name in ("policy", "chat"):  # not yet told when those rounds were rated
            row.pop(name)
    assert (after, after_all) == (before, before_all)


@pytest.mark.server
@needs_node
@pytest.mark.long
def test_rounds_go_on_after_the_last(here: Path, expected: dict[str, Any]) -> None:
    before = contents(here / "improved" / "improved" / "ckpts")
    run(f"{expected['commands']['improve']} --rounds 2 --parent_battles 2")
    after = contents(here / "improved" / "improved" / "ckpts")
    assert {name: after.get(name) for name in before} == before
    assert "epoch_2/weights.safetensors" in after
    finished = json.loads((here / "improved" / "improve.json").read_text())["finished"]
    assert [step["step"] for step in finished if step["round"] == 2] == ["collect", "prepare", "train", "evaluate"]

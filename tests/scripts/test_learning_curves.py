"""scripts/learning_curves.py: real, tiny trainings of two contenders, and what it says of them."""

import json
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.small_agent import BATTLES, SMALL

from gemma_metamon.errors import ConfigError
from gemma_metamon.runs import resolve
from gemma_metamon.runs.checkpoints import Checkpoint

TRAINED = ["--format", "gen9ou", "--parsed_replay_dir", str(BATTLES), "--holdout_share", "0.3", "--batch_size", "2"]

Run = Callable[..., str]


@pytest.fixture(scope="module")
def script() -> Any:
    import learning_curves

    return learning_curves


@pytest.fixture
def run(script: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The script with these arguments, small and on few battles; what it prints."""

    def run_script(out: Path, contenders: str, *extra: str) -> str:
        argv = ["learning_curves.py", "--contenders", contenders, "--out", str(out), *TRAINED]
        argv += [word for override in SMALL for word in ("--gin_override", override)]
        monkeypatch.setattr(sys, "argv", [*argv, *extra])
        capsys.readouterr()
        script.main()
        return capsys.readouterr().out

    return run_script


def written_at(out: Path) -> dict[str, int]:
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in out.glob("*/ckpts/*/weights.safetensors")}


@pytest.mark.slow
def test_runs_are_trained_once_go_on_where_they_stopped_and_are_shared(run: Run, tmp_path: Path) -> None:
    short = ["--seeds", "3", "4", "--every", "1", "--updates", "1"]
    table = run(tmp_path, "text", *short).splitlines()
    assert table[2] == "| updates | subwords | words | words - subwords, seed by seed |"
    assert [row.split(" | ")[0] for row in table[4:]] == ["| 1", "| mean of the curve", "| timesteps per second"]
    assert (tmp_path / "text.png").read_bytes().startswith(b"\x89PNG")
    trained = written_at(tmp_path)
    assert {Path(name).parts[0] for name in trained} == {"entity-seed3", "entity-seed4", "words-seed3", "words-seed4"}

    report = json.loads(run(tmp_path, "text", *short, "--json"))
    assert written_at(tmp_path) == trained
    assert json.loads((tmp_path / "text.json").read_text()) == report
    for side in report["contenders"].values():
        assert [len(points) for points in side["agreement"]] == [1, 1]
        assert all(0 <= points[0] <= 1 for points in side["agreement"])
        assert min(side["timesteps_per_s"]) > 0

    longer = json.loads(run(tmp_path, "phrasing", *short[:-1], "2", "--json"))
    assert trained.items() < written_at(tmp_path).items()  # the first epochs were not trained again
    for first, both in zip(
        report["contenders"]["subwords"]["agreement"], longer["contenders"]["natural"]["agreement"], strict=True
    ):
        assert both[0] == first[0]
        assert len(both) == 2
    config = Checkpoint.find(tmp_path / "raw-seed3", 2).read_meta().config
    assert resolve.load_text(config).bindings["GemmaTstepEncoder.phrasing"] == "'raw'"

    with pytest.raises(ConfigError, match=r"entity-seed3 was trained with steps_per_epoch 1, not 2; choose another"):
        run(tmp_path, "text", "--seeds", "3", "--every", "2", "--updates", "2")


def test_a_run_that_stopped_before_its_first_point_begins_again(run: Run, tmp_path: Path) -> None:
    stopped = tmp_path / "entity-seed0"
    (stopped / "ckpts").mkdir(parents=True)
    (stopped / "metrics.jsonl").write_text('{"update": 1, "timesteps_per_s": -1}\n')
    report = json.loads(run(tmp_path, "text", "--seeds", "0", "--every", "1", "--updates", "1", "--json"))
    assert report["contenders"]["subwords"]["timesteps_per_s"][0] > 0


def test_both_objectives_learn_at_one_rate(script: Any) -> None:
    rates = []
    for contender in script.SETS["objective"].values():
        bindings = resolve.load(contender.model, contender.training, contender.overrides).bindings
        rates.append(
            {name: bindings[f"MetamonAMAGOExperiment.{name}"] for name in ("learning_rate", "lr_warmup_steps")}
        )
    assert rates[0] == rates[1]


@pytest.mark.parametrize("contenders", ["granularity", "text", "phrasing", "objective"])
def test_a_set_is_two_contenders_that_load_and_whose_runs_have_different_folders(script: Any, contenders: str) -> None:
    one, other = script.SETS[contenders].values()
    assert one.folder != other.folder
    texts = {resolve.load(side.model, side.training, side.overrides).text for side in (one, other)}
    assert len(texts) == 2


def test_the_comparison_is_seed_by_seed(script: Any) -> None:
    args = Namespace(seeds=[0, 1], every=10, updates=20, format="gen1ou", battles=8)
    one = script.Measured(agreement=[[0.5, 0.5], [0.125, 0.25]], timesteps_per_s=[100.0, 200.0], win_rate=[0.5, 0.25])
    other = script.Measured(
        agreement=[[0.625, 0.75], [0.25, 0.25]], timesteps_per_s=[200.0, 200.0], win_rate=[0.5, 0.5]
    )
    assert script.as_table({"a": one, "b": other}, args).splitlines() == [
        "Agreement with held-out recorded actions of gen1ou, mean (lowest to highest of seeds 0, 1)",
        "",
        "| updates | a | b | b - a, seed by seed |",
        "|---|---|---|---|",
        "| 10 | 31.2% (12.5% to 50.0%) | 43.8% (25.0% to 62.5%) | +12.5 (+12.5 to +12.5) |",
        "| 20 | 37.5% (25.0% to 50.0%) | 50.0% (25.0% to 75.0%) | +12.5 (+0.0 to +25.0) |",
        "| mean of the curve | 34.4% (18.8% to 50.0%) | 46.9% (25.0% to 68.8%) | +12.5 (+6.2 to +18.8) |",
        "| won of 8 against MaxBasePowerPlayer | 37.5% (25.0% to 50.0%) | 50.0% (50.0% to 50.0%) "
        "| +12.5 (+0.0 to +25.0) |",
        "| timesteps per second | 150 (100 to 200) | 200 (200 to 200) | 1.50 (1.00 to 2.00) times |",
    ]


@pytest.mark.slow
@pytest.mark.server
def test_the_final_agents_play(run: Run, tmp_path: Path) -> None:
    only = ["--seeds", "0", "--every", "1", "--updates", "1", "--battles", "2", "--json"]
    report = json.loads(run(tmp_path, "objective", *only))
    for side in report["contenders"].values():
        assert side["win_rate"][0] in (0, 0.5, 1)
    kept = {path.parent.name: json.loads(path.read_text())["battles"] for path in tmp_path.glob("*/games-1-2.json")}
    assert kept == {"entity-seed0": 2, "binary_rl-seed0": 2}


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (["--updates", "7", "--every", "2"], "--updates 7 is no multiple of --every 2"),
        (["--seeds", "1", "1"], "--seeds 1 1: each seed once"),
        (["--battles", "-1"], "--battles -1; it must not be negative"),
    ],
)
def test_wrong_numbers_are_refused(
    run: Run, tmp_path: Path, wrong: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(tmp_path / "out", "text", *wrong)
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_many_contenders_have_a_row_each_with_the_interval_of_all_their_battles(script: Any) -> None:
    args = Namespace(format="gen1ou", updates=20, every=10, batch_size=8, seeds=[0, 1], battles=50)
    sides = [script.Measured(agreement=[[0.2, 0.4], [0.4, 0.6]], timesteps_per_s=[], win_rate=[0.2, 0.4])] * 3
    *_, row = script.as_rows(dict(zip("abc", sides, strict=True)), args).splitlines()
    assert row == ("| c | 50.0% (40.0% to 60.0%) | 40.0% (30.0% to 50.0%) | 30.0% (21.9% to 39.6%) | 20.0%, 40.0% |")
    quiet = script.as_rows(dict(zip("abc", sides, strict=True)), Namespace(**{**vars(args), "battles": 0}))
    assert quiet.splitlines()[-1] == "| c | 50.0% (40.0% to 60.0%) | 40.0% (30.0% to 50.0%) |"


def test_each_training_contender_is_a_packaged_config(script: Any) -> None:
    for contender in script.SETS["training"].values():
        resolve.load(contender.model, contender.training, contender.overrides)

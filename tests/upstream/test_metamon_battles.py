"""Inside metamon as it is installed: its evaluation and its launchers let runs of both sides play."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support import metamon_runs
from support.metamon_runs import TIMEOUT_S, TREE, printed_object, run_program
from support.small_agent import train_command

from gemma_metamon.commands import main
from gemma_metamon.data.encoding import encode_battle
from gemma_metamon.view import BattleView

pytestmark, env, showdown = metamon_runs.pytestmark, metamon_runs.env, metamon_runs.showdown
save_dir, trained = metamon_runs.save_dir, metamon_runs.trained


@pytest.fixture(scope="module")
def exported_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of this package's own trainer, in AMAGO's layout."""
    folder = tmp_path_factory.mktemp("embedded")
    assert main(train_command(folder)) == 0
    assert main(["export", "--run_dir", str(folder / "run"), "--to", "amago", "--out", str(folder / "out")]) == 0
    return folder / "out" / "run"


@pytest.mark.server
@pytest.mark.usefixtures("showdown", "trained")
@pytest.mark.parametrize("origin", ["metamon", "exported"])
def test_metamon_evaluates_a_run(
    origin: str, save_dir: Path, exported_run: Path, env: dict[str, str], tmp_path: Path
) -> None:
    run_dir = exported_run if origin == "exported" else save_dir / "run"
    battle_format = "gen1ou" if TREE.knows_fight else "gen9ou"
    flags = ["--run_dir", str(run_dir), "--eval_type", "heuristic", "--gens", battle_format[3], "--formats", "ou"]
    flags += [
        "--total_battles",
        "10",
        "--async_mp_context",
        "fork",
        "--save_trajectories_to",
        str(tmp_path / "battles"),
    ]
    baselines = ["RandomBaseline", "Gen1BossAI"]
    assert run_program("evaluate", tmp_path, env, flags=flags, baselines=baselines) == 0
    output = (tmp_path / "output.txt").read_text()
    results = printed_object(output)
    win_rates = [results[f"Average Win Rate in {battle_format}_vs_{name}"] for name in baselines]
    assert all(0 <= rate <= 1 for rate in win_rates)
    battles = [*(tmp_path / "battles" / battle_format).iterdir()]
    assert len(battles) >= 10
    assert encode_battle(battles[0], BattleView.default()).n_decisions > 0


MODEL = "gemma_metamon:run"
PLAYER = {"team_set": "competitive", "battle_backend": "metamon"}
LAUNCHES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "h2h": (
        {
            "battle_format": "gen9ou",
            "battles_per_matchup": 2,
            "defaults": PLAYER,
            "policies": {
                "first": {"model_name": MODEL},
                "second": {"model_name": MODEL, "checkpoint": 2, "temperature": 0.5},
            },
        },
        ["--output_dir", "out"],
    ),
    "sweep": (
        {
            "battle_format": "gen9ou",
            "battles_per_matchup": 2,
            "defaults": PLAYER,
            "opponent": {"model_name": MODEL},
            "sweep": {"model_name": MODEL, "temperatures": [0.5]},
        },
        ["--output_dir", "out"],
    ),
    "ladder_self_play": (
        {
            "defaults": {**PLAYER, "checkpoints": [None], "temperatures": [1.0], "num_agents": 2},
            "agents": {"OurRun": {"model_name": MODEL}},
        },
        ["--format", "gen9ou", "--n_challenges", "2", "--restart_delay", "600", "--save_trajectories_to", "out"],
    ),
}


@pytest.mark.server
@pytest.mark.usefixtures("showdown", "trained")
@pytest.mark.parametrize("kind", TREE.launchers)
def test_metamons_launchers_let_runs_play_each_other(
    kind: str, save_dir: Path, env: dict[str, str], tmp_path: Path
) -> None:
    config, flags = LAUNCHES[kind]
    (tmp_path / "config.yaml").write_text(json.dumps(config))  # YAML, too
    command = [sys.executable, "-m", "gemma_metamon", "metamon-evaluate", "--run_dir", str(save_dir / "run")]
    command += ["--eval_type", kind, "--config", "config.yaml", "--gpus", "0", *flags]
    with (tmp_path / "output.txt").open("wb") as output:
        process = subprocess.Popen(command, env=env, cwd=tmp_path, stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + TIMEOUT_S
        pattern = "*.json*" if kind == "ladder_self_play" else "*.csv"
        while len([*(tmp_path / "out").rglob(pattern)]) < 2:
            assert process.poll() is None, (tmp_path / "output.txt").read_text()[-3000:]
            assert time.monotonic() < deadline, (tmp_path / "output.txt").read_text()[-3000:]
            time.sleep(0.2)
        if kind == "ladder_self_play":  # goes on until it is stopped
            process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_S) == (130 if kind == "ladder_self_play" else 0)
    finally:
        process.terminate()
        process.wait()
    if kind != "ladder_self_play":
        (result,) = (tmp_path / "out" / "matchup_results.jsonl").read_text().splitlines()
        assert json.loads(result)["total_battles"] == 2

"""`metamon-evaluate --eval_type h2h` and the like: a launcher's processes know the runs. metamon is a stand-in on disk.

tests/upstream/test_metamon_battles.py runs the real launchers where they are.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.exported_runs import write_run
from support.paths import GOLDENS
from support.processes import eventually

from gemma_metamon.commands import main
from gemma_metamon.upstream.launchers import LAUNCHERS
from gemma_metamon.upstream.versions import TREES

PRETRAINED = """
MODELS = {}

def pretrained_model(name):
    return lambda model: MODELS.setdefault(name, model)

class LocalPretrainedModel:
    def __init__(self, **given):
        self.given = given
"""
# as upstream's: the players are processes of whatever `python` is, told of a model by its name alone
LAUNCHER = """
import subprocess, sys
from pathlib import Path
player = str(Path(__file__).with_name("player.py"))
sys.exit(max(subprocess.run(["python", player, *sys.argv[1:]], cwd="/").returncode for _ in range(2)))
"""
PLAYER = """
import json, sys, time
from metamon.rl.pretrained import MODELS

if __name__ == "__main__":
    model, checkpoint, out = MODELS[sys.argv[2]](), int(sys.argv[4]), sys.argv[6]
    path = model.get_path_to_checkpoint(checkpoint)
    with open(out, "a") as file:
        print(json.dumps([sorted(MODELS), model.given["default_checkpoint"], path, sys.argv[1:]]), file=file)
    if "--forever" in sys.argv:
        time.sleep(600)
"""
STAND_IN = {
    "metamon/__init__.py": "__version__ = '{version}'\n",
    "metamon/interface.py": "get_observation_space = get_action_space = get_reward_function = str\n",
    "metamon/tokenizer.py": "class PokemonTokenizer:\n    def load_tokens(self, ids):\n        return self\n",
    "metamon/rl/__init__.py": "",
    "metamon/rl/pretrained.py": PRETRAINED,
    "metamon/rl/evaluate/__init__.py": "def add_cli(parser): ...\ndef _run_default_evaluation(args): ...\n",
    "metamon/rl/evaluate/h2h/__init__.py": "",
    "metamon/rl/evaluate/h2h/__main__.py": LAUNCHER,
    "metamon/rl/evaluate/h2h/player.py": PLAYER,
}


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    packages = tmp_path / "packages"
    for name, source in STAND_IN.items():
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).write_text(source.replace("{version}", "1.6.0"))
    path = os.pathsep.join(["packages", os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "METAMON_CACHE_DIR": str(tmp_path), "PYTHONPATH": path}


def command(*flags: str, kind: str = "h2h") -> list[str]:
    return [sys.executable, "-m", "gemma_metamon", "metamon-evaluate", *flags, "--eval_type", kind]


def launch(folder: Path, env: dict[str, str], *flags: str, kind: str = "h2h") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(*flags, kind=kind), cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.slow
def test_a_launchers_players_know_the_runs_and_find_their_checkpoints(tmp_path: Path, env: dict[str, str]) -> None:
    first, second = write_run(tmp_path / "first"), write_run(tmp_path / "second", epochs=(0, 6))
    flags = ["--model_name", "gemma_metamon:second", "--checkpoint", "6", "--out", str(tmp_path / "out.jsonl")]
    battles = ["--save_trajectories_to", "battles", "--save_trajectories_to=battles"]
    done = launch(tmp_path, env, "--run_dir", "first", "second", *flags, *battles)
    assert done.returncode == 0, done.stderr
    assert "in the launcher's config the model_name is 'gemma_metamon:first' or 'gemma_metamon:second'" in done.stderr
    players = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    names = ["gemma_metamon:first", "gemma_metamon:second"]
    path = str(second / "ckpts" / "policy_weights" / "policy_epoch_6.pt")
    there = str(tmp_path / "battles")  # and not where the players run
    given = [*flags, "--save_trajectories_to", there, f"--save_trajectories_to={there}"]
    assert players == [[names, 6, path, given]] * 2
    assert {file.name for file in first.parent.iterdir()} == {"first", "second", "packages", "out.jsonl"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("checkpoint", "complaint"),
    [("0", "it would silently play random weights"), ("3", "mine has no checkpoint 3; it has 0, 2, 4")],
)
def test_a_players_checkpoint_that_cannot_play_ends_the_player(
    checkpoint: str, complaint: str, tmp_path: Path, env: dict[str, str]
) -> None:
    write_run(tmp_path / "mine")
    flags = ["--model_name", "gemma_metamon:mine", "--checkpoint", checkpoint, "--out", str(tmp_path / "out.jsonl")]
    done = launch(tmp_path, env, "--run_dir", "mine", *flags)
    assert done.returncode == 1
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_launcher_that_is_ended_takes_its_players_with_it(
    number: signal.Signals, tmp_path: Path, env: dict[str, str]
) -> None:
    write_run(tmp_path / "mine")
    out = tmp_path / "out.jsonl"
    flags = ["--model_name", "gemma_metamon:mine", "--checkpoint", "2", "--out", str(out), "--forever"]
    process = subprocess.Popen(command("--run_dir", "mine", *flags), cwd=tmp_path, env=env)

    def has_begun() -> bool:
        assert process.poll() is None
        return out.exists() and out.read_text().endswith("\n")

    eventually(has_begun)
    process.send_signal(number)
    assert process.wait(60) == (128 + number if number == signal.SIGTERM else -number)

    def are_gone() -> bool:
        still = subprocess.run(["ps", "-A", "-o", "args"], capture_output=True, text=True, check=True).stdout
        return str(out) not in still

    assert eventually(are_gone) if number == signal.SIGKILL else are_gone()


def test_a_run_that_the_config_names_and_nobody_gave_is_refused(tmp_path: Path, env: dict[str, str]) -> None:
    write_run(tmp_path / "mine")
    (tmp_path / "h2h.yaml").write_text(
        "policies: {a: {model_name: 'gemma_metamon:mine'}, gemma_metamon:yours: {}}  # not gemma_metamon:theirs\n"
    )
    done = launch(tmp_path, env, "--run_dir", "mine", "--config", "h2h.yaml")
    assert done.returncode == 1
    assert "h2h.yaml names gemma_metamon:yours; the runs of --run_dir are gemma_metamon:mine" in done.stderr


@pytest.mark.slow
def test_a_launcher_that_reports_no_failure_and_has_no_result_is_not_believed(
    tmp_path: Path, env: dict[str, str]
) -> None:
    write_run(tmp_path / "mine")
    flags = ["--model_name", "gemma_metamon:mine", "--checkpoint", "2", "--out", str(tmp_path / "out.jsonl")]
    done = launch(tmp_path, env, "--run_dir", "mine", *flags, "--output_dir", "results")
    assert done.returncode == 1
    assert "no battle in results has a result, though metamon.rl.evaluate.h2h reports no failure" in done.stderr


def test_a_launcher_that_a_metamon_lacks_is_refused_with_those_that_have_it(
    tmp_path: Path, env: dict[str, str]
) -> None:
    write_run(tmp_path / "mine")
    done = launch(tmp_path, env, "--run_dir", "mine", kind="ladder_self_play")
    assert done.returncode == 1
    assert "metamon 1.6.0 has no --eval_type ladder_self_play (metamon.rl.evaluate.ladder_self_play or" in done.stderr
    assert "metamon 1.6.0 and 1.5.1 have it; `gemma-metamon evaluate --round_robin`" in done.stderr


def test_several_runs_need_a_launcher_and_names_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    runs = [str(write_run(tmp_path / folder / "mine")) for folder in ("one", "other")]
    assert main(["metamon-evaluate", "--run_dir", *runs, "--eval_type", "heuristic"]) == 1
    assert "2 runs; --eval_type heuristic plays one (several: h2h, sweep" in capsys.readouterr().err
    assert main(["metamon-evaluate", "--run_dir", *runs, "--eval_type", "h2h"]) == 1
    assert "two of the runs have one name, by which metamon would know both" in capsys.readouterr().err


def test_each_launcher_of_the_table_is_where_the_version_was_recorded_to_have_it() -> None:
    for tree in TREES:
        recorded = json.loads((GOLDENS / "signatures" / f"metamon-{tree.metamon}.json").read_text())["launchers"]
        assert {kind for kind, names in LAUNCHERS.items() if {*names} & {*recorded}} == {*tree.launchers}

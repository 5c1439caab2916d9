"""Names on the command line become contestants: scripted players and checkpoints."""

import shutil
from pathlib import Path

import pytest
from poke_env.player import RandomPlayer
from support.small_agent import train_command

from gemma_metamon.commands import main
from gemma_metamon.commands._players import contestants, find_players
from gemma_metamon.errors import ConfigError, MissingFileError
from gemma_metamon.showdown.players.contestants import Contestant, scripted


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    assert main(train_command(folder)) == 0
    return folder / "run"


def found(*specs: str) -> list[Contestant]:
    return contestants(find_players(specs), device="cpu", sample=True, temperature=1.0, max_battles=4, seed=0)


def test_a_scripted_player_is_its_class() -> None:
    (random,) = found("RandomPlayer")
    assert random == scripted("RandomPlayer")
    assert (random.name, random.build, random.policy) == ("RandomPlayer", RandomPlayer, None)


def test_contestants_come_in_their_order_and_share_the_policy_of_one_checkpoint(run_dir: Path) -> None:
    last, random, first, again = found(str(run_dir), "RandomPlayer", f"{run_dir}@0", f"{run_dir}@1")
    assert [contestant.name for contestant in (last, random, first, again)] == [
        "run@1",
        "RandomPlayer",
        "run@0",
        "run@1",
    ]
    assert last.policy is again.policy is not None
    assert first.policy is not last.policy


def test_the_run_in_this_folder_has_its_name(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run_dir)
    assert [contestant.name for contestant in found(".")] == ["run@1"]


def test_runs_of_one_name_are_told_apart(run_dir: Path, tmp_path: Path) -> None:
    for parent in ("a", "b"):
        shutil.copytree(run_dir, tmp_path / parent / "run")
    names = [contestant.name for contestant in found(str(tmp_path / "a" / "run"), str(tmp_path / "b" / "run"))]
    assert [name.endswith(f"{parent}/run@1") for name, parent in zip(names, "ab", strict=True)] == [True, True]


def test_what_is_neither_player_nor_run_is_refused_before_anything_is_loaded(run_dir: Path) -> None:
    with pytest.raises(ConfigError, match=r"did you mean RandomPlayer\?.*nor is 'RandomPlyer' the folder of a run"):
        found(str(run_dir), "RandomPlyer")
    with pytest.raises(MissingFileError, match="run has no checkpoint 7; it has 0, 1"):
        found("RandomPlayer", f"{run_dir}@7")
    with pytest.raises(MissingFileError, match="no checkpoint in it"):
        found(str(run_dir.parent))

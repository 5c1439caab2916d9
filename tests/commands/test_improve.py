"""`gemma-metamon improve`: whole runs, and what is refused before a battle is played."""

import json
from pathlib import Path

import pytest
from support.improving import finished, improve_command
from support.node import needs_node
from support.small_agent import BATTLES, SMALL, TINY

from gemma_metamon.battle.replays import BattleFileName, find_battles, load_battle
from gemma_metamon.commands import main
from gemma_metamon.runs.checkpoints import Checkpoint

# --- the folder ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["battles", "stores", "evaluations"])
def test_an_agent_is_not_called_as_a_folder_of_its_battles(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(improve_command(tmp_path / name, "--model_gin_config", TINY)) == 1
    assert f"no agent can be called '{name}'; choose another name" in capsys.readouterr().err


def test_the_root_of_all_folders_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(improve_command(Path("/"), "--model_gin_config", TINY)) == 1
    assert "--out / has no name to call the agents by" in capsys.readouterr().err


def test_somebody_elses_run_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "out" / "out" / "ckpts" / "epoch_3"
    run.mkdir(parents=True)
    assert main(improve_command(tmp_path / "out", "--model_gin_config", TINY)) == 1
    assert "out/out is a run that is no part of this; choose another --out" in capsys.readouterr().err
    assert run.is_dir()


# --- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "nothing to begin with: give --run_dir of a trained agent, or --model_gin_config"),
        (["--run_dir", "nowhere"], "nowhere: no such folder"),
        (["--run_dir", "nowhere", "--train_gin_config", "il.gin"], "--train_gin_config needs --model_gin_config"),
        (["--model_gin_config", TINY, "--opponents", "Nobody"], "no player is called 'Nobody'"),
        (["--model_gin_config", TINY, "--eval_opponents", "there@3"], "there: no such folder"),
        (["--model_gin_config", TINY, "--experts", "Nobody"], "no player is called 'Nobody'"),
        (["--model_gin_config", TINY, "--label_by", "there@3"], "there: no such folder"),
        (["--model_gin_config", TINY, "--record_opponents", "DuelTrainer"], "DuelTrainer is none of --opponents"),
        (["--model_gin_config", TINY, "--format", "gen7ou"], "no team for format 'gen7ou'"),
        (["--model_gin_config", TINY, "--parsed_replay_dir", "no/battles"], "no such folder: no/battles"),
        (["--model_gin_config", TINY, "--collected_share", "2"], "--collected_share 2.0; it is a share"),
        (["--model_gin_config", TINY, "--rounds", "0"], "--rounds 0; it must be at least 1"),
        (["--model_gin_config", TINY, "--past_rounds", "-1"], "--past_rounds -1; it must not be negative"),
        (["--model_gin_config", TINY, "--seed", "-1"], "--seed -1; it must be within 0 to 4294967295"),
        (["--model_gin_config", TINY, "--device", "gameboy"], "device 'gameboy' cannot be used"),
    ],
)
def test_bad_input_gets_one_sentence_and_no_folder(
    arguments: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(improve_command(tmp_path / "out", *arguments)) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert complaint in said[-1]
    assert not (tmp_path / "out").exists()


def test_an_opponent_with_the_name_of_our_own_agents_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old" / "out" / "ckpts" / "epoch_1").mkdir(parents=True)
    rival = str(tmp_path / "old" / "out") + "@1"
    flags = ["--model_gin_config", TINY, "--eval_opponents", rival]
    assert main(improve_command(tmp_path / "out", *flags)) == 1
    assert "would both be called 'out'; choose another name for --out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--obs_space", "DefaultObservationSpace"], "--obs_space is for a new agent; leave it out"),
        (["--gin_override", "MultiTaskAgent.use_multigamma = False"], "popart._t is [7, 1], not [1, 1]"),
        (["--gin_override", "GemmaTstepEncoder.phrasing = 'raw'"], "phrasing 'natural', but this run uses 'raw'"),
        (["--gin_override", "MultiTaskAgent.gama = 0.9"], "doesn't have a parameter named 'gama'"),
    ],
)
def test_what_a_run_cannot_go_on_with_is_refused_before_a_battle(
    arguments: list[str], complaint: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(improve_command(tmp_path / "out", "--run_dir", str(trained), *arguments)) == 1
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.server
@needs_node
def test_experts_play_and_label_and_each_round_begins_anew(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    flags = ["--run_dir", str(trained), "--parsed_replay_dir", str(BATTLES), "--anew"]
    flags += ["--experts", "TypeTrainer", "--label_by", "DuelTrainer", "--record_opponents", "RandomPlayer"]
    assert main(improve_command(out, *flags, "--battles_per_round", "5")) == 0
    views = find_battles(out / "battles" / "round_2", ["gen1ou"])
    names = {BattleFileName.parse(path.name).player.partition("-")[0] for path in views}
    assert {"out1", "TypeTrainer", "Random"} <= names
    for path in views:
        labels = load_battle(path).labels
        assert labels is not None
        assert max(labels) >= 0
    assert [Checkpoint(out / "out", epoch).read_meta().anew_at for epoch in (0, 1, 2)] == [0, 0, 2]
    metrics = [json.loads(line) for line in (out / "out" / "metrics.jsonl").read_text().splitlines()]
    assert any("label_accuracy" in row for row in metrics)
    assert capsys.readouterr().out.splitlines()[-1].startswith("out@2 / out@0")


@pytest.mark.slow
@pytest.mark.server
@needs_node
def test_an_untrained_agent_is_trained_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--model_gin_config", TINY, "--train_gin_config", "binary_rl.gin", "--parsed_replay_dir", str(BATTLES)]
    flags += [text for override in SMALL for text in ("--gin_override", override)]
    assert main(improve_command(tmp_path / "new", *flags, "--rounds", "1", "--json")) == 0
    assert finished(tmp_path / "new") == [(0, "begin"), (1, "train"), (1, "evaluate")]
    results = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [row["name"] for row in results["contestants"]] == ["new@1", "RandomPlayer"]

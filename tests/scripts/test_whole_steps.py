"""The steps that long scripts are made of: whole ones are kept, interrupted ones begin again."""

from pathlib import Path

import pytest
import whole_steps as steps


@pytest.mark.long
def test_a_run_that_was_interrupted_begins_again_and_a_whole_one_is_kept(tmp_path: Path) -> None:
    run, flags = tmp_path / "run", ["--model_gin_config", "gemma_tiny_entity.gin", "--train_gin_config", "quick.gin"]
    flags += ["--steps_per_epoch", "1", "--batch_size_per_gpu", "2", "--formats", "gen1ou"]
    (run / "ckpts" / "epoch_0").mkdir(parents=True)  # as a killed training leaves it
    steps.trained(run, 1, *flags)
    weights = run / "ckpts" / "epoch_1"
    written = weights.stat().st_mtime_ns
    steps.trained(run, 1, *flags)
    assert weights.stat().st_mtime_ns == written


def test_battles_that_were_interrupted_are_collected_again(tmp_path: Path) -> None:
    left = tmp_path / "battles.part" / "gen1ou" / "left.json.lz4"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    battles = steps.collected(tmp_path / "battles", "gen1ou", 2, "--players", "RandomPlayer")
    assert not (battles / "gen1ou" / left.name).exists()
    assert len(list(battles.rglob("*.json.lz4"))) >= 2


def test_a_step_that_fails_ends_the_script_with_its_status() -> None:
    with pytest.raises(SystemExit, match="2"):
        steps.command("train", "--no_such_flag")

"""GRPO: what a run on rewards learns, keeps and goes on from, and when it says that there is nothing to learn."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support.chats import chats_of, gemma_tokenizer, save_pretrained_like, write_chats
from support.small_agent import BACKBONE

from gemma_metamon.commands import main
from gemma_metamon.errors import ConfigError
from gemma_metamon.language.models import chat_model as models
from gemma_metamon.language.models.chat_model import ModelPlan, load
from gemma_metamon.language.training import sft
from gemma_metamon.language.training.fine_tuning import FineTuning, find_model
from gemma_metamon.language.training.grpo import CollapseWatch, Reinforced, train
from gemma_metamon.language.training.grpo_trainer import GRPOSettings

CHATS = chats_of(most=24)
CPU = torch.device("cpu")
WEIGHTS = {"format": 1.0, "legality": 1.0, "correctness": 1.0}


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of sft whose drawn answers earn about half of what there is: a random model never earns anything."""
    run_dir = tmp_path_factory.mktemp("taught")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "TINY_CONFIG", BACKBONE | {"max_position_embeddings": 4096})
        settings = sft.SFTSettings(epochs=12, batch_size=8, learning_rate=1e-2, warmup_updates=0, generated=0)
        sft.train(ModelPlan(), settings, CHATS, [], run_dir, device=CPU)
        yield run_dir


def reinforce(model: Path, out: Path, *, resume: bool = False, held_out: int = 0, **changes: Any) -> Reinforced:
    fields = {"batch_size": 8, "warmup_updates": 0, "generated": 4, "log_every": 1, "answer_subwords": 10}
    settings = GRPOSettings(**{**fields, **changes})
    return train(str(model), settings, WEIGHTS, CHATS, CHATS[:held_out], out, device=CPU, resume=resume)


def weights_of(run_dir: Path, epoch: int | None = None) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = load(find_model(run_dir, epoch)).gemma.state_dict()
    return weights


def test_a_run_logs_each_reward_and_keeps_what_it_measured(taught: Path, tmp_path: Path) -> None:
    done = reinforce(taught, tmp_path, held_out=8, max_updates=3, keep_every=2)
    assert done.updates == 3
    assert done.before is not None
    assert done.measured is not None
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    for name in WEIGHTS:
        assert [line["update"] for line in lines if f"reward/{name}" in line] == [1, 2, 3]
    assert all("grpo/entropy" in line and "grpo/equal_groups" in line for line in lines if "reward/total" in line)
    assert [line["update"] for line in lines if "held_out/agreement" in line] == [0, 2, 3]
    assert all(0 <= line["held_out/reward"] <= 4 for line in lines if "held_out/agreement" in line)
    assert sorted(path.name for path in (tmp_path / "ckpts").iterdir()) == ["epoch_0", "epoch_1", "epoch_2"]
    before, after = weights_of(tmp_path, 0), weights_of(tmp_path)
    torch.testing.assert_close(before, weights_of(taught), rtol=0, atol=0)
    assert any(not torch.equal(before[name], value) for name, value in after.items())


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_as_if_it_were_not(
    taught: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = {"max_updates": 4, "keep_every": 2, "beta": 0.1}
    reinforce(taught, tmp_path / "whole", **how)
    keep = FineTuning.keep

    def stopping(self: FineTuning, number: int, updates: int) -> None:
        if number == 2:
            raise KeyboardInterrupt
        keep(self, number, updates)

    with monkeypatch.context() as patch:
        patch.setattr(FineTuning, "keep", stopping)
        with pytest.raises(KeyboardInterrupt):
            reinforce(taught, tmp_path / "stopped", **how)
    assert reinforce(taught, tmp_path / "stopped", resume=True, **how).updates == 4
    whole, resumed = weights_of(tmp_path / "whole"), weights_of(tmp_path / "stopped")
    torch.testing.assert_close(resumed, whole, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_adapters_go_on_beside_those_they_began_with(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    base = save_pretrained_like(tmp_path / "gemma", gemma_tokenizer())
    settings = sft.SFTSettings(max_updates=1, batch_size=8, generated=0)
    sft.train(ModelPlan(model=str(base)), settings, CHATS, [], tmp_path / "words", device=CPU)
    data = write_chats(tmp_path / "chats.jsonl", CHATS)
    flags = ["--max_updates", "1", "--batch_size", "8", "--answer_subwords", "4", "--beta", "0.1", "--json"]
    command = ["grpo", "--data", str(data), "--model", f"{tmp_path / 'words'}@1", "--out", str(tmp_path / "run")]
    assert main([*command, *flags]) == 0
    assert json.loads(capsys.readouterr().out)["updates"] == 1
    assert load(find_model(tmp_path / "run")).plan.uses_adapters
    assert not (find_model(tmp_path / "run") / "ref").exists()
    assert main([*command[:-1], str(tmp_path / "whole"), "--full", *flags]) == 1
    assert f"and the run {tmp_path / 'words'}@1 goes on with its adapters" in capsys.readouterr().err


def test_a_collapse_is_told_once() -> None:
    watch = CollapseWatch()
    told = [watch.observe(equal, 1.0) for equal in (1.0, 0.2, 0.9, 1.0, 1.0, 1.0, 1.0)]
    assert [warning is not None for warning in told] == [False] * 4 + [True, False, False]
    assert "all answers earn the same" in str(told[4])
    watch = CollapseWatch()
    assert [watch.observe(0.5, entropy) is None for entropy in (1.0, 0.5, 0.001)] == [True, True, False]


def test_a_group_is_at_least_two_answers_and_a_batch_whole_groups() -> None:
    with pytest.raises(ConfigError, match="a group of one"):
        GRPOSettings(num_generations=1)
    with pytest.raises(ConfigError, match="--batch_size 6 is no multiple of --num_generations 4"):
        GRPOSettings(batch_size=6)


def test_what_is_wrong_is_said_in_one_sentence(taught: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data = write_chats(tmp_path / "chats.jsonl", CHATS)
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text('{"messages": 3}\n', encoding="utf-8")

    def sentence(*changed: str) -> str:
        given = ["--data", str(data), "--model", str(taught), "--out", str(tmp_path / "run"), "--device", "cpu"]
        assert main(["grpo", *given, *changed]) == 1
        said: str = capsys.readouterr().err.splitlines()[-1]
        return said

    assert "see all that is wrong with gemma-metamon chat validate" in sentence("--data", str(wrong))
    assert "this machine has no CUDA" in sentence("--vllm")
    assert "a group of one" in sentence("--num_generations", "1", "--batch_size", "4")
    assert "is no multiple" in sentence("--batch_size", "6")
    assert "chat export --critics RUN" in sentence("--reward", "advantage")
    assert "holds no chat model" in sentence("--model", str(tmp_path))
    assert "no checkpoint 99" in sentence("--model", f"{taught}@99")
    assert "no run to go on with" in sentence("--resume")
    (tmp_path / "run").mkdir(exist_ok=True)
    (tmp_path / "run/run.json").write_text('{"start": ', encoding="utf-8")
    assert "run.json is not JSON" in sentence("--resume")
    (tmp_path / "run/run.json").unlink()
    (tmp_path / "run").rmdir()
    assert "and an update takes 32" in sentence("--batch_size", "128")
    assert not (tmp_path / "run").exists()

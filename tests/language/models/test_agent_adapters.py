"""An agent and a chat model over one base begin with each other's adapters; over two they are refused, and told why."""

import shutil
from pathlib import Path

import pytest
import torch
from support.chats import chats_of, gemma_tokenizer, save_pretrained_like, write_chats
from support.small_agent import train_command

from gemma_metamon.commands import main
from gemma_metamon.language.models.chat_model import load
from gemma_metamon.language.training.fine_tuning import find_model
from gemma_metamon.nets.reader.adapters import lora_parameters
from gemma_metamon.runs.checkpoints import Checkpoint
from gemma_metamon.runs.loading import load_agent

CHATS = chats_of(most=8)


def agent_command(save_dir: Path, base: Path, *overrides: str, run_name: str = "agent") -> list[str]:
    """`train` of an agent whose encoder has adapters over a base in a folder."""
    lines = [
        "GemmaTstepEncoder.backbone_config = None",
        "GemmaTstepEncoder.pretrained = True",
        f"GemmaTstepEncoder.model_name = '{base}'",
        "GemmaTstepEncoder.use_lora = True",
        "MetamonAMAGOExperiment.lr_warmup_steps = 0",
        "MetamonAMAGOExperiment.learning_rate = 0.01",
        *overrides,
    ]
    flags = [text for line in lines for text in ("--gin_override", line)]
    return train_command(save_dir, *flags, run_name=run_name)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pretrained_like(tmp_path_factory.mktemp("models") / "gemma", gemma_tokenizer())


@pytest.fixture(scope="module")
def agent_run(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    save_dir = tmp_path_factory.mktemp("runs")
    assert main(agent_command(save_dir, base)) == 0
    return save_dir / "agent"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chats(tmp_path_factory.mktemp("data") / "chats.jsonl", CHATS)


def sft(data: Path, out: Path, base: Path | str, *flags: str) -> list[str]:
    lean = ["--max_updates", "1", "--generated", "0", "--warmup_updates", "0", "--learning_rate", "0.01"]
    return ["sft", "--data", str(data), "--out", str(out), "--model", str(base), *lean, *flags]


def test_the_adapter_goes_from_the_agent_to_the_chat_model_and_back_and_reads_alike(
    base: Path, agent_run: Path, data: Path, tmp_path: Path
) -> None:
    words = tmp_path / "words"
    assert main(sft(data, words, base, "--init_from", str(agent_run))) == 0
    begun, agent = load(find_model(words, 0)), load_agent(Checkpoint.find(agent_run), "cpu")[0]
    encoder = agent.tstep_encoder  # type: ignore[union-attr]
    theirs, own = lora_parameters(encoder.backbone), lora_parameters(begun.gemma)
    assert theirs.keys() == own.keys()
    assert any(tensor.abs().max() > 0 for name, tensor in theirs.items() if name.endswith("lora_B"))
    for name, tensor in own.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=0)

    rows = encoder.subwords.used_ids.tolist()
    both = sorted(set(rows) & set(begun.kept_ids or ()))[:40]
    with torch.no_grad():
        states = begun.gemma.model(input_ids=torch.tensor([[begun.kept_ids.index(i) for i in both]]))  # type: ignore[union-attr]
        expected = encoder.backbone(input_ids=torch.tensor([[rows.index(i) for i in both]]))
    torch.testing.assert_close(states.last_hidden_state, expected.last_hidden_state, rtol=0, atol=1e-5)

    back = agent_command(tmp_path, base, f"GemmaTstepEncoder.init_adapter = '{words}'", run_name="back")
    assert main(back) == 0
    learned = lora_parameters(load(find_model(words)).gemma)
    weights = Checkpoint.find(tmp_path / "back", 0).read_weights()
    for name, tensor in learned.items():
        saved = weights[f"tstep_encoder.backbone.{name}.default.weight"]
        torch.testing.assert_close(saved, tensor, rtol=0, atol=0)
    assert any(not torch.equal(tensor, own[name]) for name, tensor in learned.items())

    # what the run has learned since is its own: the folder that it began with may go
    shutil.rmtree(words)
    assert load_agent(Checkpoint.find(tmp_path / "back"), "cpu")
    assert main([*back, "--epochs", "2", "--ckpt", "1"]) == 0


def refused(capsys: pytest.CaptureFixture, command: list[str]) -> str:
    assert main(command) == 1
    said: str = capsys.readouterr().err.splitlines()[-1]
    return said


def test_an_adapter_of_another_base_or_form_is_refused_with_the_flag(
    base: Path, agent_run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    begin = ["--init_from", str(agent_run)]
    other = shutil.copytree(base, tmp_path / "other")
    for changed, said in (
        (sft(data, tmp_path / "out", other, *begin), f"give --model {base}, or begin with another run"),
        (sft(data, tmp_path / "out", base, *begin, "--lora_r", "8"), "has lora_r 16, not 8; give --lora_r 16"),
        (sft(data, tmp_path / "out", base, *begin, "--full"), "--full trains all weights; give --model"),
        (sft(data, tmp_path / "out", "tiny", *begin), "but --model tiny trains all weights; give --model"),
    ):
        assert said in refused(capsys, changed)
    assert not (tmp_path / "out").exists()


def test_the_embedded_agent_and_the_tiny_model_share_no_base_and_that_is_said(
    base: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(train_command(tmp_path)) == 0
    said = refused(capsys, sft(data, tmp_path / "out", base, "--init_from", str(tmp_path / "run")))
    assert "random weights over the packaged words" in said
    assert main(sft(data, tmp_path / "tiny", "tiny")) == 0
    begin = f"GemmaTstepEncoder.init_adapter = '{tmp_path / 'tiny'}'"
    assert "sft's tiny model has subwords of its own" in refused(
        capsys, agent_command(tmp_path, base, begin, run_name="other")
    )
    said = refused(capsys, [*train_command(tmp_path, run_name="other"), "--gin_override", begin])
    assert "GemmaTstepEncoder.use_lora = True" in said
    assert not (tmp_path / "other").exists()


def test_weights_of_another_run_take_the_place_of_the_adapter_and_that_is_said(
    base: Path, agent_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    command = agent_command(tmp_path, base, "GemmaTstepEncoder.init_adapter = 'gone'", run_name="second")
    assert main([*command, "--init_from", str(agent_run)]) == 0
    assert "init_adapter is unused: --init_from brings an adapter of its own" in caplog.text

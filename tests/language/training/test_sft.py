"""Supervised fine-tuning: what the loss counts, what packing may not do, and a run from its data to its player."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support.chats import chats_of, gemma_tokenizer, save_pretrained_like, small_model, write_chats
from support.small_agent import BACKBONE

from gemma_metamon.commands import main
from gemma_metamon.language.data.chats import encode, form_of, read_chats
from gemma_metamon.language.models import chat_model as models
from gemma_metamon.language.models.chat_model import ModelPlan, load
from gemma_metamon.language.models.held_out import answer_loss, measure
from gemma_metamon.language.training.fine_tuning import FineTuning, find_model
from gemma_metamon.language.training.sft import SFTSettings, train

CHATS = chats_of(most=24)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "TINY_CONFIG", BACKBONE | {"max_position_embeddings": 4096})


def sentence(capsys: pytest.CaptureFixture, *command: str) -> str:
    assert main(["sft", *command]) == 1
    said: str = capsys.readouterr().err.splitlines()[-1]
    return said


def test_the_loss_is_that_of_the_answers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    chat = small_model(monkeypatch, CHATS)
    example = encode(chat.tokenizer, CHATS[:1], 4096)[0][0]
    ids = torch.tensor([example.prompt + example.answer])
    labels = torch.tensor([[-100] * len(example.prompt) + example.answer])
    total, n = answer_loss(chat.gemma, {"input_ids": ids}, labels)
    theirs = chat.gemma(input_ids=ids, labels=labels).loss
    assert n == len(example.answer)
    assert chat.tokenizer.decode(example.answer) == CHATS[0].messages[-1]["content"] + "<end_of_turn>"
    torch.testing.assert_close(total / n, theirs, rtol=0, atol=1e-5)


@torch.no_grad()
def test_chats_packed_into_a_row_do_not_see_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    chat = small_model(monkeypatch, CHATS)
    rows = encode(chat.tokenizer, CHATS[:3], 4096)[0]
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    packed = {
        "input_ids": [subword for row in rows for subword in row.prompt + row.answer],
        "labels": [label for row in rows for label in [-100] * len(row.prompt) + row.answer],
        "seq_lengths": [len(row) for row in rows],
    }
    batch = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)([packed])
    together, n = answer_loss(chat.gemma, batch, batch.pop("labels"))
    apart = 0.0
    for row in rows:
        labels = torch.tensor([[-100] * len(row.prompt) + row.answer])
        apart += float(answer_loss(chat.gemma, {"input_ids": torch.tensor([row.prompt + row.answer])}, labels)[0])
    assert float(together) == pytest.approx(apart, abs=1e-3)
    assert n == sum(len(row.answer) for row in rows)


def test_a_run_learns_its_chats_and_logs_it(tmp_path: Path) -> None:
    settings = SFTSettings(epochs=4, batch_size=8, learning_rate=1e-2, warmup_updates=0, generated=4, log_every=1)
    trained = train(ModelPlan(), settings, CHATS, CHATS, tmp_path, device=CPU)
    assert trained.updates == 12
    assert trained.measured is not None
    untrained = load(find_model(tmp_path, 0))
    examples, _ = encode(untrained.tokenizer, CHATS, 4096)
    assert trained.measured.perplexity < measure(untrained, examples, generated=0).perplexity / 10
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["update"] for line in lines if "loss/total" in line] == list(range(1, 13))
    assert sum("held_out/agreement" in line and "held_out/legal_share" in line for line in lines) == 4
    assert sorted(path.name for path in (tmp_path / "ckpts").iterdir()) == [f"epoch_{n}" for n in range(5)]


def test_a_run_that_was_stopped_goes_on_as_if_it_were_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SFTSettings(epochs=2, batch_size=8, warmup_updates=0, generated=0)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    train(ModelPlan(), settings, CHATS, [], tmp_path / "whole", device=CPU)
    with monkeypatch.context() as patch:
        patch.setattr(FineTuning, "keep", stopping_at(2, stop))
        with pytest.raises(KeyboardInterrupt):
            train(ModelPlan(), settings, CHATS, [], tmp_path / "stopped", device=CPU)
    assert train(ModelPlan(), settings, CHATS, [], tmp_path / "stopped", device=CPU, resume=True).updates == 6
    whole, resumed = (load(find_model(tmp_path / name)).gemma.state_dict() for name in ("whole", "stopped"))
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value, rtol=0, atol=1e-6)


def stopping_at(epoch: int, stop: Any) -> Any:
    keep = FineTuning.keep

    def wrapped(self: Any, at: int, updates: int) -> None:
        stop() if at == epoch else keep(self, at, updates)

    return wrapped


def test_adapters_of_a_pretrained_model_learn_packed_and_are_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    base = save_pretrained_like(tmp_path / "gemma", gemma_tokenizer())
    data = write_chats(tmp_path / "chats.jsonl", CHATS)
    out = tmp_path / "run"
    flags = ["--model", str(base), "--max_updates", "2", "--packing", "--context", "600", "--generated", "0"]
    assert main(["sft", "--data", str(data), "--val", str(data), "--out", str(out), "--json", *flags]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["updates"] == 2
    assert 0 <= printed["measured"]["agreement"] <= 1
    assert load(find_model(out)).plan.uses_adapters
    assert main(["export", "--run_dir", str(out), "--to", "merged", "--out", str(tmp_path / "whole")]) == 0
    assert load(tmp_path / "whole").gemma.config.vocab_size == len(gemma_tokenizer())
    assert main(["export", "--run_dir", str(out), "--to", "peft", "--out", str(tmp_path / "other")]) == 1
    assert "holds a chat model; give --to merged" in capsys.readouterr().err


def test_a_chat_longer_than_the_context_is_counted_and_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = sorted(len(each) for each in encode(small_model(monkeypatch, CHATS).tokenizer, CHATS, 4096)[0])
    settings = SFTSettings(max_updates=1, context=lengths[12], generated=0)
    with caplog.at_level("WARNING"):
        trained = train(ModelPlan(), settings, CHATS, [], tmp_path / "run", device=CPU)
    n_longer = sum(length > lengths[12] for length in lengths)
    assert trained.too_long == (n_longer, 0)
    assert f"{n_longer} of the chats to train on are set aside" in caplog.text


def test_how_chats_are_told_is_read_from_them() -> None:
    assert form_of(CHATS).history == 0
    assert form_of(chats_of(most=24, history=2)).history == 2
    assert not form_of(CHATS).reasoning


def test_what_is_wrong_is_said_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data = write_chats(tmp_path / "chats.jsonl", CHATS)
    out = ["--out", str(tmp_path / "run")]
    assert "no file" in sentence(capsys, "--data", str(tmp_path / "none.jsonl"), *out)
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text('{"messages": 3}\n', encoding="utf-8")
    assert "see all that is wrong with gemma-metamon chat validate" in sentence(capsys, "--data", str(wrong), *out)
    assert "fits into 10 subwords" in sentence(capsys, "--data", str(data), "--context", "10", *out)
    assert "no run to go on with" in sentence(capsys, "--data", str(data), "--resume", *out)
    assert "the tiny model has none" in sentence(capsys, "--data", str(data), "--use_4bit", *out)
    assert len(read_chats(data)) == len(CHATS)
    assert not (tmp_path / "run").exists()  # what is refused leaves no empty folder

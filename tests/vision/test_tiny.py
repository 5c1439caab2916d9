"""A tiny Gemma that sees: it reads a grid, what it sees counts, and TRL trains it on grids and on four pictures."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from support.seen_battles import bundled, decisions_of, read_by

from gemma_metamon.battle.replays import load_battle
from gemma_metamon.errors import ConfigError
from gemma_metamon.language.data.choosing import Wording
from gemma_metamon.language.data.filters import Counts, Filters
from gemma_metamon.vision.rows import PictureChooser, Showing
from gemma_metamon.vision.scenes.grid import GridPainter, Layout, pictures_of
from gemma_metamon.vision.tiny import IMAGE, build_model, build_processor, picture_tokens

SIZE = 112


@cache
def rows(layout: Layout) -> list[dict[str, Any]]:
    chooser = PictureChooser(Showing(layout=layout), Filters(), Wording(), 0)
    path = bundled("gen1ou", 1)[0]
    return [json.loads(row.text) for row in chooser.rows(load_battle(path), path.name, Counts())]


@cache
def tiny(layout: Layout) -> tuple[Any, Any]:
    texts = [part.get("text", "") for row in rows(layout) for message in row["messages"] for part in message["content"]]
    processor = build_processor(texts, SIZE)
    return build_model(processor).eval(), processor


def pictures(layout: Layout, decision: int) -> list[Any]:
    painter = GridPainter(SIZE)
    return [painter.draw(picture) for picture in pictures_of(decisions_of("gen1ou")[: decision + 1], layout)]


@pytest.mark.parametrize(("layout", "n_pictures"), [("grid", 1), ("four", 4)])
def test_it_reads_a_grid_and_four_pictures(layout: Layout, n_pictures: int) -> None:
    model, processor = tiny(layout)
    row = rows(layout)[5]
    seen = pictures(layout, row["decision"])
    assert len(seen) == n_pictures
    batch = read_by(processor, row["messages"], seen, prompt=False)
    image_id = processor.tokenizer.convert_tokens_to_ids(IMAGE)
    assert int((batch["input_ids"] == image_id).sum()) == n_pictures * picture_tokens(SIZE)
    assert batch["pixel_values"].shape == (n_pictures, 3, SIZE, SIZE)
    with torch.no_grad():
        logits = model(**batch).logits
        blank = model(
            **read_by(processor, row["messages"], [GridPainter(SIZE).blank()] * n_pictures, prompt=False)
        ).logits
    assert logits.shape == (*batch["input_ids"].shape, len(processor.tokenizer))
    assert torch.isfinite(logits).all()
    assert (logits - blank)[0, -8:].abs().max() > 1e-4  # what it sees reaches the answer
    assert sum(weights.numel() for weights in model.parameters()) < 5e6


def test_a_saved_processor_reads_the_same(tmp_path: Path) -> None:
    from transformers import AutoProcessor

    from gemma_metamon.vision.processors import picture_size

    _, processor = tiny("grid")
    processor.save_pretrained(tmp_path)
    assert picture_size(tmp_path) == SIZE
    loaded = AutoProcessor.from_pretrained(tmp_path, local_files_only=True, use_fast=False)
    row = rows("grid")[3]
    seen = pictures("grid", row["decision"])
    for name, value in read_by(processor, row["messages"], seen, prompt=True).items():
        torch.testing.assert_close(read_by(loaded, row["messages"], seen, prompt=True)[name], value, rtol=0, atol=0)


def test_a_size_that_is_not_made_of_patches_is_refused() -> None:
    assert (picture_tokens(112), picture_tokens(224)) == (16, 64)
    for size in (0, 100, 113):
        with pytest.raises(ConfigError, match=f"pictures of {size} pixels are not made of"):
            picture_tokens(size)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["grid", "four"])
def test_trl_trains_on_the_rows(layout: Layout, tmp_path: Path) -> None:
    """Four pictures in one example once failed in TRL (its issue 3121)."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    _, processor = tiny(layout)
    model = build_model(processor)
    data = [{"messages": row["messages"], "images": pictures(layout, row["decision"])} for row in rows(layout)[:6]]
    before = {name: weights.detach().clone() for name, weights in model.named_parameters()}
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(tmp_path),
            max_steps=2,
            per_device_train_batch_size=2,
            assistant_only_loss=True,
            max_length=None,
            use_cpu=True,
            activation_checkpointing=False,
            dataloader_pin_memory=False,
            report_to=[],
            save_strategy="no",
        ),
        train_dataset=Dataset.from_list(data),
        processing_class=processor,
    )
    assert trainer.train().training_loss > 0
    changed = {name for name, weights in model.named_parameters() if not torch.equal(weights, before[name])}
    assert any("vision_tower" in name for name in changed)
    assert any("language_model" in name for name in changed)

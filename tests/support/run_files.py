"""What a run's folder holds, as a test compares it."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from gemma_metamon.runs import checkpoints


def folder(run_dir: Path, epoch: int) -> Path:
    return checkpoints.checkpoint_folder(run_dir, epoch)


def weights(run_dir: Path, epoch: int) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = load_file(folder(run_dir, epoch) / checkpoints.WEIGHTS)
    return loaded


def moments(run_dir: Path, epoch: int) -> dict[str, torch.Tensor]:
    loaded = load_file(folder(run_dir, epoch) / checkpoints.TRAINING)
    return {key: value for key, value in loaded.items() if key.startswith("optimizer/")}


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    """The parts with an entry that is not bitwise the same."""
    assert before.keys() == after.keys()
    return {key.split(".")[0] for key in after if not torch.equal(before[key], after[key])}


def metrics(run_dir: Path, name: str) -> list[float]:
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [line[name] for line in lines if name in line]

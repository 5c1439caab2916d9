"""What a run's folder holds, as a test compares it."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from gemma_metamon.runs.checkpoints import TRAINING, WEIGHTS, Checkpoint
from gemma_metamon.runs.experiment import build_without_weights
from gemma_metamon.runs.identity import RunIdentity
from gemma_metamon.view import BattleView


def identity_of(view: BattleView) -> RunIdentity:
    """Of a run with the configuration that is loaded."""
    agent: Any = build_without_weights(view)
    return RunIdentity.of(view, agent.tstep_encoder)


def weights(run_dir: Path, epoch: int) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = load_file(Checkpoint(run_dir, epoch).folder / WEIGHTS)
    return loaded


def moments(run_dir: Path, epoch: int) -> dict[str, torch.Tensor]:
    loaded = load_file(Checkpoint(run_dir, epoch).folder / TRAINING)
    return {key: value for key, value in loaded.items() if key.startswith("optimizer/")}


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    """The parts with an entry that is not bitwise the same."""
    assert before.keys() == after.keys()
    return {key.split(".")[0] for key in after if not torch.equal(before[key], after[key])}


def metrics(run_dir: Path, name: str) -> list[float]:
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [line[name] for line in lines if name in line]

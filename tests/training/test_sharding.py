"""Weights in shards (torch's fully_shard): a sharded encoder has the losses of a whole one; `train` refuses them.

Two processes with gloo, each with its own battles. All read as many chunks of texts, which training cannot promise:
there each reads what is distinct among its own battles, and one would wait for weights that the other does not send.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.paths import ROOT
from support.small_agent import train_command

from gemma_metamon.commands import main

SCRIPT = """
import copy, json, os, sys
from pathlib import Path
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from support.encoders import build, make_batch

dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
torch.manual_seed(0)
whole = build(dtype="float32", use_lora=False, encoder_chunk_tokens=100_000, gradient_checkpointing=False).train()
sharded = copy.deepcopy(whole)
mesh = init_device_mesh("cpu", (world,))
layers = list(sharded.backbone.layers)
for layer in layers:
    fully_shard(layer, mesh=mesh)
in_shards = {id(p) for layer in layers for p in layer.parameters()}
assert all(isinstance(p, DTensor) for layer in layers for p in layer.parameters())
n_here = sum(p.to_local().numel() for layer in layers for p in layer.parameters())
n_whole = sum(p.numel() for layer in whole.backbone.layers for p in layer.parameters())
obs, rl2s = make_batch(seed=rank)

def losses(encoder):
    optimizer = torch.optim.SGD([p for p in encoder.parameters() if p.requires_grad], lr=1e-2)
    found = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = encoder(obs, rl2s)[..., :24].square().mean()
        loss.backward()
        for p in encoder.parameters():
            if p.grad is not None and id(p) not in in_shards:
                dist.all_reduce(p.grad)
                p.grad /= world
        optimizer.step()
        found.append(float(loss))
    return found

told = json.dumps({"rank": rank, "share": n_here / n_whole, "whole": losses(whole), "sharded": losses(sharded)})
Path(__file__).with_name(f"rank{rank}.json").write_text(told)
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_an_encoder_in_shards_has_the_losses_of_a_whole_one(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(ROOT / "scripts")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*torchrun, str(tmp_path / "script.py")], env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(path.read_text()) for path in tmp_path.glob("rank*.json")]
    assert sorted(each["rank"] for each in found) == [0, 1]
    for each in found:
        assert each["share"] == pytest.approx(0.5, abs=0.1)
        assert each["sharded"] == pytest.approx(each["whole"], rel=1e-5)
        assert each["whole"][2] != pytest.approx(each["whole"][0], rel=1e-3)


@pytest.mark.parametrize(
    ("variable", "name"), [("ACCELERATE_USE_FSDP", "FSDP"), ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed")]
)
def test_training_in_shards_is_refused_with_the_reason(
    variable: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, "true")
    assert main(train_command(tmp_path)) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(f"gemma-metamon train: accelerate was configured for {name}, which wants every process")
    assert not (tmp_path / "run").exists()

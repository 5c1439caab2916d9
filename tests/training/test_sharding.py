"""Gemma's layers in shards over two processes (FSDP): `train` does what it does without, and writes the same files.

One launch of two gloo processes trains all runs, one after the other; each test is about some of them.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from support.encoders import build
from support.paths import ROOT
from support.small_agent import train_command

from gemma_metamon.commands import main
from gemma_metamon.errors import ConfigError
from gemma_metamon.runs.checkpoints import TRAINING, WEIGHTS, Checkpoint, list_all
from gemma_metamon.runs.loading import load_agent
from gemma_metamon.training.sharding import require_shardable

TWO_LAYERS = {
    "hidden_size": 16, "intermediate_size": 17, "num_hidden_layers": 2, "num_attention_heads": 1,
    "num_key_value_heads": 1, "head_dim": 16, "layer_types": ["sliding_attention", "full_attention"],
}  # fmt: skip
"""17: a number of rows that two processes cannot halve."""
FLAGS = ["--log_interval", "1", "--epochs", "2"]
OVERRIDES = [
    f"GemmaTstepEncoder.backbone_config = {TWO_LAYERS}",
    "GemmaTstepEncoder.encoder_chunk_tokens = 600",
    "TformerTrajEncoder.dropout_ff = 0.0",
    "TformerTrajEncoder.dropout_emb = 0.0",
    "MultiTaskAgent.num_critics = 1",
    "MultiTaskAgent.num_critics_td = 1",
    "MultiTaskAgent.value_estimate = 'exact'",
]
KINDS = {
    "all": [],
    "adapters": [
        "GemmaTstepEncoder.use_lora = True",
        "GemmaTstepEncoder.lora_dropout = 0.0",
        "GemmaTstepEncoder.dtype = 'bfloat16'",
        "GemmaTstepEncoder.gradient_checkpointing = False",
        "MetamonAMAGOExperiment.mixed_precision = 'bf16'",
    ],
    "frozen": [
        "GemmaTstepEncoder.freeze_base_model = True",
        "MetamonAMAGOExperiment.best_share = 0.5",
        "MetamonAMAGOExperiment.best_after_epoch = 1",
    ],
}
"""All is trained, chunks are read again; adapters alone, in bfloat16, chunks are kept, two batches an update; none of
Gemma, and the best battles are chosen after an epoch."""
DRAWS = ["GemmaTstepEncoder.use_lora = True", "TformerTrajEncoder.dropout_ff = 0.5"]


def command(folder: Path, name: str, *flags: str, overrides: tuple[str, ...] | list[str] = ()) -> list[str]:
    every = [flag for override in [*OVERRIDES, *overrides] for flag in ("--gin_override", override)]
    return train_command(folder, *FLAGS, *every, *flags, run_name=name)


# trains what it is told, in this process as one of several; writes down how many chunks it had to read each time and
# which share of the layers' numbers it held then, and how many layers were whole when one had run
SCRIPT = """
import json, os, sys
from pathlib import Path
from gemma_metamon.commands import main
from gemma_metamon.nets.reader import text_reader
from gemma_metamon.runs.shards import is_sharded, own_shard
from gemma_metamon.training import sharding, trainer

most_of_all, shard, learn = text_reader._most_of_all, sharding.shard, trainer.Trainer._learn
layers, chunks, shares, whole, made = [], [], [], [], []

def counted(count, device):
    most = most_of_all(count, device)
    chunks.append((count, most))
    held = [(own_shard(p).numel(), p.numel()) for layer in layers for p in layer.parameters()]
    shares.append(sum(own for own, _ in held) / sum(all for _, all in held))
    return most

def watched(agent, device):
    shard(agent, device)
    layers.extend(agent.tstep_encoder.backbone.layers)
    count = lambda *_: whole.append(sum(not is_sharded(next(layer.parameters())) for layer in layers))
    for layer in layers:
        layer.register_forward_hook(count)

def killed(self, batch, meter):
    made.append(1)
    if len(made) == 4:
        raise RuntimeError("killed")
    learn(self, batch, meter)

text_reader._most_of_all, sharding.shard = counted, watched
folder = Path(sys.argv[1])
told = []
for run in json.loads((folder / "runs.json").read_text()):
    for found in (layers, chunks, shares, whole):
        found.clear()
    if run["sharded"]:
        os.environ |= {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
    if run["killed"]:
        trainer.Trainer._learn = killed
    try:
        status = main(run["command"])
    except RuntimeError as error:
        status = str(error)
    trainer.Trainer._learn = learn
    told.append({"name": run["name"], "status": status, "chunks": [*chunks], "shares": [*shares], "whole": [*whole]})
(folder / f"told_{os.environ['RANK']}.json").write_text(json.dumps(told))
"""


class Launched(NamedTuple):
    folder: Path
    told: list[dict[str, dict[str, Any]]]
    """Of each process, by the runs' names."""

    def losses(self, name: str) -> list[float]:
        lines = map(json.loads, (self.folder / name / "metrics.jsonl").read_text().splitlines())
        keys = "loss/total", "loss/actor", "loss/critic", "grad_norm", "held_out/agreement"
        return [line[key] for line in lines for key in keys if key in line]

    def require_close(self, name: str, other: str, within: float) -> None:
        """Two runs' last checkpoints have the same entries of the same form, and the same numbers, or nearly."""
        for file in (WEIGHTS, TRAINING):
            one, two = (load_file(Checkpoint(self.folder / run, 2).folder / file) for run in (name, other))
            drawn = [key for key in one if key.startswith("random/")]  # held-out battles are measured in both processes
            assert sorted(one) == sorted(two)
            for entries in (one, two):
                for key in drawn:
                    del entries[key]
            torch.testing.assert_close(one, two, rtol=within, atol=within)


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Launched:
    folder = tmp_path_factory.mktemp("sharding")
    often = "--save_every", "1"
    runs: list[tuple[str, dict[str, bool], list[str]]] = []
    sharded = {"sharded": True}
    for kind, overrides in KINDS.items():
        accum = ["--grad_accum", "2"] if kind == "adapters" else []
        for name, how in ((f"{kind} whole", {}), (f"{kind} sharded", sharded)):
            runs.append((name, how, command(folder, name, *accum, overrides=overrides)))
    runs.append(("draws", sharded, command(folder, "draws", overrides=DRAWS)))
    runs.append(("killed", sharded | {"killed": True}, command(folder, "parts", *often, overrides=DRAWS)))
    runs.append(("gone on", sharded, command(folder, "parts", *often, "--resume", "auto", overrides=DRAWS)))
    told = [{"name": name, "command": line, "sharded": False, "killed": False, **how} for name, how, line in runs]
    (folder / "runs.json").write_text(json.dumps(told))
    (folder / "script.py").write_text(SCRIPT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(ROOT / "scripts")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*torchrun, str(folder / "script.py"), str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    processes = [json.loads((folder / f"told_{rank}.json").read_text()) for rank in (0, 1)]
    return Launched(folder, [{run["name"]: run for run in of_process} for of_process in processes])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_layers_in_shards_learn_what_whole_ones_do(launched: Launched, kind: str) -> None:
    whole, sharded = launched.losses(f"{kind} whole"), launched.losses(f"{kind} sharded")
    assert len(whole) == 4 * 4 + 2
    assert sharded == pytest.approx(whole, rel=1e-5)
    launched.require_close(f"{kind} whole", f"{kind} sharded", 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_each_process_holds_half_and_reads_as_many_chunks_as_the_other(launched: Launched, kind: str) -> None:
    one, two = (of_process[f"{kind} sharded"] for of_process in launched.told)
    assert all(share == pytest.approx(0.5, abs=0.1) for share in one["shares"])
    assert all(sum(both) == pytest.approx(1) for both in zip(one["shares"], two["shares"], strict=True))
    assert max(one["whole"]) == 0  # a layer that has run is given back before the next one runs
    assert [most for _, most in one["chunks"]] == [most for _, most in two["chunks"]]
    assert [own for own, _ in one["chunks"]] != [own for own, _ in two["chunks"]]
    assert all(of_process[f"{kind} whole"]["chunks"] == [] for of_process in launched.told)


@pytest.mark.slow
def test_a_run_in_shards_that_was_killed_goes_on_to_the_same_end(launched: Launched) -> None:
    assert [of_process["killed"]["status"] for of_process in launched.told] == ["killed", "killed"]
    assert launched.losses("parts") == launched.losses("draws")
    launched.require_close("parts", "draws", 0)


@pytest.mark.slow
def test_one_process_loads_what_two_saved_in_shards_and_goes_on(launched: Launched) -> None:
    run = launched.folder / "all sharded"
    agent, _ = load_agent(Checkpoint(run, 2), "cpu")
    saved = load_file(Checkpoint(run, 2).folder / WEIGHTS)
    assert all(torch.equal(value, saved[key]) for key, value in agent.state_dict().items())
    assert main(command(launched.folder, "all sharded", "--epochs", "3", "--resume", "auto")) == 0
    assert [checkpoint.epoch for checkpoint in list_all(run)] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("environment", "training", "complaint"),
    [
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "il.gin", "accelerate was configured for DeepSpeed, which takes over"),
        (
            {"FSDP_VERSION": "1"},
            "il.gin",
            "accelerate was configured for FSDP 1, which makes one tensor",
        ),
        ({"FSDP_OFFLOAD_PARAMS": "true"}, "il.gin", "accelerate was configured with fsdp_offload_params"),
        ({}, "finetune.gin", "MetamonFinetuneAgent copies its encoder"),
    ],
)
def test_what_cannot_be_in_shards_is_refused_with_the_reason(
    environment: dict[str, str],
    training: str,
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for variable, value in {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", **environment}.items():
        monkeypatch.setenv(variable, value)
    assert main(train_command(tmp_path, training=training)) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(f"gemma-metamon train: {complaint}")
    assert not (tmp_path / "run").exists()


def test_an_encoder_that_cannot_be_in_shards_is_refused_with_the_reason() -> None:
    agent = torch.nn.Module()
    agent.tstep_encoder = build()
    require_shardable(agent)
    agent.tstep_encoder.options = SimpleNamespace(use_4bit=True)  # in place of one that wants bitsandbytes
    with pytest.raises(ConfigError, match="use_4bit packs each two into a byte"):
        require_shardable(agent)
    agent.tstep_encoder = torch.nn.Identity()
    with pytest.raises(ConfigError, match="FSDP divides Gemma's layers, and Identity has none"):
        require_shardable(agent)

"""What may differ between a processor and a GPU of CUDA: the same claims on both, in float32 against the processor.

On a GPU without TF32 (torch's default for products of matrices), float32 differs in the order of sums alone.
"""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.devices import each_device
from support.encoders import build, make_batch
from support.paths import SCRIPTS
from support.small_agent import train_command
from support.small_agents import KINDS, random_batch
from support.small_agents import build as build_agent
from torch import Tensor, nn

from gemma_metamon.nets.agents.acting import prepare_to_act
from gemma_metamon.nets.heads.critics import NCritics, NCriticsTwoHot
from gemma_metamon.nets.reader.memory_plan import ACTIVATION_BYTES, MemoryPlan
from gemma_metamon.nets.reader.tstep_encoder import GemmaTstepEncoder
from gemma_metamon.nets.trajectory.traj_encoder import TformerTrajEncoder
from gemma_metamon.runs.checkpoints import TRAINING, WEIGHTS, Checkpoint

CLOSE = {"rtol": 1e-4, "atol": 1e-4}
FLAGSHIP = SimpleNamespace(
    hidden_size=640, intermediate_size=2048, num_attention_heads=4, head_dim=256, num_hidden_layers=18
)


def batch_on(device: str, **sizes: Any) -> tuple[dict[str, Tensor], Tensor]:
    obs, rl2s = make_batch(**sizes)
    return {name: value.to(device) for name, value in obs.items()}, rl2s.to(device)


def read(device: str, *, train: bool = False, **options: Any) -> Tensor:
    """What a small encoder reads on a device."""
    encoder = build(dtype="float32", **options).to(device).train(train)
    with torch.no_grad():
        out: Tensor = encoder(*batch_on(device))
    return out.cpu()


@each_device
def test_the_memory_plan_fits_the_device(device: str) -> None:
    plan = MemoryPlan.choose(FLAGSHIP, torch.device(device), None, recomputes=True)
    per_subword = ACTIVATION_BYTES * (640 + 2048 + 4 * 256) * 18
    assert plan.chunk_subwords >= 512
    assert plan.keeps_part == (device == "cuda")
    if device == "cuda":
        memory = torch.cuda.get_device_properties(0).total_memory
        assert 0.2 * memory < plan.kept_subwords * per_subword <= memory / 4
    else:
        assert plan.kept_subwords * per_subword <= 2 * 1024**3
    assert MemoryPlan.choose(FLAGSHIP, torch.device(device), 600, recomputes=True).kept_subwords == 0


@each_device
def test_packed_texts_are_read_as_on_a_processor(device: str) -> None:
    torch.testing.assert_close(read(device), read("cpu"), **CLOSE)


@each_device
def test_gradients_through_recomputed_chunks_are_those_of_kept_ones(device: str) -> None:
    found = []
    for chunk in (None, 40):  # with a chunk's size given, nothing is kept
        encoder = build(dtype="float32", lora_dropout=0.0, encoder_chunk_tokens=chunk).to(device).train()
        encoder(*batch_on(device)).square().sum().backward()
        found.append({name: p.grad.cpu() for name, p in encoder.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-3, atol=1e-3, msg=name)


@each_device
def test_dropout_is_drawn_again_as_it_was_where_chunks_are_recomputed(device: str) -> None:
    encoder = build(dtype="float32", lora_dropout=0.5, encoder_chunk_tokens=40).to(device).train()
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    obs, rl2s = batch_on(device)
    parameter = next(p for name, p in encoder.named_parameters() if "lora_B" in name)

    def loss() -> Tensor:
        torch.manual_seed(5)
        out: Tensor = encoder(obs, rl2s)[..., :24].square().mean()
        return out

    loss().backward()
    assert parameter.grad is not None
    size = float(parameter.grad.norm())
    moved, values = 1e-2 * parameter.grad / size, []
    for way in (1, -2):  # with the same dropout a loss goes as its gradient says
        with torch.no_grad():
            parameter += way * moved
            values.append(float(loss()))
    assert (values[0] - values[1]) / 2e-2 == pytest.approx(size, rel=0.1)


@each_device
def test_a_text_in_the_cache_is_what_reading_gives(device: str) -> None:
    encoder = build(dtype="float32", use_lora=False, freeze_base_model=True, text_cache_mb=1).to(device).eval()
    obs, rl2s = batch_on(device)
    with torch.no_grad():
        first, second = encoder(obs, rl2s), encoder(obs, rl2s)
    cache = encoder.reader.cache
    assert cache is not None
    assert cache.hits >= cache.misses > 0
    torch.testing.assert_close(second, first, rtol=0, atol=0)
    torch.testing.assert_close(first.cpu(), read("cpu", use_lora=False, freeze_base_model=True), **CLOSE)


@each_device
@pytest.mark.parametrize("kind", [NCritics, NCriticsTwoHot])
def test_critics_judge_as_on_a_processor(device: str, kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    options = {} if kind is NCritics else {"min_return": -110, "max_return": 110, "output_bins": 24}
    sizes = {"state_dim": 16, "action_dim": 4, "discrete": True, "gammas": [0.9, 0.99], "num_critics": 3}
    critics: Any = kind(**sizes, d_hidden=32, **options)
    state, action = torch.randn(2, 5, 16), torch.eye(4)[torch.randint(4, (1, 2, 5, 2))]
    outputs = []
    for place in ("cpu", device):
        with torch.no_grad():
            out = critics.to(place)(state.to(place), action.to(place))
        outputs.append(out.cpu())
    torch.testing.assert_close(outputs[1], outputs[0], **CLOSE)


@each_device
@pytest.mark.parametrize("kind", KINDS)
def test_an_agents_losses_and_its_targets_are_those_of_a_processor(device: str, kind: str) -> None:
    agent_type, options = KINDS[kind]
    losses = []
    for place in ("cpu", device):
        agent = build_agent(agent_type, num_critics=1, num_critics_td=1, **options).to(place).train()
        found = agent(random_batch(0).to(torch.device(place)))
        (found.actor_loss + found.critic_loss).backward()
        agent.update_targets()
        losses.append((found.actor_loss.item(), found.critic_loss.item()))
    assert losses[1] == pytest.approx(losses[0], rel=1e-3, abs=1e-4)


@each_device
def test_bfloat16_weights_read_nearly_what_float32_reads(device: str) -> None:
    encoder = build(dtype="bfloat16").to(device).eval()
    with torch.no_grad():
        rounded = encoder(*batch_on(device)).float().cpu()
    exact = read("cpu")
    assert torch.cosine_similarity(rounded.flatten(0, 1), exact.flatten(0, 1)).min() > 0.98
    assert not torch.equal(rounded, exact)


@each_device
def test_autocast_leaves_losses_in_float32(device: str) -> None:
    agent_type, options = KINDS["multitask"]
    agent = build_agent(agent_type, **options).to(device).train()
    with torch.autocast(device, dtype=torch.bfloat16):
        found = agent(random_batch(0).to(torch.device(device)))
    assert {found.actor_loss.dtype, found.critic_loss.dtype} == {torch.float32}
    assert found.actor_loss.isfinite()
    assert found.critic_loss.isfinite()


@each_device
def test_four_bit_weights_read_and_train(device: str) -> None:
    pytest.importorskip("bitsandbytes", reason="needs the extra: pip install 'gemma-metamon[4bit]'")
    encoder: GemmaTstepEncoder = build(use_4bit=True, lora_r=2).to(device).train()
    obs, rl2s = batch_on(device)
    optimizer = torch.optim.AdamW([p for p in encoder.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = encoder(obs, rl2s)[..., :24].float().square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert encoder.backbone.layers[0].mlp.up_proj.base_layer.weight.dtype == torch.uint8


@each_device
def test_steps_with_the_memory_of_a_battle_are_one_pass_over_it(device: str) -> None:
    torch.manual_seed(1)
    traj = TformerTrajEncoder(24, 8, d_model=32, n_heads=4, d_ff=64, n_layers=2).to(device).eval()
    tsteps = torch.randn(3, 6, 24, device=device)
    times = torch.arange(6, device=device).expand(3, -1)[..., None]
    with torch.no_grad():
        whole = traj(tsteps, times)
        cache, rows = traj.init_cache(3), torch.arange(3, device=device)
        steps = [traj.step(tsteps[:, t], times[:, t], cache, rows) for t in range(6)]
    torch.testing.assert_close(torch.stack(steps, 1), whole, **CLOSE)


@each_device
def test_an_encoder_that_is_made_ready_to_act_reads_as_before(device: str) -> None:
    encoder = build(dtype="float32").to(device).eval()
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
        before = encoder(*batch_on(device))
        traj = TformerTrajEncoder(encoder.emb_dim, 8, d_model=32, n_heads=4, d_ff=64, n_layers=1).to(device).eval()
        prepare_to_act(SimpleNamespace(tstep_encoder=encoder, traj_encoder=traj))
        torch.testing.assert_close(encoder(*batch_on(device)), before, **CLOSE)


def run(device: str, *command: str) -> "subprocess.CompletedProcess[str]":
    """In a process of its own: accelerate keeps the first device of a process."""
    alone = {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}
    done = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, **alone},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.mark.slow
@each_device
def test_a_resumed_run_draws_on_from_the_random_state_of_its_device(device: str, tmp_path: Path) -> None:
    dropout = ["--gin_override", "TformerTrajEncoder.dropout_ff = 0.5", "--log_interval", "1"]
    train = functools.partial(train_command, tmp_path)
    run(device, "-m", "gemma_metamon", *train(*dropout, "--epochs", "2", run_name="whole"))
    run(device, "-m", "gemma_metamon", *train(*dropout, "--epochs", "1", run_name="parts"))
    run(device, "-m", "gemma_metamon", *train(*dropout, "--epochs", "2", "--ckpt", "1", run_name="parts"))
    saved = load_file(Checkpoint(tmp_path / "parts", 1).folder / TRAINING)
    assert any("cuda" in name for name in saved) == (device == "cuda")
    whole, parts = (load_file(Checkpoint(tmp_path / name, 2).folder / WEIGHTS) for name in ("whole", "parts"))
    for name, value in whole.items():  # on a GPU sums may come in another order
        torch.testing.assert_close(parts[name], value, rtol=0, atol=0 if device == "cpu" else 1e-5, msg=name)


@pytest.mark.slow
@each_device
@pytest.mark.parametrize("script", ["bench_heads.py", "bench_update.py"])
def test_a_bench_runs_and_ends_with_its_figures(device: str, script: str) -> None:
    updates = ["--repeats", "1", "--sides", "entity", "--json"]
    short = {"bench_heads.py": ["--turns", "1"], "bench_update.py": updates}[script]
    done = run(device, str(SCRIPTS / script), "--device", device, "--small", "--threads", "1", *short)
    assert json.loads(done.stdout.strip().splitlines()[-1])

"""The trajectory transformer: the same whether it reads a battle at once or step by step.

That its numbers are AMAGO's: test_amago_goldens.
"""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.trajectory.traj_encoder import SigmaReparam, TformerTrajEncoder

SMALL = {"d_model": 16, "n_heads": 4, "d_ff": 32, "n_layers": 2}


def build(max_seq_len: int = 8, **options: Any) -> TformerTrajEncoder:
    torch.manual_seed(0)
    return TformerTrajEncoder(5, max_seq_len, **{**SMALL, **options}).eval()


def timesteps(count: int, battles: int = 1, start: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    seq = torch.randn(battles, count, 5, generator=torch.Generator().manual_seed(count))
    return seq, torch.arange(start, start + count)[None, :, None].expand(battles, -1, -1)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pos_emb": "learnable", "max_time_idx": 30},
        {"pos_emb": "rope"},
        {"norm": "rmsnorm", "activation": "gelu", "normformer_norms": False},
        {"sigma_reparam": False, "head_scaling": False, "norm": "unitball"},
    ],
)
def test_steps_equal_the_whole_sequence(options: dict[str, Any]) -> None:
    encoder = build(**options)
    seq, times = timesteps(8, battles=2, start=5)
    cache, rows = encoder.init_cache(2), torch.arange(2)
    steps = [encoder.step(seq[:, i], times[:, i], cache, rows) for i in range(8)]
    torch.testing.assert_close(torch.stack(steps, 1), encoder(seq, times), rtol=0, atol=1e-5)


@settings(max_examples=20)
@given(st.lists(st.sets(st.integers(0, 2), min_size=1), min_size=1, max_size=14))
def test_battles_in_one_cache_advance_independently(acting: list[set[int]]) -> None:
    encoder = build(max_seq_len=4)
    seq, times = timesteps(len(acting), battles=3)
    shared, alone = encoder.init_cache(3), [encoder.init_cache(1) for _ in range(3)]
    for i, battles in enumerate(acting):
        rows = torch.tensor(sorted(battles, reverse=True))
        together = encoder.step(seq[rows, i], times[rows, i], shared, rows)
        for row, ours in zip(rows.tolist(), together, strict=True):
            expected = encoder.step(seq[[row], i], times[[row], i], alone[row], torch.tensor([0]))[0]
            torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


def test_one_layer_past_max_seq_len_sees_exactly_the_last_timesteps() -> None:
    encoder = build(max_seq_len=4, n_layers=1)
    seq, times = timesteps(11)
    cache = encoder.init_cache(1)
    for i in range(11):
        ours = encoder.step(seq[:, i], times[:, i], cache, torch.tensor([0]))
        window = slice(max(0, i - 3), i + 1)
        torch.testing.assert_close(ours, encoder(seq[:, window], times[:, window])[:, -1], rtol=0, atol=1e-5)


def test_resetting_one_battle_leaves_the_others() -> None:
    encoder = build()
    seq, times = timesteps(3, battles=2)
    cache, rows = encoder.init_cache(2), torch.arange(2)
    encoder.step(seq[:, 0], times[:, 0], cache, rows)
    encoder.step(seq[:, 1], times[:, 1], cache, rows)
    cache.reset([1])
    ours = encoder.step(seq[:, 2], times[:, 2], cache, rows)
    torch.testing.assert_close(ours[0], encoder(seq, times)[0, -1], rtol=0, atol=1e-5)
    torch.testing.assert_close(ours[1], encoder(seq[:, 2:], times[:, 2:])[1, -1], rtol=0, atol=1e-5)
    cache.reset()
    assert cache.timesteps_seen.tolist() == [0, 0]


def test_no_timestep_sees_the_future() -> None:
    encoder = build()
    seq, times = timesteps(7)
    changed = seq.clone()
    changed[:, 4:] = 4.0
    torch.testing.assert_close(encoder(changed, times)[:, :4], encoder(seq, times)[:, :4], rtol=0, atol=1e-6)


def test_two_training_forwards_can_share_one_backward() -> None:
    encoder = build(dropout_ff=0.0, dropout_emb=0.0).train()
    seq, times = timesteps(4)
    before = encoder.tformer.layers[0].ff1.u.clone()
    (encoder(seq, times).sum() + encoder(seq, times).sum()).backward()
    assert not torch.equal(before, encoder.tformer.layers[0].ff1.u)
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_a_new_sigma_layer_knows_its_largest_singular_value() -> None:
    torch.manual_seed(0)
    layer = SigmaReparam(96, 160)
    weight = layer.weight.detach()
    sigma, largest = layer.u @ weight @ layer.v, torch.linalg.matrix_norm(weight, 2)
    torch.testing.assert_close(sigma, largest, rtol=0.02, atol=0)
    assert SigmaReparam(6, 4, fast_init=True).weight.std() > 0.1


def test_acting_sees_changed_weights_at_once() -> None:
    encoder = build()
    seq, times = timesteps(3)
    with torch.no_grad():
        before = encoder(seq, times)
        torch.testing.assert_close(encoder(seq, times), before, rtol=0, atol=0)
        for parameter in (encoder.tformer.layers[0].ff1.gamma, encoder.tformer.layers[0].ff2.weight):
            parameter.add_(0.5 * torch.rand_like(parameter))
            acting = encoder(seq, times)
            assert not torch.allclose(acting, before)
            with torch.enable_grad():
                torch.testing.assert_close(acting, encoder(seq, times).detach(), rtol=0, atol=1e-6)
            before = acting
        encoder.train()(seq, times)  # moves u and v
        moved = encoder.eval()(seq, times)
    with torch.enable_grad():
        torch.testing.assert_close(moved, encoder(seq, times).detach(), rtol=0, atol=1e-6)


def test_attention_type_has_no_effect() -> None:
    seq, times = timesteps(3)
    amagos = type("VanillaAttention", (), {})
    torch.testing.assert_close(build(attention_type=amagos)(seq, times), build()(seq, times), rtol=0, atol=0)


@pytest.mark.parametrize("kind", [object, "VanillaAttention", 7, type("SlidingWindowFlexAttention", (), {})])
def test_attention_that_is_none_of_amagos_or_forgets_is_refused(kind: object) -> None:
    with pytest.raises(
        ConfigError, match=r"TformerTrajEncoder\.attention_type = .*; it must be None or one of AMAGO's"
    ):
        build(attention_type=kind)


def test_full_size_is_described_without_memory() -> None:
    with torch.device("meta"):
        encoder = TformerTrajEncoder(2944, 128, d_model=1280, n_heads=20, d_ff=5120, n_layers=9)
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 180_949_976


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_heads": 3}, r"n_heads \(3\) must divide d_model \(16\)"),
        ({"pos_emb": "alibi"}, "'alibi'; it must be one of 'fixed', 'learnable', 'rope'"),
        ({"pos_emb": "learnable"}, "set max_time_idx"),
        ({"pos_emb": "rope", "n_heads": 16}, "even head width"),
        ({"norm": "batch"}, "'batch'; it must be one of 'layer'"),
        ({"activation": "swish"}, "'swish'; it must be one of 'leaky_relu', 'relu', 'gelu'"),
        ({"max_seq_len": 0}, "max_seq_len = 0; it must be"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(**options)


def test_a_battle_longer_than_the_learned_positions_is_named() -> None:
    encoder = build(pos_emb="learnable", max_time_idx=3)
    with pytest.raises(ConfigError, match=r"max_time_idx = 3, but a battle has a timestep 3; make it larger"):
        encoder(*timesteps(4))


def test_playing_in_training_mode_is_refused() -> None:
    encoder = build().train()
    seq, times = timesteps(1)
    with pytest.raises(RuntimeError, match=r"call \.eval\(\)"):
        encoder.step(seq[:, 0], times[:, 0], encoder.init_cache(1), torch.tensor([0]))

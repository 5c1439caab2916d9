"""Playing step by step gives what reading the whole battle gives, at every timestep and however long the battle is."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gemma_metamon.nets.trajectory.traj_encoder import TformerTrajEncoder

OPTIONS = st.fixed_dictionaries(
    {
        "norm": st.sampled_from(["layer", "rmsnorm", "unitball", "none"]),
        "pos_emb": st.sampled_from(["fixed", "learnable", "rope"]),
        "activation": st.sampled_from(["leaky_relu", "relu", "gelu"]),
        "sigma_reparam": st.booleans(),
        "normformer_norms": st.booleans(),
        "head_scaling": st.booleans(),
        "n_layers": st.integers(1, 3),
        "max_seq_len": st.integers(1, 9),
    }
)


def build(**options: Any) -> TformerTrajEncoder:
    torch.manual_seed(0)
    encoder = TformerTrajEncoder(5, d_model=16, n_heads=4, d_ff=24, max_time_idx=64, **options)
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if "norm" in name or "scale" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return encoder.eval()


def read_whole(encoder: TformerTrajEncoder, seq: Tensor, times: Tensor, window: int) -> Tensor:
    """`forward` with an attention that sees, in every layer, only the last `window` timesteps."""
    T = seq.shape[1]
    index = torch.arange(T)
    behind = index[:, None] - index[None]
    plain = F.scaled_dot_product_attention

    def banded(queries: Tensor, keys: Tensor, values: Tensor, **_: Any) -> Tensor:
        return plain(queries, keys, values, attn_mask=(behind >= 0) & (behind < window))

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(F, "scaled_dot_product_attention", banded)
        return encoder(seq, times)


@settings(max_examples=25)
@given(options=OPTIONS, length=st.integers(1, 14), start=st.integers(0, 20))
def test_steps_equal_the_whole_sequence_past_max_seq_len_too(options: dict[str, Any], length: int, start: int) -> None:
    encoder = build(**options)
    seq = torch.randn(2, length, 5)
    times = torch.arange(start, start + length).expand(2, length)[..., None]
    cache, rows = encoder.init_cache(2), torch.arange(2)
    steps = torch.stack([encoder.step(seq[:, i], times[:, i], cache, rows) for i in range(length)], dim=1)
    torch.testing.assert_close(steps, read_whole(encoder, seq, times, options["max_seq_len"]), rtol=1e-5, atol=2e-5)
    if length <= options["max_seq_len"]:
        torch.testing.assert_close(steps, encoder(seq, times).detach(), rtol=1e-5, atol=2e-5)


@settings(max_examples=12)
@given(order=st.lists(st.integers(0, 2), min_size=1, max_size=24))
def test_battles_advance_in_any_order(order: list[int]) -> None:
    """Each battle's steps are those it would have had alone, whichever battle acts when."""
    encoder = build(max_seq_len=4, n_layers=2)
    seq = torch.randn(3, len(order), 5, generator=torch.Generator().manual_seed(1))
    together, alone = encoder.init_cache(3), [encoder.init_cache(1) for _ in range(3)]
    turns = [0, 0, 0]
    for battle in order:
        turn, turns[battle] = turns[battle], turns[battle] + 1
        timestep, time = seq[battle : battle + 1, turn], torch.tensor([[turn]])
        ours = encoder.step(timestep, time, together, torch.tensor([battle]))
        expected = encoder.step(timestep, time, alone[battle], torch.tensor([0]))
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dropout", ["dropout_ff", "dropout_emb", "dropout_attn", "dropout_qkv"])
def test_each_dropout_is_of_training_alone(dropout: str) -> None:
    encoder = build(max_seq_len=8, n_layers=1, dropout_ff=0.0, dropout_emb=0.0)
    dropping = build(max_seq_len=8, n_layers=1, **{"dropout_ff": 0.0, "dropout_emb": 0.0, dropout: 0.5})
    seq, times = torch.randn(1, 6, 5), torch.arange(6)[None, :, None]
    torch.testing.assert_close(dropping(seq, times), encoder(seq, times), rtol=0, atol=0)
    assert not torch.allclose(dropping.train()(seq, times), encoder.train()(seq, times), rtol=1e-3)

"""4-bit weights on the CPU: what they are, that adapters train over them, and that they survive a checkpoint."""

import sys

import pytest
import torch
from support.encoders import build, make_batch

from gemma_metamon.errors import MissingDependencyError
from gemma_metamon.nets.reader.tstep_encoder import GemmaTstepEncoder


def test_without_bitsandbytes_the_error_names_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)  # as if it were not installed
    with pytest.raises(MissingDependencyError, match=r"pip install 'gemma-metamon\[4bit\]'.*without _4bit"):
        build(use_4bit=True)


@pytest.fixture
def encoder() -> GemmaTstepEncoder:
    pytest.importorskip("bitsandbytes", reason="needs the extra: pip install 'gemma-metamon[4bit]'")
    return build(use_4bit=True, lora_r=2)


def test_linears_are_nf4_and_the_embedding_is_bfloat16(encoder: GemmaTstepEncoder) -> None:
    layer = encoder.backbone.layers[0].mlp.up_proj.base_layer
    assert layer.weight.dtype == torch.uint8
    assert layer.weight.numel() == 32 * 48 // 2
    assert layer.weight.quant_state.quant_type == "nf4"
    assert layer.weight.quant_state.nested
    assert layer.compute_dtype == torch.bfloat16
    assert encoder.backbone.embed_tokens.weight.dtype == torch.bfloat16


def test_parameters_are_counted_as_the_weights_that_they_stand_for(encoder: GemmaTstepEncoder) -> None:
    assert encoder.parameter_counts() == build(lora_r=2).parameter_counts()


def test_it_reads_nearly_what_the_whole_weights_read(encoder: GemmaTstepEncoder) -> None:
    obs, rl2s = make_batch()
    whole = build(lora_r=2, dtype="bfloat16").eval()
    own = {key: value for key, value in encoder.state_dict().items() if key.startswith(("readout", "numbers"))}
    whole.load_state_dict(own, strict=False)
    out, expected = encoder.eval()(obs, rl2s), whole(obs, rl2s)
    similarity = torch.cosine_similarity(out[:, :, None, None, :24], expected[None, None, ..., :24], dim=-1).view(8, 8)
    assert similarity.argmax(1).tolist() == list(range(8))  # each text is nearest to itself
    assert similarity.diagonal().mean() > 0.8
    assert (out - expected).abs().max() > 1e-4  # it is rounded


def test_adapters_train_also_after_an_evaluation(encoder: GemmaTstepEncoder) -> None:
    obs, rl2s = make_batch()
    with torch.no_grad():
        before = encoder.eval()(obs, rl2s)
    optimizer = torch.optim.AdamW([p for p in encoder.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(2):  # the first update leaves the zero halves of the adapters
        optimizer.zero_grad()
        encoder.train()(obs, rl2s)[..., :24].square().sum().backward()
        optimizer.step()
    gradients = {name: p.grad for name, p in encoder.named_parameters() if "lora_A" in name}
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in gradients.values())
    assert all(p.grad is None for name, p in encoder.named_parameters() if "base_layer" in name)
    with torch.no_grad():
        assert (encoder.eval()(obs, rl2s) - before).abs().max() > 1e-3


def test_random_4_bit_weights_survive_a_checkpoint(encoder: GemmaTstepEncoder) -> None:
    other = build(use_4bit=True, lora_r=2)
    with torch.no_grad():
        other.backbone.layers[0].mlp.up_proj.base_layer.weight.zero_()
    obs, rl2s = make_batch()
    saved = {key: value.clone() for key, value in encoder.state_dict().items()}
    other.load_state_dict(saved)
    torch.testing.assert_close(other.eval()(obs, rl2s), encoder.eval()(obs, rl2s), rtol=0, atol=0)

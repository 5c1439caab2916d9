"""The cache of texts gives what reading would give, is bounded, and forgets when a weight changes."""

import copy
import tracemalloc
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.reader.text_cache import ENTRY_BYTES, TextCache, weights_of
from gemma_metamon.nets.reader.tstep_encoder import GemmaTstepEncoder

WORDS = st.lists(st.tuples(st.integers(-1, 3), st.integers(-1, 3)), min_size=1, max_size=12)

OF_ONE = ENTRY_BYTES + 8
"""Of a text whose tensor is two float32."""


def double(words: Tensor) -> list[Tensor]:
    assert len({tuple(row) for row in words.tolist()}) == len(words), "a text was read twice"
    return list((2.0 * words).unbind(0))


@given(batches=st.lists(WORDS, min_size=1, max_size=6), n_texts=st.integers(0, 8))
def test_it_gives_what_reading_gives_and_stays_within_its_bound(batches: list, n_texts: int) -> None:
    cache = TextCache(max_bytes=n_texts * OF_ONE)
    for batch in batches:
        words = torch.tensor(batch)
        assert torch.equal(torch.stack(cache.read(words, "weights", double)), 2.0 * words)
        assert len(cache) <= n_texts
        assert cache._values.currsize == OF_ONE * len(cache)
    assert cache.hits + cache.misses == sum(map(len, batches))


def test_a_text_is_read_once_and_the_oldest_goes_first() -> None:
    cache = TextCache(max_bytes=2 * OF_ONE)
    first, second, third = (torch.tensor([[i, i]]) for i in range(3))
    for words in (first, second, first, third):  # the second is now the one that was not used for longest
        cache.read(words, 0, double)
    assert (cache.hits, cache.misses) == (1, 3)
    cache.read(first, 0, double)
    assert cache.hits == 2
    cache.read(second, 0, double)
    assert cache.misses == 4


def test_small_tensors_do_not_take_more_memory_than_they_may() -> None:
    """Their own numbers are the least of it: 32 bytes of some two thousand."""
    words, bound = torch.arange(20_000)[:, None].expand(-1, 100), 2**20
    cache = TextCache(bound)
    tracemalloc.start()
    cache.read(words, 0, lambda unread: list(torch.zeros(len(unread), 8).unbind(0)))
    held, _ = tracemalloc.get_traced_memory()  # Python's objects alone, not torch's
    tracemalloc.stop()
    assert 0 < len(cache) < bound / 32
    assert held < bound


def test_a_copy_of_a_batch_does_not_stay_in_memory() -> None:
    cache = TextCache(max_bytes=10 * OF_ONE)
    cache.read(torch.tensor([[1, 2], [3, 4]]), 0, double)
    assert all(value.untyped_storage().nbytes() == value.nbytes for value in cache._values.values())


@pytest.mark.parametrize("change", ["in place", "optimizer", "loaded", "replaced"])
def test_changed_weights_empty_it(change: str) -> None:
    layer = nn.Linear(2, 2)
    before = weights_of([layer])
    assert weights_of([layer]) == before
    if change == "in place":
        with torch.no_grad():
            layer.weight.mul_(2.0)
    elif change == "optimizer":
        layer(torch.ones(1, 2)).sum().backward()
        torch.optim.AdamW(layer.parameters()).step()
    elif change == "loaded":
        layer.load_state_dict(copy.deepcopy(layer.state_dict()))
    else:
        layer.weight = nn.Parameter(layer.weight.detach().clone())
    after = weights_of([layer])
    assert after != before
    cache = TextCache(max_bytes=10 * OF_ONE)
    words = torch.tensor([[1, 2]])
    cache.read(words, before, double)
    cache.read(words, after, double)
    assert (cache.hits, cache.misses, len(cache)) == (0, 2, 1)


WORDS_OF_SPACE, NUMBERS, RL2 = 106, 55, 14
TINY = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "layer_types": ["full_attention"],
    "initializer_range": 0.2,
}
GRANULARITIES = ["turn", "entity"]
FROZEN = {"use_lora": False, "freeze_base_model": True}


def build(granularity: str, **options: Any) -> GemmaTstepEncoder:
    torch.manual_seed(0)
    return GemmaTstepEncoder(
        {"text_tokens": SimpleNamespace(shape=(WORDS_OF_SPACE,)), "numbers": SimpleNamespace(shape=(NUMBERS,))},
        SimpleNamespace(shape=(RL2,)),
        pretrained=False,
        backbone_config=TINY,
        granularity=granularity,
        observation_space="TeamPreviewObservationSpace",
        text_emb_dim=24,
        summary_tokens=3,
        **options,
    )


def make_batch(seed: int = 0) -> tuple[dict[str, Tensor], Tensor]:
    """Three different turns, one of them twice."""
    draw = torch.Generator().manual_seed(seed)
    words = torch.randint(0, 2000, (3, WORDS_OF_SPACE), generator=draw)[[0, 1, 2, 1]][None]
    obs = {"text_tokens": words, "numbers": torch.randn(1, 4, NUMBERS, generator=draw)}
    return obs, torch.randn(1, 4, RL2, generator=draw)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_when_acting_nothing_is_read_twice(granularity: str) -> None:
    encoder, plain = build(granularity).eval(), build(granularity, text_cache_mb=0).eval()
    with torch.no_grad():
        first, again, other = (encoder(*make_batch(seed)) for seed in (0, 0, 1))
        torch.testing.assert_close(first, plain(*make_batch(0)), rtol=0, atol=1e-5)
        torch.testing.assert_close(other, plain(*make_batch(1)), rtol=0, atol=1e-5)
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert encoder.reader.cache.hits >= (3 if granularity == "turn" else 20)
    assert encoder.reader.cache.misses == len(encoder.reader.cache)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_an_update_is_seen_at_once(granularity: str) -> None:
    encoder, plain = build(granularity, lora_dropout=0.0), build(granularity, lora_dropout=0.0, text_cache_mb=0)
    outputs = []
    for one in (encoder, plain):
        optimizer = torch.optim.AdamW([p for p in one.parameters() if p.requires_grad], lr=1e-2)
        with torch.no_grad():
            one.eval()(*make_batch())
        one.train()(*make_batch()).square().mean().backward()
        optimizer.step()
        with torch.no_grad():
            outputs.append(one.eval()(*make_batch()))
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-4)


def test_training_an_adapter_reads_everything_anew() -> None:
    encoder = build("turn").train()
    encoder(*make_batch())
    assert (encoder.reader.cache.hits, encoder.reader.cache.misses) == (0, 0)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_above_a_frozen_base_training_reads_each_text_once_and_learns_the_same(granularity: str) -> None:
    encoder, plain = build(granularity, **FROZEN).train(), build(granularity, text_cache_mb=0, **FROZEN).train()
    for seed in (0, 1, 0):
        for one in (encoder, plain):
            one.zero_grad()
            one(*make_batch(seed)).square().sum().backward()
        for (name, ours), (_, expected) in zip(encoder.named_parameters(), plain.named_parameters(), strict=True):
            if expected.requires_grad:
                torch.testing.assert_close(ours.grad, expected.grad, rtol=1e-4, atol=1e-4, msg=name)
        with torch.no_grad():
            for one in (encoder, plain):
                one.readout.to_tokens.mul_(1.1)
    assert encoder.reader.cache.misses == len(encoder.reader.cache)
    assert encoder.reader.cache.hits >= 3


def test_states_that_dropout_changed_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TINY, "attention_dropout", 0.5)
    encoder = build("turn", **FROZEN).train()
    with torch.no_grad():
        assert not torch.equal(encoder(*make_batch()), encoder(*make_batch()))
        after_training = encoder.eval()(*make_batch())
        torch.testing.assert_close(after_training, build("turn", **FROZEN).eval()(*make_batch()), rtol=0, atol=1e-5)


def test_what_was_read_under_autocast_serves_there_alone() -> None:
    encoder = build("turn", **FROZEN).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        encoder(*make_batch())
        hits = encoder.reader.cache.hits
        encoder(*make_batch())
        assert encoder.reader.cache.hits > hits
    hits = encoder.reader.cache.hits
    expected = build("turn", **FROZEN).eval()(*make_batch())
    torch.testing.assert_close(encoder.eval()(*make_batch()), expected, rtol=0, atol=1e-5)
    assert encoder.reader.cache.hits == hits


def test_a_cache_of_negative_size_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"GemmaTstepEncoder\.text_cache_mb = -1; it must be a whole number from 0"):
        build("turn", text_cache_mb=-1)

"""The timestep encoder: its shape, what it reads of a batch, and that it reads it once.

Small random Gemmas, float32, CPU. The packaged subword table, so ids are the real ones.
"""

from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.encoders import SPACES, build, make_batch
from support.small_agent import BACKBONE
from torch import Tensor

from gemma_metamon.errors import ConfigError, DataError
from gemma_metamon.nets.reader.backbone import GEMMA_3_270M_CONFIG
from gemma_metamon.nets.reader.memory_plan import MemoryPlan
from gemma_metamon.nets.reader.subword_lookup import SubwordLookup
from gemma_metamon.nets.reader.tstep_encoder import GemmaTstepEncoder
from gemma_metamon.text.subwords import SubwordTable
from gemma_metamon.text.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def encoder() -> GemmaTstepEncoder:
    return build().eval()


def test_a_timestep_is_2944_wide_with_defaults() -> None:
    with torch.device("meta"):
        encoder = GemmaTstepEncoder(**SPACES)
    assert encoder.emb_dim == 2944
    assert encoder.readout.emb_dim == 2688


def test_output_is_the_text_then_the_numbers(encoder: GemmaTstepEncoder) -> None:
    obs, rl2s = make_batch()
    out = encoder(obs, rl2s)
    assert out.shape == (2, 4, 24 + 256)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out[..., :24].flatten(0, 1), encoder.encode_texts(obs["text_tokens"].flatten(0, 1)))
    torch.testing.assert_close(out[..., 24:], encoder.numbers(obs["numbers"], rl2s))


def test_a_text_alone_and_in_a_padded_batch_are_the_same(encoder: GemmaTstepEncoder) -> None:
    obs, _ = make_batch(1, 6)
    words = obs["text_tokens"][0]
    words[:5, 6:] = words[0, 0]  # texts of different lengths
    assert len(encoder.subwords(words).lengths.unique()) > 1
    together = encoder.encode_texts(words)
    alone = torch.cat([encoder.encode_texts(words[index : index + 1]) for index in range(6)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_a_text_longer_than_the_sliding_window_is_the_same_too() -> None:
    encoder = build(backbone_config={**BACKBONE, "sliding_window": 8}).eval()
    obs, _ = make_batch(1, 6)
    together = encoder.encode_texts(obs["text_tokens"][0])
    alone = torch.cat([encoder.encode_texts(row[None]) for row in obs["text_tokens"][0]])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    assert (together - build().eval().encode_texts(obs["text_tokens"][0])).abs().max() > 1e-3


@settings(max_examples=10)
@given(chunk=st.integers(1, 400))
def test_the_chunk_size_does_not_change_the_output(encoder: GemmaTstepEncoder, chunk: int) -> None:
    obs, rl2s = make_batch()
    expected = encoder(obs, rl2s)
    encoder.reader.chunk_subwords = chunk
    try:
        torch.testing.assert_close(encoder(obs, rl2s), expected, rtol=0, atol=1e-5)
    finally:
        encoder.reader.chunk_subwords = None


def count_texts_read(encoder: GemmaTstepEncoder, obs: dict[str, Tensor], rl2s: Tensor) -> int:
    texts: list[int] = []
    hook = encoder.readout.register_forward_pre_hook(lambda _module, args: texts.append(len(args[0])))
    with torch.no_grad():
        encoder(obs, rl2s)
    hook.remove()
    return sum(texts)


def test_identical_texts_are_read_once(encoder: GemmaTstepEncoder) -> None:
    obs, rl2s = make_batch(2, 4)
    obs["text_tokens"][1, 2:] = obs["text_tokens"][0, 0]
    assert count_texts_read(encoder, obs, rl2s) == 6
    out = encoder(obs, rl2s)[..., :24]
    torch.testing.assert_close(out[1, 3], out[0, 0], rtol=0, atol=0)


def test_padded_timesteps_are_not_read_and_give_zeros(encoder: GemmaTstepEncoder) -> None:
    obs, rl2s = make_batch(2, 4)
    expected = encoder(obs, rl2s)
    rl2s[1, 2:] = 4.0
    obs["text_tokens"][1, 2:] = 4
    obs["numbers"][1, 2:] = 4.0
    out = encoder(obs, rl2s)
    assert count_texts_read(encoder, obs, rl2s) == 6
    assert (out[1, 2:] == 0).all()
    torch.testing.assert_close(out[0], expected[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(out[1, :2], expected[1, :2], rtol=0, atol=1e-5)


def test_a_batch_of_padding_alone_gives_zeros(encoder: GemmaTstepEncoder) -> None:
    obs, rl2s = make_batch()
    assert (encoder(obs, torch.full_like(rl2s, 4.0)) == 0).all()


@pytest.mark.parametrize("autocast", [False, True])
def test_recomputing_gives_the_same_gradients_with_dropout(autocast: bool) -> None:
    obs, rl2s = make_batch()
    gradients = []
    for options in ({"encoder_chunk_tokens": 60}, {"encoder_chunk_tokens": 60, "gradient_checkpointing": False}):
        encoder = build(lora_dropout=0.3, lora_r=2, **options)
        with torch.no_grad():  # an adapter whose second half is zero would hide its dropout
            for name, parameter in encoder.named_parameters():
                if "lora_B" in name:
                    parameter.normal_()
        torch.manual_seed(1)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            out = encoder(obs, rl2s)
        assert out.dtype == torch.float32
        out.square().sum().backward()
        gradients.append({name: p.grad for name, p in encoder.named_parameters() if p.requires_grad})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert gradient is not None, name
        if not autocast:
            torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-4, atol=1e-6, msg=name)
        else:  # eight bits, and sums in another order
            assert torch.cosine_similarity(gradient.flatten(), gradients[1][name].flatten(), dim=0) > 0.99, name


def test_only_what_fits_keeps_its_activations(monkeypatch: pytest.MonkeyPatch) -> None:
    recomputed: list[Any] = []
    monkeypatch.setattr(
        "gemma_metamon.nets.reader.text_reader.recompute_chunks",
        lambda function, chunks, *_, **__: (
            recomputed.extend(chunks) or torch.cat([function(*chunk) for chunk in chunks])
        ),
    )
    obs, rl2s = make_batch()
    build()(obs, rl2s)
    assert recomputed == []  # far below 2 GiB
    build(encoder_chunk_tokens=1)(obs, rl2s)
    assert len(recomputed) == 8
    build(encoder_chunk_tokens=1, gradient_checkpointing=False)(obs, rl2s)
    build(encoder_chunk_tokens=1, use_lora=False, freeze_base_model=True)(obs, rl2s)
    with torch.no_grad():
        build(encoder_chunk_tokens=1)(obs, rl2s)
    assert len(recomputed) == 8


@pytest.mark.parametrize(("keeps_part", "kept"), [(False, [0, 0, 3]), (True, [0, 2, 3])])
def test_a_cpu_keeps_all_activations_or_none(keeps_part: bool, kept: list[int]) -> None:
    plans = [MemoryPlan(512, subwords, keeps_part) for subwords in (100, 700, 900)]
    assert [plan.count_kept([300, 300, 300]) for plan in plans] == kept


def test_a_cpu_keeps_about_1300_subwords_of_the_full_size() -> None:
    config = SimpleNamespace(**GEMMA_3_270M_CONFIG)
    plan = MemoryPlan.choose(config, torch.device("cpu"), None, recomputes=True)
    assert plan.chunk_subwords == 512
    assert plan.kept_subwords * 24 * (640 + 2048 + 4 * 256) * 18 == pytest.approx(2 * 2**30, rel=1e-3)
    assert not plan.keeps_part


def test_it_says_how_gemma_reads() -> None:
    assert build().describe() == (
        "Gemma reads with sdpa attention in float32 on cpu, granularity turn, chunks of 4096 subwords"
    )
    assert build(encoder_chunk_tokens=7, dtype="bfloat16").describe() == (
        "Gemma reads with sdpa attention in bfloat16 on cpu, granularity turn, chunks of 7 subwords"
    )


def test_masking_blanks_words_in_training_alone() -> None:
    encoder = build(token_mask_aug=True, token_mask_share=0.5, lora_dropout=0.0)
    words = make_batch()[0]["text_tokens"][0]
    seen: list[Tensor] = []
    encoder.subwords.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    encoder.encode_texts(words)
    encoder.eval().encode_texts(words)
    changed = seen[0] != words
    assert 0.2 < changed.float().mean() < 0.8
    assert (seen[0][changed] == -1).all()
    assert (seen[1] == words).all()


@settings(max_examples=30)
@given(st.data())
def test_subwords_are_those_of_the_table_read_word_by_word(data: st.DataObject) -> None:
    table = SubwordTable.load("natural").rows_for(Vocabulary.default().words)
    ids = data.draw(st.lists(st.lists(st.integers(-1, len(table.words) - 1), min_size=7, max_size=7), min_size=1))
    texts = SubwordLookup(table, compact=False)(torch.tensor(ids))
    for row, places, length, words in zip(
        texts.subwords.tolist(), texts.places.tolist(), texts.lengths.tolist(), ids, strict=True
    ):
        expected = table.encode_line([table.words[index] if index >= 0 else "no such word" for index in words])
        assert row[:length] == expected
        assert not any(row[length:])
        word_lengths = [table.inner_lengths[index] for index in words]
        word_lengths[0] = table.first_lengths[words[0]]
        assert places[:length] == [0, *np.arange(1, 8).repeat(word_lengths)]
        assert places[length:] == [-1] * (len(row) - length)


def test_compact_subwords_are_rows_of_the_used_ids() -> None:
    table = SubwordTable.load("raw").rows_for(Vocabulary.default().words)
    words = torch.tensor([[5, -1, 70], [900, 1, 1]])
    whole, compact = (SubwordLookup(table, compact=choice)(words) for choice in (False, True))
    assert whole.lengths.tolist() == compact.lengths.tolist()
    np.testing.assert_array_equal(table.used_ids[compact.subwords.numpy()], whole.subwords.numpy())


def test_a_vocabulary_of_ones_own_gives_the_same_texts(encoder: GemmaTstepEncoder) -> None:
    words = ["<player>", "charizard", "tackle"]
    default = Vocabulary.default()
    own = build(vocabulary=words, trim_vocabulary=False, backbone_config={**BACKBONE, "vocab_size": 262_144})
    packaged = build(trim_vocabulary=False, backbone_config={**BACKBONE, "vocab_size": 262_144})
    packaged.load_state_dict(own.state_dict())
    ids = torch.tensor([[0, 1, 2, -1]])
    packaged_ids = torch.tensor([[*default.encode(words), -1]])
    torch.testing.assert_close(own.eval().encode_texts(ids), packaged.eval().encode_texts(packaged_ids))
    assert own.subword_hash != packaged.subword_hash == encoder.subword_hash


def test_words_that_no_table_covers_are_refused_by_name() -> None:
    with pytest.raises(DataError, match="notapokemonatall"):
        build(vocabulary=["charizard", "notapokemonatall"])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"text_emb_dim": 25}, r"text_emb_dim \(25\) must be a multiple of summary_tokens \(3\).* 27"),
        ({"summary_tokens": 0}, r"GemmaTstepEncoder\.summary_tokens = 0; it must be a whole number from 1"),
        ({"numerical_emb_dim": 0}, "numerical_emb_dim = 0; it must be"),
        ({"extra_emb_dim": -1}, "extra_emb_dim = -1; it must be"),
        ({"encoder_chunk_tokens": 0}, "encoder_chunk_tokens = 0; it must be .*, or None"),
        (
            {"token_mask_share": 1.0},
            r"token_mask_share = 1\.0; it must be .* above 0 and below 1; 0\.15 is usual",
        ),
        ({"granularity": "entity"}, r"no observation space .* 12 words.*Default.* \(87\).*granularity = 'turn'"),
        ({"granularity": "word"}, "granularity = 'word'; it must be one of 'turn', 'entity'"),
        ({"fusion_layers": -1}, "fusion_layers = -1; it must be"),
        ({"fusion_width": 0}, "fusion_width = 0; it must be"),
        ({"phrasing": "latin"}, "'latin'.*'raw', 'natural'"),
        (
            {"dtype": "float16"},
            "'float16'; it must be one of 'auto', .*; in float16 Gemma 3 overflows",
        ),
        ({"dtype": "int8"}, "dtype = 'int8'; it must be one of 'auto', 'float32', 'bfloat16'"),
        ({"lora_r": 0}, "lora_r = 0; it must be a whole number from 1 .*use_lora = False"),
        ({"lora_alpha": 0}, "lora_alpha = 0; it must be a number above 0"),
        ({"lora_dropout": 1.0}, r"lora_dropout = 1\.0; it must be a number of at least 0 and below 1"),
        ({"pretrained": True}, "backbone_config describes random weights.*pretrained = False"),
        ({"use_4bit": True, "dtype": "float32"}, "use_4bit computes in bfloat16.*dtype = 'auto'"),
        ({"use_4bit": True, "use_lora": False}, "use_4bit cannot train the base.*freeze_base_model = True"),
        ({"backbone_config": {**BACKBONE, "layers": 3}}, "no field 'layers'"),
        (
            {"backbone_config": {**BACKBONE, "num_hidden_layers": "two"}},
            "num_hidden_layers = 'two'; it must be a whole",
        ),
        ({"backbone_config": {**BACKBONE, "use_bidirectional_attention": True}}, "bidirectional attention"),
        ({"trim_vocabulary": False, "backbone_config": {**BACKBONE, "vocab_size": 99}}, "vocab_size"),
    ],
)
def test_wrong_values_are_refused_with_the_mend(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        build(**changes)


def test_an_observation_without_words_is_refused() -> None:
    with pytest.raises(ConfigError, match="'text_tokens' is no vector"):
        GemmaTstepEncoder({"numbers": SimpleNamespace(shape=(5,))}, SPACES["rl2_space"])


def test_spaces_may_be_a_gymnasium_dict() -> None:
    class Dict(Mapping):
        """As gymnasium 0.29 has it: `in` asks whether something is a sample of the space."""

        def __contains__(self, sample: object) -> bool:
            return isinstance(sample, dict)

        def __getitem__(self, name: str) -> Any:
            return SPACES["obs_space"][name]

        def __iter__(self) -> Iterator[str]:
            return iter(SPACES["obs_space"])

        def __len__(self) -> int:
            return len(SPACES["obs_space"])

    with torch.device("meta"):
        encoder = GemmaTstepEncoder(Dict(), SPACES["rl2_space"])
    assert encoder.emb_dim == 2944

"""What the encoder reads in a metamon process: the words of metamon's tokenizer, each turn as one line, no padding.

Among stand-ins of amago and metamon, see upstream_stand_ins.
"""

import random
import sys
from typing import Any

import pytest
import torch
from support import upstream_stand_ins as upstream
from support.upstream_stand_ins import build_encoder, complaint_of, model_file, spaces, training_file

from gemma_metamon.battle.observations import get_observation_space
from gemma_metamon.errors import ConfigError, DataError
from gemma_metamon.nets.reader.tstep_encoder import GemmaTstepEncoder
from gemma_metamon.text.subwords import SubwordTable
from gemma_metamon.text.vocabulary import Vocabulary


def make_inputs(words: torch.Tensor, numbers: int = 3) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Observations and rl2s of a batch with word ids (B, L, W)."""
    draw = torch.Generator().manual_seed(1)
    obs = {"text_tokens": words.int(), "numbers": torch.randn(*words.shape[:2], numbers, generator=draw)}
    return obs, torch.randn(*words.shape[:2], 1 + upstream.ACTIONS, generator=draw)


def read_words(bound: tuple[str, ...], without: tuple[str, ...], locked: bool, seed: int) -> float:
    """The largest difference to what an embedded encoder with the same weights makes of the same words."""
    words = Vocabulary.default().words
    ids = list(range(len(words)))
    random.Random(seed).shuffle(ids)
    tokenizer = upstream.Tokenizer(dict(zip(words, ids, strict=True)))
    upstream.install(without=without)
    upstream.parse_as_metamon_does(model_file(), training_file(), tokenizer=tokenizer, bound=bound, finalize=locked)
    theirs = build_encoder()
    options = {name: getattr(theirs.options, name) for name in ("pretrained", "backbone_config", "use_lora")}
    ours = GemmaTstepEncoder(**spaces(), **options, text_emb_dim=192, summary_tokens=12, numerical_emb_dim=64).eval()
    ours.load_state_dict(theirs.state_dict())
    lines = [random.Random(seed).choices([*words, "nosuchword"], k=6) for _ in range(8)]
    their_ids = torch.tensor([[tokenizer[word] for word in line] for line in lines]).view(2, 4, 6)
    our_ids = torch.from_numpy(Vocabulary.default().encode(lines)).view(2, 4, 6)
    with torch.no_grad():
        expected = ours(*make_inputs(our_ids))
        assert (ours(*make_inputs(their_ids)) - expected).abs().max() > 0.1  # the order of ids matters here
        return (theirs(*make_inputs(their_ids)) - expected).abs().max().item()


@pytest.mark.parametrize(
    ("bound", "without"),
    [
        (upstream.TOKENIZERS, ()),
        (upstream.TOKENIZERS[:1], ()),
        (upstream.TOKENIZERS[1:], ()),
        (upstream.TOKENIZERS[:1], ("MetamonPerceiverTstepEncoder",)),
        (upstream.TOKENIZERS[1:], ("MetamonTstepEncoder",)),
    ],
    ids=["both", "first bound", "second bound", "first alone", "second alone"],
)
@pytest.mark.parametrize("locked", [True, False], ids=["after finalize", "before finalize"])
def test_the_encoder_reads_the_words_of_metamons_tokenizer_whatever_their_ids(
    bound: tuple[str, ...], without: tuple[str, ...], locked: bool
) -> None:
    assert upstream.run(read_words, bound, without, locked, 0) < 1e-5


GROUPED = "MetamonGroupedTstepEncoderV2.tokenizer"


def words_bound_by_160(bound: tuple[str, ...], argv: list[str] | None = None) -> tuple[tuple[str, ...], list[str]]:
    from gemma_metamon.upstream import metamon_process

    upstream.install("3.4.0", "1.6.0", masked_in="agent")
    if argv is not None:
        upstream.install_train_script("metamon.rl.train", argv)
    tokenizer = upstream.Tokenizer(upstream.word_ids(["surf", "rest"]))
    upstream.parse_as_metamon_does(model_file(), tokenizer=tokenizer, bound=bound)
    return metamon_process.read_vocabulary().words, sys.modules["metamon.tokenizer"].asked


@pytest.mark.parametrize("bound", [(GROUPED,), (*upstream.TOKENIZERS, GROUPED)], ids=["alone", "with the others"])
def test_the_tokenizer_of_metamons_grouped_encoder_is_read(bound: tuple[str, ...]) -> None:
    assert upstream.run(words_bound_by_160, bound) == (("surf", "rest"), [])


def test_where_none_is_bound_the_train_scripts_tokenizer_is_read() -> None:
    argv = ["--run_name", "r", "--save_dir", "s", "--model_gin_config", "m", "--train_gin_config", "t"]
    for flags, wanted in (([], "DefaultObservationSpace-v1"), (["--tokenizer", "allreplays-v3"], "allreplays-v3")):
        words, asked = upstream.run(words_bound_by_160, (), [*argv, *flags])
        assert (words, set(asked)) == (upstream.DEFAULT_WORDS, {wanted})


def complaint_about_two_word_lists() -> tuple[list[str], str]:
    import gin

    from gemma_metamon.upstream import metamon_process

    upstream.install("3.4.0", "1.6.0", masked_in="agent")
    upstream.parse_as_metamon_does(model_file(), finalize=False)
    gin.bind_parameter(GROUPED, upstream.Tokenizer(upstream.word_ids(["surf", "rest"])))
    return complaint_of(metamon_process.read_vocabulary)


def test_two_word_lists_at_once_are_refused_by_the_names_that_they_are_bound_to() -> None:
    """The first one bound would have been read, whichever the observations came in."""
    kinds, said = upstream.run(complaint_about_two_word_lists)
    assert "ConfigError" in kinds
    assert "MetamonTstepEncoder.tokenizer (4 words)" in said
    assert f"{GROUPED} (2 words) are different word lists" in said


def words_without_a_binding() -> tuple[tuple[str, ...], list[str]]:
    from gemma_metamon.upstream import metamon_process

    upstream.install()
    upstream.parse_as_metamon_does(model_file(), training_file(), bound=())
    build_encoder()
    return metamon_process.read_vocabulary().words, sys.modules["metamon.tokenizer"].asked


def test_without_a_binding_it_is_metamons_default_tokenizer() -> None:
    words, asked = upstream.run(words_without_a_binding)
    assert words == upstream.DEFAULT_WORDS
    assert set(asked) == {"DefaultObservationSpace-v1"}


def complaint_about(tokenizer: Any) -> tuple[list[str], str]:
    upstream.install()
    upstream.parse_as_metamon_does(model_file(), training_file(), tokenizer=tokenizer)
    return complaint_of(build_encoder)


@pytest.mark.parametrize(
    ("tokenizer", "kind", "complaint"),
    [
        (
            upstream.Tokenizer(upstream.word_ids(["surf", "aaaextra", "rest", "zzzextra"])),
            DataError,
            "lacks 2 of the 4 words of the vocabulary: aaaextra, zzzextra; add them",
        ),
        (upstream.Tokenizer({"surf": 0, "rest": 2}), DataError, "must have the ids 0 to 1"),
        (upstream.Tokenizer({"surf": 0, "two words": 1}), DataError, "'two words' cannot be a word"),
        (7, ConfigError, "int is no word list"),
    ],
    ids=["words without subwords", "a gap in the ids", "white space", "no tokenizer"],
)
def test_a_tokenizer_that_cannot_work_is_refused(tokenizer: Any, kind: type[Exception], complaint: str) -> None:
    kinds, said = upstream.run(complaint_about, tokenizer)
    assert kind.__name__ in kinds
    assert complaint in said


def read_battles(words: int, numbers: int) -> tuple[int, int, int]:
    """Of a batch of 2 x 3 different turns, 2 of them padding: the subwords that went through Gemma, those of the real
    turns, what they share read once, and the longest turn's."""
    upstream.install()
    vocabulary = Vocabulary.default()
    tokenizer = upstream.Tokenizer(upstream.word_ids(vocabulary.words))
    upstream.parse_as_metamon_does(model_file(), training_file(), tokenizer=tokenizer)
    encoder = build_encoder(words=words, numbers=numbers)
    encoder.reader.cache = None
    ids = torch.randint(-1, len(vocabulary), (2, 3, words), generator=torch.Generator().manual_seed(0))
    obs, rl2s = make_inputs(ids, numbers)
    rows: list[int] = []
    encoder.backbone.register_forward_pre_hook(
        lambda _module, _args, kwargs: rows.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    with torch.no_grad():
        whole = encoder(obs, rl2s)
        counts = set()
        for pad in (4, -1, 10**6):  # metamon pads with 4, but no id in a padded row may matter
            rows.clear()
            for name in obs:
                obs[name][1, 1:] = pad
            rl2s[1, 1:] = 4.0
            out = encoder(obs, rl2s)
            counts.add(sum(rows))
            assert (out[1, 1:] == 0).all()
            torch.testing.assert_close(out[0], whole[0], rtol=0, atol=1e-5)
    real = ids.view(6, words)[:4]
    texts, _ = encoder.subwords(real).sorted_distinct()
    table = SubwordTable.load(encoder.phrasing)
    assert sorted(texts.lengths) == sorted(len(table.encode_line(vocabulary.decode(line))) for line in real)
    (read,) = counts
    return read, int((texts.lengths - texts.shared()).sum()), int(texts.lengths.max())


@pytest.mark.parametrize(
    ("name", "words", "numbers"),
    [
        ("DefaultObservationSpace", 87, 48),
        ("ExpandedObservationSpace", 100, 55),
        ("TeamPreviewObservationSpace", 106, 55),
        ("OpponentMoveObservationSpace", 106, 55),
        (None, 31, 7),
    ],
)
def test_every_space_is_read_a_line_a_turn_and_padding_is_not(name: str | None, words: int, numbers: int) -> None:
    if name is not None:
        space = get_observation_space(name)
        assert (space.n_words, space.n_numbers) == (words, numbers)
    read, expected, longest = upstream.run(read_battles, words, numbers)
    assert read == expected
    assert longest > words

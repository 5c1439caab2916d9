"""The word list: what it covers, that ids are stable, and that unknown words are counted."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.paths import GOLDENS

from gemma_metamon.errors import ConfigError, DataError
from gemma_metamon.text.phrases import PHRASINGS
from gemma_metamon.text.subwords import SubwordTable
from gemma_metamon.text.vocabulary import (
    METAMON_WORD_LISTS,
    UNKNOWN_ID,
    UNKNOWN_WORD,
    Vocabulary,
    load_display_names,
)

LINES = json.loads((GOLDENS / "text" / "lines.json").read_text(encoding="utf-8"))
VOCABULARY = Vocabulary.default()


class WordList:
    """What counts of metamon's PokemonTokenizer: `all_words` and `[word]`, -1 for what it does not know."""

    def __init__(self, ids: dict[str, int]) -> None:
        self._ids = ids

    @property
    def all_words(self) -> list[str]:
        return list(self._ids)

    def __getitem__(self, word: str) -> int:
        return self._ids.get(word, -1)


def test_ids_are_never_renumbered() -> None:
    """Old checkpoints and prepared data store these ids: a new word may only be appended."""
    words = [
        "<anychoice>",
        "<blank>",
        "<gen1ou>",
        "<gen9ou>",
        "water",
        "greattusk",
        "willowisp",
        "heavydutyboots",
        "other",
    ]
    assert VOCABULARY.encode(words).tolist() == [0, 10, 34, 66, 162, 1577, 2668, 2884, 3548]


def test_observed_words_are_in_the_vocabulary() -> None:
    vocabulary = Vocabulary.default()
    for line in LINES:
        vocabulary.encode(line["words"].split(" "))
    assert set(vocabulary.unknown_counts) == {"aaaextra"}


@pytest.mark.parametrize("generation", range(1, 10))
@pytest.mark.parametrize("tier", ["ou", "uu", "nu", "ubers"])
def test_every_recorded_format_has_a_tag(generation: int, tier: str) -> None:
    assert f"<gen{generation}{tier}>" in VOCABULARY


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("nothing", "noitem noability nostatus noeffect notype nomove noweather noconditions nofield"),
        ("not revealed", "unknownitem unknownability unknown"),
        ("status", "brn fnt frz par psn slp tox"),
        ("move category", "physical special status"),
        ("species", "porygon2 zygarde10 flabebe farfetchd ogerponwellspringtera mimikyubusted missingno taurospaldea"),
        ("move", "hiddenpower conversion2 visegrip vicegrip struggle recharge fight gmaxwildfire"),
        ("effect", "quarkdrivespe perish stockpile typechange"),
        ("weather or condition", "snowscape snow trickroom auroraveil"),
    ],
)
def test_words_of_every_kind_are_known(kind: str, words: str) -> None:
    assert [word for word in words.split() if word not in VOCABULARY] == [], kind


def test_every_enum_member_of_poke_env_is_known() -> None:
    battle = pytest.importorskip("poke_env.battle", reason="needs the extra [battle]")
    enums = (battle.Effect, battle.Field, battle.SideCondition, battle.Status, battle.Weather, battle.MoveCategory)
    words = {"".join(filter(str.isalpha, member.name)).lower() for enum in enums for member in enum}
    assert sorted(words - set(VOCABULARY)) == []


def test_every_species_and_move_of_poke_env_is_known() -> None:
    data = pytest.importorskip("poke_env.data", reason="needs the extra [battle]").GenData.from_gen(9)
    moves = {"".join(filter(str.isalpha, move)) for move in data.moves}
    species = {name for name in data.pokedex if not name.endswith("gmax")}  # it invents Gigantamax Pikachu by the dozen
    assert sorted(species - set(VOCABULARY)) == []
    assert sorted(moves - set(VOCABULARY) - {move for move in moves if move.startswith("hiddenpower")}) == []


@pytest.mark.upstream
@pytest.mark.parametrize("name", METAMON_WORD_LISTS)
def test_the_subword_table_covers_metamons_word_lists(name: str) -> None:
    tokenizer = pytest.importorskip("metamon.tokenizer").get_tokenizer(name)
    theirs = Vocabulary.from_tokenizer(tokenizer)
    assert theirs.encode(tokenizer.all_words).tolist() == [tokenizer[word] for word in tokenizer.all_words]
    for phrasing in PHRASINGS:
        assert SubwordTable.load(phrasing).rows_for(theirs.words).words == theirs.words
    beyond = set(tokenizer.all_words) - set(VOCABULARY)
    assert all(word.startswith("hiddenpower") for word in beyond)  # which is one word in today's battles
    assert not beyond or name.startswith("allreplays")


def test_unknown_words_are_counted() -> None:
    vocabulary = Vocabulary.from_words(["surf", "rest"])
    ids = vocabulary.encode([["surf", "splish"], ["splash", "splish"]])
    np.testing.assert_array_equal(
        ids, np.array([[0, UNKNOWN_ID], [UNKNOWN_ID, UNKNOWN_ID]], dtype=np.int32), strict=True
    )
    assert vocabulary.unknown_counts == Counter(splish=2, splash=1)
    assert vocabulary.decode(ids).tolist() == [["surf", UNKNOWN_WORD], [UNKNOWN_WORD, UNKNOWN_WORD]]


def test_each_default_vocabulary_counts_for_itself() -> None:
    first, second = Vocabulary.default(), Vocabulary.default()
    first.encode(["splish"])
    assert not second.unknown_counts
    assert first == second


@pytest.mark.parametrize("text", ["{", "[]", '{"words": ["surf"], "natural": []}'])
def test_a_damaged_packaged_list_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "vocabulary.json").write_text(text)
    monkeypatch.setattr("gemma_metamon.text.vocabulary.files", lambda _: tmp_path)
    load_display_names.cache_clear()
    with pytest.raises(DataError, match=r"the packaged vocabulary cannot be read .*; install gemma_metamon again"):
        Vocabulary.default()


def test_a_vocabulary_knows_its_words_however_it_is_made() -> None:
    vocabulary = Vocabulary(("surf", "rest"))
    assert vocabulary == Vocabulary.from_words(["surf", "rest"])
    assert vocabulary.encode(["rest", "surf", "splish"]).tolist() == [1, 0, UNKNOWN_ID]


@given(st.lists(st.lists(st.sampled_from(VOCABULARY.words), min_size=3, max_size=3), max_size=5))
def test_decode_undoes_encode(words: list[list[str]]) -> None:
    ids = VOCABULARY.encode(words)
    assert ids.dtype == np.int32
    assert ids.shape == np.shape(words)
    assert VOCABULARY.decode(ids).tolist() == words


@pytest.mark.parametrize("dtype", [object, str])
def test_arrays_of_any_string_type_encode_alike(dtype: type) -> None:
    words = np.array([["water", "surf"], ["splish", "rest"]], dtype=dtype)
    np.testing.assert_array_equal(Vocabulary.default().encode(words), Vocabulary.default().encode(words.tolist()))


def test_word_list_of_metamon_keeps_its_ids() -> None:
    ids = {"water": 2, "<blank>": 0, "surf": 1}
    for tokenizer in (WordList(ids), ids):
        vocabulary = Vocabulary.from_tokenizer(tokenizer)
        assert vocabulary.words == ("<blank>", "surf", "water")
        assert vocabulary.encode(["water", "splish"]).tolist() == [2, -1]


def test_what_is_no_word_list_is_refused() -> None:
    with pytest.raises(ConfigError, match="int is no word list; give metamon's PokemonTokenizer"):
        Vocabulary.from_tokenizer(3)
    with pytest.raises(DataError, match="ids 0 to 1, each once"):
        Vocabulary.from_tokenizer({"water": 1, "surf": 2})


@pytest.mark.parametrize("word", ["", " ", "great tusk", "surf\n", 3])
def test_what_is_no_word_is_refused(word: object) -> None:
    with pytest.raises(DataError, match="cannot be a word of a vocabulary"):
        Vocabulary.from_words(["water", word])  # type: ignore[list-item]


def test_repeated_word_is_refused() -> None:
    with pytest.raises(DataError, match="'surf' more than once"):
        Vocabulary.from_words(["surf", "water", "surf"])


def test_ragged_rows_are_refused() -> None:
    with pytest.raises(DataError, match="different lengths"):
        VOCABULARY.encode([["surf"], ["surf", "rest"]])


@pytest.mark.parametrize("wrong", [-2, len(VOCABULARY)])
def test_id_outside_the_vocabulary_is_refused(wrong: int) -> None:
    with pytest.raises(DataError, match=f"id {wrong} is not in a vocabulary"):
        VOCABULARY.decode([0, wrong])

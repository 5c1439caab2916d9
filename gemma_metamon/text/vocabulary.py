"""The words that an observation can hold, each with an id; what is in no list is the unknown word and is counted.

The packaged list holds every species (with all formes), move, item, ability, type, status, effect, weather, condition
and tag. Ids are positions in it: tags, formats, types, species, moves, items, abilities, natures, then what only enums
name. A rebuilt list keeps the ids there were and appends what is new. Nothing here knows of subwords.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.resources import files
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gemma_metamon.battle.state import MAX_WORD_LENGTH, is_word
from gemma_metamon.errors import ConfigError, DataError, MissingFileError
from gemma_metamon.strict_json import read_json, shown

MAX_WORDS = 1_000_000
UNKNOWN_ID = -1
UNKNOWN_WORD = "unknown"
METAMON_WORD_LISTS = (
    "allreplays-v1",
    "allreplays-v2",
    "allreplays-v3",
    "DefaultObservationSpace-v0",
    "DefaultObservationSpace-v1",
)
"""metamon's names of its own, which come with it; the subword table has the words of each."""


@cache
def load_display_names() -> dict[str, str]:
    """Word -> display name ("greattusk" -> "Great Tusk"; a tag's short English) of the packaged list, in id order.

    Raises DataError where the file is damaged.
    """
    try:
        asset = json.loads((files("gemma_metamon.text") / "assets" / "vocabulary.json").read_text(encoding="utf-8"))
        return dict(zip(asset["words"], asset["natural"], strict=True))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"the packaged vocabulary cannot be read ({error}); install gemma_metamon again") from error


def display_name(word: str) -> str:
    """As the simulator shows it; a word without a display name as it is. Raises as `load_display_names`."""
    return load_display_names().get(word, word)


@dataclass(frozen=True)
class Vocabulary:
    """An immutable list of words with ids 0 ... n-1, and the count of the words met that are not among them.

    Make one with `default`, `from_words` or `from_tokenizer`. Equal when the words are; each has a count of its own.
    """

    words: tuple[str, ...]
    unknown_counts: Counter[str] = field(default_factory=Counter, compare=False, repr=False)
    """How often `encode` met each word that is not in the vocabulary."""

    @classmethod
    def default(cls) -> "Vocabulary":
        """The packaged vocabulary, with a fresh count. The list itself is read once per process."""
        return cls(tuple(load_display_names()))

    @classmethod
    def from_words(cls, words: Iterable[str]) -> "Vocabulary":
        """The words in the order given, each of which gets its position as id.

        Raises:
            DataError: more than MAX_WORDS; a word that is no string, is empty or too long, holds white space (it would
                be two words) or what no screen shows, or stands twice.
        """
        listed = tuple(words)
        if len(listed) > MAX_WORDS:
            raise DataError(f"a vocabulary of {len(listed)} words; expected at most {MAX_WORDS}")
        for word in listed:
            if not isinstance(word, str) or not word or not is_word(word):
                raise DataError(
                    f"{shown(word)} cannot be a word of a vocabulary; give non-empty strings of at most "
                    f"{MAX_WORD_LENGTH} characters without white space"
                )
        if len(set(listed)) != len(listed):
            twice = next(word for word, count in Counter(listed).items() if count > 1)
            raise DataError(f"the vocabulary lists {shown(twice)} more than once; remove the repetition")
        return cls(listed)

    @classmethod
    def from_tokenizer(cls, tokenizer: Any) -> "Vocabulary":
        """From metamon's PokemonTokenizer (its `all_words` and `tokenizer[word]`), or any mapping word -> id.

        Raises:
            ConfigError: an object of another kind.
            DataError: ids that are not 0 ... n-1, each once.
        """
        if isinstance(tokenizer, Mapping):
            ids = dict(tokenizer)
        elif hasattr(tokenizer, "all_words") and hasattr(tokenizer, "__getitem__"):
            ids = {word: tokenizer[word] for word in tokenizer.all_words}
        else:
            raise ConfigError(
                f"{type(tokenizer).__name__} is no word list; give metamon's PokemonTokenizer or a mapping word -> id"
            )
        integers = all(isinstance(index, Integral) and not isinstance(index, bool) for index in ids.values())
        if not integers or sorted(ids.values()) != list(range(len(ids))):
            raise DataError(f"the {len(ids)} words of the tokenizer must have the ids 0 to {len(ids) - 1}, each once")
        return cls.from_words(sorted(ids, key=ids.__getitem__))

    @classmethod
    def from_file(cls, path: Path) -> "Vocabulary":
        """From a JSON file: a list of words, or a map word -> id.

        Raises:
            MissingFileError: no such file.
            DataError: one that is not JSON, or as `from_words` and `from_tokenizer` do.
        """
        try:
            words = read_json(path)
        except MissingFileError as error:
            raise MissingFileError(f"no word list {path}; give a JSON file, or leave --tokenizer out") from error
        if words in ([], {}):
            raise DataError(f"{path} holds no words; give a list of words, or a map word -> id")
        try:
            return cls.from_words(words) if isinstance(words, list) else cls.from_tokenizer(words)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error

    @cached_property
    def _ids(self) -> Mapping[str, int]:
        return {word: index for index, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self._ids

    def __iter__(self) -> Iterator[str]:
        return iter(self.words)

    def encode(self, words: npt.ArrayLike) -> npt.NDArray[np.int32]:
        """Ids of the words, in their shape; -1 for a word that is not in the vocabulary, which is counted.

        Args:
            words: strings in a sequence, nested sequences of equal length, or an array of any shape.

        Raises:
            DataError: rows of different lengths.
        """
        if isinstance(words, list) and set(map(type, words)) == {str}:  # a turn that is being played
            flat, shape = words, (len(words),)
        else:
            try:
                array = np.asarray(words)
            except ValueError as error:
                raise DataError(
                    f"the rows of words have different lengths ({error}); encode them one by one"
                ) from error
            flat, shape = array.ravel().tolist(), array.shape
        ids = [self._ids.get(word, UNKNOWN_ID) for word in flat]
        if UNKNOWN_ID in ids:
            self.unknown_counts.update(word for word, index in zip(flat, ids, strict=True) if index == UNKNOWN_ID)
        return np.array(ids, dtype=np.int32).reshape(shape)

    def decode(self, ids: npt.ArrayLike) -> npt.NDArray[np.str_]:
        """Words of the ids, in their shape; "unknown" for -1.

        Raises:
            DataError: an id that the vocabulary does not have.
        """
        array = np.asarray(ids)
        wrong = array[(array < UNKNOWN_ID) | (array >= len(self.words))]
        if wrong.size:
            raise DataError(
                f"id {wrong.flat[0]} is not in a vocabulary of {len(self.words)} words (-1 ... {len(self) - 1})"
            )
        words: npt.NDArray[np.str_] = np.array([*self.words, UNKNOWN_WORD])[array]  # -1 takes the last
        return words

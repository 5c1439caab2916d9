"""What Gemma reads for a word of an observation.

Two phrasings: `raw` is the word itself ("greattusk"), `natural` its display name ("Great Tusk") or, for the tags and
the words for nothing, short English ("bench", "none"). A text is the phrases of its words joined by single spaces.
"""

from collections.abc import Container, Iterable
from typing import Literal, get_args

from gemma_metamon.errors import ConfigError
from gemma_metamon.text.vocabulary import UNKNOWN_WORD, display_name

Phrasing = Literal["raw", "natural"]
PHRASINGS: tuple[Phrasing, ...] = get_args(Phrasing)


def check_phrasing(phrasing: str) -> None:
    """Raise ConfigError unless the phrasing is one of `PHRASINGS`."""
    if phrasing not in PHRASINGS:
        raise ConfigError(f"phrasing {phrasing!r} does not exist; choose one of {', '.join(map(repr, PHRASINGS))}")


def phrase(word: str, phrasing: str) -> str:
    """What Gemma reads for one word; in both phrasings a word without a display name is read as it is.

    Raises:
        ConfigError: an unknown phrasing.
    """
    check_phrasing(phrasing)
    return word if phrasing == "raw" else display_name(word)


def join_phrases(words: Iterable[str], phrasing: str, vocabulary: Container[str] | None = None) -> str:
    """The text that Gemma reads, after its bos: the phrases joined by single spaces, none before the first.

    Args:
        words: an observation's words, in order.
        phrasing: "raw" or "natural".
        vocabulary: where given, a word that it does not contain is read as "unknown", as the agent reads it.

    Raises:
        ConfigError: an unknown phrasing.
    """
    known = words if vocabulary is None else (word if word in vocabulary else UNKNOWN_WORD for word in words)
    return " ".join(phrase(word, phrasing) for word in known)

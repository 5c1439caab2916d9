"""Showdown's names as the words of a state. Moves and switches are numbered in the alphabetical order of these."""

from functools import lru_cache
from typing import Final

# one word, whatever follows: the type of a Hidden Power, the power of a Return
_CUT_MOVES: Final = ("hiddenpower", "return", "frustration")


@lru_cache(maxsize=8192)
def letters(name: str) -> str:
    """The letters alone, in lower case."""
    return "".join(char for char in name if char.isalpha()).lower()


@lru_cache(maxsize=8192)
def move_word(move_id: str) -> str:
    """Hidden Power is one word whatever its type; Vice Grip has two spellings; Conversion 2 is Conversion."""
    name = letters(move_id)
    for cut in _CUT_MOVES:
        if name.startswith(cut):
            return cut
    return "visegrip" if name == "vicegrip" else name


@lru_cache(maxsize=8192)
def species_word(name: str) -> str:
    """Letters and digits, in lower case."""
    return "".join(char for char in name if char.isalnum()).lower()

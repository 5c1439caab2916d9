"""The choices of a decision by name, and the one form of an answer that names one of them.

    <REASONING>Starmie is faster.</REASONING><SOLUTION>move Thunderbolt</SOLUTION>

The reasoning may be left out. Choices are named as the simulator shows them, never by number: "move Earthquake", "move
Earthquake, Terastallize", "switch Great Tusk". What is not among a decision's choices does not parse.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

from gemma_metamon.battle.actions import FIRST_SWITCH, FIRST_TERA
from gemma_metamon.battle.state import BattleState
from gemma_metamon.errors import DataError
from gemma_metamon.text.vocabulary import display_name

TERASTALLIZE: Final = ", Terastallize"
"""What follows a move that is used terastallising."""
_BLOCK: Final = re.compile(r"<(REASONING|SOLUTION)>(.*?)</\1>", re.DOTALL)
_TAG: Final = re.compile(r"</?(?:REASONING|SOLUTION)>")


class AnswerError(DataError):
    """An answer that names no choice; the message says why, in words that fit a request to repair it."""


def choice_names(
    state: BattleState, actions: Iterable[int], offered: Mapping[int, str] | None = None
) -> dict[int, str]:
    """Action -> what it is called, in the order of the actions; no two are called the same.

    Of two bench Pokémon of one species, or two moves of one name, the second is called "switch Snorlax (2)".

    Args:
        state: which names the moves and the bench.
        actions: the legal ones, 0-12; `numpy.flatnonzero` of a mask, or the keys of a live battle's options.
        offered: the move words of actions that are none of the Pokémon's moves. Recorded battles do not tell of
            Recharge and Struggle, which are action 0; a live battle's request does.

    Raises:
        DataError: an action that the state has no move or Pokémon for.
    """
    moves = _distinct_names(tuple([move.name for move in state.player_active_pokemon.known_moves]))
    bench = _distinct_names(tuple([pokemon.name for pokemon in state.switches]))
    named = {
        **{action: f"move {name}" for action, name in enumerate(moves)},
        **{action: f"switch {name}" for action, name in enumerate(bench, FIRST_SWITCH)},
        **{action: f"move {name}{TERASTALLIZE}" for action, name in enumerate(moves, FIRST_TERA)},
        **{action: f"move {display_name(word)}" for action, word in (offered or {}).items()},
    }
    try:
        return {action: named[action] for action in sorted(map(int, actions))}
    except KeyError as error:
        raise DataError(
            f"action {error} names nothing: there are {len(moves)} moves (0-3) and {len(bench)} Pokémon to switch to "
            "(4-8)"
        ) from error


def write_answer(choice: str, reasoning: str = "") -> str:
    """The answer that `parse_answer` reads; without reasoning it has no such block."""
    thought = f"<REASONING>{reasoning}</REASONING>" if reasoning else ""
    return f"{thought}<SOLUTION>{choice}</SOLUTION>"


def split_answer(text: str) -> tuple[str, str]:
    """Reasoning ("" for none) and solution of an answer, whether or not the solution is legal.

    Space around the blocks and the solution does not count; any other text does.

    Raises:
        AnswerError: it is not of the form that `write_answer` gives.
    """
    blocks: list[tuple[str, str]] = _BLOCK.findall(text)
    kinds = [kind for kind, _ in blocks]
    if kinds.count("SOLUTION") != 1:
        raise AnswerError(f"{kinds.count('SOLUTION')} <SOLUTION> blocks; give exactly one")
    if kinds not in (["SOLUTION"], ["REASONING", "SOLUTION"]):
        raise AnswerError("give at most one <REASONING> block, before the <SOLUTION>")
    if any(_TAG.search(content) for _, content in blocks):
        raise AnswerError("a block lies in another one; close <REASONING> before <SOLUTION>")
    if _BLOCK.sub("", text).strip():
        raise AnswerError("there is text outside of the blocks; give the blocks alone")
    return (blocks[0][1].strip() if len(blocks) == 2 else ""), blocks[-1][1].strip()


def parse_answer(text: str, choices: Mapping[int, str]) -> int:
    """The action that an answer names. Capitals, runs of spaces and curly apostrophes do not count.

    Args:
        text: the answer.
        choices: of `choice_names`.

    Raises:
        AnswerError: it is not of the form, or names none of the choices.
    """
    return find_choice(split_answer(text)[1], choices)


def find_choice(named: str, choices: Mapping[int, str]) -> int:
    """The action of a choice's name, read as `parse_answer` reads it. Raises AnswerError for any other text."""
    wanted = _plain(named)
    for action, choice in choices.items():
        if _plain(choice) == wanted:
            return action
    raise AnswerError(f"{named[:60]!r} is no choice here; choose one of {', '.join(choices.values())}")


@lru_cache(maxsize=8192)  # teams stay the same for a battle
def _distinct_names(words: tuple[str, ...]) -> tuple[str, ...]:
    """Of each word; what would be read as one before it gets a number."""
    met: Counter[str] = Counter()
    distinct = []
    for name in map(display_name, words):
        met[_plain(name)] += 1
        times = met[_plain(name)]
        distinct.append(name if times == 1 else f"{name} ({times})")
    return tuple(distinct)


def _plain(choice: str) -> str:
    return " ".join(choice.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").casefold().split())

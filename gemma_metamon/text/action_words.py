"""What each action is called, in the words of a turn: the text that a language model goes on with if it chooses it.

    ... the turn's words ... <anychoice> <move> thunderbolt         "... choose move Thunderbolt"
                             <anychoice> <switch> starmie           "... choose bench Starmie"
                             <anychoice> <player> <move> thunderbolt   the same move, terastallising

The names are the turn's own words: an action is called what stands in its slot.
"""

from dataclasses import dataclass
from typing import Final

from gemma_metamon.battle.observation_space import BLANK, ObservationSpace
from gemma_metamon.battle.state import MAX_MOVES, MAX_SWITCHES
from gemma_metamon.text.slots import split_turn

CUE: Final = "<anychoice>"
"""What follows a turn, and an action's words follow it."""
MOVE_TAGS: Final = ("<move>",)
SWITCH_TAGS: Final = ("<switch>",)
TERA_TAGS: Final = ("<player>", "<move>")
"""It is the Pokémon itself that changes. No observation space has a word for terastallising."""
WORDS_NEEDED: Final = (CUE, *MOVE_TAGS, *SWITCH_TAGS, *TERA_TAGS, BLANK)


@dataclass(frozen=True)
class ActionWords:
    """What an action is called: some tags, then a word of the turn.

    Attributes:
        tags: the words before it.
        name: the position of that word in the turn.
    """

    tags: tuple[str, ...]
    name: int


def name_actions(space: ObservationSpace) -> tuple[ActionWords, ...]:
    """What each of the 13 actions is called. Where the word at `name` is a blank, a turn does not have the action."""
    slots = {slot.name: slot for slot in split_turn(space)}
    bench = [slots[f"bench {number}"].start for number in range(1, MAX_SWITCHES + 1)]
    if "move 1" in slots:  # behind a tag, as every name of a line
        moves = [slots[f"move {number}"].start + 1 for number in range(1, MAX_MOVES + 1)]
        switches = [start + 1 for start in bench]
    else:  # a group ends with its Pokémon's moves and begins with its name
        end = slots["player"].stop
        moves, switches = [*range(end - MAX_MOVES, end)], bench
    return (
        *(ActionWords(MOVE_TAGS, name) for name in moves),
        *(ActionWords(SWITCH_TAGS, name) for name in switches),
        *(ActionWords(TERA_TAGS, name) for name in moves),
    )

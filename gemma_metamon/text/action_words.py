"""What each action is called, in the words of a turn: the text that a language model goes on with if it chooses it.

    ... the turn's words ... <anychoice> <move> thunderbolt         "... choose move Thunderbolt"
                             <anychoice> <switch> starmie           "... choose bench Starmie"
                             <anychoice> <player> <move> thunderbolt   the same move, terastallising

The names are the turn's own words: an action is called what stands in its slot.
"""

from dataclasses import dataclass
from typing import Final

from gemma_metamon.battle.observations import BLANK, ObservationSpace
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
    """How an action is called: tags, then the turn's word number `name`."""

    tags: tuple[str, ...]
    name: int


def name_actions(space: ObservationSpace) -> tuple[ActionWords, ...]:
    """The 13 actions in their order; where the slot that names one is blank, there is no such action."""
    starts = {slot.name: slot.start for slot in split_turn(space)}
    moves = [starts[f"move {number}"] + 1 for number in range(1, MAX_MOVES + 1)]  # behind the slot's tag
    switches = [starts[f"bench {number}"] + 1 for number in range(1, MAX_SWITCHES + 1)]
    return (
        *(ActionWords(MOVE_TAGS, name) for name in moves),
        *(ActionWords(SWITCH_TAGS, name) for name in switches),
        *(ActionWords(TERA_TAGS, name) for name in moves),
    )

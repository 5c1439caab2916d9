"""A turn phrased another way, under a name that every command of `gemma-metamon` then knows.

What changes least is told first: Gemma reads what texts begin with alike once, so that fewer subwords are left to read
where an agent reads whole turns. And two tags become other words. The numbers stay as they are.

This file is the command: `python examples/custom_phrasing.py train --obs_space SteadyFirstSpace --run_name steady ...`.
A run records the name of its space, so play and resume it by this command, too.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from gemma_metamon.battle.observation_lines import LineSpace
from gemma_metamon.battle.observation_space import OpponentMemory
from gemma_metamon.battle.observations import OBSERVATION_SPACES
from gemma_metamon.battle.state import BattleState
from gemma_metamon.commands import main

# parts of a turn, by the beginnings of their names; any that is not named here comes last
STEADY_FIRST = ("format", "preview", "bench", "player", "move", "revealed", "conditions", "opponent")
# in the natural phrasing "last Thunderbolt" and "theirs Surf" become "you Thunderbolt" and "opponent Surf"
SAID_OTHERWISE = {"<player_prev>": "<player>", "<opp_prev>": "<opponent>"}


@dataclass(frozen=True, kw_only=True)
class SteadyFirstSpace(LineSpace):
    """The words of another space of one line, in another order and some of them otherwise.

    A word that is not in the vocabulary would be read as the unknown word, so other words are taken from there.
    """

    @property
    def entities(self) -> Mapping[str, int]:
        """The parts in their new order, which an `entity` agent reads one by one."""
        told = super().entities
        return {name: told[name] for name in sorted(told, key=_place)}

    def _words(self, state: BattleState, memory: OpponentMemory) -> list[str]:
        words = iter(super()._words(state, memory))
        parts = {name: [next(words) for _ in range(length)] for name, length in super().entities.items()}
        return [SAID_OTHERWISE.get(word, word) for name in self.entities for word in parts[name]]


def _place(name: str) -> int:
    """Of a part in the turn; parts of one kind stay in their order."""
    starts = (place for place, start in enumerate(STEADY_FIRST) if name.startswith(start) and "last" not in name)
    return next(starts, len(STEADY_FIRST))


OBSERVATION_SPACES["SteadyFirstSpace"] = SteadyFirstSpace(name="SteadyFirstSpace", expanded=True, team_preview=True)

if __name__ == "__main__":
    sys.exit(main())

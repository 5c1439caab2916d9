"""An observation space of one's own, under a name that every command of `gemma-metamon` then knows.

This file is the command: `python examples/custom_observations.py train --obs_space DuelSpace --run_name first ...`.
A run records the name of its space, so play and resume it by this command, too.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from gemma_metamon.battle.observation_space import (
    ObservationSpace,
    OpponentMemory,
    boosts_of,
    choice_word,
    filled,
    format_word,
    stats_of,
)
from gemma_metamon.battle.observations import OBSERVATION_SPACES
from gemma_metamon.battle.state import MAX_MOVES, BattleState
from gemma_metamon.commands import main


@dataclass(frozen=True, kw_only=True)
class DuelSpace(ObservationSpace):
    """The two Pokémon on the field and the player's moves: what a duel needs, and nothing of the bench.

    Only words of the vocabulary may be shown; any other is read as the unknown word.
    """

    word_keys: ClassVar[tuple[str, ...]] = ("text_tokens",)
    number_keys: ClassVar[tuple[str, ...]] = ("numbers",)

    @property
    def entities(self) -> Mapping[str, int]:
        """Six parts, each of which an `entity` agent reads by itself."""
        moves = {f"move {number}": 2 for number in range(1, MAX_MOVES + 1)}
        return {"format": 2, "player": 3, **moves, "opponent": 3}

    @property
    def n_numbers(self) -> int:
        """Of both Pokémon hp, level, six base stats and seven boosts."""
        return 30

    def _words(self, state: BattleState, memory: OpponentMemory) -> list[str]:
        words = [format_word(state), choice_word(state)]
        player, opponent = state.player_active_pokemon, state.opponent_active_pokemon
        words += ["<player>", player.name, player.status]
        for move in filled(player.known_moves, MAX_MOVES):
            words += ["<move>", move.name if move else "<blank>"]
        return [*words, "<opponent>", opponent.name, opponent.status]

    def _numbers(self, state: BattleState, memory: OpponentMemory) -> list[float]:
        player, opponent = state.player_active_pokemon, state.opponent_active_pokemon
        return [*stats_of(player), *boosts_of(player), *stats_of(opponent), *boosts_of(opponent)]


OBSERVATION_SPACES["DuelSpace"] = DuelSpace(name="DuelSpace")

if __name__ == "__main__":
    sys.exit(main())

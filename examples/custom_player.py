"""A player of one's own, under a name that every command of `gemma-metamon` then knows.

This file is the command: `python examples/custom_player.py evaluate --players StubbornPlayer --opponents RandomPlayer`.
"""

import sys
from typing import Any

from poke_env.battle import AbstractBattle
from poke_env.player import BattleOrder, Player

from gemma_metamon.commands import main
from gemma_metamon.showdown.live.battle import live_battle
from gemma_metamon.showdown.live.orders import action_to_order
from gemma_metamon.showdown.players.registry import PLAYERS


class StubbornPlayer(Player):
    """Attacks with the move of the greatest power, in numbers 0 to 3, and switches only where it must.

    A player of poke-env's is enough: `choose_move` gets a battle and returns an order. With `live_battle` it sees what
    an agent sees (`state`) and every legal action with its order (`options`), so that no order is refused.
    """

    def choose_move(self, battle: AbstractBattle) -> BattleOrder:
        """The strongest legal move, else the legal action of the lowest number."""
        live = live_battle(battle)
        moves = live.state.player_active_pokemon.known_moves  # actions 0 to 3 are these, in this order
        powers: dict[int, Any] = {
            action: move.base_power * move.accuracy for action, move in enumerate(moves) if action in live.options
        }
        action = max(powers, key=lambda each: powers[each]) if powers else min(live.options)
        return action_to_order(action, live.options)


PLAYERS["StubbornPlayer"] = StubbornPlayer  # at the top level: battles are dealt out to processes that import this file

if __name__ == "__main__":
    sys.exit(main())

"""What an expert would have chosen, written beside what was: labels of battles that somebody else plays.

An agent that imitates an expert's battles meets states of its own making as soon as it plays, and of those it has seen
none. Here it plays, and at each state that it gets into the expert is asked (DAgger).
"""

import inspect

from gemma_metamon.errors import ConfigError, GemmaMetamonError, ServerError
from gemma_metamon.showdown.arena.seeds import dice
from gemma_metamon.showdown.live.battle import LiveBattle
from gemma_metamon.showdown.live.orders import as_sent, order_to_action
from gemma_metamon.showdown.matches.arena_seats import drawing_with
from gemma_metamon.showdown.matches.arena_tables import player_of
from gemma_metamon.showdown.players.contestants import Contestant


class Labeller:
    """The expert's choice at a request, as an action; nothing of it is sent, and no other player's draws change.

    Args:
        expert: a player that decides from the battle as it stands. A policy decides by what it did before, and here it
            did nothing.
        battle_format: e.g. "gen1ou".
        seed: of what the expert draws.

    Raises:
        ConfigError: the expert is a policy.
    """

    def __init__(self, expert: Contestant, battle_format: str, seed: int) -> None:
        if expert.policy is not None:
            raise ConfigError(
                f"--label_by {expert.name} is a checkpoint, which remembers what it did itself, and in these battles "
                "somebody else chooses; name a player that decides by the battle alone"
            )
        self.name = expert.name
        self._player = player_of(expert, "labels", battle_format)
        self._seed = seed

    async def __call__(self, live: LiveBattle) -> int:
        """From 0 to 12; -1 where it is none of these. Raises ServerError where the expert fails."""
        own = dice(self._seed, live.battle.battle_tag, live.n_messages, "label")
        players, live.dice = live.dice, own
        try:
            with drawing_with(own):
                choice = self._player.choose_move(live.battle)
            order = await choice if inspect.isawaitable(choice) else choice
            return order_to_action(as_sent(order, live.battle), live.options)
        except GemmaMetamonError:
            raise
        except Exception as error:  # whatever it is, it is the expert's fault
            where = f"{self.name} could not label a state of {live.battle.battle_tag}"
            raise ServerError(f"{where}: {type(error).__name__}: {error}") from error
        finally:
            live.dice = players

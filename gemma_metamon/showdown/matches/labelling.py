"""What an expert would have chosen, written beside what was: labels of battles that somebody else plays.

An agent that imitates an expert's battles meets states of its own making as soon as it plays, and of those it has seen
none. Here it plays, and at each state that it gets into the expert is asked (DAgger).
"""

import inspect
import random

from gemma_metamon.errors import ConfigError, GemmaMetamonError, ServerError
from gemma_metamon.showdown.arena.seeds import dice
from gemma_metamon.showdown.live.battle import LiveBattle
from gemma_metamon.showdown.live.orders import as_sent, order_to_action
from gemma_metamon.showdown.matches.arena_tables import player_of
from gemma_metamon.showdown.players.contestants import Contestant


class Labeller:
    """The expert's choice at a request, as an action; nothing of it is sent, and no other player's draws change.

    Args:
        expert: a scripted player, which decides from the battle as it stands. A policy decides by what it did before,
            and here it did nothing.
        battle_format: e.g. "gen1ou".
        seed: of what the expert draws.

    Raises:
        ConfigError: the expert is a policy.
    """

    def __init__(self, expert: Contestant, battle_format: str, seed: int) -> None:
        if expert.policy is not None:
            raise ConfigError(
                f"--label_by {expert.name} is a checkpoint, which remembers what it did itself, and in these battles "
                "somebody else chooses; name a scripted player"
            )
        self.name = expert.name
        self._player = player_of(expert, "labels", battle_format)
        self._seed = seed

    def __call__(self, live: LiveBattle) -> int:
        """From 0 to 12; -1 where it is none of these. Raises ServerError where the expert fails."""
        before = random.getstate()
        random.seed(dice(self._seed, live.battle.battle_tag, live.n_messages, "label").getrandbits(64))
        try:
            order = self._player.choose_move(live.battle)
            if inspect.isawaitable(order):
                raise TypeError("it decides only when it is waited for")
            return order_to_action(as_sent(order, live.battle), live.options)
        except GemmaMetamonError:
            raise
        except Exception as error:  # whatever it is, it is the expert's fault
            where = f"{self.name} could not label a state of {live.battle.battle_tag}"
            raise ServerError(f"{where}: {type(error).__name__}: {error}") from error
        finally:
            random.setstate(before)

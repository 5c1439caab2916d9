"""A battle being played, derived once per request for all who look at it: the player, the recorder and the observer."""

import random

from poke_env.battle import AbstractBattle, Battle
from poke_env.player import Player

from gemma_metamon.battle.state import BattleState
from gemma_metamon.errors import ServerError
from gemma_metamon.showdown.live.memory import BattleMemory
from gemma_metamon.showdown.live.orders import Options, legal_options
from gemma_metamon.showdown.live.poke_env_hooks import forget_messages, messages_read
from gemma_metamon.showdown.live.state import StateReader

NOT_FED = {*Player.MESSAGES_TO_IGNORE, "request", "error", "bigerror", "showteam"}
"""Kinds of messages that poke-env's own player does not pass to its battle's `parse_message` either."""


def live_battle(battle: AbstractBattle) -> "LiveBattle":
    """The `LiveBattle` of poke-env's battle: made at the first call, and the same one at every later call.

    Raises ServerError for a battle that is no singles battle.
    """
    # kept by poke-env's battle, so that both go together
    live: LiveBattle | None = vars(battle).get("_live")
    if live is None:
        if not isinstance(battle, Battle):
            raise ServerError(f"{battle.battle_tag} is no singles battle; only singles formats can be played")
        live = vars(battle)["_live"] = LiveBattle(battle)
    return live


class LiveBattle:
    """poke-env's battle, its memory, its state, and what may be chosen in it.

    State and options are computed when they are first asked for, and again only after the next message or request.
    A battle that the server tells again from its beginning is another poke-env battle, and so another LiveBattle.

    Args:
        battle: poke-env's, which is read and never changed. `live_battle` gives the one that all share.
    """

    def __init__(self, battle: Battle) -> None:
        self.battle = battle
        self.dice: random.Random | None = None
        """What the player draws in this battle, where it can be repeated; None where it cannot."""
        self.arena: object | None = None
        """The arena that it is played in; None of a battle on a server."""
        self.speaks = False
        """Whether the player says something to its choices, so that `thought` is to be recorded."""
        self.thought: str | None = None
        """What the player said to its last choice, "" for nothing; None where it did not choose itself."""
        self._memory = BattleMemory(battle.gen)
        self._reader = StateReader(battle, self._memory)
        self._n_forgotten = 0
        self._at: tuple[int, bool] | None = None  # messages, and whether it had ended, when the two were computed
        self._request: object = None
        self._state: BattleState | None = None
        self._options: Options | None = None

    @property
    def n_messages(self) -> int:
        """How many messages poke-env has read of this battle."""
        return self._n_forgotten + len(messages_read(self.battle))

    def forget_messages(self) -> None:
        """Keeps of the messages read so far what its states want, and poke-env's battle none: memory for long battles.

        Whoever asks for the messages themselves, as search and recordings do, finds those alone that come after.
        """
        self._memory.read(messages_read(self.battle))
        self._n_forgotten = self.n_messages
        forget_messages(self.battle)
        self._memory.begin_anew()

    @property
    def state(self) -> BattleState:
        """At this request, or after the end. Raises DataError before both sides have a Pokémon on the field."""
        self._forget_what_is_past()
        if self._state is None:
            self._read_messages()
            self._state = self._reader.read()
        return self._state

    @property
    def options(self) -> Options:
        """Every legal action (0-12) with the order that gives it; at least one. Not to be changed."""
        self._forget_what_is_past()
        if self._options is None:
            self._options = legal_options(self.battle)
        return self._options

    def _forget_what_is_past(self) -> None:
        at, request = (self.n_messages, self.battle.finished), self.battle.last_request
        if at != self._at or request is not self._request:
            self._at, self._request = at, request
            self._state = self._options = None

    def _read_messages(self) -> None:
        self._memory.read(messages_read(self.battle))
        for key, pokemon in self.battle.team.items():
            if pokemon.active:
                self._memory.note_active(key)

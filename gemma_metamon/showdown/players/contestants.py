"""Who can be put into a match: a name for the tables, and how to make a player of it for one connection.

A contestant is made once and gives any number of players. All players of one checkpoint, or of one ensemble, ask the
same policy, so that its battles are decided together, whoever they are fought against (policy_player.learned).

No torch here: a process in which scripted players play is there at once.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from poke_env.player import Player

from gemma_metamon.showdown.players.registry import PLAYERS, player_class

if TYPE_CHECKING:
    from gemma_metamon.results.schema import ChatUsageRow
    from gemma_metamon.showdown.players.policies import Policy


class ChatSource(Protocol):
    """A chat model, asked elsewhere for its choices, to those who let it play."""

    @property
    def ended(self) -> str | None:
        """Why it is not asked any more, so that no battle of it is to begin; None while it is asked."""

    def row(self) -> "ChatUsageRow":
        """What its choices have taken so far."""


@dataclass(frozen=True)
class Contestant:
    """One who plays.

    Attributes:
        name: its label in tables: "SimpleHeuristicsPlayer", "first@2", "ensemble(first@2, second@5)".
        build: called with poke-env's connection arguments (registry.connection).
        policy: of a checkpoint, an ensemble or a model that answers in words; None of all others.
        chat: of a chat model that is asked elsewhere; None of all others.
    """

    name: str
    build: Callable[..., Player]
    policy: "Policy[Any, Any] | None" = None
    chat: ChatSource | None = None

    @property
    def ended(self) -> str | None:
        """Why no battle of it is to begin any more; None while it plays."""
        return None if self.chat is None else self.chat.ended

    @property
    def is_scripted(self) -> bool:
        """Whether it is one of registry.PLAYERS, none of which waits for anybody's decisions but its own."""
        return self.build in PLAYERS.values()


def why_ended(playing: "Iterable[Contestant | Outside]") -> str | None:
    """Why the first of these who plays no more does not; None where all play."""
    return next((who.ended for who in playing if isinstance(who, Contestant) and who.ended is not None), None)


def scripted(name: str) -> Contestant:
    """A player of registry.PLAYERS. Raises ConfigError, with the nearest name and all of them, for any other name."""
    return Contestant(name, player_class(name))


@dataclass(frozen=True)
class Outside:
    """Somebody whom another program connects to the same server. Its side of a battle cannot be measured.

    Attributes:
        name: its user name, and its label in tables.
        own_name: our player's user name against it; None for one that nobody else has.
        accept: wait for its challenges; otherwise challenge it.
    """

    name: str
    own_name: str | None = None
    accept: bool = False

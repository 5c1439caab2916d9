"""One policy for the players of many processes: a server that decides in batches, and who asks it.

A player's process holds a `RemotePolicy`, which sends all that its battles ask at a time in one message. The server
has the agents, and what they remember of each battle; what several processes ask meanwhile makes up its next step.
What is drawn is drawn where the battle is played: so a battle goes as it does without a server, but for how a sum is
rounded in a batch of another composition.
"""

import asyncio
import itertools
import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import ray
from ray.exceptions import RayError, RayTaskError

from gemma_metamon import __version__
from gemma_metamon.battle.state import BattleState
from gemma_metamon.errors import ServerError
from gemma_metamon.results.schema import Kind, PolicyRow
from gemma_metamon.showdown.players.contestants import Contestant
from gemma_metamon.showdown.players.policies import Considered, Policy

DECIDE_TIMEOUT_S = 600.0
"""A server that is silent for so long is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a battle asks.

    Attributes:
        session: its number, which no other battle of the same client and policy has.
        state: as it stands.
        legal: (13,) bool, True where the simulator allows an action.
        taken: the action that followed the decision before this one; None of a battle's first.
        draws: random numbers in [0, 1), as many as a decision draws.
    """

    session: int
    state: BattleState
    legal: npt.NDArray[np.bool_]
    taken: int | None
    draws: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Described:
    """Of a contestant of a server, what those who ask it must know.

    Attributes:
        name: its label.
        kind: of its policy.
        row: how it plays.
        n_draws: random numbers that one decision takes.
    """

    name: str
    kind: Kind
    row: PolicyRow
    n_draws: int


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Of a policy: decisions, the seconds they took, and words that it did not know."""

    decisions: int
    busy_s: float
    unknown_words: Counter[str]


class _Relayed(random.Random):
    """Dice whose draws were made elsewhere."""

    def __init__(self) -> None:
        super().__init__(0)
        self.drawn: deque[float] = deque()

    def random(self) -> float:
        return self.drawn.popleft()


class UnknownSessionError(ServerError):
    """A battle asks for its second decision or a later one, and the server has not seen the first."""


@dataclass
class _Remembered:
    session: Any
    dice: _Relayed
    state: BattleState | None = None


class PolicyServer:
    """Decides for the battles of all players that ask. Made to be an actor of Ray.

    Args:
        build: makes the contestants, on this machine.
    """

    def __init__(self, build: Callable[[], Sequence[Contestant]]) -> None:
        self._contestants = list(build())
        self._remembered: dict[tuple[int, int, int], _Remembered] = {}

    def describe(self) -> tuple[str, str, list[Described | None]]:
        """The version of this package here, the id of this node, and each contestant that has a policy."""
        described = [None if who.policy is None else _describe(who) for who in self._contestants]
        return __version__, ray.get_runtime_context().get_node_id(), described

    async def decide(self, client: int, place: int, asks: Sequence[Ask], over: Sequence[int]) -> list[Considered]:
        """What the policy of a contestant would do in each of these battles.

        Args:
            client: who asks; the sessions are its own.
            place: of the contestant.
            asks: of different battles.
            over: the sessions that have ended.

        Raises:
            UnknownSessionError: a battle that began with another server.
        """
        for number in over:
            self._close((client, place, number))
        return list(await asyncio.gather(*(self._consider((client, place, ask.session), ask) for ask in asks)))

    def forget(self, client: int) -> None:
        """Closes all sessions of one that asks no more."""
        for key in [key for key in self._remembered if key[0] == client]:
            self._close(key)

    def figures(self) -> list[Figures | None]:
        """Of each contestant's policy, so far."""
        return [None if who.policy is None else _figures(who.policy) for who in self._contestants]

    async def _consider(self, key: tuple[int, int, int], ask: Ask) -> Considered:
        policy = self._policy(key[1])
        if key not in self._remembered:
            if ask.taken is not None:
                raise UnknownSessionError("a battle asks a policy server that has not seen its beginning")
            dice = _Relayed()
            self._remembered[key] = _Remembered(policy.open_session(dice), dice)
        remembered = self._remembered[key]
        if remembered.state is not None and ask.taken is not None:
            remembered.session.note(remembered.state, ask.taken)
        remembered.state = ask.state
        remembered.dice.drawn.extend(ask.draws)
        considered = await policy.consider(remembered.session, ask.state, ask.legal)
        remembered.dice.drawn.clear()
        return considered

    def _close(self, key: tuple[int, int, int]) -> None:
        remembered = self._remembered.pop(key, None)
        if remembered is not None:
            self._policy(key[1]).close_session(remembered.session)

    def _policy(self, place: int) -> Policy[Any, Any]:
        policy = self._contestants[place].policy
        if policy is None:
            raise ServerError(f"{self._contestants[place].name} has no policy to ask")
        return policy


def _describe(who: Contestant) -> Described:
    policy: Any = who.policy
    n_draws = 0 if not policy.sample else len(policy.members) if policy.vote else 1
    return Described(name=who.name, kind=policy.kind, row=policy.row(), n_draws=n_draws)


def _figures(policy: Policy[Any, Any]) -> Figures:
    return Figures(decisions=policy.decisions, busy_s=policy.busy_s, unknown_words=policy.unknown_words)


@dataclass
class RemoteSession:
    """A battle that a server remembers: its number there, its dice, and the action since its last decision."""

    number: int
    dice: random.Random
    taken: int | None = None

    def note(self, state: BattleState, action: int) -> None:
        """This action is taken: the server is told with the next decision."""
        self.taken = action


class RemotePolicy(Policy[RemoteSession, Ask]):
    """A policy that a server has. It is pickled without the server: whoever plays with it binds it to one.

    Args:
        place: of the contestant at the server.
        described: what is known of it.
    """

    def __init__(self, place: int, described: Described) -> None:
        super().__init__()
        self.place, self.described = place, described
        self.kind = described.kind
        self.is_lost = False
        """Whether the server has gone, or has forgotten a battle."""
        self._known_unknown = Counter[str]()
        self._server: Any = None
        self._client = 0
        self._numbers = itertools.count()
        self._over: list[int] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return RemotePolicy, (self.place, self.described)

    @property
    def unknown_words(self) -> Counter[str]:
        """As the servers have told."""
        return self._known_unknown

    def row(self) -> PolicyRow:
        """How it plays, for results.json."""
        return self.described.row

    def bind(self, server: Any, client: int) -> None:
        """From now on this actor is asked, and knows us as this client."""
        self._server, self._client = server, client

    def add_figures(self, figures: Figures) -> None:
        """Counts what a server has decided."""
        self.decisions += figures.decisions
        self.busy_s += figures.busy_s
        self._known_unknown += figures.unknown_words

    def open_session(self, dice: random.Random | None = None) -> RemoteSession:
        """A new battle. Raises ServerError without dice: on a server of battles nothing can be drawn elsewhere."""
        if dice is None:
            raise ServerError("a policy elsewhere decides in an arena alone")
        return RemoteSession(next(self._numbers), dice)

    def close_session(self, session: RemoteSession) -> None:
        """The server is told with the next decision."""
        self._over.append(session.number)

    async def consider(self, session: RemoteSession, state: BattleState, legal: npt.NDArray[np.bool_]) -> Considered:
        """As `Policy.consider`; the draws are made here."""
        draws = [session.dice.random() for _ in range(self.described.n_draws)]
        return await self.in_next_step(
            Ask(session=session.number, state=state, legal=legal, taken=session.taken, draws=draws)
        )

    def step(self, inputs: Sequence[Ask]) -> list[Considered]:
        """Asks the server. Raises what the server raised, or RayError where it has gone."""
        over, self._over = self._over, []
        try:
            asked = self._server.decide.remote(self._client, self.place, inputs, over)
            considered: list[Considered] = ray.get(asked, timeout=DECIDE_TIMEOUT_S)
        except RayTaskError as error:
            self.is_lost = isinstance(error.cause, UnknownSessionError)
            raise error.cause from None
        except RayError:
            self.is_lost = True
            raise
        return considered


def asking(place: int, described: Described) -> Contestant:
    """The contestant of a server, for processes that have no agent."""
    from gemma_metamon.showdown.players.policy_player import PolicyPlayer  # which brings torch

    policy = RemotePolicy(place, described)
    return Contestant(described.name, partial(PolicyPlayer, policy), policy)

"""The policy servers of a cluster: one on each GPU, or where there is none one on each node."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from gemma_metamon.cluster.connecting import living_nodes, n_gpus, n_processors, require_same_version
from gemma_metamon.cluster.policies import Described, PolicyServer, RemotePolicy, asking
from gemma_metamon.errors import GemmaMetamonError, ServerError
from gemma_metamon.showdown.players.contestants import Contestant

logger = logging.getLogger(__name__)

MOST_BEGINNINGS = 5
"""So often in a row is a server begun that is lost before it has begun, or before a battle has ended on any server."""
BEGIN_TIMEOUT_S = 1800.0
"""So long is a server waited for: it may want a GPU that others have, and loads its weights, or downloads them."""
LOOK_EACH_S = 0.2

Build = Callable[[int], Sequence[Contestant]]
"""Makes the contestants on a server's machine, with room for so many leases at a time."""


@dataclass(eq=False)
class _Server:
    """A server, and what is known of it once it has begun.

    Attributes:
        actor: of Ray.
        on_gpu: whether it has a GPU for itself.
        telling: what it will say of itself.
        leases: how many it has.
        node: the id of its machine; None before it has begun.
        described: its contestants.
        since: when it was begun, by time.monotonic().
    """

    actor: Any
    on_gpu: bool
    telling: Any
    leases: int = 0
    node: str | None = None
    described: list[Described | None] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)


class PolicyServers:
    """Servers of the same contestants. Begun at once; `close` ends them.

    Args:
        build: of `Build`; pickled.
        on_gpus: whether they take the cluster's GPUs; None takes them where there are some.

    Raises:
        ConfigError, DataError, CheckpointMismatchError, MissingFileError: what `build` raised.
        ServerError: no server could begin.
    """

    def __init__(self, build: Build, *, on_gpus: bool | None = None) -> None:
        gpus = n_gpus() if on_gpus is not False else 0
        nodes = living_nodes()
        count = gpus or len(nodes)
        self.room = math.ceil(n_processors() / count)
        """Leases that each has room for."""
        self._build = build
        self._on_gpus = gpus > 0
        self._free = asyncio.Condition()
        self._begun_in_vain = 0
        self.servers = [self._begin(None if gpus else nodes[i]) for i in range(count)]
        try:
            for place in range(count):
                for _ in self._beginning(place):
                    time.sleep(LOOK_EACH_S)
        except BaseException:
            self.close()
            raise
        self.contestants: list[Contestant | None] = [
            None if each is None else asking(place, each) for place, each in enumerate(self.servers[0].described)
        ]
        """Those that have a policy; None of the others."""

    def close(self) -> None:
        """Ends them."""
        for server in self.servers:
            ray.kill(server.actor)
        self.servers = []

    async def take(self) -> Any:
        """A server for one lease: of those that have room the one with the fewest. Waits for one.

        Where all are lost, another begins. Raises ServerError where that happens again and again before a battle has
        ended, and what its `build` raised.
        """
        async with self._free:
            while True:
                if not self.servers:
                    await self._begin_again()
                least = min(self.servers, key=lambda server: server.leases)
                if least.leases < self.room:
                    least.leases += 1
                    return least.actor
                await self._free.wait()

    async def give_back(self, actor: Any, client: int, *, is_lost: bool) -> None:
        """The lease is over. No other is given to a server that is lost, or whose node is.

        Args:
            actor: what `take` gave.
            client: as which the lease asked: its battles are forgotten.
            is_lost: the server has gone.
        """
        async with self._free:
            for server in [each for each in self.servers if each.actor is actor]:
                server.leases -= 1
                if is_lost:
                    self._drop(server)
                else:
                    actor.forget.remote(client)
            # a dead one has the fewest leases, so that all would be given to it
            nodes = living_nodes()
            for server in [each for each in self.servers if each.node not in nodes]:
                self._drop(server)
            self._free.notify_all()

    def note_progress(self) -> None:
        """A battle has ended: what is lost from now on is not lost in vain."""
        self._begun_in_vain = 0

    def count_figures(self) -> None:
        """Adds what the servers have decided to the policies of `contestants`. What lost ones did is not counted."""
        for server in self.servers:
            try:
                told = ray.get(server.actor.figures.remote())
            except (ActorDiedError, ActorUnavailableError):
                continue
            for who, figures in zip(self.contestants, told, strict=True):
                if who is not None and isinstance(who.policy, RemotePolicy) and figures is not None:
                    who.policy.add_figures(figures)

    async def _begin_again(self) -> None:
        if self._begun_in_vain == MOST_BEGINNINGS:
            raise ServerError(
                f"all policy servers were lost, and {MOST_BEGINNINGS} more one after the other before a battle had "
                "ended; what ends them may be want of memory: see the logs of Ray, and give a smaller --concurrency"
            )
        self._begun_in_vain += 1
        self.servers = [self._begin(None)]
        for _ in self._beginning(0):
            await asyncio.sleep(LOOK_EACH_S)

    def _begin(self, node: str | None) -> _Server:
        on_gpu = self._on_gpus and n_gpus() > 0
        if self._on_gpus and not on_gpu:
            logger.warning("the cluster has no GPU left: a policy server begins without")
        options: dict[str, Any] = {"num_cpus": 0, "num_gpus": int(on_gpu)}
        if node is not None:
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node, soft=True)
        actor = ray.remote(PolicyServer).options(**options).remote(_WithRoom(self._build, self.room))
        return _Server(actor, on_gpu, actor.describe.remote())

    def _beginning(self, place: int) -> Iterator[None]:
        """Yields until the server of this place has begun; another begins where it was lost before it could.

        For a while a cluster gives work to a node that it does not yet know to be dead.
        """
        for is_last in [*[False] * (MOST_BEGINNINGS - 1), True]:
            try:
                while not _has_begun(self.servers[place]):
                    yield
                return
            except _LostServerError as error:
                if is_last:
                    raise
                logger.warning("%s; another begins in its place", error)
                ray.kill(self.servers[place].actor)
                self.servers[place] = self._begin(None)

    def _drop(self, server: _Server) -> None:
        self.servers.remove(server)
        logger.warning("a policy server is lost; %d are left", len(self.servers))
        ray.kill(server.actor)


def _has_begun(server: _Server) -> bool:
    """Notes what it has said of itself, once it has.

    Raises:
        ConfigError: its node has another version of this package.
        GemmaMetamonError: what `build` raised.
        ServerError: it takes too long.
        _LostServerError: it has gone, or can no more begin.
    """
    if not ray.wait([server.telling], timeout=0)[0]:
        if server.on_gpu and not n_gpus():
            raise _LostServerError("a policy server waits for a GPU, and the cluster has none left")
        if time.monotonic() - server.since > BEGIN_TIMEOUT_S:
            raise ServerError(
                f"a policy server did not begin within {BEGIN_TIMEOUT_S:.0f} s; see `ray status`: it wants a free GPU "
                "where the cluster has some"
            )
        return False
    try:
        version, server.node, server.described = ray.get(server.telling)
    except RayTaskError as error:
        raise error.cause from None
    except (ActorDiedError, ActorUnavailableError) as error:
        raise _reason(error) from error
    require_same_version(version)
    return True


class _LostServerError(ServerError):
    """A server's process or node went before it had begun; nothing that it was given to do was the reason."""


@dataclass(frozen=True)
class _WithRoom:
    """`build` for a server, without arguments."""

    build: Build
    room: int

    def __call__(self) -> Sequence[Contestant]:
        return self.build(self.room)


def _reason(error: Exception) -> GemmaMetamonError:
    """Why an actor could not begin: what its constructor raised, where that is one of our sentences."""
    cause = getattr(error, "cause", None) or error.__cause__
    if isinstance(cause, RayTaskError):
        cause = cause.cause
    if isinstance(cause, GemmaMetamonError):
        return cause
    last = str(error).strip().splitlines()[-1]
    kind = ServerError if getattr(error, "actor_init_failed", False) else _LostServerError
    return kind(f"a policy server could not begin: {last}")

"""The policy servers of a cluster: one on each GPU, or where there is none one on each node."""

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from gemma_metamon.cluster.connecting import living_nodes, n_gpus, n_processors, require_same_version
from gemma_metamon.cluster.policies import Figures, PolicyServer, RemotePolicy, asking
from gemma_metamon.errors import GemmaMetamonError, ServerError
from gemma_metamon.showdown.players.contestants import Contestant

logger = logging.getLogger(__name__)

MOST_BEGINNINGS = 5
"""So often is a server begun, if each is lost before it has begun."""

Build = Callable[[int], Sequence[Contestant]]
"""Makes the contestants on a server's machine, with room for so many leases at a time."""


@dataclass
class _Server:
    actor: Any
    leases: int = 0
    figures: list[Figures | None] | None = None


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
        self.servers = [self._begin(None if gpus else nodes[i]) for i in range(count)]
        try:
            (version, described), *_ = [self._described(place) for place in range(count)]
            require_same_version(version)
        except BaseException:
            self.close()
            raise
        self.contestants: list[Contestant | None] = [
            None if each is None else asking(place, each) for place, each in enumerate(described)
        ]
        """Those that have a policy; None of the others."""

    def close(self) -> None:
        """Ends them."""
        for server in self.servers:
            ray.kill(server.actor)
        self.servers = []

    async def take(self) -> Any:
        """A server for one lease: of those that have room the one with the fewest. Waits for one."""
        async with self._free:
            while True:
                if not self.servers:
                    self.servers = [self._begin(None)]
                least = min(self.servers, key=lambda server: server.leases)
                if least.leases < self.room:
                    least.leases += 1
                    return least.actor
                await self._free.wait()

    async def give_back(self, actor: Any, client: int, *, is_lost: bool) -> None:
        """The lease is over.

        Args:
            actor: what `take` gave.
            client: as which the lease asked: its battles are forgotten.
            is_lost: the server has gone: no other lease is given to it.
        """
        async with self._free:
            server = next((each for each in self.servers if each.actor is actor), None)
            if server is None:
                return
            server.leases -= 1
            if is_lost:
                self.servers.remove(server)
                logger.warning("a policy server is lost; %d are left", len(self.servers))
                ray.kill(actor)
            else:
                actor.forget.remote(client)
            self._free.notify_all()

    def count_figures(self) -> None:
        """Adds what the servers have decided to the policies of `contestants`. What lost ones did is not counted."""
        for server in self.servers:
            try:
                told = self._told(server.actor.figures.remote())
            except RayError:
                continue
            for who, figures in zip(self.contestants, told, strict=True):
                if who is not None and isinstance(who.policy, RemotePolicy) and figures is not None:
                    who.policy.add_figures(figures)

    def _described(self, place: int) -> Any:
        """What the server of this place says of itself; another begins where it was lost before it could.

        For a while a cluster gives work to a node that it does not yet know to be dead.
        """
        for _ in range(MOST_BEGINNINGS - 1):
            try:
                return self._told(self.servers[place].actor.describe.remote())
            except _LostServerError as error:
                logger.warning("%s; another begins in its place", error)
                self.servers[place] = self._begin(None)
        return self._told(self.servers[place].actor.describe.remote())

    def _begin(self, node: str | None) -> _Server:
        options: dict[str, Any] = {"num_cpus": 0, "num_gpus": int(self._on_gpus)}
        if node is not None:
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node, soft=True)
        build, room = self._build, self.room
        return _Server(ray.remote(PolicyServer).options(**options).remote(_WithRoom(build, room)))

    def _told(self, ref: Any) -> Any:
        try:
            return ray.get(ref)
        except RayTaskError as error:
            raise error.cause from None
        except (ray.exceptions.ActorDiedError, ray.exceptions.ActorUnavailableError) as error:
            raise _reason(error) from error


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

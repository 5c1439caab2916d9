"""Battles on a cluster of Ray: the same as in processes of one machine, with actors that play leases of them."""

import asyncio
import logging
import math
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import ray
from ray.exceptions import RayError

from gemma_metamon.cluster.connecting import n_processors, require_same_version
from gemma_metamon.cluster.leases import Lease, LeaseBook
from gemma_metamon.cluster.players import SERVER_LOST, PlayerActor
from gemma_metamon.cluster.serving import PolicyServers
from gemma_metamon.errors import ServerError
from gemma_metamon.showdown.matches.arena_play import Plan
from gemma_metamon.showdown.matches.processes import Play, Tell

logger = logging.getLogger(__name__)

MOST_BATTLES = 64
"""In a lease: so many are lost at most with a node, for each of its processors."""
LEASES_EACH = 4
"""So many leases has each player, if all are as fast: the last ones to end keep the others waiting little."""
START_TIMEOUT_S = 300.0
"""So long is a cluster waited for that has no free processor."""

_Lease: TypeAlias = Lease[int, Plan]


class ClusterPlay:
    """Plays plans as `play_plans` does, on all processors of the cluster that this process is connected to.

    Nothing that `play` writes on its machine is there afterwards: what is kept of a battle is what it tells.

    Args:
        servers: of those who have a policy; None where all are scripted players.
    """

    def __init__(self, servers: PolicyServers | None = None) -> None:
        self.servers = servers

    async def __call__(
        self,
        plans: Iterable[Plan],
        play: Play,
        tell: Tell,
        *,
        workers: int,
        in_play: int,
        timeout_s: float,
        on_again: Callable[[int], None] | None = None,
    ) -> None:
        """Plays them all.

        Args:
            plans: without recorders.
            play: see `play_plans`; what it tells is pickled.
            tell: called in this thread, once for each battle, in no promised order.
            workers: not used: all processors of the cluster play.
            in_play: the most battles at a time of each of them.
            timeout_s: silence after which the worker of an arena is ended.
            on_again: called with the number of each battle that begins again, because its node or process was lost.

        Raises:
            ConfigError: a node has another version of this package.
            ServerError: as `play_plans`; a battle was lost for the third time with its player; servers were lost again
                and again before a battle had ended; no processor came free.
            GemmaMetamonError, OSError: what `play` and `tell` raise.
        """
        waiting = [(plan.number, plan) for plan in plans]
        if waiting:
            await _Match(self.servers, waiting, play, tell, in_play, timeout_s, on_again).play()
        if self.servers is not None:
            self.servers.count_figures()


class _Match:
    """One call of `ClusterPlay`; its arguments are those."""

    def __init__(
        self,
        servers: PolicyServers | None,
        waiting: list[tuple[int, Plan]],
        play: Play,
        tell: Tell,
        in_play: int,
        timeout_s: float,
        on_again: Callable[[int], None] | None,
    ) -> None:
        self._servers = servers
        self._play, self._tell, self._on_again = play, tell, on_again
        self._in_play, self._timeout_s = in_play, timeout_s
        players = n_processors()
        size = max(1, min(MOST_BATTLES, math.ceil(len(waiting) / (players * LEASES_EACH))))
        self._n_players = min(players, math.ceil(len(waiting) / size))
        self._book = LeaseBook(waiting, size)
        self._changed = asyncio.Condition()
        self._n_ready = 0

    async def play(self) -> None:
        """Until all is done, or one has failed; then all actors are ended."""
        tasks = [asyncio.create_task(self._keep_a_player()) for _ in range(self._n_players)]
        watching = asyncio.create_task(self._watch())
        try:
            for ended in asyncio.as_completed([*tasks, watching]):
                await ended
                if self._book.is_done:
                    return
        finally:
            for task in [*tasks, watching]:
                task.cancel()
            await asyncio.gather(*tasks, watching, return_exceptions=True)

    async def _watch(self) -> None:
        """Raises ServerError where no player is ready for too long."""
        without_s = 0.0
        while not self._book.is_done:
            await asyncio.sleep(1)
            without_s = 0.0 if self._n_ready else without_s + 1
            if without_s >= START_TIMEOUT_S:
                raise ServerError(
                    f"no player could begin on the cluster within {START_TIMEOUT_S:.0f} s; see `ray status`: a player "
                    "wants a free processor, and a policy server a free GPU where the cluster has some"
                )

    async def _keep_a_player(self) -> None:
        """Has an actor, or another one in its place, play leases until all is done."""
        while not self._book.is_done:
            actor = ray.remote(PlayerActor).options(num_cpus=1, scheduling_strategy="SPREAD").remote(self._timeout_s)
            is_ready = False
            try:
                require_same_version(await actor.begin.remote())
                is_ready = True
                self._n_ready += 1
                while await self._work_waits():
                    await self._play_lease(actor, self._book.take())
            except RayError as error:
                cause = getattr(error, "cause", None)
                if not isinstance(error, _LOST):
                    raise cause or error from None
                logger.warning("a player is lost (%s); another takes its place", type(error).__name__)
            finally:
                self._n_ready -= is_ready
                ray.kill(actor)

    async def _work_waits(self) -> bool:
        """Waits until there is a lease to take; False where all is done."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._book.waits or self._book.is_done)
            return self._book.waits

    async def _play_lease(self, actor: Any, lease: _Lease) -> None:
        """Raises RayError where the actor is lost; what it has not told of waits again."""
        server = None if self._servers is None else await self._servers.take()
        server_lost = False
        why = "its process or node ended"
        try:
            told = actor.play.options(num_returns="streaming").remote(
                self._play, list(lease.pieces.values()), self._in_play, server, lease.number
            )
            async for ref in told:
                message = await ref
                if isinstance(message, Exception):
                    raise message
                if message == SERVER_LOST:
                    server_lost, why = True, "its policy server was lost"
                    break
                number, kept = message
                if self._book.note_done(number):
                    self._tell(number, kept)
                    if self._servers is not None:
                        self._servers.note_progress()
        finally:
            if self._servers is not None and server is not None:
                await self._servers.give_back(server, lease.number, is_lost=server_lost)
            async with self._changed:
                for number in self._book.give_back(lease, why, counts=not server_lost):
                    if self._on_again is not None:
                        self._on_again(number)
                self._changed.notify_all()


_LOST = (
    ray.exceptions.ActorDiedError,
    ray.exceptions.ActorUnavailableError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.ObjectLostError,
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.OutOfMemoryError,
)

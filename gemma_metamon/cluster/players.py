"""A process of a cluster that plays: the simulator, and both players of each of its battles."""

import asyncio
import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from gemma_metamon import __version__
from gemma_metamon.cluster.policies import RemotePolicy
from gemma_metamon.errors import GemmaMetamonError
from gemma_metamon.showdown.arena.arena import Arena
from gemma_metamon.showdown.matches.arena_play import Plan
from gemma_metamon.showdown.matches.processes import Play

SERVER_LOST = "server lost"
"""What is told in place of a battle where the policy server has gone."""


class PlayerActor:
    """Plays leases, one after the other, in one arena. Made to be an actor of Ray.

    Args:
        timeout_s: silence after which the arena's worker is ended.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._arena: Arena | None = None

    def begin(self) -> str:
        """Begins the simulator, which is installed where this machine has none. The version of this package here."""
        if self._arena is None:
            self._arena = Arena(silence_timeout_s=self._timeout_s)
        return __version__

    def play(self, play: Play, plans: Sequence[Plan], in_play: int, server: Any, client: int) -> Iterator[Any]:
        """Plays a lease, and tells as they come: (number, what is kept) of each battle that ended, or what went wrong.

        Args:
            play: see `play_plans`.
            plans: the battles.
            in_play: how many of them at a time.
            server: the actor that decides for those who have a policy; None where nobody has.
            client: how that knows us.
        """
        arena = self._arena
        if arena is None:
            raise RuntimeError("begin first")
        policies = {id(who.policy): who.policy for plan in plans for who in plan.players if who.policy is not None}
        remote = [policy for policy in policies.values() if isinstance(policy, RemotePolicy)]
        for policy in remote:
            policy.bind(server, client)
        messages: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def work() -> None:
            try:
                asyncio.run(play(arena, plans, in_play, lambda number, kept: messages.put((number, kept))))
            except Exception as error:  # noqa: BLE001 it is told, and raised by whoever handed out the lease
                if any(policy.is_lost for policy in remote):
                    messages.put(SERVER_LOST)
                else:
                    messages.put(error if isinstance(error, GemmaMetamonError | OSError) else RuntimeError(repr(error)))
            finally:  # whatever ended it: nobody waits for more
                messages.put(None)

        threading.Thread(target=work, name="battles", daemon=True).start()
        while (message := messages.get()) is not None:
            yield message

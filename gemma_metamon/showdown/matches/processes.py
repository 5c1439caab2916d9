"""Battles of scripted players, in processes of their own; battles with an agent meanwhile in this one.

The choices of scripted players keep Python busy, and the simulator waits: so their battles are dealt out to processes,
each with an arena of one worker. All that a battle draws follows from its number and the run's seed: it is the same in
every process. An agent decides for many battles in one batch: they stay together, here, and which they are does not
depend on the number of processes either.
"""

import asyncio
import logging
import multiprocessing
import signal
import threading
from collections.abc import Callable, Coroutine, Iterable, Sequence
from multiprocessing.connection import Connection
from typing import Any, Protocol, TypeAlias

from gemma_metamon.child_processes import end_with_parent, signals_afterwards
from gemma_metamon.errors import GemmaMetamonError, ServerError
from gemma_metamon.showdown.arena.arena import Arena
from gemma_metamon.showdown.matches.arena_play import Plan, needs_rounds
from gemma_metamon.showdown.simulator.installation import ensure_installed
from gemma_metamon.strict_json import on_one_line

logger = logging.getLogger(__name__)

BATTLES_PER_PROCESS = 64
"""Fewer are not worth what it takes to begin one: a second of a processor, with its simulator."""
BATTLES_PER_WORKER = 32
"""Of those with an agent: so many are worth the start of a simulator."""
_SPAWN = multiprocessing.get_context("spawn")  # a fork would leave the threads of this process behind
_BEGUN, _OVER = "begun", "over"

Tell: TypeAlias = Callable[[int, Any], None]
"""Is told of each battle that has ended: its number, and what is kept of it."""
Play: TypeAlias = Callable[[Arena, Sequence[Plan], int, Tell], Coroutine[Any, Any, None]]
"""Plays plans in an arena, so many at a time, and tells of each that has ended."""


class PlayPlans(Protocol):
    """What plays plans: `play_plans`, or what does so on other machines (cluster/playing.py)."""

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
        """Plays them all; see `play_plans`."""


async def play_plans(
    plans: Iterable[Plan],
    play: Play,
    tell: Tell,
    *,
    workers: int,
    in_play: int,
    timeout_s: float,
    on_again: Callable[[int], None] | None = None,
) -> None:
    """Plays them all: those of scripted players alone in up to `workers` processes, where they are many.

    Args:
        plans: without recorders.
        play: called here or in a process, for scripted players or for the others, and then with numbers that none of
            the other calls has. It is pickled for a process, and so is what it tells.
        tell: called in this thread, in no promised order.
        workers: the most processes; of battles with an agent, the most workers of their arena.
        in_play: the most battles at a time, processes together; of those with an agent again as many.
        timeout_s: silence after which a worker of an arena is ended.
        on_again: called with the number of each battle that begins again, because its process was killed.

    Raises:
        ServerError: as `ArenaMatch.play`; a process was killed, and so was the one in its place; a process could not
            begin, as of a program that begins again in each of them.
        GemmaMetamonError, OSError: what `play` and `tell` raise. All that is in play is dropped.
    """
    together: dict[bool, list[Plan]] = {True: [], False: []}
    for plan in plans:
        together[needs_rounds(plan.players)].append(plan)
    learned, scripted = together[True], together[False]
    n_processes = min(workers, in_play, len(scripted) // BATTLES_PER_PROCESS)
    dealt = [scripted[first::n_processes] for first in range(n_processes)] if n_processes > 1 else []
    ensure_installed()  # or they would all begin to
    works = [_play_apart((play, share, in_play // n_processes, timeout_s), tell, on_again) for share in dealt]
    here = [some for some in (learned, [] if dealt else scripted) if some]
    if here:
        n_workers = max(1, min(workers, -(-len(learned) // BATTLES_PER_WORKER)))
        works.append(_play_here(here, play, tell, n_workers, in_play, timeout_s))
    await _all(works)


async def _play_here(
    parts: Sequence[Sequence[Plan]], play: Play, tell: Tell, n_workers: int, in_play: int, timeout_s: float
) -> None:
    """The parts one after the other."""
    with Arena(n_workers, silence_timeout_s=timeout_s) as arena:
        for plans in parts:
            await play(arena, plans, in_play, tell)


async def _all(works: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Where one fails the others are ended."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


_Share: TypeAlias = tuple[Play, Sequence[Plan], int, float]
"""Of a process: `play`, its plans, battles at a time, and the time-out of its arena."""


async def _play_apart(share: _Share, tell: Tell, on_again: Callable[[int], None] | None) -> None:
    """In a process. Where it is killed, what it has not told of begins again in another, once."""
    play, plans, in_play, timeout_s = share
    left = {plan.number: plan for plan in plans}

    def told(number: int, kept: Any) -> None:
        del left[number]
        tell(number, kept)

    for is_last in (False, True):
        code = await _run_process((play, list(left.values()), in_play, timeout_s), told)
        if code == 0:
            return
        if code > 0:
            raise ServerError(f"a process that played {len(left)} battles ended with {code}; see above")
        killed = f"the process of {len(left)} battles, {min(left)} the first of them, was ended by signal {-code}"
        if is_last:
            raise ServerError(f"{killed}, as was the one before it; perhaps for want of memory: give fewer workers")
        logger.warning("%s; they begin again", killed)
        for number in left:
            if on_again is not None:
                on_again(number)


async def _run_process(share: _Share, told: Tell) -> int:
    """The exit status of a process that plays the share, negative where a signal ended it. Raises what it raised."""
    receiver, sender = _SPAWN.Pipe(duplex=False)
    process = _SPAWN.Process(target=_be_process, args=(sender, *share), daemon=True)
    with signals_afterwards():
        process.start()
    sender.close()
    messages: asyncio.Queue[Any] = asyncio.Queue()
    listener = threading.Thread(target=_listen, args=(receiver, asyncio.get_running_loop(), messages), daemon=True)
    listener.start()
    has_begun = False
    try:
        while (message := await messages.get()) != _OVER:
            if isinstance(message, Exception):
                raise message
            if message == _BEGUN:
                has_begun = True
            else:
                told(*message)
        process.join()
    finally:
        process.kill()
        process.join()
        listener.join()  # there is nobody left who could say something
    code = process.exitcode or 0
    if code > 0 and not has_begun:
        raise ServerError(
            "a process could not begin to play, see above; a program that plays with workers above 1 does so beneath "
            '`if __name__ == "__main__":`, for each of its processes imports it'
        )
    return code


def _listen(receiver: Connection, loop: asyncio.AbstractEventLoop, messages: "asyncio.Queue[Any]") -> None:
    """Hands on what a process says, in a thread: the event loop is busy with battles of its own."""
    try:
        while True:
            loop.call_soon_threadsafe(messages.put_nowait, receiver.recv())
    except (EOFError, OSError):
        loop.call_soon_threadsafe(messages.put_nowait, _OVER)
    except Exception as error:  # noqa: BLE001 of some errors no copy can be made, in many ways: waiting would be for ever
        lost = ServerError(
            f"what a process that plays said cannot be read ({on_one_line(f'{type(error).__name__}: {error}')})"
        )
        loop.call_soon_threadsafe(messages.put_nowait, lost)


def _be_process(sender: Connection, play: Play, plans: Sequence[Plan], in_play: int, timeout_s: float) -> None:
    """A process: says that it has begun, which battles have ended, and what was raised."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its processes
    end_with_parent()
    sender.send(_BEGUN)
    try:
        with Arena(silence_timeout_s=timeout_s) as arena:
            asyncio.run(play(arena, plans, in_play, lambda number, kept: sender.send((number, kept))))
    except (GemmaMetamonError, OSError) as error:
        sender.send(error)

"""What decides for all battles that wait, in one step: the policies that players ask."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from gemma_metamon.battle.state import BattleState
from gemma_metamon.results.schema import Kind, PolicyRow

Considered: TypeAlias = tuple[int, npt.NDArray[np.float32]]
"""The action that a policy would take, and its probabilities (A,) of all actions."""


class Session(Protocol):
    """What is remembered of one battle."""

    def note(self, state: BattleState, action: int) -> None:
        """This action is taken in this state: the next decision is the one after it."""


S = TypeVar("S", bound=Session)
I = TypeVar("I")  # noqa: E741 an input
Answer = TypeVar("Answer")


class Policy(ABC, Generic[S, I]):
    """Decides for many battles at once. S: what it remembers of a battle; I: what a battle puts into a step.

    While a step is computed (in a thread of its own, so that messages are still read), the battles that ask next wait
    and make up the step after it. All calls come from one event loop: poke-env's in play, the server's where it serves.

    Attributes:
        gather_s: how long the first battle of a step waits for others, so that they are decided together.
        on_step: is told, in the policy's thread, how many battles a step decided for, and how many seconds it took.
    """

    kind: Kind = "ensemble"

    def __init__(self) -> None:
        self.gather_s = 0.0
        self.on_step: Callable[[int, float], None] | None = None
        self.decisions = 0
        self.busy_s = 0.0
        self._waiting: list[tuple[I, asyncio.Future[Considered]]] = []
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="policy")
        self._steps: asyncio.Task[None] | None = None

    @property
    def unknown_words(self) -> Counter[str]:
        """Words that it does not know, and how often they were met."""
        return Counter()

    def forget_unknown_words(self) -> None:
        """Begins to count anew: whoever plays on and on would meet ever more of them."""

    @abstractmethod
    def row(self) -> PolicyRow:
        """How it plays, for results.json."""

    @abstractmethod
    def open_session(self, dice: Any = None) -> S:
        """A new battle's session, to be closed at its end; `dice`, a random.Random, draws its actions."""

    def close_session(self, session: S) -> None:
        """Forgets a battle."""

    @abstractmethod
    async def consider(self, session: S, state: BattleState, legal: npt.NDArray[np.bool_]) -> Considered:
        """The action for this state, one of `legal` ((13,) bool, True where the simulator allows it).

        Whoever asks says what is taken, by `session.note`.
        """

    @abstractmethod
    def step(self, inputs: Sequence[I]) -> list[Considered]:
        """Decides for these battles. In the policy's thread."""

    async def decide(self, session: S, state: BattleState, legal: npt.NDArray[np.bool_]) -> int:
        """As `consider`; and what it would do is what is taken."""
        action, _ = await self.consider(session, state, legal)
        session.note(state, action)
        return action

    async def in_next_step(self, asked: I) -> Considered:
        """What the next step decides for this input."""
        answer: asyncio.Future[Considered] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, answer))
        if self._steps is None or self._steps.done():
            self._steps = asyncio.create_task(self._run_steps())
        return await answer

    async def ask_in_policy_thread(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        """What this gives in the policy's thread, after what waits there: nothing else uses the models meanwhile."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, function, *arguments)

    def run_in_policy_thread(self, function: Callable[..., None], *arguments: Any) -> None:
        """Runs this in the policy's thread, after what waits there, so that nothing else uses the models meanwhile.

        Nobody waits for it; what it raises is logged.
        """
        self._worker.submit(function, *arguments).add_done_callback(_raise_again)

    async def _run_steps(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            if self.gather_s:
                await asyncio.sleep(self.gather_s)
            # without those that nobody waits for any more: the same battle may ask again in this very step
            waiting, self._waiting = [each for each in self._waiting if not each[1].done()], []
            if not waiting:
                continue
            try:
                considered = await loop.run_in_executor(self._worker, self._timed_step, [asked for asked, _ in waiting])
            except Exception as error:  # noqa: BLE001 whatever it is, it belongs to the battles that wait for it
                for _, answer in waiting:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            for (_, answer), found in zip(waiting, considered, strict=True):
                if not answer.done():
                    answer.set_result(found)

    def _timed_step(self, inputs: list[I]) -> list[Considered]:
        started = time.perf_counter()
        considered = self.step(inputs)
        self.decisions += len(inputs)
        took_s = time.perf_counter() - started
        self.busy_s += took_s
        if self.on_step is not None:
            self.on_step(len(inputs), took_s)
        return considered


def _raise_again(done: "Future[None]") -> None:
    done.result()  # an exception in a callback is logged with its traceback

"""An agent as a poke-env player: it remembers each battle, and decides for all battles in play in one batched step."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from poke_env.battle import AbstractBattle, Battle
from poke_env.player import BattleOrder, Player

from gemma_metamon.battle.observations import OpponentMemory
from gemma_metamon.battle.state import BattleState
from gemma_metamon.errors import ServerError
from gemma_metamon.showdown.battle_memory import BattleMemory
from gemma_metamon.showdown.live_state import battle_state
from gemma_metamon.showdown.orders import action_to_order, legal_actions
from gemma_metamon.text.view import BattleView


@dataclass
class BattleSession:
    """What the agent remembers of one battle: its row of the KV cache, and the decision before this one."""

    row: int
    messages: BattleMemory = field(default_factory=BattleMemory)
    opponent: OpponentMemory = field(default_factory=OpponentMemory)
    time_idx: int = 0
    state: BattleState | None = None
    action: int | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """One battle's input to a policy step (shapes without batch and time), and where its answer goes."""

    row: int
    time_idx: int
    text_tokens: npt.NDArray[np.int32]
    numbers: npt.NDArray[np.float32]
    illegal_actions: npt.NDArray[np.bool_]
    rl2: npt.NDArray[np.float32]
    answer: "asyncio.Future[int]"


class BatchedPolicy:
    """One agent deciding for many battles at once.

    While a step is computed (in a thread of its own, so that messages are still read), the battles that ask next wait
    and make up the step after it. All calls come from poke-env's event loop.

    Args:
        agent: a MultiTaskAgent in eval mode.
        view: what it is shown.
        max_battles: rows of the KV cache: the most battles remembered at a time.
        sample: draw actions; otherwise the most probable one is taken.
        temperature: of the draws.
        seed: of the draws.
    """

    def __init__(
        self,
        agent: Any,
        view: BattleView,
        *,
        max_battles: int,
        sample: bool = False,
        temperature: float = 1.0,
        seed: int = 0,
    ) -> None:
        self.agent = agent
        self.view = view
        self.sample = sample
        self.temperature = temperature
        self.device = next(agent.parameters()).device
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.cache = agent.traj_encoder.init_cache(max_battles, device=self.device)
        self.decisions = 0
        self.busy_s = 0.0
        self._free_rows = list(range(max_battles))
        self._waiting: list[Decision] = []
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="policy")
        self._steps: asyncio.Task[None] | None = None

    def open_session(self) -> BattleSession:
        """Raises ServerError where all rows are taken."""
        if not self._free_rows:
            raise ServerError("more battles at once than the policy has memory for; raise max_battles")
        row = self._free_rows.pop()
        self.cache.reset(row)
        return BattleSession(row)

    def close_session(self, session: BattleSession) -> None:
        self._free_rows.append(session.row)

    async def decide(self, session: BattleSession, state: BattleState, legal: npt.NDArray[np.bool_]) -> int:
        """The action for this state, one of `legal` ((13,) bool, True where the simulator allows it)."""
        words, numbers = self.view.obs_space.observe(state, session.opponent)
        n_actions = self.view.action_space.n
        rl2 = np.zeros(1 + n_actions, dtype=np.float32)
        if session.state is not None and session.action is not None:
            rl2[0] = self.view.reward_function(session.state, state)
            rl2[1 + session.action] = 1.0
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(
            Decision(
                row=session.row,
                time_idx=session.time_idx,
                text_tokens=self.view.vocabulary.encode(np.array(words)),
                numbers=numbers,
                illegal_actions=~legal[:n_actions],
                rl2=rl2,
                answer=answer,
            )
        )
        if self._steps is None or self._steps.done():
            self._steps = asyncio.create_task(self._run_steps())
        action = await answer
        session.state, session.action = state, action
        session.time_idx += 1
        return action

    def aside(self, function: Callable[..., None], *arguments: Any) -> None:
        """Runs this in the policy's thread, after what waits there, so that nothing else uses the agent meanwhile.

        Nobody waits for it; what it raises is logged.
        """
        self._worker.submit(function, *arguments).add_done_callback(_raise_again)

    async def _run_steps(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            # without those that nobody waits for any more: the same battle may ask again in this very step
            decisions, self._waiting = [d for d in self._waiting if not d.answer.done()], []
            if not decisions:
                continue
            try:
                actions = await loop.run_in_executor(self._worker, self._step, decisions)
            except Exception as error:  # noqa: BLE001 whatever it is, it belongs to the battles that wait for it
                for decision in decisions:
                    if not decision.answer.done():
                        decision.answer.set_exception(error)
                continue
            for decision, action in zip(decisions, actions, strict=True):
                if not decision.answer.done():
                    decision.answer.set_result(action)

    def _step(self, decisions: list[Decision]) -> list[int]:
        started = time.perf_counter()

        def batched(name: str) -> torch.Tensor:  # (n, 1, ...)
            return torch.from_numpy(np.stack([getattr(d, name) for d in decisions])[:, None]).to(self.device)

        actions, _ = self.agent.act(
            {name: batched(name) for name in ("text_tokens", "numbers", "illegal_actions")},
            batched("rl2"),
            torch.tensor([[[d.time_idx]] for d in decisions], device=self.device),
            self.cache,
            torch.tensor([d.row for d in decisions]),
            sample=self.sample,
            temperature=self.temperature,
            generator=self.generator,
        )
        chosen: list[int] = actions.tolist()
        self.decisions += len(decisions)
        self.busy_s += time.perf_counter() - started
        return chosen


def _raise_again(done: "Future[None]") -> None:
    done.result()  # an exception in a callback is logged with its traceback


class Observer(Protocol):
    """Is told of every decision and of every battle's end, in the policy's thread; play does not wait for it."""

    def on_decision(
        self, player: "PolicyPlayer", battle: Battle, state: BattleState, legal: npt.NDArray[np.bool_], action: int
    ) -> None: ...

    def on_end(self, player: "PolicyPlayer", battle: Battle, state: BattleState) -> None: ...


class PolicyPlayer(Player):
    """Plays battles with a BatchedPolicy. Only the simulator's own legal actions are ever sent."""

    def __init__(self, policy: BatchedPolicy, *, observer: Observer | None = None, **player_options: Any) -> None:
        super().__init__(**player_options)
        self.policy = policy
        self.observer = observer
        self._sessions: dict[str, BattleSession] = {}

    async def choose_move(self, battle: AbstractBattle) -> BattleOrder:
        if not isinstance(battle, Battle):
            raise ServerError(f"{battle.battle_tag} is no singles battle; agents play singles formats")
        session = self._sessions.get(battle.battle_tag)
        if session is None:
            session = self._sessions[battle.battle_tag] = self.policy.open_session()
        state = battle_state(battle, session.messages)
        legal = legal_actions(battle)
        action = await self.policy.decide(session, state, legal)
        if self.observer is not None:
            self.policy.aside(self.observer.on_decision, self, battle, state, legal, action)
        return action_to_order(action, battle)

    def _battle_finished_callback(self, battle: AbstractBattle) -> None:
        session = self._sessions.pop(battle.battle_tag, None)
        if session is None:
            return
        if self.observer is not None and isinstance(battle, Battle):
            self.policy.aside(self.observer.on_end, self, battle, battle_state(battle, session.messages))
        self.policy.close_session(session)

"""An agent as a poke-env player: it remembers each battle, and decides for all battles in play in one batched step."""

from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from poke_env.battle import AbstractBattle, Battle
from poke_env.player import BattleOrder, Player

from gemma_metamon.battle.state import BattleState
from gemma_metamon.showdown.live.battle import LiveBattle, live_battle
from gemma_metamon.showdown.live.door import given_up
from gemma_metamon.showdown.live.orders import action_to_order, legal_mask
from gemma_metamon.showdown.live.poke_env_hooks import FinishBattle, intercept_battle_end
from gemma_metamon.showdown.players.contestants import Contestant
from gemma_metamon.showdown.players.ensembles import EnsemblePolicy, Member
from gemma_metamon.showdown.players.policies import Policy, Session
from gemma_metamon.view import BattleView


class BatchedPolicy(EnsemblePolicy):
    """One agent deciding for many battles at once: an ensemble of one.

    Args:
        agent: a MultiTaskAgent or Agent in eval mode.
        view: what it is shown.
        max_battles: rows of the KV cache: the most battles remembered at a time.
        sample: draw each action from the policy; otherwise the most probable one is taken.
        temperature: of the policy that actions are drawn from; 0 takes the most probable one all the same.
        seed: of the random numbers that actions are drawn with.
        name: for results.
    """

    kind = "checkpoint"

    def __init__(
        self,
        agent: Any,
        view: BattleView,
        *,
        max_battles: int,
        sample: bool = False,
        temperature: float = 1.0,
        seed: int = 0,
        name: str = "agent",
    ) -> None:
        member = Member(agent=agent, view=view, name=name, temperature=temperature)
        super().__init__([member], max_battles=max_battles, sample=sample, seed=seed)
        self.agent, self.view = agent, view
        self.temperature = temperature


class Observer(Protocol):
    """Is told of every decision and of every battle's end, in the policy's thread; play does not wait for it."""

    def on_decision(
        self, player: "PolicyPlayer", battle: Battle, state: BattleState, legal: npt.NDArray[np.bool_], action: int
    ) -> None:
        """An action has been chosen.

        Args:
            player: who chose.
            battle: poke-env's, which goes on meanwhile.
            state: at the decision.
            legal: (13,) bool, True where an action was legal.
            action: one of them.
        """

    def on_end(self, player: "PolicyPlayer", battle: Battle, state: BattleState) -> None:
        """A battle has ended, with this state."""


class PolicyPlayer(Player):
    """Plays battles with a policy. Only the simulator's own legal actions are ever sent."""

    def __init__(self, policy: Policy[Any, Any], *, observer: Observer | None = None, **player_options: Any) -> None:
        super().__init__(**player_options)
        self.policy = policy
        self.observer = observer
        self._sessions: dict[str, Session] = {}
        intercept_battle_end(self, self._close_session)

    async def choose_move(self, battle: AbstractBattle) -> BattleOrder:
        """The policy's choice; called by poke-env, or by a ladder. Raises ServerError for what is no singles battle."""
        live = live_battle(battle)
        session = self._session_of(live)
        # as they are now: chat may come while the policy decides, and the battle is then another
        state, options = live.state, live.options
        legal = legal_mask(options)
        action, probs = await self.policy.consider(session, state, legal)
        action = await self.settle_on(live, action, probs)
        self._note(session, live, state, legal, action)
        return action_to_order(action, options)

    async def settle_on(self, live: LiveBattle, action: int, probs: npt.NDArray[np.float32]) -> int:
        """The action to take, where the policy chose one by these probabilities (13,): the policy's own."""
        return action

    def _session_of(self, live: LiveBattle) -> Session:
        tag = live.battle.battle_tag
        if tag not in self._sessions:
            self._sessions[tag] = self.policy.open_session(live.dice)
        return self._sessions[tag]

    def _note(
        self,
        session: Session,
        live: LiveBattle,
        state: BattleState,
        legal: npt.NDArray[np.bool_],
        action: int,
    ) -> None:
        """Remembers that this action, one of the legal ones (13,), is taken in this state, and tells the observer."""
        session.note(state, action)
        if self.observer is not None:
            self.policy.run_in_policy_thread(self.observer.on_decision, self, live.battle, state, legal, action)

    def _close_session(self, battle: AbstractBattle, finish: FinishBattle) -> None:
        finish(battle)
        session = self._sessions.pop(battle.battle_tag, None)
        if session is None:
            return
        self.policy.close_session(session)
        followed = given_up(self, battle.battle_tag) is None
        if self.observer is not None and followed:
            live = live_battle(battle)
            self.policy.run_in_policy_thread(self.observer.on_end, self, live.battle, live.state)


def learned(name: str, policy: EnsemblePolicy, observer: Observer | None = None) -> Contestant:
    """A checkpoint or an ensemble under a name for the tables; the observer is told of its decisions."""
    return Contestant(name, partial(PolicyPlayer, policy, observer=observer), policy)

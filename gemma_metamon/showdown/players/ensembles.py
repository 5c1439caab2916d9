"""Several checkpoints that decide together, for many battles at once: each is shown the battle in its own way.

One checkpoint alone is an ensemble of one: policy_player.BatchedPolicy.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gemma_metamon.battle.observations import OpponentMemory
from gemma_metamon.battle.state import BattleState
from gemma_metamon.errors import ServerError
from gemma_metamon.results.schema import MemberRow, PolicyRow
from gemma_metamon.showdown.players.combining import count_votes, drawn, elect, mean_policy, tempered
from gemma_metamon.showdown.players.policies import Considered, Policy
from gemma_metamon.view import BattleView


@dataclass(frozen=True, kw_only=True)
class Member:
    """One that has a say.

    Attributes:
        agent: a MultiTaskAgent or Agent in eval mode. Members may have the same one, at several temperatures.
        view: what it is shown.
        name: for results.
        temperature: of its policy, from 0, which is its most probable action alone.
        weight: of its say beside the others', above 0.
    """

    agent: Any
    view: BattleView
    name: str = "agent"
    temperature: float = 1.0
    weight: float = 1.0


@dataclass
class BattleSession:
    """What is remembered of one battle: its row of the KV caches, its dice, and the decision before this one.

    `values` are what the critics expect of each action at the decision that was considered last, (A,), as a return;
    None of a policy that does not judge.
    """

    row: int
    opponents: list[OpponentMemory]
    dice: random.Random | None = None
    time_idx: int = 0
    state: BattleState | None = None
    action: int | None = None
    values: npt.NDArray[np.float32] | None = None

    def note(self, state: BattleState, action: int) -> None:
        """This action is taken in this state: the next decision is the one after it."""
        self.state, self.action = state, action
        self.time_idx += 1


@dataclass(frozen=True, slots=True)
class Observation:
    """What one agent is shown of a battle at one decision, without the dimensions of batch and time."""

    text_tokens: npt.NDArray[np.int32]
    numbers: npt.NDArray[np.float32]
    illegal_actions: npt.NDArray[np.bool_]
    rl2: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class StepInput:
    """What one battle puts into a step: an observation for each agent, and where it stands."""

    session: BattleSession
    time_idx: int
    shown: list[Observation]


class _Agent:
    """One checkpoint of an ensemble: its memory of the battles, and the members that it is."""

    def __init__(self, members: Sequence[Member], text: int, max_battles: int, device: torch.device) -> None:
        self.agent, self.view = members[0].agent, members[0].view
        self.text = text
        self.temperatures = [member.temperature for member in members]
        # policies of lower temperatures follow from that of the highest; the other way round they would be rounded
        self.made_at = max(self.temperatures) or 1.0
        self.cache = self.agent.traj_encoder.init_cache(max_battles, device=device)

    def policies(
        self, shown: Sequence[Observation], time_idxs: Tensor, rows: Tensor, *, judge: bool = False
    ) -> tuple[list[Tensor], Tensor | None]:
        """A step for n battles: each member's probabilities (n, A) of this agent's A actions, and their values (n, A).

        There are no values where it is not to judge, or has critics that never learned.
        """

        def batched(name: str) -> Tensor:  # (n, 1, ...)
            return torch.from_numpy(np.stack([getattr(each, name) for each in shown])[:, None]).to(time_idxs.device)

        judge = judge and self.agent.uses_critics
        act = self.agent.act_from if judge else self.agent.act
        _, probs, *states = act(
            {name: batched(name) for name in ("text_tokens", "numbers", "illegal_actions")},
            batched("rl2"),
            time_idxs,
            self.cache,
            rows,
            temperature=self.made_at,
        )
        policies = [tempered(probs, made_at=self.made_at, temperature=wanted) for wanted in self.temperatures]
        if not judge:
            return policies, None
        return policies, self.agent.values_of_actions(states[0])[:, 0] / self.agent.options.reward_multiplier


class EnsemblePolicy(Policy[BattleSession, StepInput]):
    """Members deciding together for many battles at once: in a step, each checkpoint reads all of its battles.

    The members' probabilities are averaged by their weights. Then the most probable action is taken, or with `sample`
    one is drawn. With `vote`, each member chooses an action so, and the one with the most weight is taken; among equals
    the one of the highest average. An action that is not in a member's action space has probability 0 for it; whoever
    has no legal action in its space has no say.

    Args:
        members: one or more, on one device. Those of the same agent share its steps.
        max_battles: rows of the KV caches: the most battles remembered at a time.
        sample: draw each action from the policy; otherwise the most probable one is taken.
        vote: let the members vote.
        seed: of the random numbers that actions are drawn with.

    Attributes:
        judges: whether the values of all actions are worked out at each decision, of one checkpoint alone: several may
            have been paid for different things.
    """

    def __init__(
        self, members: Sequence[Member], *, max_battles: int, sample: bool = False, vote: bool = False, seed: int = 0
    ) -> None:
        super().__init__()
        self.members = list(members)
        self.sample, self.vote = sample, vote
        self.judges = False
        self.device = next(self.members[0].agent.parameters()).device
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.n_actions = max(member.view.action_space.n for member in self.members)
        # battles are put into words once for all agents that are shown the same ones
        self._texts = [
            view
            for i, view in enumerate(member.view for member in self.members)
            if not any(_same_text(view, earlier.view) for earlier in self.members[:i])
        ]
        by_agent: dict[int, list[int]] = {}
        for i, member in enumerate(self.members):
            by_agent.setdefault(id(member.agent), []).append(i)
        self._agents: list[_Agent] = []
        for places in by_agent.values():
            own = [self.members[i] for i in places]
            text = next(i for i, view in enumerate(self._texts) if _same_text(view, own[0].view))
            self._agents.append(_Agent(own, text, max_battles, self.device))
        order = [i for places in by_agent.values() for i in places]  # of the agents' policies, one after the other
        self._weights = torch.tensor([self.members[i].weight for i in order], device=self.device)
        self._free_rows = list(range(max_battles))

    @property
    def unknown_words(self) -> Counter[str]:
        """Words that a member does not know, and how often they were met."""
        return sum((view.vocabulary.unknown_counts for view in self._texts), Counter[str]())

    def forget_unknown_words(self) -> None:
        """Begins to count anew."""
        for view in self._texts:
            view.vocabulary.unknown_counts.clear()

    def row(self) -> PolicyRow:
        """How it plays, for results.json."""
        members = [MemberRow(name=m.name, temperature=m.temperature, weight=m.weight) for m in self.members]
        combined: Literal["mean", "vote"] = "vote" if self.vote else "mean"
        return PolicyRow(sampled=self.sample, combined=combined if len(members) > 1 else None, members=members)

    def open_session(self, dice: random.Random | None = None) -> BattleSession:
        """A new battle's session, to be closed at its end. Raises ServerError where all rows are taken.

        Args:
            dice: what its actions are drawn with; None draws them with the policy's own generator, in the order in
                which the battles happen to ask.
        """
        if not self._free_rows:
            raise ServerError("more battles at once than the policy has memory for; raise max_battles")
        row = self._free_rows.pop()
        for each in self._agents:
            each.cache.reset(row)
        return BattleSession(row, [OpponentMemory() for _ in self._texts], dice)

    def close_session(self, session: BattleSession) -> None:
        """Gives the session's row of the KV caches to the next battle."""
        self._free_rows.append(session.row)

    async def consider(self, session: BattleSession, state: BattleState, legal: npt.NDArray[np.bool_]) -> Considered:
        """As `decide`, with the probabilities; whoever asks says what is taken, by `session.note`."""
        texts = []
        for view, opponent in zip(self._texts, session.opponents, strict=True):
            words, numbers = view.obs_space.observe(state, opponent)
            texts.append((view.vocabulary.encode(words), numbers))
        shown = []
        for each in self._agents:
            tokens, numbers = texts[each.text]
            illegal_actions = ~legal[: each.view.action_space.n]
            rl2 = each.view.rl2_at(state, session.state, session.action)
            shown.append(Observation(tokens, numbers, illegal_actions, rl2))
        return await self.in_next_step(StepInput(session, session.time_idx, shown))

    def step(self, inputs: Sequence[StepInput]) -> list[Considered]:
        """Each battle's action, and the mean of the members' probabilities."""
        time_idxs = torch.tensor([[[each.time_idx]] for each in inputs], device=self.device)
        rows = torch.tensor([each.session.row for each in inputs])
        policies: list[Tensor] = []
        judge = self.judges and len(self._agents) == 1
        for i, agent in enumerate(self._agents):
            shown = [each.shown[i] for each in inputs]
            own_policies, values = agent.policies(shown, time_idxs, rows, judge=judge)
            policies += [self._over_all_actions(own, shown) for own in own_policies]
            if values is not None:
                for each, own_values in zip(inputs, values.float().cpu().numpy(), strict=True):
                    each.session.values = own_values
        probs = torch.stack(policies)
        chosen: list[int] = self._choose(probs, [each.session.dice for each in inputs]).tolist()
        means = mean_policy(probs, self._weights).float().cpu().numpy()
        return list(zip(chosen, means, strict=True))

    def _over_all_actions(self, probs: Tensor, shown: Sequence[Observation]) -> Tensor:
        """A member's (n, its actions) as (n, A): 0 for those that it lacks, and for all where none of its is legal."""
        n_own = probs.shape[-1]
        if n_own == self.n_actions:
            return probs
        has_say = torch.tensor([not each.illegal_actions.all() for each in shown], device=probs.device)
        return torch.nn.functional.pad(probs * has_say[:, None], (0, self.n_actions - n_own))

    def _choose(self, probs: Tensor, dice: Sequence[random.Random | None]) -> Tensor:
        """The members' policies (M, n, A) -> actions (n,)."""
        mean = mean_policy(probs, self._weights)
        if not self.vote:
            return self._pick(mean, dice)
        has_say = probs.sum(-1, keepdim=True) > 0  # the choices of the others count nothing
        choices = torch.stack([self._pick(own, dice) for own in torch.where(has_say, probs, mean)])  # (M, n)
        return elect(count_votes(choices, probs, self._weights), mean)

    def _pick(self, probs: Tensor, dice: Sequence[random.Random | None]) -> Tensor:
        """(n, A) -> (n,). A battle with dice of its own draws with them, whatever else is in the step."""
        if not self.sample:
            return probs.argmax(-1)
        own = [each.random() for each in dice if each is not None]
        if len(own) == len(dice):
            return drawn(probs, torch.tensor(own, dtype=torch.float64, device=probs.device))
        return torch.multinomial(probs, 1, generator=self.generator)[:, 0]


def _same_text(view: BattleView, other: BattleView) -> bool:
    return (view.obs_space, view.vocabulary) == (other.obs_space, other.vocabulary)

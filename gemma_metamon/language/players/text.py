"""A player that reads its battle as a chat, and takes the choice that its model finds the most probable answer.

All battles that wait are decided in one batch. Only legal choices are looked at, so that no other can be taken.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from gemma_metamon.battle.replays import N_RECORDED_ACTIONS
from gemma_metamon.battle.state import BattleState
from gemma_metamon.language.answers import choice_names
from gemma_metamon.language.chats import PromptForm
from gemma_metamon.language.players.told import offered_moves
from gemma_metamon.language.prompts import BattleSoFar, Decision, messages_of
from gemma_metamon.language.scoring import ChoiceScorer
from gemma_metamon.language.validation import Messages
from gemma_metamon.results.schema import MemberRow, PolicyRow
from gemma_metamon.showdown.live.battle import LiveBattle
from gemma_metamon.showdown.players.combining import drawn
from gemma_metamon.showdown.players.contestants import Contestant
from gemma_metamon.showdown.players.policies import Considered, Policy
from gemma_metamon.showdown.players.policy_player import PolicyPlayer


@dataclass
class TextSession:
    """What is remembered of one battle.

    Attributes:
        so_far: tells each decision with those before.
        dice: what its actions are drawn with.
        offered: the move words of actions that are none of the Pokémon's own moves, at this request.
        asked: the decision that was asked for last, and is not taken yet.
    """

    so_far: BattleSoFar
    dice: random.Random | None = None
    offered: dict[int, str] = field(default_factory=dict)
    asked: Decision | None = None

    def decision(self, state: BattleState, legal: npt.NDArray[np.bool_]) -> Decision:
        """In this state; asked again before one is taken, the same with the choices that are left."""
        choices = choice_names(state, np.flatnonzero(legal).tolist(), self.offered)
        if self.asked is None or self.asked.state != state:
            self.asked = self.so_far.decide(state, choices)
        else:
            self.asked = replace(self.asked, choices=choices)
        return self.asked

    def note(self, state: BattleState, action: int) -> None:
        """This action is taken in this state."""
        if self.asked is not None:
            self.so_far.chose(self.asked.choices[action])
        self.asked = None


@dataclass(frozen=True, slots=True)
class _Input:
    messages: Messages
    choices: dict[int, str]
    dice: random.Random | None


class TextPolicy(Policy[TextSession, _Input]):
    """A chat model deciding for many battles at once.

    Args:
        scorer: of the model.
        form: how it is told of a decision.
        name: for results.
        sample: draw each choice by its probability; otherwise the most probable one is taken.
        temperature: of the probabilities that choices are drawn by; 0 takes the most probable one all the same.
        seed: of the draws in battles without dice of their own.
    """

    kind = "text"

    def __init__(
        self,
        scorer: ChoiceScorer,
        form: PromptForm,
        *,
        name: str,
        sample: bool = False,
        temperature: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.name = name
        self._scorer, self._form = scorer, form
        self._sample = sample and temperature > 0
        self._temperature = temperature
        self._dice = random.Random(seed)

    def row(self) -> PolicyRow:
        """How it plays, for results.json."""
        only = MemberRow(name=self.name, temperature=self._temperature, weight=1.0)
        return PolicyRow(sampled=self._sample, combined=None, members=[only])

    def open_session(self, dice: random.Random | None = None) -> TextSession:
        """A new battle's session."""
        return TextSession(BattleSoFar(self._form.history), dice)

    async def consider(self, session: TextSession, state: BattleState, legal: npt.NDArray[np.bool_]) -> Considered:
        """The action and the probabilities (13,); where one action alone is legal, the model is not asked."""
        decision = session.decision(state, legal)
        choices = dict(decision.choices)
        if len(choices) == 1:
            (only,) = choices
            return only, np.eye(1, N_RECORDED_ACTIONS, only, dtype=np.float32)[0]
        messages = messages_of(decision, reasoning=self._form.reasoning, blank=self._form.blank)
        return await self.in_next_step(_Input(messages, choices, session.dice))

    def step(self, inputs: Sequence[_Input]) -> list[Considered]:
        """Decides for these battles in one batch."""
        scores = self._scorer.score(
            [each.messages for each in inputs], [list(each.choices.values()) for each in inputs]
        )
        return [self._take(each, own) for each, own in zip(inputs, scores, strict=True)]

    def _take(self, each: _Input, scores: npt.NDArray[np.float32]) -> Considered:
        actions = list(each.choices)
        own = torch.from_numpy(scores)
        place = int(own.argmax())
        if self._sample:
            own = (own / self._temperature).log_softmax(-1)
            at = torch.tensor([(each.dice or self._dice).random()], dtype=torch.float64)
            place = int(drawn(own.exp()[None], at))
        probs = np.zeros(N_RECORDED_ACTIONS, dtype=np.float32)
        probs[actions] = own.exp().numpy()
        return actions[place], probs


class TextPlayer(PolicyPlayer):
    """Plays battles with a `TextPolicy`."""

    def _session_of(self, live: LiveBattle) -> TextSession:
        session = super()._session_of(live)
        if not isinstance(session, TextSession):
            raise TypeError(f"{type(session).__name__} is no session of a TextPolicy")
        session.offered = offered_moves(live)
        return session


def text_contestant(name: str, policy: TextPolicy) -> Contestant:
    """A chat model under a name for the tables."""
    return Contestant(name, partial(TextPlayer, policy), policy)

"""A player that reads its battle as a chat, and takes the choice that its model finds the most probable answer.

All battles that wait are decided in one batch. Only legal choices are looked at, so that no other can be taken.
"""

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gemma_metamon.battle.replays import N_RECORDED_ACTIONS
from gemma_metamon.battle.state import BattleState
from gemma_metamon.language.data.chats import PromptForm
from gemma_metamon.language.models.answering import Answerer, ScoredChoices, Thinking
from gemma_metamon.language.models.chat_model import ChatModel
from gemma_metamon.language.models.scoring import ChoiceScorer
from gemma_metamon.language.players.told import Telling, offered_moves
from gemma_metamon.language.telling.answers import choice_names
from gemma_metamon.language.telling.prompts import BattleSoFar, Decision, messages_of
from gemma_metamon.results.schema import MemberRow, PolicyRow
from gemma_metamon.showdown.live.battle import LiveBattle
from gemma_metamon.showdown.live.deciding import fallback_order
from gemma_metamon.showdown.live.orders import order_to_action
from gemma_metamon.showdown.players.combining import drawn
from gemma_metamon.showdown.players.contestants import Contestant
from gemma_metamon.showdown.players.policies import Considered, Policy
from gemma_metamon.showdown.players.policy_player import PolicyPlayer

logger = logging.getLogger(__name__)


@dataclass
class TextSession:
    """What is remembered of one battle.

    Attributes:
        telling: its decisions in words.
        dice: what its actions are drawn with.
        offered: the move words of actions that are none of the Pokémon's own moves, at this request.
        at: where the battle stands; without a battle in play, how many actions were taken.
        thought: what the model wrote before its last choice; "" for nothing.
        too_long: whether the last decision was longer than the model's context, so that it did not choose.
    """

    telling: Telling
    dice: random.Random | None = None
    offered: dict[int, str] = field(default_factory=dict)
    at: object = 0
    thought: str = ""
    too_long: bool = False

    def decision(self, state: BattleState, legal: npt.NDArray[np.bool_]) -> Decision:
        """In this state; asked again before the battle goes on, the same with the choices that are left."""
        choices = choice_names(state, np.flatnonzero(legal).tolist(), self.offered)
        return self.telling.decide(state, choices, self.at)

    def note(self, state: BattleState, action: int) -> None:
        """This action is taken in this state."""
        self.telling.chose(action)
        if isinstance(self.at, int):
            self.at += 1


@dataclass(slots=True)
class TextInput:
    """What a battle puts into a step: the chat up to where the model answers, and what may be chosen."""

    messages: list[dict[str, Any]]
    choices: dict[int, str]
    session: TextSession


class TextPolicy(Policy[TextSession, TextInput]):
    """A chat model deciding for many battles at once.

    Args:
        scorer: of the model.
        form: how it is told of a decision.
        name: for results.
        sample: draw each choice by its probability; otherwise the most probable one is taken.
        temperature: of the probabilities that choices are drawn by; 0 takes the most probable one all the same.
        seed: of the draws in battles without dice of their own.
        thinking: before it chooses; None chooses at once.

    Attributes:
        too_long: decisions that it did not make, because they are longer than the model's context.
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
        thinking: Thinking | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.too_long = 0
        self._answerer, self._form = Answerer(scorer, thinking), form
        self._sample = sample and temperature > 0
        self._temperature = temperature
        self._dice = random.Random(seed)

    @property
    def chat(self) -> ChatModel:
        """The model."""
        return self._answerer.scorer.chat

    @property
    def thinks(self) -> bool:
        """Whether it writes a thought before each choice."""
        return self._answerer.thinking.reasoning

    def row(self) -> PolicyRow:
        """How it plays, for results.json."""
        only = MemberRow(name=self.name, temperature=self._temperature, weight=1.0)
        return PolicyRow(sampled=self._sample, combined=None, members=[only], too_long=self.too_long)

    def open_session(self, dice: random.Random | None = None) -> TextSession:
        """A new battle's session."""
        return TextSession(Telling(BattleSoFar(self._form.history)), dice)

    async def consider(self, session: TextSession, state: BattleState, legal: npt.NDArray[np.bool_]) -> Considered:
        """The action and the probabilities (13,); where one action alone is legal, the model is not asked."""
        decision = session.decision(state, legal)
        session.thought, session.too_long = "", False
        if len(decision.choices) == 1:
            (only,) = decision.choices
            return only, np.eye(1, N_RECORDED_ACTIONS, only, dtype=np.float32)[0]
        return await self.in_next_step(self.ask(decision, session))

    def ask(self, decision: Decision, session: TextSession) -> TextInput:
        """What the battle puts into a step."""
        messages = messages_of(decision, reasoning=self._form.reasoning or self.thinks, blank=self._form.blank)
        return TextInput(messages, dict(decision.choices), session)

    def answer(self, inputs: Sequence[TextInput]) -> list[ScoredChoices | None]:
        """What the model makes of each; None of what is longer than its context."""
        return self._answerer.choose(
            [each.messages for each in inputs], [list(each.choices.values()) for each in inputs]
        )

    def step(self, inputs: Sequence[TextInput]) -> list[Considered]:
        """Decides for these battles in one batch. Of what is too long, all choices are equally probable."""
        return [self._take(each, own) for each, own in zip(inputs, self.answer(inputs), strict=True)]

    def _take(self, each: TextInput, chosen: ScoredChoices | None) -> Considered:
        actions = list(each.choices)
        if chosen is None:
            self._note_too_long(each.session)
            chosen = ScoredChoices(np.full(len(actions), -np.log(len(actions)), dtype=np.float32))
        each.session.thought = chosen.thought
        own = torch.from_numpy(chosen.scores)
        place = int(own.argmax())
        if self._sample:
            own = (own / self._temperature).log_softmax(-1)
            at = torch.tensor([(each.session.dice or self._dice).random()], dtype=torch.float64)
            place = int(drawn(own.exp()[None], at))
        probs = np.zeros(N_RECORDED_ACTIONS, dtype=np.float32)
        probs[actions] = own.exp().numpy()
        return actions[place], probs

    def _note_too_long(self, session: TextSession) -> None:
        session.too_long = True
        self.too_long += 1
        if self.too_long == 1:
            logger.warning(
                "%s: a decision is longer than the model's context; such choices are made for it, and counted",
                self.name,
            )


class TextPlayer(PolicyPlayer):
    """Plays battles with a `TextPolicy`; what it thinks is recorded with its choices."""

    async def settle_on(self, live: LiveBattle, action: int, probs: npt.NDArray[np.float32]) -> int:
        """The policy's action; the strongest move where the decision was too long for it."""
        session = self._own_session(live)
        if isinstance(self.policy, TextPolicy) and self.policy.thinks:
            live.speaks, live.thought = True, None if session.too_long else session.thought
        if not session.too_long:
            return action
        strongest = order_to_action(fallback_order(live, set()), live.options)
        return strongest if strongest >= 0 and probs[strongest] > 0 else action  # the battle may be another by now

    def _session_of(self, live: LiveBattle) -> TextSession:
        session = self._own_session(live)
        session.offered, session.at = offered_moves(live), (live, live.n_messages)
        return session

    def _own_session(self, live: LiveBattle) -> TextSession:
        session = super()._session_of(live)
        if not isinstance(session, TextSession):
            raise TypeError(f"{type(session).__name__} is no session of a TextPolicy")
        return session


def text_contestant(policy: TextPolicy) -> Contestant:
    """A model that answers in words, or that sees, under its policy's name."""
    return Contestant(policy.name, partial(TextPlayer, policy), policy)

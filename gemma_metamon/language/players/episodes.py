"""Whole battles to learn from: a chat model draws its answers, and each of them earns what comes after it.

Many battles are played at once, in an arena. All battles of a group have the same teams and the same opponent; what
they earn is compared. Of each battle some decisions are learned from, drawn from those where there was a choice.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from poke_env.battle import Battle

from gemma_metamon.battle.replays import N_RECORDED_ACTIONS, RecordedBattle
from gemma_metamon.battle.rewards import RewardFunction
from gemma_metamon.battle.state import BattleState
from gemma_metamon.errors import ServerError
from gemma_metamon.language.data.chats import Chat, PromptForm
from gemma_metamon.language.models.chat_model import ChatModel
from gemma_metamon.language.models.grouped import draw
from gemma_metamon.language.players.text import TextPlayer, TextSession
from gemma_metamon.language.players.told import Telling
from gemma_metamon.language.telling.answers import AnswerError, parse_answer
from gemma_metamon.language.telling.prompts import BattleSoFar, messages_of
from gemma_metamon.language.tokenizers import encode_prompts
from gemma_metamon.language.training.grpo_trainer import Turn
from gemma_metamon.results.schema import MemberRow, PolicyRow
from gemma_metamon.showdown.arena.arena import Arena
from gemma_metamon.showdown.arena.seeds import dice
from gemma_metamon.showdown.live.battle import LiveBattle
from gemma_metamon.showdown.live.recording import Recorder
from gemma_metamon.showdown.matches.arena_play import ArenaMatch, Plan
from gemma_metamon.showdown.matches.arena_tables import Table, draw_pair
from gemma_metamon.showdown.players.contestants import Contestant
from gemma_metamon.showdown.players.policies import Considered, Policy

LEARNER: Final = "learner"


@dataclass
class _Session(TextSession):
    """Of one battle; `drawn` are its answers, each with the state that it was given in."""

    coin: random.Random = field(default_factory=random.Random)
    drawn: list[tuple[BattleState, Turn]] = field(default_factory=list)
    waiting: Turn | None = None

    def note(self, state: BattleState, action: int) -> None:
        super().note(state, action)
        if self.waiting is None:
            return
        if self.drawn and self.drawn[-1][0] == state:  # the last choice was refused: this is the same decision again
            self.drawn.pop()
        self.drawn.append((state, self.waiting))
        self.waiting = None


@dataclass(frozen=True, slots=True)
class _Asked:
    session: _Session
    chat: Chat
    actions: list[int]


class _DrawingPolicy(Policy[_Session, _Asked]):
    """Draws its answers subword by subword, as training weighs them; for one that is not legal a choice is drawn.

    Args:
        chat: the model.
        form: how it is told of a decision.
        most: subwords of an answer.
        temperature: of the draw.
    """

    kind = "text"

    def __init__(self, chat: ChatModel, form: PromptForm, *, most: int, temperature: float) -> None:
        super().__init__()
        self._chat, self._form, self._most, self._temperature = chat, form, most, temperature

    def row(self) -> PolicyRow:
        """How it plays."""
        only = MemberRow(name=LEARNER, temperature=self._temperature, weight=1.0)
        return PolicyRow(sampled=True, combined=None, members=[only])

    def open_session(self, dice: random.Random | None = None) -> _Session:
        """A new battle's session."""
        return _Session(Telling(BattleSoFar(self._form.history)), dice, coin=dice or random.Random(0))

    async def consider(self, session: _Session, state: BattleState, legal: npt.NDArray[np.bool_]) -> Considered:
        """The action, and 1 for it alone; where one alone is legal, the model is not asked."""
        decision = session.decision(state, legal)
        actions, names = list(decision.choices), tuple(decision.choices.values())
        if len(actions) == 1:
            return actions[0], np.eye(1, N_RECORDED_ACTIONS, actions[0], dtype=np.float32)[0]
        messages = messages_of(decision, reasoning=self._form.reasoning, blank=self._form.blank)
        return await self.in_next_step(_Asked(session, Chat(messages, names), actions))

    def step(self, inputs: Sequence[_Asked]) -> list[Considered]:
        """Draws an answer for each of these battles."""
        tokenizer, gemma = self._chat.tokenizer, self._chat.gemma
        prompts = encode_prompts(tokenizer, [each.chat.messages for each in inputs])
        answers = draw(
            gemma, prompts, 1, most=self._most, temperature=self._temperature, ends=gemma.config.eos_token_id
        )
        texts = tokenizer.batch_decode(answers, skip_special_tokens=True)
        taken = []
        for asked, prompt, answer, text in zip(inputs, prompts, answers, texts, strict=True):
            asked.session.waiting = Turn(asked.chat, text, prompt, answer)
            try:
                place = parse_answer(text, dict(enumerate(asked.chat.legal)))
            except AnswerError:
                place = asked.session.coin.randrange(len(asked.actions))
            action = asked.actions[place]
            taken.append((action, np.eye(1, N_RECORDED_ACTIONS, action, dtype=np.float32)[0]))
        return taken


class _Player(TextPlayer):
    """Tells of the session of each of its battles; it is kept, though the battle is over."""

    def __init__(self, policy: _DrawingPolicy, sessions: dict[str, _Session], **player_options: Any) -> None:
        super().__init__(policy, **player_options)
        self._kept = sessions

    def _session_of(self, live: LiveBattle) -> TextSession:
        session = super()._session_of(live)
        if isinstance(session, _Session):
            self._kept[live.battle.battle_tag] = session
        return session


@dataclass(kw_only=True)
class Episodes:
    """Plays groups of battles.

    Attributes:
        arena: in which they are played.
        battle_format: e.g. "gen1ou".
        teams: packed, drawn from for each group; empty for a format that gives out teams.
        opponents: one is drawn for each group.
        form: how the model is told of a decision.
        reward_function: of each decision, and of the result.
        discount: what a reward counts one decision later.
        in_play: battles at a time.
        seed: of all that is drawn, but for the answers.
    """

    arena: Arena
    battle_format: str
    teams: Sequence[str]
    opponents: Sequence[Contestant]
    form: PromptForm
    reward_function: RewardFunction
    discount: float
    in_play: int = 64
    seed: int = 0

    def described(self) -> dict[str, Any]:
        """What a run says of them."""
        return {
            "battle_format": self.battle_format,
            "opponents": [who.name for who in self.opponents],
            "reward_function": self.reward_function.name,
            "discount": self.discount,
        }

    def play(
        self, chat: ChatModel, groups: Sequence[int], n: int, n_turns: int, *, most: int, temperature: float
    ) -> list[Turn]:
        """Decisions to learn from: of each group n battles, of each battle n_turns, in this order.

        Args:
            chat: the model that plays.
            groups: the number of each; teams, opponent and dice follow from it, whatever was played before.
            n: battles of a group.
            n_turns: decisions of a battle; one with fewer gives some of them more than once.
            most: subwords of an answer.
            temperature: of the draw.

        Raises:
            ServerError: as `ArenaMatch.play`, or in all battles of a group nothing was to be decided.
        """
        policy, sessions = _DrawingPolicy(chat, self.form, most=most, temperature=temperature), dict[str, _Session]()
        learner = Contestant(LEARNER, partial(_Player, policy, sessions), policy)
        records: dict[str, RecordedBattle] = {}
        plans = [self._plan(learner, group, group * n + k, records) for group in groups for k in range(n)]
        match = ArenaMatch(self.arena, self.battle_format, self.seed, min(self.in_play, len(plans)), _passed)
        asyncio.run(match.play(plans))
        turns = []
        for first in range(0, len(plans), n):
            tags = [f"battle-{self.battle_format}-{plan.number}" for plan in plans[first : first + n]]
            found = [self._turns(sessions[tag], records[tag]) for tag in tags if tag in sessions and tag in records]
            found = [each for each in found if each]
            if not found:
                raise ServerError(f"nothing was to be decided in {', '.join(tags)}")
            draws = dice(self.seed, groups[first // n], "turns")
            for k in range(n):
                own = found[k % len(found)]
                turns += draws.sample(own, n_turns) if len(own) >= n_turns else draws.choices(own, k=n_turns)
        return turns

    def _plan(self, learner: Contestant, group: int, number: int, records: dict[str, RecordedBattle]) -> Plan:
        opponent = dice(self.seed, group, "opponent").choice(self.opponents)
        first, second = draw_pair(self.teams, self.seed, group)
        swapped = bool(number % 2)

        def keep(battle: Battle, record: RecordedBattle | None) -> None:
            if record is not None:
                records[battle.battle_tag] = record

        recorder = Recorder(keep)
        return Plan(
            number=number,
            players=(opponent, learner) if swapped else (learner, opponent),
            teams=(second, first) if swapped else (first, second),
            views=(int(swapped),),
            recorders=(None, recorder) if swapped else (recorder, None),
        )

    def _turns(self, session: _Session, record: RecordedBattle) -> list[Turn]:
        """The battle's answers with what they earned: the rewards from there on, a win counting 1."""
        rewards = self.reward_function.of_battle(record.states) / self.reward_function.win_reward
        returns = np.zeros(len(rewards) + 1)
        for t in reversed(range(len(rewards))):
            returns[t] = rewards[t] + self.discount * returns[t + 1]
        turns, t = [], 0
        for state, drawn in session.drawn:
            while t < len(rewards) and record.states[t] != state:
                t += 1
            if t == len(rewards):
                break
            turns.append(replace(drawn, chat=replace(drawn.chat, earned=float(returns[t]))))
            t += 1
        return turns


def _passed(plan: Plan, table: Table) -> None:
    """Its recorder has told of the battle."""

"""From one recorded battle to its rows: each decision as a chat, but for those that a filter leaves out."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gemma_metamon.battle.replays import MISSING_ACTION, BattleFileName, RecordedBattle, battle_stem
from gemma_metamon.errors import ConfigError, DataError
from gemma_metamon.language.data.advice import Adviser
from gemma_metamon.language.data.filters import Counts, Filters
from gemma_metamon.language.data.recorded import is_stand_in, recorded_decisions
from gemma_metamon.language.data.rows import ChatRow, number_of, result_of
from gemma_metamon.language.telling.answers import write_answer
from gemma_metamon.language.telling.prompts import HISTORY, Decision, messages_of, user_text

Reasoning = Literal["none", "facts", "recorded", "seen"]


@dataclass(frozen=True, kw_only=True)
class Wording:
    """How a decision is told.

    Attributes:
        history: how many decisions before it are told with it.
        reasoning: "facts" lets the answer begin with true sentences about the choice, "recorded" with what the player
            said to it, as chat models do; decisions without such words are left out then. "seen" is for pictures: what
            is to be seen there, which a model learns to read by saying it.
        blank: leave out all that the text tells of the battle: the control that shows what the text is worth.

    Raises:
        ConfigError: on construction, for a history that is left out.
    """

    history: int = HISTORY
    reasoning: Reasoning = "none"
    blank: bool = False

    def __post_init__(self) -> None:
        if self.blank and self.history:
            raise ConfigError(f"--history {self.history} tells nothing beside --blank, which leaves all out; give one")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row's text as JSON, and two 64-bit numbers: one that equal chats have in common, and one to draw by."""

    text: str
    mark: int
    rank: int


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A decision that passes the filters.

    Attributes:
        battle: which it is of.
        file_name: of that battle.
        name: the same read; None where it tells nothing.
        decisions: of the battle, in order.
        t: which of them it is.
        answer: the action that it is answered with.
        labelled: whether that is an expert's label.
        advantages: of each choice, as critics see it; None where none are asked.
    """

    battle: RecordedBattle
    file_name: str
    name: BattleFileName | None
    decisions: Sequence[Decision]
    t: int
    answer: int
    labelled: bool
    advantages: list[float] | None = None

    @property
    def decision(self) -> Decision:
        """With its state and choices."""
        return self.decisions[self.t]

    @property
    def choice(self) -> str:
        """The answer's name."""
        return self.decision.choices[self.answer]

    def facts(self) -> dict[str, Any]:
        """What every row tells of its decision and battle: the fields of `ChatRow`, but for the messages."""
        name = self.name
        return {
            "battle_id": battle_stem(self.file_name) if name is None else name.battle_id,
            "turn": self.decision.turn,
            "decision": self.t,
            "legal": list(self.decision.choices.values()),
            "choice": self.choice,
            "result": result_of(self.battle.states[-1]),
            "format": self.decision.state.format,
            "player": "" if name is None else name.player,
            "opponent": "" if name is None else name.opponent,
            "rating": None if name is None else name.rating,
            "labelled": self.labelled,
            "advantages": self.advantages,
        }


class Chooser:
    """Makes rows of battles, and counts what it leaves out.

    Args:
        filters: what a decision must be.
        wording: how it is told.
        seed: of what is drawn.
        agree_with: whose preferred action the choice must be; None asks nobody.
        critics: who judge each legal choice, and the one made where `filters.min_advantage` is given.
    """

    def __init__(
        self,
        filters: Filters,
        wording: Wording,
        seed: int,
        *,
        agree_with: Adviser | None = None,
        critics: Adviser | None = None,
    ) -> None:
        self.filters, self.wording, self.seed = filters, wording, seed
        self._agree_with, self._critics = agree_with, critics
        self._reasoning: Callable[[Decision, int], str] = _nothing
        if wording.reasoning == "facts":
            from gemma_metamon.language.telling.facts import reasoning_of  # needs poke-env's tables

            self._reasoning = reasoning_of

    @property
    def asks_agents(self) -> bool:
        """Whether trained agents are asked; they are not copied to other processes."""
        return self._agree_with is not None or self._critics is not None

    def rows(self, battle: RecordedBattle, file_name: str, counts: Counts) -> list[Candidate]:
        """The rows of one player's view of a battle.

        Args:
            battle: which is of that file.
            file_name: tells players and rating; one of another form does not, and is the battle's id itself.
            counts: what is read and left out is added to it.
        """
        try:
            name = BattleFileName.parse(file_name)
        except DataError:
            name = None
        n_decisions = len(battle.states) - 1
        counts.battles += 1
        counts.decisions += n_decisions
        if (reason := self.filters.refuses(battle, name)) is not None:
            counts.left_out[reason] += n_decisions
            return []
        opinion = _Opinion(battle, self._agree_with, self._critics, self.filters.min_advantage)
        chosen = []
        decisions = list(recorded_decisions(battle, self.wording.history))
        for t, decision in enumerate(decisions):
            answer, labelled = answer_of(battle, t)
            reason = self._refuses(battle, t, answer, decision) or self._lacks(battle, t, answer, labelled=labelled)
            reason = reason or opinion.refuses(t, answer)
            if reason is not None:
                counts.left_out[reason] += 1
                continue
            counts.labelled += labelled
            passed = Chosen(
                battle=battle,
                file_name=file_name,
                name=name,
                decisions=decisions,
                t=t,
                answer=answer,
                labelled=labelled,
                advantages=opinion.advantages(t, decision.choices),
            )
            chosen.append(self.candidate(passed))
        if self.filters.turns == "sampled" and chosen:
            counts.left_out["not sampled"] += len(chosen) - 1
            chosen = [min(chosen, key=lambda candidate: candidate.rank)]
        return chosen

    def _refuses(self, battle: RecordedBattle, t: int, answer: int, decision: Decision) -> str | None:
        if answer == MISSING_ACTION:
            return "unknown"
        if answer == 0 and is_stand_in(battle, t):
            return "stand-in"
        if answer not in decision.choices:
            return "illegal"
        if len(decision.choices) == 1 and not self.filters.keep_forced:
            return "forced"
        if t and battle.states[t] == battle.states[t - 1] and battle.actions[t] == battle.actions[t - 1]:
            return "repeated"
        return None

    def _lacks(self, battle: RecordedBattle, t: int, answer: int, *, labelled: bool) -> str | None:
        """Of battles of a player that speaks: whether the choice is its own, and whether its words are there."""
        if battle.thoughts is not None and battle.thoughts[t] is None and not labelled:
            return "made for it"
        if self.wording.reasoning == "recorded" and not _said(battle, t, answer):
            return "silent"
        return None

    def candidate(self, chosen: Chosen) -> Candidate:
        """The row of a decision."""
        wording, decision = self.wording, chosen.decision
        messages = messages_of(decision, reasoning=wording.reasoning != "none", blank=wording.blank)
        messages.append({"role": "assistant", "content": write_answer(chosen.choice, self.reasoning_of(chosen))})
        row = ChatRow(messages=messages, **chosen.facts())
        told = user_text(decision) if wording.blank else messages[1]["content"]  # blank texts are all equal
        mark = number_of(told + messages[-1]["content"])
        return Candidate(json.dumps(vars(row), ensure_ascii=False), mark, self.rank_of(chosen))

    def reasoning_of(self, chosen: Chosen) -> str:
        """What the answer says to the choice; "" where it says nothing."""
        if self.wording.reasoning == "recorded":
            return _said(chosen.battle, chosen.t, chosen.answer)
        return self._reasoning(chosen.decision, chosen.answer)

    def rank_of(self, chosen: Chosen) -> int:
        """The number that a decision is drawn by."""
        return number_of(f"{self.seed} {chosen.file_name} {chosen.t}")


def answer_of(battle: RecordedBattle, t: int) -> tuple[int, bool]:
    """What a decision is to be answered with, and whether it is an expert's label: else it is what was done."""
    if battle.labels is not None and battle.labels[t] != MISSING_ACTION:
        return battle.labels[t], True
    return battle.actions[t], False


def _said(battle: RecordedBattle, t: int, answer: int) -> str:
    """What the player said to this choice; "" where it said nothing, or the choice is another one than it made."""
    said = battle.thoughts is not None and battle.actions[t] == answer and battle.thoughts[t]
    return said or ""


class _Opinion:
    """What agents think of the decisions of one battle."""

    def __init__(
        self, battle: RecordedBattle, agree_with: Adviser | None, critics: Adviser | None, min_advantage: float | None
    ) -> None:
        self._preferred: Any = None if agree_with is None else agree_with.preferred(battle)
        self._advantages: Any = None if critics is None else critics.advantages(battle)
        self._spaces = [adviser.view.action_space if adviser else None for adviser in (agree_with, critics)]
        self._least = min_advantage

    def refuses(self, t: int, answer: int) -> str | None:
        """Of a decision that passes all else."""
        agree, judge = self._spaces
        if agree is not None and self._preferred[t] != agree.from_recorded(answer):
            return "disagreement"
        if judge is not None and self._least is not None:
            return "advantage" if self._advantages[t, judge.from_recorded(answer)] < self._least else None
        return None

    def advantages(self, t: int, actions: Iterable[int]) -> list[float] | None:
        """Of these actions of a decision, as the critics see them; None where none are asked."""
        judge = self._spaces[1]
        if judge is None:
            return None
        return [round(float(self._advantages[t, judge.from_recorded(action)]), 4) for action in actions]


def _nothing(decision: Decision, action: int) -> str:
    return ""

"""How a chat model chooses: by the probability of each legal answer, after a thought of its own where it is to think.

The thought is written freely, one subword after the other, and ends by itself or at a bound. Then each legal choice is
scored behind it, as the answer that would follow. What was thought can make a choice probable, and none legal.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from gemma_metamon.errors import ConfigError
from gemma_metamon.language.data.validation import Messages
from gemma_metamon.language.models.held_out import generate
from gemma_metamon.language.models.scoring import ChoiceScorer
from gemma_metamon.language.telling.answers import AnswerError, split_answer, write_answer
from gemma_metamon.language.tokenizers import encode_answers, encode_prompts

MOST_THOUGHT: Final = 4096
_OPENS: Final = "<REASONING>"
_ENDS: Final = ("</REASONING>", "<SOLUTION>")
_TAG: Final = re.compile(r"</?(?:REASONING|SOLUTION)>")


@dataclass(frozen=True, kw_only=True)
class Thinking:
    """Whether a model thinks before it chooses.

    Attributes:
        reasoning: whether it does.
        reasoning_tokens: subwords of one thought, at most.

    Raises:
        ConfigError: on construction, for a bound that cannot be.
    """

    reasoning: bool = False
    reasoning_tokens: int = 128

    def __post_init__(self) -> None:
        if not 1 <= self.reasoning_tokens <= MOST_THOUGHT:
            raise ConfigError(
                f"reasoning_tokens={self.reasoning_tokens}; it must be within 1 to {MOST_THOUGHT}, as in "
                "text:RUN(reasoning=yes, reasoning_tokens=64)"
            )

    @property
    def most(self) -> int:
        """Subwords of a thought, 0 of who does not think."""
        return self.reasoning_tokens if self.reasoning else 0

    def __str__(self) -> str:
        """As it is written behind a player's name; nothing of one that does not think."""
        if not self.reasoning:
            return ""
        tokens = "" if self.reasoning_tokens == Thinking.reasoning_tokens else f", {self.reasoning_tokens=}"
        return f"(reasoning=yes{tokens.replace('self.', '')})"


@dataclass(frozen=True)
class ScoredChoices:
    """The logarithm of each choice's probability among the legal ones, (its choices,), and the thought before it."""

    scores: npt.NDArray[np.float32]
    thought: str = ""


class Answerer:
    """A chat model as one that chooses, for many battles at once. Deterministic; one thread at a time.

    Args:
        scorer: of the model.
        thinking: before it chooses.
    """

    def __init__(self, scorer: ChoiceScorer, thinking: Thinking | None = None) -> None:
        self.scorer = scorer
        self.thinking = thinking or Thinking()

    def choose(self, chats: Sequence[Messages], choices: Sequence[Sequence[str]]) -> list[ScoredChoices | None]:
        """What it makes of each decision; None of a chat that is longer than its context, with what it would answer.

        Args:
            chats: up to where the model answers.
            choices: of each, the names of its legal choices, at least one.
        """
        prompts = encode_prompts(self.scorer.chat.tokenizer, chats)
        found: list[ScoredChoices | None] = [None] * len(prompts)
        fitting = [i for i, prompt in enumerate(prompts) if self._fits(prompt, choices[i])]
        if not fitting:
            return found
        asked = [prompts[i] for i in fitting]
        thoughts = self._think(asked) if self.thinking.most else [""] * len(asked)
        answers = [self._answers(choices[i], thought) for i, thought in zip(fitting, thoughts, strict=True)]
        for i, scores, thought in zip(fitting, self.scorer.score_ids(asked, answers), thoughts, strict=True):
            found[i] = ScoredChoices(scores, thought)
        return found

    def count_subwords(self, chat: Messages) -> int:
        """Of a chat up to where the model answers."""
        return len(encode_prompts(self.scorer.chat.tokenizer, [chat])[0])

    def _fits(self, prompt: Sequence[int], choices: Sequence[str]) -> bool:
        answers = self._answers(choices, "." if self.thinking.most else "")
        return len(prompt) + max(map(len, answers)) + self.thinking.most <= self.scorer.chat.context

    def _answers(self, choices: Sequence[str], thought: str) -> list[list[int]]:
        if not thought:
            return self.scorer.answer_ids(choices)
        return encode_answers(self.scorer.chat.tokenizer, [write_answer(choice, thought) for choice in choices])

    def _think(self, prompts: Sequence[list[int]]) -> list[str]:
        chat = self.scorer.chat
        (opened,) = chat.tokenizer([_OPENS], add_special_tokens=False)["input_ids"]
        written = generate(chat, [[*prompt, *opened] for prompt in prompts], self.thinking.most, until=_ENDS)
        return [as_thought(text) for text in written]


def as_thought(text: str) -> str:
    """What stands before the end of the reasoning; "" where it would break the form of an answer."""
    thought = _TAG.split(text)[0]
    thought = re.sub(r"</?[A-Z]*$", "", thought).strip()  # a mark that the bound has cut
    try:
        reasoning, _ = split_answer(write_answer("a", thought))
    except AnswerError:
        return ""
    return reasoning

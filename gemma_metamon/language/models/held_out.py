"""What a chat model makes of held-out decisions: how often it agrees, how sure it is, whether its words are legal."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gemma_metamon.errors import DataError
from gemma_metamon.language.data.chats import Example
from gemma_metamon.language.models.chat_model import ChatModel
from gemma_metamon.language.models.scoring import ChoiceScorer

BATCH = 32
ANSWER_SUBWORDS, REASONED_SUBWORDS = 32, 256
"""So long may a free answer be at most, without and with reasoning."""

_MOST_LOSS = 700.0  # of a larger one the exponential is more than a float holds
_LOOKED_AT = 16
"""Of an answer that is being written, so many of its last subwords may hold what ends it."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Of held-out decisions.

    Attributes:
        agreement: share of the decisions with two or more legal choices in which the most probable one was made; None
            without such a decision.
        majority: the share that one would have who always answers with what was chosen most often.
        decisions: how many those are.
        perplexity: of the answers, per subword.
        legal_share: of answers that were generated freely, how many name a legal choice; None where none was.
        generated: how many those are.
    """

    agreement: float | None
    majority: float | None
    decisions: int
    perplexity: float
    legal_share: float | None
    generated: int


def measure(
    chat: ChatModel,
    examples: Sequence[Example],
    *,
    generated: int,
    reasoning: bool = False,
    on_answer: Callable[[Example, str], Any] | None = None,
) -> Measured:
    """Measures a model, which is left in the mode it was in.

    Args:
        chat: the model.
        examples: the decisions, at least one.
        generated: how many of them are answered freely, too.
        reasoning: whether its answers say why.
        on_answer: is told of each free answer.
    """
    was_training = chat.model.training
    chat.model.eval()
    try:
        known = [example for example in examples if len(example.chat.legal) > 1 and example.chat.choice]
        asked = [example for example in examples if example.chat.legal][:generated]
        agreed = _count_agreed(chat, known)
        legal = _count_legal(chat, asked, REASONED_SUBWORDS if reasoning else ANSWER_SUBWORDS, on_answer)
        return Measured(
            agreement=agreed / len(known) if known else None,
            majority=max(Counter(each.chat.choice for each in known).values()) / len(known) if known else None,
            decisions=len(known),
            perplexity=_exp(mean_loss(chat, examples)),
            legal_share=legal / len(asked) if asked else None,
            generated=len(asked),
        )
    finally:
        chat.model.train(was_training)


def generate(
    chat: ChatModel,
    prompts: Sequence[list[int]],
    most: int,
    *,
    until: Sequence[str] = (),
    pixels: Sequence[Tensor] | None = None,
) -> list[str]:
    """The most probable answers, subword by subword, without marks.

    Args:
        chat: in eval mode.
        prompts: up to where it answers.
        most: subwords of an answer.
        until: texts of a few characters; an answer that holds one of them goes on no further.
        pixels: what is seen at each prompt; None for a model without sight.
    """
    width = max(map(len, prompts))
    ids = [[chat.tokenizer.pad_token_id] * (width - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    with torch.inference_mode():
        written: Tensor = chat.model.generate(
            **chat.inputs_of(torch.tensor(ids, device=chat.device), pixels),
            attention_mask=torch.tensor(mask, device=chat.device),
            max_new_tokens=most,
            do_sample=False,
            stopping_criteria=[_stop(chat.tokenizer, width, until)] if until else None,
        )
    return [str(text) for text in chat.tokenizer.batch_decode(written[:, width:], skip_special_tokens=True)]


def _stop(tokenizer: Any, width: int, until: Sequence[str]) -> Any:
    """Tells transformers which answers, (B, width + T) with their prompts, are whole."""

    def whole(ids: Tensor, _: Any, **__: Any) -> Tensor:
        ends = tokenizer.batch_decode(ids[:, max(width, ids.shape[1] - _LOOKED_AT) :])
        return torch.tensor([any(text in end for text in until) for end in ends], device=ids.device)

    return whole


def answer_loss(gemma: Any, inputs: dict[str, Tensor], labels: Tensor) -> tuple[Tensor, int]:
    """The sum over the answers' subwords of their negative log-likelihood, and how many subwords there are.

    The head looks at these alone, which for long prompts are one in thirty.

    Args:
        gemma: a Gemma3ForCausalLM, or a Gemma3ForConditionalGeneration.
        inputs: of its layers, (B, T) ids and the like.
        labels: (B, T), -100 where there is no answer.
    """
    states = gemma.model(**inputs, use_cache=False).last_hidden_state[:, :-1]  # (B, T - 1, D)
    wanted = labels[:, 1:] != -100
    logits = gemma.lm_head(states[wanted]).float()  # (subwords of answers, vocabulary)
    return F.cross_entropy(logits, labels[:, 1:][wanted], reduction="sum"), int(wanted.sum())


def mean_loss(chat: ChatModel, examples: Sequence[Example]) -> float:
    """The mean negative log-likelihood of a subword of the answers; of a model in eval mode."""
    total, subwords = 0.0, 0
    with torch.inference_mode():
        for first in range(0, len(examples), BATCH):
            batch = examples[first : first + BATCH]
            width = max(map(len, batch))
            ids, labels = torch.zeros(len(batch), width).long(), torch.full((len(batch), width), -100)
            for row, each in enumerate(batch):
                start, stop = len(each.prompt), len(each)
                ids[row, :stop] = torch.tensor(each.prompt + each.answer)
                labels[row, start:stop] = torch.tensor(each.answer)
            # padding on the right is behind all that is looked at
            inputs = chat.inputs_of(ids.to(chat.device), chat.pixels_of(batch))
            loss, n = answer_loss(chat.gemma, inputs, labels.to(chat.device))
            total, subwords = total + float(loss), subwords + n
    return total / subwords


def _exp(loss: float) -> float:
    return math.exp(loss) if loss < _MOST_LOSS else math.inf


def _count_agreed(chat: ChatModel, examples: Sequence[Example]) -> int:
    scorer, agreed = ChoiceScorer(chat), 0
    for first in range(0, len(examples), BATCH):
        batch = examples[first : first + BATCH]
        scores = scorer.score_ids(
            [each.prompt for each in batch],
            [scorer.answer_ids(each.chat.legal) for each in batch],
            chat.pixels_of(batch),
        )
        agreed += sum(
            each.chat.legal[int(np.argmax(own))] == each.chat.choice for each, own in zip(batch, scores, strict=True)
        )
    return agreed


def _count_legal(
    chat: ChatModel, examples: Sequence[Example], most: int, on_answer: Callable[[Example, str], Any] | None
) -> int:
    legal = 0
    for first in range(0, len(examples), BATCH):
        batch = examples[first : first + BATCH]
        written = generate(chat, [each.prompt for each in batch], most, pixels=chat.pixels_of(batch))
        for each, text in zip(batch, written, strict=True):
            if on_answer is not None:
                on_answer(each, text)
            try:
                chat.parse_answer(text, dict(enumerate(each.chat.legal)))
            except DataError:
                continue
            legal += 1
    return legal

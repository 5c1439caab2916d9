"""All choices in one pass score as each does in a pass of its own, whatever else is in the batch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.chats import chats_of, small_model

from gemma_metamon.language.models.chat_model import ChatModel
from gemma_metamon.language.models.scoring import ChoiceScorer
from gemma_metamon.language.tokenizers import encode_prompts

CHATS = chats_of()
with pytest.MonkeyPatch.context() as patch:
    MODEL = small_model(patch, CHATS)
    NARROW = small_model(patch, CHATS, sliding_window=16)
PROMPTS = encode_prompts(MODEL.tokenizer, [chat.messages[:-1] for chat in CHATS])


def scored_apart(model: ChatModel, prompt: list[int], answers: list[list[int]]) -> np.ndarray:
    """One pass for each answer, the head everywhere; up to the first subword of what all answers end with."""
    same = 0
    while len({tuple(answer[len(answer) - same - 1 :]) for answer in answers}) == 1:
        same += 1
    found = []
    for answer in answers:
        own = answer[: len(answer) - same + 1]
        with torch.no_grad():
            logits = model.gemma(input_ids=torch.tensor([prompt + own])).logits[0].log_softmax(-1)
        found.append(sum(logits[len(prompt) - 1 + i, subword] for i, subword in enumerate(own)))
    return torch.stack(found).log_softmax(0).numpy()


@pytest.mark.parametrize("model", [MODEL, NARROW], ids=["wide window", "narrow window"])
def test_scores_are_those_of_one_pass_per_answer(model: ChatModel) -> None:
    scorer = ChoiceScorer(model)
    chats, prompts = CHATS[::6], PROMPTS[::6]
    answers = [scorer.answer_ids(chat.legal) for chat in chats]
    for own, prompt, each in zip(scorer.score_ids(prompts, answers), prompts, answers, strict=True):
        np.testing.assert_allclose(own, scored_apart(model, prompt, each), rtol=0, atol=1e-4)


def test_a_battle_scores_alone_as_among_others_and_a_second_time() -> None:
    scorer = ChoiceScorer(MODEL)
    prompts, choices = [chat.messages[:-1] for chat in CHATS[:9]], [chat.legal for chat in CHATS[:9]]
    together = scorer.score(prompts, choices)
    for prompt, own, expected in zip(prompts, choices, together, strict=True):
        np.testing.assert_allclose(scorer.score([prompt], [own])[0], expected, rtol=0, atol=1e-4)
        np.testing.assert_allclose(ChoiceScorer(MODEL).score([prompt], [own])[0], expected, rtol=0, atol=1e-4)


def test_prompts_that_begin_otherwise_are_not_scored_behind_what_was_kept() -> None:
    scorer = ChoiceScorer(MODEL)
    scorer.score([chat.messages[:-1] for chat in CHATS[:4]], [chat.legal for chat in CHATS[:4]])
    other = [CHATS[0].messages[1]]
    (found,) = scorer.score([other], [CHATS[0].legal])
    (expected,) = ChoiceScorer(MODEL).score([other], [CHATS[0].legal])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_a_single_choice_is_certain() -> None:
    assert ChoiceScorer(MODEL).score([CHATS[0].messages[:-1]], [["move Rest"]])[0].tolist() == [0.0]


@settings(max_examples=40)
@given(st.lists(st.lists(st.integers(5, 9), min_size=1, max_size=5).map(tuple), min_size=2, max_size=6, unique=True))
def test_any_answers_score_as_apart(names: list[tuple[int, ...]]) -> None:
    answers = [[4, *name, 11, 10] for name in names]  # of one form, as real ones
    (found,) = ChoiceScorer(MODEL).score_ids([PROMPTS[0]], [answers])
    np.testing.assert_allclose(found, scored_apart(MODEL, PROMPTS[0], answers), rtol=0, atol=1e-4)

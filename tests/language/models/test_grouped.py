"""Groups of answers that share their prompt: the same numbers as of one row per answer."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.chats import chats_of, small_model
from torch import Tensor

from gemma_metamon.language.data.chats import encode
from gemma_metamon.language.models.chat_model import ChatModel
from gemma_metamon.language.models.grouped import draw, weigh
from gemma_metamon.language.models.held_out import generate

CHATS = chats_of(most=6)


@pytest.fixture(scope="module")
def chat() -> ChatModel:
    with pytest.MonkeyPatch.context() as patch:
        return small_model(patch, CHATS, sliding_window=64)  # less than a prompt


def rows_of(prompts: list[list[int]], answers: list[list[int]]) -> tuple[Tensor, Tensor]:
    """As TRL pads them: ids and mask (B, P + A)."""
    P, A = max(map(len, prompts)), max(map(len, answers))
    pairs = list(zip(prompts, answers, strict=True))
    ids = [[0] * (P - len(p)) + p + a + [0] * (A - len(a)) for p, a in pairs]
    mask = [[0] * (P - len(p)) + [1] * (len(p) + len(a)) + [0] * (A - len(a)) for p, a in pairs]
    return torch.tensor(ids), torch.tensor(mask)


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.lists(st.integers(5, 200), min_size=1, max_size=6)), min_size=1, max_size=7
    )
)
@settings(max_examples=10)
def test_answers_weigh_what_they_weigh_alone(chat: ChatModel, drawn: list[tuple[int, list[int]]]) -> None:
    examples, _ = encode(chat.tokenizer, CHATS, 4096)
    prompts, answers = [examples[i].prompt for i, _ in drawn], [answer for _, answer in drawn]
    ids, mask = rows_of(prompts, answers)
    width = max(map(len, answers))
    found, entropies = weigh(chat.gemma, ids, mask, width, temperature=0.7)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        with torch.no_grad():
            logits = chat.gemma(input_ids=torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1] / 0.7
        alone = logits.log_softmax(-1)
        wanted = alone.gather(1, torch.tensor(answer)[:, None])[:, 0]
        torch.testing.assert_close(found[row, : len(answer)].detach(), wanted, rtol=0, atol=2e-5)
        torch.testing.assert_close(
            entropies[row, : len(answer)], torch.distributions.Categorical(logits=logits).entropy(), rtol=0, atol=2e-5
        )
        assert not found[row, len(answer) :].any()


def test_a_cold_draw_gives_the_most_probable_answer(chat: ChatModel) -> None:
    examples, _ = encode(chat.tokenizer, CHATS, 4096)
    prompts = [example.prompt for example in examples]
    ends = chat.gemma.config.eos_token_id
    answers = draw(chat.gemma, prompts, 2, most=5, temperature=1e-4, ends=ends)
    texts = chat.tokenizer.batch_decode(answers, skip_special_tokens=True)
    assert texts[::2] == texts[1::2] == generate(chat, prompts, 5)


def test_draws_are_as_frequent_as_they_are_probable(chat: ChatModel) -> None:
    (example, *_), _ = encode(chat.tokenizer, CHATS, 4096)
    n, generator_state = 4000, torch.get_rng_state()
    torch.manual_seed(0)
    first = torch.tensor(draw(chat.gemma, [example.prompt], n, most=1, temperature=0.5, ends=[1]))[:, 0]
    torch.set_rng_state(generator_state)
    with torch.no_grad():
        probabilities = (chat.gemma(input_ids=torch.tensor([example.prompt])).logits[0, -1] / 0.5).softmax(-1)
    likely = int(probabilities.argmax())
    share, p = float((first == likely).float().mean()), float(probabilities[likely])
    assert abs(share - p) < 4 * (p * (1 - p) / n) ** 0.5


def test_an_answer_ends_with_its_end(chat: ChatModel) -> None:
    (example, *_), _ = encode(chat.tokenizer, CHATS, 4096)
    everything = range(len(chat.tokenizer))
    assert {len(each) for each in draw(chat.gemma, [example.prompt], 3, most=5, temperature=1.0, ends=everything)} == {
        1
    }
    assert {len(each) for each in draw(chat.gemma, [example.prompt], 3, most=5, temperature=1.0, ends=[10**6])} == {5}

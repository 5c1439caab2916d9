"""A smaller tokenizer reads chats as the whole one does, and any other text without loss."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.chats import chats_of, gemma_tokenizer

from gemma_metamon.language.telling.answers import write_answer
from gemma_metamon.language.tokenizers import (
    chat_template,
    encode_answers,
    encode_prompts,
    learn_tokenizer,
    trim_tokenizer,
)

CHATS = [chat.messages for chat in chats_of()]
ANSWERS = sorted({write_answer(choice) for chat in chats_of() for choice in chat.legal})
LEARNED = learn_tokenizer(CHATS)


def test_the_trimmed_tokenizer_reads_the_chats_as_the_whole_one_does() -> None:
    whole = gemma_tokenizer()
    trimmed, kept_ids = trim_tokenizer(whole, CHATS)
    assert len(trimmed) == len(kept_ids) < len(whole) / 20
    for small, large in zip(
        [*encode_prompts(trimmed, CHATS), *encode_answers(trimmed, ANSWERS)],
        [*encode_prompts(whole, CHATS), *encode_answers(whole, ANSWERS)],
        strict=True,
    ):
        assert [kept_ids[index] for index in small] == large


def test_the_packaged_template_writes_what_gemmas_own_writes() -> None:
    whole = gemma_tokenizer()
    for chat in [*CHATS[:5], CHATS[0][1:], [*CHATS[0], *CHATS[1][1:]]]:
        for cue in (False, True):
            own, ours = (
                whole.apply_chat_template(chat, chat_template=each, tokenize=False, add_generation_prompt=cue)
                for each in (whole.chat_template, chat_template())
            )
            assert own == ours


def test_a_prompt_and_its_answer_read_apart_are_what_they_are_read_together() -> None:
    for chat, prompt in zip(CHATS, encode_prompts(LEARNED, [chat[:-1] for chat in CHATS]), strict=True):
        (answer,) = encode_answers(LEARNED, [chat[-1]["content"]])
        together = LEARNED(LEARNED.apply_chat_template(chat, tokenize=False), add_special_tokens=False)["input_ids"]
        assert [*prompt, *answer] == together[:-1]  # a line break follows


def test_a_choice_is_few_subwords_of_a_learned_tokenizer() -> None:
    assert max(len(answer) for answer in encode_answers(LEARNED, ANSWERS)) <= 9


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<"), max_size=40))
@pytest.mark.filterwarnings("ignore:.*clean_up_tokenization_spaces")
def test_any_text_comes_back_from_a_learned_tokenizer(text: str) -> None:
    read = LEARNED(text, add_special_tokens=False)["input_ids"]
    assert LEARNED.decode(read) == text.replace("\N{LOWER ONE EIGHTH BLOCK}", " ")

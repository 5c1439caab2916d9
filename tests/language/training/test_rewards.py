"""The rewards of GRPO, each by itself, and how they are named."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemma_metamon.errors import ConfigError, DataError
from gemma_metamon.language.data.chats import Chat
from gemma_metamon.language.telling.answers import write_answer
from gemma_metamon.language.telling.prompts import SYSTEM, SYSTEM_REASONING
from gemma_metamon.language.training import rewards
from gemma_metamon.language.training.rewards import MOST_ADVANTAGE, REWARDS, evaluate, find_rewards, read_weights

LEGAL = ("move Surf", "move Rest", "switch Chansey")


def chat_of(system: str = SYSTEM, advantages: tuple[float, ...] = ()) -> Chat:
    said = zip(("system", "user", "assistant"), (system, "Turn 3", write_answer("move Rest")), strict=True)
    return Chat([{"role": role, "content": text} for role, text in said], LEGAL, "move Rest", advantages)


@pytest.mark.parametrize(
    ("answer", "plain", "reasoned"),
    [
        ("<SOLUTION>move Rest</SOLUTION>", 1, 1),
        ("<REASONING>slow</REASONING><SOLUTION>move Rest</SOLUTION>", 1, 2),
        ("<REASONING>a</REASONING><REASONING>b</REASONING><SOLUTION>x</SOLUTION>", 1, 1),
        ("<SOLUTION>a</SOLUTION><SOLUTION>b</SOLUTION>", 0, 0),
        ("<SOLUTION>move Rest", 0, 0),
        ("<SOLUTION><SOLUTION>move Rest</SOLUTION>", 0, 0),
        ("move Rest", 0, 0),
        ("", 0, 0),
    ],
)
def test_the_form_counts_blocks_and_reasoning_only_where_it_is_asked_for(
    answer: str, plain: float, reasoned: float
) -> None:
    assert rewards.format_reward(answer, chat_of()) == plain
    assert rewards.format_reward(answer, chat_of(SYSTEM_REASONING)) == reasoned


@pytest.mark.parametrize(
    ("choice", "legal", "correct", "critics"),
    [("move Rest", 1, 2, 0.5), ("move Surf", 1, 0, -2), ("switch Chansey", 1, 0, 2), ("move Fly", 0, 0, -2)],
)
def test_a_choice_is_worth_that_it_is_legal_the_teachers_and_what_critics_say(
    choice: str, legal: float, correct: float, critics: float
) -> None:
    chat, answer = chat_of(advantages=(-7.0, 0.5, 40.0)), write_answer(choice)
    assert rewards.legality(answer, chat) == legal
    assert rewards.correctness(answer, chat) == correct
    assert rewards.advantage(answer, chat) == critics


def test_what_a_chat_does_not_tell_is_not_rewarded() -> None:
    unknown = Chat(chat_of().messages)
    for name in ("legality", "correctness", "advantage", "battle"):
        assert REWARDS[name](write_answer("move Rest"), unknown) is None
    with pytest.raises(ConfigError, match="chat export --critics RUN"):
        rewards.require_applicable(find_rewards(["advantage"]), [chat_of()])


def test_length_costs_beyond_forty_words_and_at_most_one() -> None:
    worth = [rewards.length(" ".join(["word"] * n), chat_of()) for n in (0, 40, 60, 80, 800)]
    assert worth == [0, 0, -0.5, -1, -1]


@given(st.text(st.sampled_from("<>/SOLUTIONREAG move st")), st.lists(st.floats(-99, 99), min_size=3, max_size=3))
def test_any_answer_gets_a_number_within_its_bounds(answer: str, advantages: list[float]) -> None:
    chat = replace(chat_of(SYSTEM_REASONING, tuple(advantages)), earned=0.5)
    bounds = {"format": (0, 2), "legality": (0, 1), "correctness": (0, 2), "length": (-1, 0), "battle": (0.5, 0.5)}
    bounds["advantage"] = (-MOST_ADVANTAGE, MOST_ADVANTAGE)
    for name, reward in REWARDS.items():
        value = reward(answer, chat)
        assert value is not None
        assert bounds[name][0] <= value <= bounds[name][1]


def test_weights_are_read_by_name() -> None:
    assert read_weights(["format", "correctness=2", "mine:brave=-0.5"]) == {
        "format": 1,
        "correctness": 2,
        "mine:brave": -0.5,
    }
    for texts, said in ((["format=x"], "is no number"), (["format", "format=2"], "twice"), (["format=0"], "weigh 0")):
        with pytest.raises(ConfigError, match=said):
            read_weights(texts)


@pytest.fixture
def users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(body: str) -> None:
        (tmp_path / "brave_rewards.py").write_text(f"def brave(answer, chat):\n    {body}\n", encoding="utf-8")

    monkeypatch.delitem(__import__("sys").modules, "brave_rewards", raising=False)
    return write


def test_a_users_own_reward_is_found_by_its_module(users_own: Callable[[str], None]) -> None:
    users_own("return float('Surf' in answer) if chat.legal else None")
    own = find_rewards(["brave_rewards:brave"])["brave_rewards:brave"]
    assert evaluate("brave_rewards:brave", own, write_answer("move Surf"), chat_of()) == 1


@pytest.mark.parametrize(("body", "said"), [("return answer", "expected a finite number"), ("return 1 / 0", "failed")])
def test_a_users_reward_that_fails_is_said_in_one_sentence(
    users_own: Callable[[str], None], body: str, said: str
) -> None:
    users_own(body)
    with pytest.raises(DataError, match=said):
        rewards.require_applicable(find_rewards(["brave_rewards:brave"]), [chat_of()])


def test_a_reward_that_is_not_there_is_said_in_one_sentence() -> None:
    for name, said in (
        ("luck", "there are format"),
        ("no_such_module:f", "PYTHONPATH"),
        ("math:tau", "is no function"),
    ):
        with pytest.raises(ConfigError, match=said):
            find_rewards([name])

"""One side of a battle in words: its battles are those of the numbered environment, and bad answers lose nothing."""

from collections.abc import Iterator

import numpy as np
import pytest
from gymnasium.error import ResetNeeded

from gemma_metamon.envs.battle_env import BattleEnv
from gemma_metamon.envs.chat_env import Asked, ChatBattleEnv
from gemma_metamon.errors import ConfigError
from gemma_metamon.language.telling.answers import write_answer
from gemma_metamon.language.telling.prompts import SYSTEM, SYSTEM_REASONING

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def env() -> Iterator[ChatBattleEnv]:
    env = ChatBattleEnv()
    yield env
    env.close()


def test_a_battle_in_words_is_the_one_in_numbers(env: ChatBattleEnv) -> None:
    numbered = BattleEnv()
    try:
        _, info = numbered.reset(seed=3)
        asked = env.reset(seed=3)
        in_words, in_numbers = [asked.turn], [info["turn"]]
        ended = False
        while not ended:
            assert len(asked.legal) == info["action_mask"].sum()
            _, reward, terminated, truncated, info = numbered.step(int(np.flatnonzero(info["action_mask"])[0]))
            ended = terminated or truncated
            asked = env.step(write_answer(asked.legal[0], "it is the first"))
            assert asked.problem == ""
            in_words += [asked.turn, asked.reward]
            in_numbers += [info["turn"], reward]
        assert in_words == in_numbers
        assert len(in_words) > 20
        assert asked.result == info["result"]
        assert (asked.messages, asked.legal, asked.is_truncated) == ([], [], False)
        with pytest.raises(ResetNeeded):
            env.step(write_answer("move Surf"))
    finally:
        numbered.close()


def test_an_answer_that_names_no_choice_is_told_so_and_one_is_drawn(env: ChatBattleEnv) -> None:
    def played() -> list[Asked]:
        asked = [env.reset(seed=5)]
        for answer in ("I do not know", write_answer("move Splash"), ""):
            asked.append(env.step(answer))
        return asked

    first = played()
    assert [each.problem != "" for each in first] == [False, True, True, True]
    assert "no choice here" in first[2].problem
    assert first[-1].turn > 1
    assert played() == first  # what is drawn in their place is of the battle's own dice


def test_it_is_told_what_chat_data_tell(env: ChatBattleEnv) -> None:
    asked = env.reset(seed=1)
    system, user = asked.messages
    assert (system["role"], system["content"]) == ("system", SYSTEM)
    assert user["role"] == "user"
    assert all(choice in user["content"] for choice in asked.legal)
    later = env.step(write_answer(asked.legal[0]))
    assert asked.legal[0].removeprefix("move ") in later.messages[1]["content"]  # what was chosen is in its history
    thinking = ChatBattleEnv(reasoning=True)
    try:
        assert thinking.reset(seed=1).messages[0]["content"] == SYSTEM_REASONING
    finally:
        thinking.close()


def test_past_the_last_turn_it_is_cut_short() -> None:
    env = ChatBattleEnv(max_turns=2)
    try:
        asked = env.reset(seed=1)
        while not asked.result:
            asked = env.step(write_answer(asked.legal[0]))
        assert asked.is_truncated
        assert asked.result not in ("won", "lost", "tied")
    finally:
        env.close()


def test_an_opponent_that_cannot_be_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="NobodyPlayer"):
        ChatBattleEnv(opponent="NobodyPlayer")

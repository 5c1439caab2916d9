"""Battles behind OpenEnv's protocol, asked by OpenEnv's own client."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from support.processes import free_port

pytest.importorskip("openenv", reason="needs the extra: pip install 'gemma-metamon[openenv]'")

from openenv.core import GenericEnvClient

from gemma_metamon.envs.chat_env import ChatBattleEnv
from gemma_metamon.language.telling.answers import write_answer

pytestmark = [
    pytest.mark.server,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of what OpenEnv brings with it
]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    command = [sys.executable, "-m", "gemma_metamon", "openenv", "--opponent", "RandomPlayer", "--max_turns", "30"]
    command += ["--sessions", "2", "--port", str(free_port())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as served:
        said = served.stdout.readline() if served.stdout is not None else ""
        assert said.startswith("gen1ou against RandomPlayer is served at http://127.0.0.1:")
        yield said.split()[-1]
        served.send_signal(signal.SIGTERM)
        assert served.wait(60) in (-signal.SIGTERM, 128 + signal.SIGTERM)


def played(url: str, seed: int) -> list[tuple[int, Any, bool]]:
    """A battle in which the first legal choice is always taken."""
    steps = []
    with GenericEnvClient(base_url=url).sync() as client:
        result = client.reset(seed=seed)
        while not result.done:
            shown = result.observation
            assert [message["role"] for message in shown["messages"]] == ["system", "user"]
            result = client.step({"answer": write_answer(shown["legal"][0])})
            steps.append((result.observation["turn"], result.reward, result.done))
        assert result.observation["result"]
        assert client.state()["step_count"] == len(steps)
    return steps


def test_a_battle_is_played_to_its_end_and_the_same_seed_gives_it_again(url: str) -> None:
    steps = played(url, 3)
    assert len(steps) > 10
    assert steps == played(url, 3)


def test_what_it_pays_is_what_the_environment_pays(url: str) -> None:
    env = ChatBattleEnv(max_turns=30)
    try:
        asked, paid = env.reset(seed=4), []
        while not asked.result:
            asked = env.step(write_answer(asked.legal[0]))
            paid.append((asked.turn, asked.reward, bool(asked.result)))
    finally:
        env.close()
    assert played(url, 4) == paid

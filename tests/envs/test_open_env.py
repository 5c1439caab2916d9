"""Battles behind OpenEnv's protocol, asked by OpenEnv's own client."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("openenv", reason="needs the extra: pip install 'gemma-metamon[openenv]'")

import uvicorn
from openenv.core import GenericEnvClient

from gemma_metamon.envs.chat_env import ChatBattleEnv
from gemma_metamon.envs.open_env import battle_app
from gemma_metamon.language.answers import write_answer
from gemma_metamon.serving.server import Address, listening_at

pytestmark = [
    pytest.mark.server,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of what OpenEnv brings with it
]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    app = battle_app(lambda: ChatBattleEnv(max_turns=30), sessions=2)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    server.install_signal_handlers = lambda: None  # type: ignore[method-assign]
    with listening_at(Address()) as listening:
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join(60)


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

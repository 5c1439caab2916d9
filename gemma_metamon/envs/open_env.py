"""Battles told in chats behind OpenEnv's protocol: for whatever trains language models on OpenEnv environments."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from openenv.core.env_server import Action, Environment, Observation, State, create_fastapi_app
from pydantic import Field

from gemma_metamon.envs.chat_env import Asked, ChatBattleEnv

if TYPE_CHECKING:
    from fastapi import FastAPI


class BattleAction(Action):  # type: ignore[misc]
    """An answer: `<SOLUTION>move Earthquake</SOLUTION>`."""

    answer: str


class BattleObservation(Observation):  # type: ignore[misc]
    """What `chat_env.Asked` has; OpenEnv's `reward` and `done` are the reward and whether there is a result."""

    messages: list[dict[str, str]] = Field(default_factory=list)
    legal: list[str] = Field(default_factory=list)
    turn: int = 0
    problem: str = ""
    result: str = ""
    is_truncated: bool = False


class OpenBattleEnv(Environment):  # type: ignore[misc]
    """`ChatBattleEnv` as OpenEnv's servers play it: one battle at a time in each session.

    Args:
        make: makes the session's environment.
    """

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, make: Callable[[], ChatBattleEnv]) -> None:
        super().__init__()
        self._env = make()
        self._state = State()

    def reset(self, seed: int | None = None, episode_id: str | None = None, **_: Any) -> BattleObservation:
        """As `ChatBattleEnv.reset`."""
        self._state = State(episode_id=episode_id, step_count=0)
        return _observation(self._env.reset(seed))

    def step(self, action: BattleAction, timeout_s: float | None = None, **_: Any) -> BattleObservation:
        """As `ChatBattleEnv.step`; timeout_s is not used."""
        asked = self._env.step(action.answer)
        self._state.step_count += 1
        return _observation(asked)

    @property
    def state(self) -> State:
        """The episode's id, and how many answers it took so far."""
        return self._state

    def close(self) -> None:
        """Ends the session's simulator."""
        self._env.close()


def battle_app(make: Callable[[], ChatBattleEnv], *, sessions: int) -> "FastAPI":
    """The service.

    Args:
        make: makes the environment of each session.
        sessions: how many there may be at a time; each has a simulator's process.
    """
    session = partial(OpenBattleEnv, make)
    app: FastAPI = create_fastapi_app(session, BattleAction, BattleObservation, max_concurrent_envs=sessions)
    return app


def _observation(asked: Asked) -> BattleObservation:
    return BattleObservation(
        messages=asked.messages,
        legal=asked.legal,
        turn=asked.turn,
        problem=asked.problem,
        result=asked.result,
        is_truncated=asked.is_truncated,
        reward=asked.reward,
        done=bool(asked.result),
    )

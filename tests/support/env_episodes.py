"""Episodes of the environments: played by legal actions drawn from a seed, and written down."""

from typing import Any

import gymnasium
import numpy as np

Step = tuple[dict[str, Any], float, bool, bool, dict[str, Any]]


def frozen(shown: Any) -> Any:
    """Something that is equal only to what is the same to the byte."""
    if isinstance(shown, dict):
        return {key: frozen(value) for key, value in shown.items()}
    if isinstance(shown, np.ndarray) and shown.dtype == object:
        return frozen(shown.tolist())
    if isinstance(shown, np.ndarray):
        return shown.dtype.str, shown.shape, shown.tobytes()
    if isinstance(shown, list | tuple):
        return [frozen(value) for value in shown]
    return shown


class LegalActions:
    """Draws a legal action of a mask; the same seed draws the same of the same masks."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)

    def __call__(self, mask: np.ndarray) -> int:
        return int(self._generator.choice(np.flatnonzero(mask)))


def play_episode(env: gymnasium.Env, *, seed: int | None = None, draws: int = 0) -> list[Step]:
    """The reset as a step with reward 0, and all steps of an episode."""
    choose = LegalActions(draws)
    shown, info = env.reset(seed=seed)
    steps: list[Step] = [(shown, 0.0, False, False, info)]
    while not (steps[-1][2] or steps[-1][3]):
        steps.append(env.step(choose(steps[-1][4]["action_mask"])))
    return steps

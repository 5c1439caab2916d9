"""The observations and actions of a `BattleView` as spaces of Gymnasium."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from gemma_metamon.battle.observation_space import MISSING_NUMBER
from gemma_metamon.text.vocabulary import UNKNOWN_ID
from gemma_metamon.view import BattleView

Observation = dict[str, npt.NDArray[Any]]
"""What one side is shown at a decision: an array under each key of the space."""
HIGHEST_NUMBER: Final = 3.0
"""The PP level of a full move; everything else is scaled to less."""


def text_and_numbers(view: BattleView) -> dict[str, spaces.Space[Any]]:
    """The spaces of what a turn shows.

    "text_tokens" are the (W,) int32 ids of its words in the view's vocabulary, -1 for a word that it does not know;
    "numbers" are (N,) float32.
    """
    shape = (view.obs_space.n_words,)
    return {
        "text_tokens": spaces.Box(UNKNOWN_ID, len(view.vocabulary) - 1, shape, np.int32),
        "numbers": spaces.Box(MISSING_NUMBER, HIGHEST_NUMBER, (view.obs_space.n_numbers,), np.float32),
    }


def observation_space(view: BattleView) -> spaces.Dict:
    """What the package's agents read: words, numbers, and "illegal_actions", (A,) bool, True where one is illegal."""
    illegal = spaces.Box(0, 1, (view.action_space.n,), np.bool_)  # type: ignore[arg-type]
    return spaces.Dict({**text_and_numbers(view), "illegal_actions": illegal})


def masked_observation_space(view: BattleView) -> spaces.Dict:
    """PettingZoo's convention: what is shown, and "action_mask" over A + 1 actions, the last of which is to wait."""
    mask = spaces.Box(0, 1, (view.action_space.n + 1,), np.int8)
    return spaces.Dict({"observation": spaces.Dict(text_and_numbers(view)), "action_mask": mask})


def numbered_actions(n_actions: int) -> "spaces.Discrete[Any]":
    """0 ... n_actions - 1."""
    return spaces.Discrete(n_actions)

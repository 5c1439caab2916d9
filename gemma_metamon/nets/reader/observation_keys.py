"""Under which names a timestep's words and numbers come, and the one row of each that is made of them.

Here they are one array each. metamon's spaces say them in as many arrays as they have groups; what comes under other
names is refused, because a part of the turn would go unread.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from gemma_metamon.battle.observations import OBSERVATION_SPACES
from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.spaces import HasShape

WORDS_KEY, NUMBERS_KEY = "text_tokens", "numbers"
ABOUT_ACTIONS: Final = frozenset({"illegal_actions", "missing_action_mask"})
"""For the actor and the losses: no part of the turn."""
_READ: Final = f"the encoder reads {WORDS_KEY!r} with {NUMBERS_KEY!r}"


@dataclass(frozen=True)
class ObservationKeys:
    """The names of the arrays of words and of numbers, in the order of a turn, and how many there are in all."""

    words: tuple[str, ...]
    numbers: tuple[str, ...]
    n_words: int
    n_numbers: int

    @classmethod
    def find(cls, obs_space: Mapping[str, HasShape]) -> "ObservationKeys":
        """Those of the space that has exactly these names.

        Raises:
            ConfigError: names of no known space, or something under one of them that is no vector.
        """
        there = set(obs_space.keys()) - ABOUT_ACTIONS
        if not there & {key for words, numbers in _known() for key in words + numbers}:
            raise ConfigError(f"there is nothing to read in the observations {_listed(obs_space)}: {_READ}")
        words, numbers = min(_known(), key=lambda known: len(there ^ set(known[0] + known[1])))
        if left := there.difference(words, numbers):
            raise ConfigError(
                f"the observations hold {_listed(left)}, which would go unread: {_READ}, or the groups of "
                f"GroupedObservationSpace; choose one of {', '.join(OBSERVATION_SPACES)}"
            )
        return cls(words, numbers, _width(obs_space, words), _width(obs_space, numbers))

    def read(self, obs: Mapping[str, Tensor], real: Tensor) -> tuple[Tensor, Tensor]:
        """Words (R, W) and numbers (R, N) of the R timesteps that `real` (B, L) has True."""
        words, numbers = ([obs[key][real] for key in keys] for keys in (self.words, self.numbers))
        return _joined(words), _joined(numbers)


def _known() -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    return list(dict.fromkeys((space.word_keys, space.number_keys) for space in OBSERVATION_SPACES.values()))


def _joined(groups: list[Tensor]) -> Tensor:
    return groups[0] if len(groups) == 1 else torch.cat(groups, dim=-1)


def _width(obs_space: Mapping[str, HasShape], keys: tuple[str, ...]) -> int:
    width = 0
    for key in keys:
        space = obs_space.get(key)  # not `key in obs_space`: gymnasium's Dict asks whether the name is a sample of it
        if space is None or not space.shape:
            raise ConfigError(f"{key!r} is no vector among the observations {_listed(obs_space)}: {_READ}")
        width += int(space.shape[-1])
    return width


def _listed(names: Mapping[str, HasShape] | set[str]) -> str:
    return ", ".join(map(repr, sorted(names))) or "(none)"

"""An agent that looks ahead: its policy says which actions are worth it, and what it thinks of them beforehand."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from gemma_metamon.showdown.live.battle import LiveBattle
from gemma_metamon.showdown.players.contestants import Contestant
from gemma_metamon.showdown.players.ensembles import EnsemblePolicy
from gemma_metamon.showdown.players.policy_player import Observer, PolicyPlayer
from gemma_metamon.showdown.search.searcher import Searcher
from gemma_metamon.showdown.search.settings import SearchSettings

MOST_ACTIONS = 5
LEAST_PROBABILITY = 0.005
PRIOR_WEIGHT = 0.02
"""An action that the policy takes e times as often as another one is preferred to it by so much of a chance to win."""


class SearchingPlayer(PolicyPlayer):
    """Plays an agent's most probable actions a few turns on, in copies of what its battle may be.

    Args:
        policy: the agent's.
        settings: how far.
        teams: see `Searcher`.
        observer: is told of the decisions.
        player_options: poke-env's.
    """

    def __init__(
        self,
        policy: EnsemblePolicy,
        settings: SearchSettings,
        teams: Sequence[str] = (),
        *,
        observer: Observer | None = None,
        **player_options: Any,
    ) -> None:
        super().__init__(policy, observer=observer, **player_options)
        self._searcher = Searcher(settings, self.format, teams)

    async def settle_on(self, live: LiveBattle, action: int, probs: npt.NDArray[np.float32]) -> int:
        """The one of the probable actions that fares best. Raises as `Searcher.search`."""
        priors = priors_of(probs)
        if len(priors) < 2:
            return action
        return self._searcher.pick(live, await self._searcher.search(live, priors))


def priors_of(probs: npt.NDArray[np.float32]) -> dict[int, float]:
    """Of the actions that a policy (A,) may well take; what they differ by is in logarithms of their probabilities."""
    likely = [int(action) for action in np.argsort(-probs, kind="stable")[:MOST_ACTIONS]]
    likely = [action for action in likely if probs[action] >= LEAST_PROBABILITY] or likely[:1]
    return {action: PRIOR_WEIGHT * math.log(max(float(probs[action]), LEAST_PROBABILITY)) for action in sorted(likely)}


def searching(
    name: str,
    policy: EnsemblePolicy,
    settings: SearchSettings,
    teams: Sequence[str] = (),
    observer: Observer | None = None,
) -> Contestant:
    """An agent that searches, under a name for the tables.

    Args:
        name: the label.
        policy: of the agent.
        settings: how far it looks.
        teams: see `Searcher`.
        observer: is told of its decisions.
    """
    return Contestant(name, partial(SearchingPlayer, policy, settings, teams, observer=observer), policy)

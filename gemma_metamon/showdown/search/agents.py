"""An agent that looks ahead: its policy says which actions are worth it, and what it thinks of them beforehand."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from poke_env.battle import AbstractBattle
from poke_env.player import BattleOrder

from gemma_metamon.showdown.live.battle import live_battle
from gemma_metamon.showdown.live.orders import action_to_order, legal_mask
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

    async def choose_move(self, battle: AbstractBattle) -> BattleOrder:
        """The action that fares best. Raises as `Searcher.search`."""
        live = live_battle(battle)
        session = self.session_of(live)
        state, options = live.state, live.options
        legal = legal_mask(options)
        action, probs = await self.policy.consider(session, state, legal)
        priors = priors_of(probs)
        if len(priors) > 1:
            action = self._searcher.pick(live, await self._searcher.search(live, priors))
        self.note(session, live, state, legal, action)
        return action_to_order(action, options)


def priors_of(probs: "np.typing.NDArray[np.float32]") -> dict[int, float]:
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

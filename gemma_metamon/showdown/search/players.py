"""The players that look ahead: LookaheadTrainer, and an agent whose policy says where to look."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from poke_env.battle import AbstractBattle
from poke_env.player import BattleOrder

from gemma_metamon.battle.actions import FIRST_SWITCH, FIRST_TERA
from gemma_metamon.showdown.live.battle import LiveBattle, live_battle
from gemma_metamon.showdown.players.contestants import Contestant
from gemma_metamon.showdown.scripted.trainers import SWITCH, DuelTrainer
from gemma_metamon.showdown.search.searcher import Searcher
from gemma_metamon.showdown.search.settings import SearchSettings

OWN_CHOICE = 0.02
"""By so much more often must another choice win than DuelTrainer's, to be taken."""
MOST_SWITCHES = 2
"""So many are looked at, where a move can be chosen instead; all in generation 1, where forks are cheap."""


class LookaheadTrainer(DuelTrainer):
    """Plays its moves and its best switches a few turns on, in copies of what its battle may be, and takes the best.

    DuelTrainer chooses for both sides afterwards.

    Args:
        settings: how far.
        teams: see `Searcher`.
        player_options: poke-env's.
    """

    def __init__(self, settings: SearchSettings, teams: Sequence[str] = (), **player_options: Any) -> None:
        super().__init__(**player_options)
        self._searcher = Searcher(settings, self.format, teams)

    async def choose_move(self, battle: AbstractBattle) -> BattleOrder:  # type: ignore[override]
        """The best order. Raises as `Searcher.search`."""
        live = live_battle(battle)
        priors = worth_looking_at(live, self.rate_options(live))
        if len(priors) < 2:
            return live.options[next(iter(priors))]
        found = await self._searcher.search(live, priors)
        return live.options[self._searcher.pick(live, found)]


def worth_looking_at(live: LiveBattle, ratings: Mapping[int, float]) -> dict[int, float]:
    """The priors of the actions that a search by these ratings looks at; one action where there is no choice.

    All moves, and of the Pokémon on the bench all in generation 1, and where somebody must come; else those that would
    do best: none where nobody could do better than the one on the field.
    """
    if not ratings:
        return {next(iter(live.options)): 0.0}
    best = max(sorted(ratings), key=lambda action: ratings[action])
    bench = sorted((a for a in ratings if FIRST_SWITCH <= a < FIRST_TERA), key=lambda action: -ratings[action])
    moves = [action for action in ratings if action not in bench]
    if moves and live.battle.gen > 1:
        bench = [action for action in bench[:MOST_SWITCHES] if ratings[action] > -SWITCH or action == best]
    return {action: OWN_CHOICE if action == best else 0.0 for action in sorted([*moves, *bench])}


def lookahead(name: str, settings: SearchSettings, teams: Sequence[str] = ()) -> Contestant:
    """A LookaheadTrainer under a name for the tables."""
    return Contestant(name, partial(LookaheadTrainer, settings, teams))

"""One player's search: worlds are guessed for its battles, and its choices are played in them."""

import random
from collections.abc import Mapping, Sequence
from functools import lru_cache

from gemma_metamon.errors import ConfigError
from gemma_metamon.showdown.arena.arena import Arena, World
from gemma_metamon.showdown.arena.seeds import dice, simulator_seed
from gemma_metamon.showdown.live.battle import LiveBattle
from gemma_metamon.showdown.live.seen import seen_side
from gemma_metamon.showdown.matches.forks import sample_hidden
from gemma_metamon.showdown.matches.samplers import Sampler, TeamSampler
from gemma_metamon.showdown.search.ahead import Question, ask
from gemma_metamon.showdown.search.halving import Found, search
from gemma_metamon.showdown.search.settings import SearchSettings
from gemma_metamon.showdown.simulator.formats import find_teams
from gemma_metamon.showdown.simulator.teams import random_teams

_RANDOM_TEAMS = 200
"""So many are guessed among in formats that give them out."""


class Searcher:
    """Looks ahead for one player, in any number of battles at a time.

    Args:
        settings: how far.
        battle_format: of all its battles.
        teams: packed: what the other side's is guessed among. None are the packaged ones, or where the format gives
            teams out, some that it gives.
    """

    def __init__(self, settings: SearchSettings, battle_format: str, teams: Sequence[str] = ()) -> None:
        self.settings = settings
        self._sampler = _sampler(battle_format, tuple(teams))

    async def search(self, live: LiveBattle, priors: Mapping[int, float]) -> Found:
        """Looks at some of the battle's legal actions, from what its seat was told alone.

        All that is drawn follows from the battle's dice.

        Args:
            live: the battle, in an arena.
            priors: of those actions, see `halving.search`.

        Raises ConfigError for a battle that is not in an arena; ServerError where the simulator fails.
        """
        arena, draws = live.arena, live.dice
        if not isinstance(arena, Arena) or draws is None:
            raise ConfigError(
                "a search plays on in copies of an arena's own battle, which a server does not give: leave --server "
                "out, or name the player that does not search (DuelTrainer, or the run itself)"
            )
        seed, seen = draws.getrandbits(64), seen_side(live.battle)
        orders = {action: live.options[action].message.removeprefix("/choose ") for action in priors}
        n_seen = 0

        async def look(actions: Sequence[int], n_worlds: int, times: int) -> Sequence[Sequence[float]]:
            nonlocal n_seen
            worlds = []
            for number in range(n_seen, n_seen + n_worlds):
                hidden = sample_hidden(seen, self._sampler, dice(seed, "hidden team", number))
                worlds.append(World(seed=simulator_seed(seed, "fork", number), hidden=hidden))
            n_seen += n_worlds
            question = Question(
                battle=live.battle.battle_tag,
                seat=str(live.battle.player_role),
                worlds=worlds,
                choices=[orders[action] for action in actions],
                turns=self.settings.turns_in(live.battle.gen),
                times=times,
            )
            return await ask(arena, question)

        return await search(priors, self.settings.forks_in(live.battle.gen), look)

    def pick(self, live: LiveBattle, found: Found) -> int:
        """The action to take; by the settings' temperature it may be drawn, with the battle's dice."""
        return found.draw(self.settings.temperature, live.dice or random.Random(0))


@lru_cache(maxsize=16)  # both seats' players of all contestants guess alike
def _sampler(battle_format: str, teams: tuple[str, ...]) -> Sampler:
    known = teams or find_teams(battle_format, None)[1] or random_teams(battle_format, _RANDOM_TEAMS, seed=0)
    return TeamSampler(known, battle_format)

"""Elo and GXE of everybody in a round robin, from the battles' results alone: their order does not matter.

The model is Bradley and Terry's, whose win probabilities are Elo's expected scores. The library choix fits it to all
battles at once, by penalised maximum likelihood, and not by steps after each battle. The penalty is Glicko's belief
about an unknown player, a rating of 1500 with deviation 350: it keeps the rating of somebody who won or lost every
battle finite, and weighs little against a hundred battles. A tie counts as half a win for either side.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gemma_metamon.extras import require_extra
from gemma_metamon.intervals import Z_95
from gemma_metamon.results.schema import RatingRow

MEAN_RATING = 1500.0
PRIOR_DEVIATION = 350.0
LADDER_DEVIATION = 130.0
"""Spread of the players of Showdown's ladder, as its GXE takes them to be."""
_ELO = 400 / math.log(10)  # Elo points per unit of log odds


@dataclass(frozen=True, kw_only=True)
class Rating:
    """Strength of one player among those it was rated with.

    Attributes:
        name: of the player.
        elo: the mean of all who were rated is 1500; 400 points are odds of ten to one.
        deviation: its standard error in Elo points, relative to that mean.
        gxe: percent; see `gxe`.
    """

    name: str
    elo: float
    deviation: float
    gxe: float

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence interval of the Elo rating."""
        return self.elo - Z_95 * self.deviation, self.elo + Z_95 * self.deviation

    def row(self) -> RatingRow:
        """What results.json holds of it."""
        return RatingRow(elo=self.elo, interval_95=self.interval, deviation=self.deviation, gxe=self.gxe)


def rate(
    results: Sequence[tuple[str, str, int, int, int]], *, prior_deviation: float = PRIOR_DEVIATION
) -> list[Rating]:
    """The rating of each player that occurs, the strongest first.

    Args:
        results: (player, opponent, the player's wins, losses, ties); a pair may occur more than once, either way round.
        prior_deviation: Elo points; how far from the mean an unknown player may be.

    Raises:
        MissingDependencyError: the extra `report` is not installed.
    """
    require_extra("report", "a rating")
    from choix import opt_pairwise
    from choix.opt import PairwiseFcts

    names = sorted({name for player, opponent, *_ in results for name in (player, opponent)})
    index = {name: i for i, name in enumerate(names)}
    # every battle is entered twice, so that a tie can be one win each; the penalty is doubled with them
    comparisons: list[tuple[int, int]] = []
    for player, opponent, wins, losses, ties in results:
        comparisons += [(index[player], index[opponent])] * (2 * wins + ties)
        comparisons += [(index[opponent], index[player])] * (2 * losses + ties)
    comparisons.sort()
    penalty = 2 * (_ELO / prior_deviation) ** 2 / 2
    strengths = opt_pairwise(len(names), comparisons, alpha=penalty, tol=1e-10)
    covariance = 2 * np.linalg.inv(PairwiseFcts(comparisons, penalty).hessian(strengths))
    centred = np.eye(len(names)) - 1 / len(names)
    # only differences were observed: where all of them together lie is not uncertain, it is by definition at 1500
    deviations = _ELO * np.sqrt(np.diag(centred @ covariance @ centred))
    elos = MEAN_RATING + _ELO * (strengths - strengths.mean())
    ratings = [
        Rating(name=name, elo=float(elo), deviation=float(deviation), gxe=gxe(float(elo), float(deviation)))
        for name, elo, deviation in zip(names, elos, deviations, strict=True)
    ]
    return sorted(ratings, key=lambda rating: (-rating.elo, rating.name))


def gxe(rating: float, deviation: float) -> float:
    """Percent of battles that this player is expected to win against a random player of the ladder.

    GXE (Glicko X-Act estimate) is Glicko's expected score of (rating, deviation) against an unknown opponent; the
    factor is 3 (ln 10)^2 / (400 pi)^2 of M. Glickman, "Parameter estimation in large dynamic paired comparison
    experiments", Applied Statistics 48 (1999). Showdown's ladder takes the opponent to be 1500 with deviation 130
    (smogon/pokemon-showdown-loginserver, src/ladder.ts). Here 1500 is the mean of those who were rated together: a GXE
    among a few programs cannot be compared with one among people.
    """
    spread = math.sqrt(1 + 3 * math.log(10) ** 2 / (400 * math.pi) ** 2 * (deviation**2 + LADDER_DEVIATION**2))
    return 100 / (1 + 10 ** ((MEAN_RATING - rating) / 400 / spread))

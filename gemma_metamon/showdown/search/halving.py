"""Where forks go: to all choices alike at first, then to the better half of them, again and again.

Sequential halving (Karnin, Koren and Somekh 2013). All choices of a round are played in the same worlds, so that what
they differ by is not luck of the dice.
"""

import math
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

MOST_WORLDS = 8
"""So many are looked at in a round; where there are forks for more, each is played in several times."""

Look = Callable[[Sequence[int], int, int], Awaitable[Sequence[Sequence[float]]]]
"""Plays some actions in so many worlds that nobody has looked at, so many times in each.

A row for each world, in it the mean value of each action.

No row ends the search: nothing can be looked at any more.
"""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search found; everything by action.

    Attributes:
        visits: in how many forks each was played.
        scores: the mean value, and what the prior adds; of all that were to be played.
        best: the one to take.
    """

    visits: Mapping[int, int]
    scores: Mapping[int, float]
    best: int

    def draw(self, temperature: float, dice: random.Random) -> int:
        """The best action at temperature 0; above it, one from the softmax of scores / temperature."""
        if temperature == 0:
            return self.best
        actions, top = sorted(self.scores), max(self.scores.values())
        weights = [math.exp((self.scores[action] - top) / temperature) for action in actions]
        return dice.choices(actions, weights)[0]


async def search(priors: Mapping[int, float], forks: int, look: Look) -> Found:
    """Divides so many forks among the actions.

    Args:
        priors: by action: what is added to its value, 0 for none.
        forks: at most; where they are fewer than the actions, the first ones by their priors are looked at.
        look: plays them.
    """
    left = sorted(priors, key=lambda action: (-priors[action], action))[:forks]
    sums, visits = dict.fromkeys(left, 0.0), dict.fromkeys(left, 0)

    def score(action: int) -> float:
        return sums[action] / max(1, visits[action]) + priors[action]

    n_rounds = max(1, (len(left) - 1).bit_length())
    for n_left in range(n_rounds, 0, -1):
        each = max(1, forks // n_left // len(left))
        if each * len(left) > forks:
            break
        times = -(-each // MOST_WORLDS)
        n_worlds = each // times
        rows = await look(left, n_worlds, times)
        if not rows:
            break
        for row in rows:
            for action, value in zip(left, row, strict=True):
                sums[action] += value * times
                visits[action] += times
        forks -= n_worlds * times * len(left)
        left.sort(key=lambda action: (-score(action), action))
        left = left[: max(2, (len(left) + 1) // 2)]
    return Found(visits=visits, scores={action: score(action) for action in visits}, best=left[0])

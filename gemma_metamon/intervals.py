"""How certain a counted share is."""

import math
import statistics
from collections.abc import Sequence

Z_95 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % score interval of a proportion (Wilson 1927, JASA 22:209-212), within 0..1; (0, 1) of no trials.

    It holds the share itself, also where that is 0 or 1 and rounding would leave it out.
    """
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    scale = 1 + Z_95**2 / trials
    centre = (share + Z_95**2 / (2 * trials)) / scale
    half_width = Z_95 / scale * math.sqrt(share * (1 - share) / trials + Z_95**2 / (4 * trials**2))
    return max(0.0, min(share, centre - half_width)), min(1.0, max(share, centre + half_width))


# the 97.5 % quantiles of Student's t distribution with 1, 2, 3, ... degrees of freedom
_T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of a mean by Student's t: of a share that was measured once with each of 2 to 10 seeds.

    It counts how far the seeds lie apart, which an interval of all their battles together does not. Raises ValueError
    for fewer or more values.
    """
    if not 2 <= len(values) <= len(_T_95) + 1:
        raise ValueError(f"{len(values)} values have no interval here; give 2 to {len(_T_95) + 1}")
    mean = statistics.fmean(values)
    half_width = _T_95[len(values) - 2] * statistics.stdev(values) / math.sqrt(len(values))
    return mean - half_width, mean + half_width

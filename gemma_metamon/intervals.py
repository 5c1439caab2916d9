"""How certain a counted share is."""

import math

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

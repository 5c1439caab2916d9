"""One seed for a run, and from it, by name, a seed of its own for everything that is drawn.

What a battle draws depends on the run's seed and the battle's number alone: not on the worker that plays it, nor on
what else is being played. The same names give the same seed on every machine and under every version of Python.
"""

import hashlib
import random


def simulator_seed(seed: int, *what: str | int) -> str:
    """For the simulator's own dice: `simulator_seed(7, 12, "dice")`, `simulator_seed(7, 12, "team", "p1")`."""
    return f"sodium,{_digest(seed, what).hex()[:32]}"


def dice(seed: int, *what: str | int) -> random.Random:
    """For what is drawn in Python: `dice(7, 12, "player", "p1")` are the coin tosses of battle 12's first seat."""
    return random.Random(_digest(seed, what))


def _digest(seed: int, what: tuple[str | int, ...]) -> bytes:
    return hashlib.sha256(repr((seed, *what)).encode()).digest()

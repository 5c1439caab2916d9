"""What DuelTrainer takes for much and for little, by generation: the one place where such numbers stand.

Those of generation 1 are the trainers' first ones, and hold up to generation 8. Those of generation 9 are estimates for
gen9ou; scripts/tune_trainer.py measures what another value of one of them would be worth there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from poke_env.battle import Status


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Thresholds:
    """Numbers that a trainer compares. Ratings are in shares of the opponent's HP, outlooks in `worth`.

    Attributes:
        modern: look at items, abilities, weather, terrain, known moves of the opponent, and hazards; and use
            everything below that says so.
        assumed_power: of the attacks of its own types that an opponent is taken to have.
        assumed_coverage: of its other attack, which nobody resists.
        switch_margin: how much better the outlook after a switch must be.
        pivot_margin: the same where a move such as U-turn brings the switch. Modern only.
        tera_margin: how much terastallising must improve the outlook.
        heal_below: of the own HP.
        heal_under: no healing where the opponent takes more than this share a turn. Modern only.
        status_above: of their HP; below that, better finish it.
        status: what a status is worth that lands.
        other_status: of one that is not in `status`.
        hazard: rating of an entry hazard while five of theirs are still to come in. Modern only.
        removal: rating of removing Stealth Rock from the own side while five are to come in. Modern only.
        setup_margin: what a move that raises stats must improve the outlook by. Modern only.
        setup_hp: what must be left of the own HP after the turn in which stats are raised. Modern only.
        setup_stages: no stat is raised further where it is that high. Modern only.
        screens: rating of a screen or Tailwind that is not yet up. Modern only.
    """

    modern: bool = False
    assumed_power: float = 90.0
    assumed_coverage: float = 65.0
    switch_margin: float = 1.0
    pivot_margin: float = 1.0
    tera_margin: float = 0.3
    heal_below: float = 0.5
    heal_under: float = 1.0
    status_above: float = 0.4
    status: Mapping[Status, float] = field(
        default_factory=lambda: MappingProxyType({Status.SLP: 0.8, Status.PAR: 0.45})
    )
    other_status: float = 0.2
    hazard: float = 0.0
    removal: float = 0.0
    setup_margin: float = 9.0
    setup_hp: float = 0.0
    setup_stages: int = 2
    screens: float = 0.0


THRESHOLDS = {
    1: Thresholds(),
    9: Thresholds(
        modern=True,
        switch_margin=0.7,
        pivot_margin=0.2,
        tera_margin=0.2,
        heal_under=0.4,
        hazard=0.5,
        removal=0.4,
        setup_margin=-0.1,
        setup_hp=0.3,
        screens=0.5,
    ),
}
"""By the first generation that they are for."""


def thresholds_of(gen: int) -> Thresholds:
    """The last ones of THRESHOLDS that are for this generation."""
    return THRESHOLDS[max(first for first in THRESHOLDS if first <= gen)]

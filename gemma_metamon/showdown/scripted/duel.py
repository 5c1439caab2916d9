"""How a duel of two Pokémon would end on average, and what that is worth. Needs no battle and no server.

Both only attack, with what takes most per turn. A Pokémon is worth 1 with full HP, and ALIVE with hardly any.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from poke_env.battle import Move, PokemonType, Status

from gemma_metamon.showdown.scripted.attacks import Attack, attack_of
from gemma_metamon.showdown.scripted.damage import effectiveness, hit_share
from gemma_metamon.showdown.scripted.fighters import HORIZON, Fighter
from gemma_metamon.showdown.scripted.surroundings import status_loss

ALIVE = 0.35
LEAST_HP = 0.02
"""Of who wins a duel, in 0..1."""
STATUS_WORTH = {
    Status.SLP: 0.6,
    Status.FRZ: 0.15,
    Status.PAR: 0.8,
    Status.BRN: 0.85,
    Status.PSN: 0.9,
    Status.TOX: 0.8,
}
_STATUS_IMMUNE = {
    Status.BRN: {PokemonType.FIRE},
    Status.PAR: {PokemonType.ELECTRIC},
    Status.PSN: {PokemonType.POISON, PokemonType.STEEL},
    Status.TOX: {PokemonType.POISON, PokemonType.STEEL},
}


@dataclass(frozen=True, slots=True)
class Weapon:
    """An attack as it counts in a long duel: `rate` is the share of turns in which it is dealt."""

    attack: Attack
    rate: float = 1.0


@dataclass(frozen=True, slots=True)
class Duel:
    """Two Pokémon facing each other, and the share of the other's maximum HP that each takes per turn it acts in."""

    mine: Fighter
    theirs: Fighter
    my_rate: float
    their_rate: float


def duel_between(mine: Fighter, my_weapons: Sequence[Weapon], theirs: Fighter, their_weapons: Sequence[Weapon]) -> Duel:
    """The duel in which each attacks with the best of its weapons."""
    return Duel(mine, theirs, damage_rate(my_weapons, mine, theirs), damage_rate(their_weapons, theirs, mine))


def weapons_of(move_ids: Iterable[str], gen: int) -> list[Weapon]:
    """The attacks among these moves that can be repeated, so without Explosion and its like."""
    return [weapon for move_id in move_ids if (weapon := _weapon_of(move_id, gen)) is not None]


@lru_cache(maxsize=4096)
def _weapon_of(move_id: str, gen: int) -> Weapon | None:
    attack = attack_of(move_id, gen)
    if attack is None or attack.self_destruct:
        return None
    return Weapon(attack, 0.5 if attack.charges or attack.recharges else 1.0)


def worth(status: Status | None, hp: float) -> float:
    """0 for a fainted Pokémon, up to 1 for a healthy one; `hp` is in 0..1."""
    if hp <= 0:
        return 0.0
    factor = STATUS_WORTH.get(status, 1.0) if status else 1.0
    return (ALIVE + (1 - ALIVE) * hp) * factor


def best_outlook(theirs: Fighter) -> float:
    """No duel of a living Pokémon against it brings more: all its worth, and LEAST_HP for who had hardly any."""
    return worth(theirs.status, theirs.hp) + (1 - ALIVE) * LEAST_HP


def outlook(duel: Duel) -> float:
    """What the rest of the duel brings: the worth that theirs loses, less the worth that mine loses."""
    return _outlook(duel, duel.mine.hp, duel.theirs.idle)


def outlook_of_entry(duel: Duel) -> float:
    """The outlook where `mine` comes in from the bench: theirs attacks first."""
    mine, theirs = duel.mine, duel.theirs
    my_hp = max(0.0, mine.hp - max(0.0, 1 - theirs.idle) * duel.their_rate)
    lost = worth(mine.status, mine.hp) - worth(mine.status, my_hp)
    return _outlook(duel, my_hp, max(0.0, theirs.idle - 1)) - lost if my_hp > 0 else -lost


def damage_rate(weapons: Sequence[Weapon], attacker: Fighter, defender: Fighter) -> float:
    """Mean share of the defender's maximum HP per turn in which the attacker is not idle."""
    best = max((w.rate * w.attack.accuracy * hit_share(w.attack, attacker, defender) for w in weapons), default=0.0)
    return best * (0.75 if attacker.status == Status.PAR else 1.0)


def _outlook(duel: Duel, my_hp: float, their_idle: float) -> float:
    """The outlook from where mine has so many HP left, in 0..1, and theirs cannot act for so many turns."""
    mine, theirs = duel.mine, duel.theirs
    my_hp_left, their_hp_left = fight_out(duel, my_hp, their_idle)
    return (
        worth(theirs.status, theirs.hp)
        - worth(theirs.status, their_hp_left)
        - worth(mine.status, my_hp)
        + worth(mine.status, my_hp_left)
    )


def fight_out(duel: Duel, my_hp: float, their_idle: float) -> tuple[float, float]:
    """The HP that mine and theirs have left, in 0..1; the parameters are those of `_outlook`."""
    mine, theirs = duel.mine, duel.theirs
    my_rate, their_rate = duel.my_rate + _chip(theirs), duel.their_rate + _chip(mine)
    my_turns, their_turns = _turns(theirs.hp, my_rate, mine.idle), _turns(my_hp, their_rate, their_idle)
    if min(my_turns, their_turns) > HORIZON:
        return my_hp, theirs.hp
    first = mine.speed > theirs.speed
    if my_turns < their_turns or (my_turns == their_turns and first):
        suffered = max(0.0, my_turns - first - their_idle) * their_rate
        return max(my_hp - suffered, LEAST_HP), 0.0
    suffered = max(0.0, their_turns - (not first) - mine.idle) * my_rate
    return 0.0, max(theirs.hp - suffered, LEAST_HP)


def _chip(fighter: Fighter) -> float:
    return fighter.turn_loss + status_loss(fighter.status)


def _turns(hp: float, rate: float, idle: float) -> float:
    """Turns until so many HP are gone; a tenth of a hit too little is left to luck."""
    return math.inf if rate <= 0 else idle + max(1, math.ceil(hp / rate - 0.1))


def status_lands(move: Move, target: Fighter, *, sleep_clause: bool) -> bool:
    """Whether a status move does anything to the target, apart from its accuracy.

    Args:
        move: of the target's generation.
        target: whom it is meant for.
        sleep_clause: whether one of the target's side sleeps already.
    """
    if move.status is None or target.status is not None or target.behind_substitute:
        return False
    if target.ability in ("goodasgold", "magicbounce") or (move.status == Status.SLP and sleep_clause):
        return False
    if "powder" in move.flags and target.gen >= 6 and PokemonType.GRASS in target.types:
        return False
    if move.id == "thunderwave" and effectiveness(move.type, target.types, target.gen) == 0:
        return False
    electric_may_be_paralysed = move.status == Status.PAR and target.gen < 6
    return electric_may_be_paralysed or not _STATUS_IMMUNE.get(move.status, set()) & set(target.types)

"""How a duel of two Pokémon would end on average, and what that is worth. Needs no battle and no server.

Both only attack, with what takes most per turn. A Pokémon is worth 1 with full HP, and ALIVE with hardly any.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from poke_env.battle import Move, PokemonType, Status

from gemma_metamon.showdown.scripted.damage import Attack, Fighter, attack_of, effectiveness, hit_share

ALIVE = 0.35
STATUS_WORTH = {
    Status.SLP: 0.6,
    Status.FRZ: 0.15,
    Status.PAR: 0.8,
    Status.BRN: 0.85,
    Status.PSN: 0.9,
    Status.TOX: 0.8,
}
_CHIP = {Status.BRN: 1 / 16, Status.PSN: 1 / 16, Status.TOX: 3 / 16}  # of the HP, each turn
_HORIZON = 30.0  # turns after which a duel counts as undecided
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
    """Two Pokémon facing each other, and what each attacks with."""

    mine: Fighter
    theirs: Fighter
    my_weapons: Sequence[Weapon]
    their_weapons: Sequence[Weapon]


def weapons_of(move_ids: Iterable[str], gen: int) -> list[Weapon]:
    """The attacks among these moves that can be repeated, so without Explosion and its like."""
    weapons = []
    for move_id in move_ids:
        attack = attack_of(move_id, gen)
        if attack is not None and not attack.self_destruct:
            weapons.append(Weapon(attack, 0.5 if attack.charges or attack.recharges else 1.0))
    return weapons


def worth(fighter: Fighter) -> float:
    """0 for a fainted Pokémon, up to 1 for a healthy one."""
    if fighter.hp <= 0:
        return 0.0
    factor = STATUS_WORTH.get(fighter.status, 1.0) if fighter.status else 1.0
    return (ALIVE + (1 - ALIVE) * fighter.hp) * factor


def outlook(duel: Duel) -> float:
    """What the rest of the duel brings: the worth that theirs loses, less the worth that mine loses."""
    mine, theirs = _fight_out(duel)
    return worth(duel.theirs) - worth(theirs) - worth(duel.mine) + worth(mine)


def outlook_of_entry(duel: Duel) -> float:
    """The outlook where `mine` comes in from the bench: theirs attacks first."""
    suffered = max(0.0, 1 - duel.theirs.idle) * damage_rate(duel.their_weapons, duel.theirs, duel.mine)
    hurt = replace(duel.mine, hp=max(0.0, duel.mine.hp - suffered))
    theirs = replace(duel.theirs, idle=max(0.0, duel.theirs.idle - 1))
    lost = worth(duel.mine) - worth(hurt)
    return outlook(replace(duel, mine=hurt, theirs=theirs)) - lost if hurt.hp > 0 else -lost


def damage_rate(weapons: Sequence[Weapon], attacker: Fighter, defender: Fighter) -> float:
    """Mean share of the defender's maximum HP per turn in which the attacker is not idle."""
    best = max((w.rate * w.attack.accuracy * hit_share(w.attack, attacker, defender) for w in weapons), default=0.0)
    return best * (0.75 if attacker.status == Status.PAR else 1.0)


def _fight_out(duel: Duel) -> tuple[Fighter, Fighter]:
    mine, theirs = duel.mine, duel.theirs
    my_rate = damage_rate(duel.my_weapons, mine, theirs) + _chip(theirs)
    their_rate = damage_rate(duel.their_weapons, theirs, mine) + _chip(mine)
    my_turns, their_turns = _turns(theirs.hp, my_rate, mine.idle), _turns(mine.hp, their_rate, theirs.idle)
    if min(my_turns, their_turns) > _HORIZON:
        return mine, theirs
    first = mine.speed > theirs.speed
    if my_turns < their_turns or (my_turns == their_turns and first):
        suffered = max(0.0, my_turns - first - theirs.idle) * their_rate
        return replace(mine, hp=max(mine.hp - suffered, 0.02)), replace(theirs, hp=0.0)
    suffered = max(0.0, their_turns - (not first) - mine.idle) * my_rate
    return replace(mine, hp=0.0), replace(theirs, hp=max(theirs.hp - suffered, 0.02))


def _chip(fighter: Fighter) -> float:
    return _CHIP.get(fighter.status, 0.0) if fighter.status else 0.0


def _turns(hp: float, rate: float, idle: float) -> float:
    """Turns until so many HP are gone; a tenth of a hit too little is left to luck."""
    return math.inf if rate <= 0 else idle + max(1, math.ceil(hp / rate - 0.1))


def turns_lost(status: Status | None, gen: int) -> float:
    """Mean turns that sleep or ice will still cost a Pokémon met in that state."""
    if status == Status.SLP:  # 1 to 7 turns in generation 1, fewer later; some have passed
        return 2.4 if gen == 1 else 1.8 if gen <= 4 else 1.2
    if status == Status.FRZ:  # generation 1 knows no thawing
        return _HORIZON if gen == 1 else 4.0
    return 0.0


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

"""Expected damage by the games' own formulas, for the scripted trainers.

Items, weather, terrain and most abilities count only between fighters that know their surroundings (`modifiers`).
tests/showdown/scripted/test_damage.py lists the moves whose damage is only guessed.
"""

from functools import lru_cache

from poke_env.battle import PokemonType, Status
from poke_env.data import GenData

from gemma_metamon.showdown.scripted.attacks import Attack
from gemma_metamon.showdown.scripted.fighters import Fighter, boost_factor
from gemma_metamon.showdown.scripted.modifiers import attacker_modifier, defender_modifier

MEAN_ROLL = 0.925
MAX_OLD_STAT = 999.0
"""Of a stat with its stages, in generations 1 and 2."""
_CRITICAL_CHANCES = {  # by generation, from which on, and by stage
    2: (17 / 256, 32 / 256, 64 / 256, 85 / 256, 128 / 256),
    3: (1 / 16, 1 / 8, 1 / 4, 1 / 3, 1 / 2, 1.0),
    6: (1 / 16, 1 / 8, 1 / 2, 1.0),
    7: (1 / 24, 1 / 8, 1 / 2, 1.0),
}
_STAB = (1.0, 1.5, 2.0)  # by how often the attacker has the attack's type: of its own, and by terastallising
_ABILITY_IMMUNITY = {
    "levitate": PokemonType.GROUND,
    "eartheater": PokemonType.GROUND,
    "flashfire": PokemonType.FIRE,
    "wellbakedbody": PokemonType.FIRE,
    "voltabsorb": PokemonType.ELECTRIC,
    "lightningrod": PokemonType.ELECTRIC,
    "motordrive": PokemonType.ELECTRIC,
    "waterabsorb": PokemonType.WATER,
    "stormdrain": PokemonType.WATER,
    "dryskin": PokemonType.WATER,
    "sapsipper": PokemonType.GRASS,
}


@lru_cache(maxsize=1 << 14)
def effectiveness(attack_type: PokemonType, types: tuple[PokemonType, ...], gen: int) -> float:
    """The product over the defender's types, by the generation's own chart; 1 for Stellar and ???."""
    chart = GenData.from_gen(gen).type_chart
    product = 1.0
    for type_ in types:
        product *= chart.get(type_.name, {}).get(attack_type.name, 1.0)
    return product


@lru_cache(maxsize=256)  # some are asked for more than once in a decision, of which there are some dozens
def hit_share(attack: Attack, attacker: Fighter, defender: Fighter) -> float:
    """The mean share of the defender's maximum HP that the attack takes where it hits; 0 where it is immune."""
    factor = _factor(attack, attacker, defender)
    if factor == 0:
        return 0.0
    chance = critical_chance(attack, attacker)
    stats = _stats_that_count(attack, attacker, defender, critical=False)
    plain = _damage(attack, attacker, defender, factor, stats, critical=False)
    if attacker.boosts or defender.boosts or defender.screens or attacker.status == Status.BRN:
        stats = _stats_that_count(attack, attacker, defender, critical=True)
    critical = _damage(attack, attacker, defender, factor, stats, critical=True)
    return ((1 - chance) * plain + chance * critical) / defender.max_hp


def critical_chance(attack: Attack, attacker: Fighter) -> float:
    """In 0..1. In generation 1 it grows with the base speed."""
    if attack.critical_stage < 0:
        return 0.0
    if attacker.gen == 1:
        return min(attacker.base_speed / 512 * (8 if attack.critical_stage else 1), 255 / 256)
    chances = _CRITICAL_CHANCES[2 if attacker.gen == 2 else 3 if attacker.gen < 6 else 6 if attacker.gen == 6 else 7]
    return chances[min(attack.critical_stage, len(chances) - 1)]


def mean_damage(attack: Attack, attacker: Fighter, defender: Fighter, *, critical: bool) -> float:
    """The mean HP that the attack takes where it hits, over the game's random factors; 0 where the defender is immune.

    Args:
        attack: what hits.
        attacker: who attacks.
        defender: who is hit; may have fewer HP left than the result.
        critical: whether it is a critical hit.
    """
    stats = _stats_that_count(attack, attacker, defender, critical=critical)
    return _damage(attack, attacker, defender, _factor(attack, attacker, defender), stats, critical=critical)


def _factor(attack: Attack, attacker: Fighter, defender: Fighter) -> float:
    """What the defender's types multiply the damage by, and 0 where something else keeps the attack from hitting.

    With it, what items, abilities, weather and terrain do.
    """
    type_ = attacker.own_types.get(attack.move_id, attack.type)
    if attack.needs_sleep and defender.status != Status.SLP:
        return 0.0
    if defender.ability and _ABILITY_IMMUNITY.get(defender.ability) == type_:
        return 0.0
    if attack.ignores_types:
        return 1.0
    factor = effectiveness(type_, defender.types, defender.gen)
    if attack.doubled_against in defender.types:
        factor *= 2 / effectiveness(attack.type, (attack.doubled_against,), defender.gen)
    if factor and attacker.around is not None:
        resisted = defender_modifier(attack, type_, attacker, defender, effect=factor)
        factor *= resisted * attacker_modifier(attack, type_, attacker, defender)
    return factor


def _damage(
    attack: Attack, attacker: Fighter, defender: Fighter, factor: float, stats: tuple[float, float], *, critical: bool
) -> float:
    """As `mean_damage`; `factor` is `_factor`, and `stats` are `_stats_that_count`."""
    if factor == 0:
        return 0.0
    if attack.hp_share:
        return attack.hp_share * defender.hp * defender.max_hp
    if attack.level_share or attack.fixed_damage:
        return attack.level_share * attacker.level + attack.fixed_damage
    gen = attacker.gen
    strength, defense = stats
    level = 2 * attacker.level if critical and gen == 1 else attacker.level
    damage = (2 * level // 5 + 2) * attack.power * strength // defense // 50
    if gen <= 2:
        damage = min(2 * damage if critical and gen == 2 else damage, 997.0) + 2
    else:
        damage += 2
        if critical:
            damage *= 2 if gen <= 5 else 1.5
        elif _is_screened(attack, defender):
            damage /= 2
        if attack.physical and attacker.status == Status.BRN:
            damage /= 2
    stab = _STAB[min(attacker.stab_types.count(attacker.own_types.get(attack.move_id, attack.type)), 2)]
    return attack.hits * damage * factor * stab * MEAN_ROLL


def _stats_that_count(attack: Attack, attacker: Fighter, defender: Fighter, *, critical: bool) -> tuple[float, float]:
    """Attack and defense with stages, and in generations 1 and 2 with a burn and screens, as far as they count.

    On a critical hit none of them counts in generation 1, and in generation 2 unless the attacker's stage is above the
    defender's. Later the stages that would make it weaker do not count: the attacker's below 0, the defender's above.
    """
    source = defender if attack.target_attack else attacker
    attack_stage = source.boosts.get(attack.attack_stat, 0)
    defense_stage = 0 if attack.ignores_defense_stages else defender.boosts.get(attack.defense_stat, 0)
    gen = attacker.gen
    if gen >= 3 and critical:
        attack_stage, defense_stage = max(attack_stage, 0), min(defense_stage, 0)
    plain = critical and gen <= 2 and (gen == 1 or attack_stage <= defense_stage)
    if plain:
        attack_stage = defense_stage = 0
    strength = source.stats[attack.attack_stat] * boost_factor(attack_stage) // 1
    defense = defender.stats[attack.defense_stat] * boost_factor(defense_stage) // 1
    if gen <= 2:
        strength, defense = min(strength, MAX_OLD_STAT), min(defense, MAX_OLD_STAT)
        if not plain:
            strength = strength // 2 if attack.physical and attacker.status == Status.BRN else strength
            defense = 2 * defense if _is_screened(attack, defender) else defense
        if max(strength, defense) > 255:  # one byte each: they are cut, and roll over at 1024
            strength, defense = strength // 4 % 256, defense // 4 % 256
    if attack.self_destruct and gen <= 4:
        defense //= 2
    return max(strength, 1.0), max(defense, 1.0)


def _is_screened(attack: Attack, defender: Fighter) -> bool:
    return not attack.ignores_screens and ("reflect" if attack.physical else "lightscreen") in defender.screens

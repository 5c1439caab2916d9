"""Expected damage by the games' own formulas, for the scripted trainers.

An `Attack` is a move that does damage, or an assumed one. Items, the weather and most abilities are left out;
tests/showdown/scripted/test_damage.py lists the moves whose damage is only guessed.
"""

from dataclasses import dataclass
from functools import lru_cache

from poke_env.battle import Move, MoveCategory, PokemonType, Status
from poke_env.data import GenData

from gemma_metamon.showdown.scripted.fighters import Fighter, boost_factor

MEAN_ROLL = 0.925
MAX_OLD_STAT = 999.0
"""Of a stat with its stages, in generations 1 and 2."""
ALWAYS = 5
"""The stage of moves whose hits are all critical."""
_CRITICAL_CHANCES = {  # by generation, from which on, and by stage
    2: (17 / 256, 32 / 256, 64 / 256, 85 / 256, 128 / 256),
    3: (1 / 16, 1 / 8, 1 / 4, 1 / 3, 1 / 2, 1.0),
    6: (1 / 16, 1 / 8, 1 / 2, 1.0),
    7: (1 / 24, 1 / 8, 1 / 2, 1.0),
}
_STAB = (1.0, 1.5, 2.0)  # by how often the attacker has the attack's type: of its own, and by terastallising
_PSYWAVE = 0.75  # of the level, on average
_UNKNOWN_POWER = 60.0  # of moves whose power depends on weight, speed, ...
_POWER = {"return": 102.0}  # of full friendship, which everybody's Pokémon have
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
_RETALIATION = {"bide", "counter", "mirrorcoat", "metalburst", "comeuppance"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Attack:
    """What a damaging move does. Equal to itself alone, as a `Fighter` is.

    Attributes:
        type: of the move.
        physical: or special.
        power: of one hit.
        hits: how often it hits, on average.
        accuracy: in 0..1.
        critical_stage: 0 is the usual chance of a critical hit, each step is likelier, ALWAYS is certain, -1 is never.
        level_share: where not 0, the damage is this share of the attacker's level, whatever the stats.
        fixed_damage: where not 0, the damage in HP, whatever the stats.
        hp_share: where not 0, the damage is this share of the defender's HP.
        self_destruct: the attacker faints.
        charges: it hits in its second turn.
        recharges: the turn after it is lost.
        ignores_types: of the defender, immunities too.
        doubled_against: a type against which it does double damage, whatever the type chart says.
        attack_stat: by its name in STATS: "atk" or "spa", but for a few moves.
        target_attack: the defender's stat counts in place of the attacker's.
        defense_stat: "def" or "spd".
        ignores_defense_stages: of the defender.
        ignores_screens: of the defender's side.
        needs_sleep: it does nothing to a defender that is awake.
    """

    type: PokemonType
    physical: bool
    power: float
    hits: float = 1.0
    accuracy: float = 1.0
    critical_stage: int = 0
    level_share: float = 0.0
    fixed_damage: float = 0.0
    hp_share: float = 0.0
    self_destruct: bool = False
    charges: bool = False
    recharges: bool = False
    ignores_types: bool = False
    doubled_against: PokemonType | None = None
    attack_stat: str
    target_attack: bool = False
    defense_stat: str
    ignores_defense_stages: bool = False
    ignores_screens: bool = False
    needs_sleep: bool = False


@lru_cache(maxsize=1 << 14)
def effectiveness(attack_type: PokemonType, types: tuple[PokemonType, ...], gen: int) -> float:
    """The product over the defender's types, by the generation's own chart; 1 for Stellar and ???."""
    chart = GenData.from_gen(gen).type_chart
    product = 1.0
    for type_ in types:
        product *= chart.get(type_.name, {}).get(attack_type.name, 1.0)
    return product


@lru_cache(maxsize=4096)
def attack_of(move_id: str, gen: int) -> Attack | None:
    """The move's attack; None for a status move, and for one that does nothing by itself (Counter, Bide, ...)."""
    if move_id not in GenData.from_gen(gen).moves:
        return None
    move = Move(move_id, gen=gen)
    entry = move.entry
    if move.category == MoveCategory.STATUS or move_id in _RETALIATION or entry.get("ohko"):
        return None
    physical = move.category == MoveCategory.PHYSICAL
    level_share = 1.0 if move.damage == "level" else _PSYWAVE if move_id == "psywave" else 0.0
    hp_share = 0.5 if move_id in ("superfang", "ruination", "naturesmadness") else 0.0
    power = float(_POWER.get(move_id, move.base_power))
    return Attack(
        type=PokemonType.THREE_QUESTION_MARKS if move_id == "struggle" and gen > 1 else move.type,
        physical=physical,
        power=power if power > 1 else _UNKNOWN_POWER,
        hits=float(move.expected_hits),
        accuracy=move.accuracy,
        critical_stage=_critical_stage(move),
        level_share=level_share,
        fixed_damage=float(move.damage) if isinstance(move.damage, int) else 0.0,
        hp_share=hp_share,
        self_destruct=move.self_destruct is not None,
        charges="charge" in move.flags,
        recharges="recharge" in move.flags,
        ignores_types=entry.get("ignoreImmunity") is True and power <= 1,
        doubled_against=PokemonType.WATER if move_id == "freezedry" else None,
        attack_stat=entry.get("overrideOffensiveStat", "atk" if physical else "spa"),
        target_attack=move.use_target_offensive,
        defense_stat=entry.get("overrideDefensiveStat", "def" if physical else "spd"),
        ignores_defense_stages=bool(move.ignore_defensive),
        ignores_screens=move_id in ("brickbreak", "psychicfangs", "ragingbull"),
        needs_sleep=move_id == "dreameater",
    )


def _critical_stage(move: Move) -> int:
    if "willCrit" in move.entry:
        return ALWAYS if move.entry["willCrit"] else -1
    return max(0, move.crit_ratio - 1)


@lru_cache(maxsize=256)  # some are asked for more than once in a decision, of which there are some dozens
def hit_share(attack: Attack, attacker: Fighter, defender: Fighter) -> float:
    """The mean share of the defender's maximum HP that the attack takes where it hits; 0 where it is immune."""
    factor = _factor(attack, defender)
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
    return _damage(attack, attacker, defender, _factor(attack, defender), stats, critical=critical)


def _factor(attack: Attack, defender: Fighter) -> float:
    """What the defender's types multiply the damage by, and 0 where something else keeps the attack from hitting."""
    if attack.needs_sleep and defender.status != Status.SLP:
        return 0.0
    if defender.ability and _ABILITY_IMMUNITY.get(defender.ability) == attack.type:
        return 0.0
    if attack.ignores_types:
        return 1.0
    factor = effectiveness(attack.type, defender.types, defender.gen)
    if attack.doubled_against in defender.types:
        factor *= 2 / effectiveness(attack.type, (attack.doubled_against,), defender.gen)
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
    stab = _STAB[min(attacker.stab_types.count(attack.type), 2)]
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

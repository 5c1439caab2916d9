"""Expected damage by the games' own formulas, for the scripted trainers.

A `Fighter` is a Pokémon as they see it: own ones with their real stats, the opponent's with the usual training (all of
it in generations 1 and 2). An `Attack` is a move that does damage, or an assumed one. Items, the weather and most
abilities are left out; tests/showdown/scripted/test_damage.py lists the moves whose damage is only guessed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from poke_env.battle import Battle, Effect, Move, MoveCategory, Pokemon, PokemonType, SideCondition, Status
from poke_env.data import GenData

MEAN_ROLL = 0.925
STATS = ("atk", "def", "spa", "spd", "spe")
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Fighter:
    """One Pokémon as the trainers see it.

    Attributes:
        gen: of the battle.
        level: 1 to 100.
        types: now; the tera type alone after terastallising.
        stab_types: of its own moves that are stronger: its original types, and again the tera type.
        max_hp: in HP.
        stats: without stages, by their names in STATS.
        base_speed: of the species.
        hp: in 0..1.
        boosts: stages, by the names of the stats.
        status: None where it is healthy.
        ability: None where it is unknown, and in generations 1 and 2.
        screens: of "reflect" and "lightscreen" those that protect it.
        idle: the coming turns in which it cannot act.
        behind_substitute: whether a substitute protects it.
    """

    gen: int
    level: int
    types: tuple[PokemonType, ...]
    stab_types: tuple[PokemonType, ...]
    max_hp: float
    stats: Mapping[str, float]
    base_speed: int
    hp: float
    boosts: Mapping[str, int]
    status: Status | None
    ability: str | None
    screens: frozenset[str]
    idle: float = 0.0
    behind_substitute: bool = False

    @property
    def speed(self) -> float:
        """With stages, and halved or worse by paralysis."""
        slowed = (0.25 if self.gen < 7 else 0.5) if self.status == Status.PAR else 1.0
        return self.stats["spe"] * boost_factor(self.boosts.get("spe", 0)) * slowed


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """What a damaging move does.

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
        attack_stat: the attacker's stat that counts in place of Attack or Special Attack; "" for none.
        target_attack: the defender's Attack counts in place of the attacker's.
        hits_defense: a special attack against which Defense counts.
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
    attack_stat: str = ""
    target_attack: bool = False
    hits_defense: bool = False
    ignores_defense_stages: bool = False
    ignores_screens: bool = False
    needs_sleep: bool = False


def own_fighter(pokemon: Pokemon, battle: Battle) -> Fighter:
    """A Pokémon of the player's own, with the stats of the simulator's request."""
    return _fighter(pokemon, battle, battle.side_conditions, {k: v for k, v in pokemon.stats.items() if v})


def opposing_fighter(pokemon: Pokemon, battle: Battle) -> Fighter:
    """A Pokémon of the opponent's, with the stats that are usual for its species."""
    return _fighter(pokemon, battle, battle.opponent_side_conditions, {})


def boost_factor(stage: int) -> float:
    """What a stage of -6 to 6 multiplies a stat by."""
    return (2 + stage) / 2 if stage >= 0 else 2 / (2 - stage)


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
    level_share = 1.0 if move.damage == "level" else _PSYWAVE if move_id == "psywave" else 0.0
    hp_share = 0.5 if move_id in ("superfang", "ruination", "naturesmadness") else 0.0
    power = float(_POWER.get(move_id, move.base_power))
    return Attack(
        type=PokemonType.THREE_QUESTION_MARKS if move_id == "struggle" and gen > 1 else move.type,
        physical=move.category == MoveCategory.PHYSICAL,
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
        attack_stat=entry.get("overrideOffensiveStat", ""),
        target_attack=move.use_target_offensive,
        hits_defense=entry.get("overrideDefensiveStat") == "def",
        ignores_defense_stages=bool(move.ignore_defensive),
        ignores_screens=move_id in ("brickbreak", "psychicfangs", "ragingbull"),
        needs_sleep=move_id == "dreameater",
    )


def _critical_stage(move: Move) -> int:
    if "willCrit" in move.entry:
        return ALWAYS if move.entry["willCrit"] else -1
    return max(0, move.crit_ratio - 1)


def hit_share(attack: Attack, attacker: Fighter, defender: Fighter) -> float:
    """The mean share of the defender's maximum HP that the attack takes where it hits; 0 where it is immune."""
    chance = critical_chance(attack, attacker)
    plain, critical = (mean_damage(attack, attacker, defender, critical=critical) for critical in (False, True))
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
    factor = _type_factor(attack, defender)
    if factor == 0 or (attack.needs_sleep and defender.status != Status.SLP):
        return 0.0
    if attack.hp_share:
        return attack.hp_share * defender.hp * defender.max_hp
    if attack.level_share or attack.fixed_damage:
        return attack.level_share * attacker.level + attack.fixed_damage
    gen = attacker.gen
    strength, defense = _stats_that_count(attack, attacker, defender, critical=critical)
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


def _type_factor(attack: Attack, defender: Fighter) -> float:
    if _ABILITY_IMMUNITY.get(defender.ability or "") == attack.type:
        return 0.0
    if attack.ignores_types:
        return 1.0
    factor = effectiveness(attack.type, defender.types, defender.gen)
    if attack.doubled_against in defender.types:
        factor *= 2 / effectiveness(attack.type, (attack.doubled_against,), defender.gen)
    return factor


def _stats_that_count(attack: Attack, attacker: Fighter, defender: Fighter, *, critical: bool) -> tuple[float, float]:
    """Attack and defense with stages, and in generations 1 and 2 with a burn and screens, as far as they count.

    On a critical hit none of them counts in generation 1, and in generation 2 unless the attacker's stage is above the
    defender's. Later the stages that would make it weaker do not count: the attacker's below 0, the defender's above.
    """
    source = defender if attack.target_attack else attacker
    attack_name = attack.attack_stat or ("atk" if attack.physical else "spa")
    defense_name = "def" if attack.physical or attack.hits_defense else "spd"
    attack_stage = source.boosts.get(attack_name, 0)
    defense_stage = 0 if attack.ignores_defense_stages else defender.boosts.get(defense_name, 0)
    gen = attacker.gen
    if gen >= 3 and critical:
        attack_stage, defense_stage = max(attack_stage, 0), min(defense_stage, 0)
    plain = critical and gen <= 2 and (gen == 1 or attack_stage <= defense_stage)
    if plain:
        attack_stage = defense_stage = 0
    strength = source.stats[attack_name] * boost_factor(attack_stage) // 1
    defense = defender.stats[defense_name] * boost_factor(defense_stage) // 1
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


def _fighter(
    pokemon: Pokemon, battle: Battle, conditions: Mapping[SideCondition, int], known_stats: Mapping[str, float]
) -> Fighter:
    usual = _usual_stats(pokemon)
    types = tuple(pokemon.types)
    return Fighter(
        gen=battle.gen,
        level=pokemon.level,
        types=types,
        stab_types=(*pokemon.base_types, *(types if pokemon.is_terastallized else ())),
        max_hp=float(pokemon.max_hp if known_stats else usual["hp"]),
        stats={name: float(known_stats.get(name, usual[name])) for name in STATS},
        base_speed=pokemon.base_stats["spe"],
        hp=float(pokemon.current_hp_fraction),
        boosts=dict(pokemon.boosts),
        status=pokemon.status,
        ability=pokemon.ability if battle.gen >= 3 else None,
        screens=_screens(pokemon, conditions),
        behind_substitute=Effect.SUBSTITUTE in pokemon.effects,
    )


def _usual_stats(pokemon: Pokemon) -> dict[str, float]:
    """Fully trained in generations 1 and 2, where that costs nothing; after that, effort spread over all stats."""
    gain = 63 + 30 if pokemon.gen <= 2 else 31 + 21
    stats = {name: (2 * pokemon.base_stats[name] + gain) * pokemon.level / 100 + 5 for name in STATS}
    return {**stats, "hp": (2 * pokemon.base_stats["hp"] + gain) * pokemon.level / 100 + pokemon.level + 10}


def _screens(pokemon: Pokemon, conditions: Mapping[SideCondition, int]) -> frozenset[str]:
    """A screen protects one Pokémon in generation 1, its side from generation 2 on."""
    there = {sign.name.replace("_", "").lower() for sign in (*pokemon.effects, *conditions)}
    both = {"reflect", "lightscreen"}
    return frozenset(both if "auroraveil" in there else both & there)

"""Expected damage by the games' own formulas, for the scripted trainers.

A `Fighter` is a Pokémon as they reckon with it: own ones with their real stats, the opponent's with the usual training
(all of it in generations 1 and 2). An `Attack` is a move that does damage, or one that is only assumed. Items and most
abilities are left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from poke_env.battle import Battle, Effect, Move, MoveCategory, Pokemon, PokemonType, SideCondition, Status
from poke_env.data import GenData

MEAN_ROLL = 0.925
STATS = ("atk", "def", "spa", "spd", "spe")
_PSYWAVE = 0.75  # of the level, on average
_UNKNOWN_POWER = 60.0  # of moves whose power depends on weight, speed, ...
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
    """One Pokémon in the reckoning. `hp` is in 0..1; `idle` counts the coming turns in which it cannot act."""

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

    def stat(self, name: str) -> float:
        """With stages and status."""
        value = self.stats[name] * boost_factor(self.boosts.get(name, 0))
        if name == "spe" and self.status == Status.PAR:
            value *= 0.25 if self.gen < 7 else 0.5
        if name == "atk" and self.status == Status.BRN:
            value *= 0.5
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """What a damaging move does.

    Attributes:
        type: of the move.
        physical: or special.
        power: of all its hits together.
        accuracy: in 0..1.
        high_crit: critical hits are likelier.
        level_share: where not 0, the damage is this share of the attacker's level, whatever the stats.
        hp_share: where not 0, the damage is this share of the defender's HP.
        self_destruct: the attacker faints.
        charges: it hits in its second turn.
        recharges: the turn after it is lost.
        ignores_types: of the defender, immunities too.
        attack_stat: "def" or "target atk" where neither Attack nor Special Attack counts.
    """

    type: PokemonType
    physical: bool
    power: float
    accuracy: float = 1.0
    high_crit: bool = False
    level_share: float = 0.0
    hp_share: float = 0.0
    self_destruct: bool = False
    charges: bool = False
    recharges: bool = False
    ignores_types: bool = False
    attack_stat: str = ""


def own_fighter(pokemon: Pokemon, battle: Battle) -> Fighter:
    """A Pokémon of the player's own, with the stats of the simulator's request."""
    return _fighter(pokemon, battle, battle.side_conditions, {k: v for k, v in pokemon.stats.items() if v})


def opposing_fighter(pokemon: Pokemon, battle: Battle) -> Fighter:
    return _fighter(pokemon, battle, battle.opponent_side_conditions, {})


def boost_factor(stage: int) -> float:
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
    power = move.base_power * move.expected_hits
    if isinstance(move.damage, int) and move.damage:
        level_share = move.damage / 100
    return Attack(
        type=move.type,
        physical=move.category == MoveCategory.PHYSICAL,
        power=power if power > 1 else _UNKNOWN_POWER,
        accuracy=move.accuracy,
        high_crit=move.crit_ratio >= 2,
        level_share=level_share,
        hp_share=hp_share,
        self_destruct=move.self_destruct is not None,
        charges="charge" in move.flags,
        recharges="recharge" in move.flags,
        ignores_types=gen == 1 and level_share > 0,
        attack_stat="def" if move_id == "bodypress" else "target atk" if move.use_target_offensive else "",
    )


def hit_share(attack: Attack, attacker: Fighter, defender: Fighter) -> float:
    """The mean share of the defender's maximum HP that one hit takes, critical hits included; 0 where it is immune."""
    factor = effectiveness(attack.type, defender.types, attacker.gen)
    if attack.ignores_types:
        factor = 1.0
    if factor == 0 or _ABILITY_IMMUNITY.get(defender.ability or "") == attack.type:
        return 0.0
    if attack.hp_share:
        return attack.hp_share * defender.hp
    if attack.level_share:
        return attack.level_share * attacker.level / defender.max_hp
    if attack.type in attacker.stab_types:
        factor *= 1.5
    chance, plain, critical = _critical(attack, attacker)
    boosted = _base_damage(attack, attacker, defender, plain_stats=False)
    unboosted = max(boosted, _base_damage(attack, attacker, defender, plain_stats=True))
    mean = (1 - chance) * plain * boosted + chance * critical * unboosted
    return mean * factor * MEAN_ROLL / defender.max_hp


def _base_damage(attack: Attack, attacker: Fighter, defender: Fighter, *, plain_stats: bool) -> float:
    """Damage before types and luck. A critical hit sees plain stats, without stages and screens."""
    attack_name, defense_name = ("atk", "def") if attack.physical else ("spa", "spd")
    source = attacker
    if attack.attack_stat == "target atk":
        source = defender
    elif attack.attack_stat:
        attack_name = attack.attack_stat
    if plain_stats:
        strength, defense = source.stats[attack_name], defender.stats[defense_name]
    else:
        strength, defense = source.stat(attack_name), defender.stat(defense_name)
        if ("reflect" if attack.physical else "lightscreen") in defender.screens:
            defense *= 2
    if attack.self_destruct and attacker.gen < 5:
        defense /= 2
    return (2 * attacker.level / 5 + 2) * attack.power * strength / max(defense, 1.0) / 50 + 2


def _critical(attack: Attack, attacker: Fighter) -> tuple[float, float, float]:
    """Chance of a critical hit, and the damage factors without and with one."""
    if attacker.gen == 1:  # the chance grows with base speed, and the level counts twice
        chance = attacker.base_speed / 512 * (8 if attack.high_crit else 1)
        level = attacker.level
        return min(chance, 255 / 256), 1.0, (4 * level / 5 + 2) / (2 * level / 5 + 2)
    if attacker.gen < 6:
        return (1 / 8 if attack.high_crit else 1 / 16), 1.0, 2.0
    return (1 / 8 if attack.high_crit else 1 / 24), 1.0, 1.5


def _fighter(
    pokemon: Pokemon, battle: Battle, conditions: Mapping[SideCondition, int], known_stats: Mapping[str, float]
) -> Fighter:
    usual = _usual_stats(pokemon)
    types = tuple(pokemon.types)
    return Fighter(
        gen=battle.gen,
        level=pokemon.level,
        types=types,
        stab_types=tuple({*types, *pokemon.base_types}),
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

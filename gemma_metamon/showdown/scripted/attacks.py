"""Moves as attacks: what of a move counts for the damage that it does. Needs no battle."""

from dataclasses import dataclass
from functools import lru_cache

from poke_env.battle import Move, MoveCategory, PokemonType
from poke_env.data import GenData

ALWAYS = 5
"""The stage of moves whose hits are all critical."""
_PSYWAVE = 0.75  # of the level, on average
_UNKNOWN_POWER = 60.0  # of moves whose power depends on weight, speed, ...
_POWER = {"return": 102.0}  # of full friendship, which everybody's Pokémon have
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
        move_id: of the move; "" of an assumed attack.
        flags: of the move, by the simulator's names: "contact", "sound", ...
        priority: 0 is usual.
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
    move_id: str = ""
    flags: frozenset[str] = frozenset()
    priority: int = 0


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
        move_id=move_id,
        flags=frozenset(move.flags),
        priority=move.priority,
    )


def _critical_stage(move: Move) -> int:
    if "willCrit" in move.entry:
        return ALWAYS if move.entry["willCrit"] else -1
    return max(0, move.crit_ratio - 1)

"""A Pokémon as the scripted trainers see it: own ones as they are, the opponent's as they usually are."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from poke_env.battle import Battle, Effect, Pokemon, PokemonType, SideCondition, Status

from gemma_metamon.showdown.scripted.surroundings import (
    Surroundings,
    equipped,
    item_of,
    moves_of_own_type,
    specialised_gain,
    surroundings_of,
    turn_loss,
)

STATS = ("atk", "def", "spa", "spd", "spe")
HORIZON = 30.0
"""Turns that a duel is looked ahead."""
_SCREENS: dict[Effect | SideCondition, tuple[str, ...]] = {
    sign: screens
    for kind in (Effect, SideCondition)
    for name, screens in (
        ("REFLECT", ("reflect",)),
        ("LIGHT_SCREEN", ("lightscreen",)),
        ("AURORA_VEIL", ("reflect", "lightscreen")),
    )
    if (sign := kind.__members__.get(name)) is not None
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fighter:
    """One Pokémon as the trainers see it in one decision. Equal to itself alone, so that results are kept cheaply.

    Attributes:
        gen: of the battle.
        level: 1 to 100.
        types: now; the tera type alone after terastallising.
        stab_types: of its own moves that are stronger: its original types, and again the tera type.
        max_hp: in HP.
        stats: without stages, by their names in STATS.
        base_speed: of the species.
        hp: in 0..1.
        boosts: stages other than 0, by the names of the stats.
        status: None where it is healthy.
        ability: None where it is unknown, and in generations 1 and 2.
        screens: of "reflect" and "lightscreen" those that protect it.
        idle: the coming turns in which it cannot act.
        behind_substitute: whether a substitute protects it.
        around: weather and such; None for a trainer that looks neither at it nor at items and most abilities.
        item: its id; "" for none, or one that is lost; None where it is unknown.
        own_types: of its moves whose type depends on who uses it, and when.
        turn_loss: the share of its HP that items, abilities and weather take each turn; below 0 they give.
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
    around: Surroundings | None = None
    item: str | None = None
    own_types: Mapping[str, PokemonType] = field(default_factory=dict)
    turn_loss: float = 0.0

    @property
    def speed(self) -> float:
        """With stages, and halved or worse by paralysis; below 0 in a Trick Room, where the slower moves first."""
        slowed = (0.25 if self.gen < 7 else 0.5) if self.status == Status.PAR else 1.0
        speed = self.stats["spe"] * boost_factor(self.boosts.get("spe", 0)) * slowed
        return -speed if self.around is not None and self.around.trick_room else speed


def own_fighter(pokemon: Pokemon, battle: Battle, *, entering: bool = False, modern: bool = False) -> Fighter:
    """A Pokémon of the player's own, with the stats of the simulator's request.

    Args:
        pokemon: of the player's team.
        battle: in which it plays.
        entering: it comes in from the bench, and so without stages.
        modern: look at what `Thresholds.modern` says.
    """
    known = pokemon.stats
    max_hp = float(pokemon.max_hp) if any(known.values()) else usual_max_hp(pokemon)
    stats = {name: float(known[name] or usual_stat(pokemon, name)) for name in STATS}
    boosts = {} if entering else _boosts(pokemon)
    conditions = battle.side_conditions
    return _fighter(pokemon, battle, conditions, max_hp=max_hp, stats=stats, boosts=boosts, modern=modern)


def opposing_fighter(pokemon: Pokemon, battle: Battle, *, modern: bool = False) -> Fighter:
    """A Pokémon of the opponent's, with the stats that are usual for its species; `modern` as in `own_fighter`."""
    fighter = _fighter(
        pokemon,
        battle,
        battle.opponent_side_conditions,
        max_hp=usual_max_hp(pokemon, modern=modern),
        stats={name: usual_stat(pokemon, name, modern=modern) for name in STATS},
        boosts=_boosts(pokemon),
        modern=modern,
    )
    return replace(fighter, idle=max(fighter.idle, 1.0)) if pokemon.must_recharge else fighter


def usual_stat(pokemon: Pokemon, name: str, *, modern: bool = False) -> float:
    """Fully trained in generations 1 and 2, where that costs nothing; after that, effort spread over all stats.

    Modern trainers take it that a Pokémon is trained for what its species is good at.
    """
    return _trained(pokemon, name, modern=modern) + 5


def usual_max_hp(pokemon: Pokemon, *, modern: bool = False) -> float:
    """With the training of `usual_stat`."""
    return _trained(pokemon, "hp", modern=modern) + pokemon.level + 10


def _trained(pokemon: Pokemon, name: str, *, modern: bool) -> float:
    usual = 63 + 30 if pokemon.gen <= 2 else 31 + 21
    gain = specialised_gain(pokemon.base_stats, name) if modern else usual
    return (2 * pokemon.base_stats[name] + gain) * pokemon.level / 100


def boost_factor(stage: int) -> float:
    """What a stage of -6 to 6 multiplies a stat by."""
    return (2 + stage) / 2 if stage >= 0 else 2 / (2 - stage)


def turns_lost(status: Status | None, gen: int) -> float:
    """Mean turns that sleep or ice will still cost a Pokémon met in that state."""
    if status == Status.SLP:  # 1 to 7 turns in generation 1, fewer later; some have passed
        return 2.4 if gen == 1 else 1.8 if gen <= 4 else 1.2
    if status == Status.FRZ:  # generation 1 knows no thawing
        return HORIZON if gen == 1 else 4.0
    return 0.0


def _fighter(
    pokemon: Pokemon,
    battle: Battle,
    conditions: Mapping[SideCondition, int],
    *,
    max_hp: float,
    stats: Mapping[str, float],
    boosts: Mapping[str, int],
    modern: bool,
) -> Fighter:
    """With all that both players see of it; `conditions` are those of its side."""
    gen, types = battle.gen, tuple(pokemon.types)
    fighter = Fighter(
        gen=gen,
        level=pokemon.level,
        types=types,
        stab_types=(*pokemon.base_types, *(types if pokemon.is_terastallized else ())),
        max_hp=max_hp,
        stats=stats,
        base_speed=pokemon.base_stats["spe"],
        hp=float(pokemon.current_hp_fraction),
        boosts=boosts,
        status=pokemon.status,
        ability=pokemon.ability if gen >= 3 else None,
        screens=_screens(pokemon, conditions),
        idle=turns_lost(pokemon.status, gen),
        behind_substitute=Effect.SUBSTITUTE in pokemon.effects,
    )
    if not modern:
        return fighter
    around = surroundings_of(battle)
    return replace(
        fighter,
        around=around,
        item=item_of(pokemon),
        stats=equipped(stats, pokemon, around, conditions),
        own_types=moves_of_own_type(pokemon, around),
        turn_loss=turn_loss(pokemon, around),
    )


def _boosts(pokemon: Pokemon) -> dict[str, int]:
    return {name: stage for name, stage in pokemon.boosts.items() if stage}


def _screens(pokemon: Pokemon, conditions: Mapping[SideCondition, int]) -> frozenset[str]:
    """A screen protects one Pokémon in generation 1, its side from generation 2 on."""
    there = [sign for sign in (*pokemon.effects, *conditions) if sign in _SCREENS]
    return frozenset(screen for sign in there for screen in _SCREENS[sign])

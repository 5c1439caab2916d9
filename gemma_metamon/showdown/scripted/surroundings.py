"""What items, abilities, weather and terrain do to a Pokémon's stats, to its HP each turn, and to its moves' types.

What they do to a single attack is `modifiers.py`'s. Of both only what teams of generation 9 commonly bring.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from poke_env.battle import Battle, Effect, Field, Pokemon, PokemonType, SideCondition, Status, Weather

_WEATHERS = {
    Weather.SUNNYDAY: "sun",
    Weather.DESOLATELAND: "sun",
    Weather.RAINDANCE: "rain",
    Weather.PRIMORDIALSEA: "rain",
    Weather.SANDSTORM: "sand",
    Weather.SNOWSCAPE: "snow",
}
_TERRAINS = {
    Field.ELECTRIC_TERRAIN: "electric",
    Field.GRASSY_TERRAIN: "grassy",
    Field.MISTY_TERRAIN: "misty",
    Field.PSYCHIC_TERRAIN: "psychic",
}
_ITEM_STATS = {
    "choiceband": {"atk": 1.5},
    "choicespecs": {"spa": 1.5},
    "choicescarf": {"spe": 1.5},
    "assaultvest": {"spd": 1.5},
    "eviolite": {"def": 1.5, "spd": 1.5},
    "ironball": {"spe": 0.5},
}
_ABILITY_STATS = {
    "hugepower": {"atk": 2.0},
    "purepower": {"atk": 2.0},
    "furcoat": {"def": 2.0},
    "gorillatactics": {"atk": 1.5},
    "orichalcumpulse": {"atk": 4 / 3},
    "hadronengine": {"spa": 4 / 3},
}
_FAST_IN = {
    "swiftswim": "rain",
    "chlorophyll": "sun",
    "sandrush": "sand",
    "slushrush": "snow",
    "surgesurfer": "electric",
}
_BOOSTER_EFFECTS = {
    effect: name.lower()
    for ability in ("PROTOSYNTHESIS", "QUARKDRIVE")
    for name in ("ATK", "DEF", "SPA", "SPD", "SPE")
    if (effect := Effect.__members__.get(ability + name)) is not None
}
_WEATHER_TYPES = {
    "sun": PokemonType.FIRE,
    "rain": PokemonType.WATER,
    "sand": PokemonType.ROCK,
    "snow": PokemonType.ICE,
}
_IVY_CUDGEL = {
    "ogerponwellspring": PokemonType.WATER,
    "ogerponhearthflame": PokemonType.FIRE,
    "ogerponcornerstone": PokemonType.ROCK,
}
_STATUS_LOSS = {Status.BRN: 1 / 16, Status.PSN: 1 / 16, Status.TOX: 3 / 16}  # of the HP, each turn
_FAST = 80
"""Base speed from which on a species is trained for speed rather than for HP."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What holds for both sides: "sun", "rain", "sand", "snow" or ""; a terrain's first word or ""; Trick Room."""

    weather: str = ""
    terrain: str = ""
    trick_room: bool = False


def surroundings_of(battle: Battle) -> Surroundings:
    """As they are now."""
    weather = next((_WEATHERS[w] for w in battle.weather if w in _WEATHERS), "")
    terrain = next((_TERRAINS[f] for f in battle.fields if f in _TERRAINS), "")
    return Surroundings(weather, terrain, Field.TRICK_ROOM in battle.fields)


def item_of(pokemon: Pokemon) -> str | None:
    """Its id; "" for none; None where it is unknown."""
    return None if pokemon.item == "unknown_item" else pokemon.item or ""


def is_grounded(types: Iterable[PokemonType], ability: str | None, item: str | None) -> bool:
    """Whether terrains and hazards on the ground reach such a Pokémon, as far as is known."""
    return PokemonType.FLYING not in types and ability != "levitate" and item != "airballoon"


def specialised_gain(base_stats: Mapping[str, int], name: str) -> float:
    """Points that a stat gains at level 100 where effort goes to what the species is good at."""
    fast = base_stats["spe"] >= _FAST
    effort = {"spe": 55 if fast else 10, "hp": 15 if fast else 55, "def": 10, "spd": 10, "atk": 0, "spa": 0}
    if not fast:
        effort["def"] = effort["spd"] = 25
    effort["atk" if base_stats["atk"] >= base_stats["spa"] else "spa"] = 50
    return 31 + effort[name]


def equipped(
    stats: Mapping[str, float], pokemon: Pokemon, around: Surroundings, conditions: Mapping[SideCondition, int]
) -> dict[str, float]:
    """Stats with what item, ability, weather and tailwind make of them; `conditions` are those of its side."""
    ability = pokemon.ability or ""
    factors = dict(_ITEM_STATS.get(pokemon.item or "", {}))
    for name, factor in _ABILITY_STATS.get(ability, {}).items():
        factors[name] = factors.get(name, 1.0) * factor
    speed = factors.get("spe", 1.0)
    if ability in _FAST_IN and _FAST_IN[ability] in (around.weather, around.terrain):
        speed *= 2
    if ability == "unburden" and item_of(pokemon) == "":
        speed *= 2
    if SideCondition.TAILWIND in conditions:
        speed *= 2
    factors["spe"] = speed
    for effect in pokemon.effects:
        if (boosted := _BOOSTER_EFFECTS.get(effect)) is not None:
            factors[boosted] = factors.get(boosted, 1.0) * (1.5 if boosted == "spe" else 1.3)
    if around.weather == "sand" and PokemonType.ROCK in pokemon.types:
        factors["spd"] = factors.get("spd", 1.0) * 1.5
    if around.weather == "snow" and PokemonType.ICE in pokemon.types:
        factors["def"] = factors.get("def", 1.0) * 1.5
    if ability == "guts" and pokemon.status is not None:
        factors["atk"] = factors.get("atk", 1.0) * (3.0 if pokemon.status == Status.BRN else 1.5)
    return {name: stat * factors.get(name, 1.0) for name, stat in stats.items()}


def moves_of_own_type(pokemon: Pokemon, around: Surroundings) -> dict[str, PokemonType]:
    """The types of Ivy Cudgel, Weather Ball and Tera Blast, where they are not the usual ones."""
    types = {}
    if (cudgel := _IVY_CUDGEL.get(pokemon.species.removesuffix("tera"))) is not None:
        types["ivycudgel"] = cudgel
    if around.weather:
        types["weatherball"] = _WEATHER_TYPES[around.weather]
    if pokemon.is_terastallized and pokemon.tera_type is not None:
        types["terablast"] = pokemon.tera_type
    return types


def status_loss(status: Status | None) -> float:
    """The share of its HP that a status takes from a Pokémon each turn."""
    return _STATUS_LOSS.get(status, 0.0) if status else 0.0


def turn_loss(pokemon: Pokemon, around: Surroundings) -> float:
    """The share of its HP that it loses each turn to all but a status; below 0 it gains."""
    ability, item = pokemon.ability or "", pokemon.item
    loss = 0.0
    if item == "leftovers" or (item == "blacksludge" and PokemonType.POISON in pokemon.types):
        loss -= 1 / 16
    if around.terrain == "grassy" and is_grounded(pokemon.types, ability, item):
        loss -= 1 / 16
    if ability == "poisonheal" and pokemon.status in (Status.PSN, Status.TOX):
        return loss - 1 / 8 - status_loss(pokemon.status)  # it is counted apart, and heals here
    if ability == "magicguard":
        return loss - status_loss(pokemon.status)
    if around.weather == "sand" and not {PokemonType.ROCK, PokemonType.GROUND, PokemonType.STEEL} & set(pokemon.types):
        loss += 0.0 if ability in ("sandrush", "sandforce", "sandveil", "overcoat") else 1 / 16
    if Effect.SALT_CURE in pokemon.effects:
        loss += 1 / 4 if {PokemonType.WATER, PokemonType.STEEL} & set(pokemon.types) else 1 / 8
    if Effect.LEECH_SEED in pokemon.effects:
        loss += 1 / 8
    return loss

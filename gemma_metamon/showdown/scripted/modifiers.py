"""What items, abilities, weather and terrain do to one attack of one Pokémon on another.

Only what teams of generation 9 commonly bring. What they do to stats is `surroundings.py`'s.
"""

from poke_env.battle import PokemonType

from gemma_metamon.showdown.scripted.attacks import Attack
from gemma_metamon.showdown.scripted.fighters import Fighter
from gemma_metamon.showdown.scripted.surroundings import is_grounded

_TYPE_ITEMS = {
    "blackglasses": {"DARK"},
    "metalcoat": {"STEEL"},
    "mysticwater": {"WATER"},
    "charcoal": {"FIRE"},
    "souldew": {"PSYCHIC", "DRAGON"},
}
_ALL_MOVES_ITEMS = {"lifeorb": 1.3, "wellspringmask": 1.2, "hearthflamemask": 1.2, "cornerstonemask": 1.2}
_FLAG_ABILITIES = {
    "sharpness": ("slicing", 1.5),
    "toughclaws": ("contact", 1.3),
    "ironfist": ("punch", 1.2),
    "strongjaw": ("bite", 1.5),
    "megalauncher": ("pulse", 1.5),
    "punkrock": ("sound", 1.3),
}
_TYPE_ABILITIES = {"transistor": ("ELECTRIC", 1.3), "dragonsmaw": ("DRAGON", 1.5), "rockypayload": ("ROCK", 1.5)}
_WEATHER_FACTORS = {
    ("sun", "FIRE"): 1.5,
    ("sun", "WATER"): 0.5,
    ("rain", "WATER"): 1.5,
    ("rain", "FIRE"): 0.5,
}
_TERRAIN_TYPES = {"electric": "ELECTRIC", "grassy": "GRASS", "psychic": "PSYCHIC"}
_FLAG_IMMUNITY = {"soundproof": "sound", "bulletproof": "bullet", "windrider": "wind"}
_RESISTING_ABILITIES = {
    "thickfat": {"FIRE": 0.5, "ICE": 0.5},
    "heatproof": {"FIRE": 0.5},
    "waterbubble": {"FIRE": 0.5},
    "purifyingsalt": {"GHOST": 0.5},
    "dryskin": {"FIRE": 1.25},
    "fluffy": {"FIRE": 2.0},
}
_MOLD_BREAKERS = ("moldbreaker", "teravolt", "turboblaze")
_NO_PRIORITY = ("queenlymajesty", "dazzling", "armortail")
_FELT_ON_THE_GROUND = ("earthquake", "bulldoze", "magnitude")


def attacker_modifier(attack: Attack, type_: PokemonType, attacker: Fighter, defender: Fighter) -> float:
    """What the attacker's item and ability, weather and terrain multiply the damage by.

    Args:
        attack: what hits.
        type_: which counts, perhaps not the attack's usual one.
        attacker: who attacks; knows its surroundings.
        defender: who is hit.
    """
    factor = _of_item(type_, attacker) * _of_ability(attack, type_, attacker) * _of_state(attack, attacker, defender)
    around = attacker.around
    if around is None:
        return factor
    if around.weather == "sun" and attack.move_id == "hydrosteam":
        factor *= 1.5
    else:
        factor *= _WEATHER_FACTORS.get((around.weather, type_.name), 1.0)
    if _TERRAIN_TYPES.get(around.terrain) == type_.name and _is_grounded(attacker):
        factor *= 1.3
    return factor


def defender_modifier(
    attack: Attack, type_: PokemonType, attacker: Fighter, defender: Fighter, *, effect: float
) -> float:
    """What the defender's item and ability and the terrain under it multiply the damage by; 0 where it is immune.

    Args:
        attack: what hits.
        type_: which counts, perhaps not the attack's usual one.
        attacker: who attacks.
        defender: who is hit; knows its surroundings.
        effect: what the types multiply the damage by.
    """
    if type_ == PokemonType.GROUND and defender.item == "airballoon":
        return 0.0
    terrain = defender.around.terrain if defender.around is not None else ""
    factor = 1.0
    if terrain and _is_grounded(defender):
        if terrain == "psychic" and attack.priority > 0:
            return 0.0
        if (terrain == "misty" and type_ == PokemonType.DRAGON) or (
            terrain == "grassy" and attack.move_id in _FELT_ON_THE_GROUND
        ):
            factor *= 0.5
    if attacker.ability in _MOLD_BREAKERS:
        return factor
    return factor * _of_defending_ability(attack, type_, defender, effect=effect)


def _of_defending_ability(attack: Attack, type_: PokemonType, defender: Fighter, *, effect: float) -> float:
    ability = defender.ability or ""
    if _FLAG_IMMUNITY.get(ability) in attack.flags or (ability in _NO_PRIORITY and attack.priority > 0):
        return 0.0
    factor = _RESISTING_ABILITIES.get(ability, {}).get(type_.name, 1.0)
    if ability in ("multiscale", "shadowshield") and defender.hp == 1:
        factor *= 0.5
    if ability in ("filter", "solidrock", "prismarmor") and effect > 1:
        factor *= 0.75
    if (ability == "icescales" and not attack.physical) or (ability == "fluffy" and "contact" in attack.flags):
        factor *= 0.5
    if ability == ("tabletsofruin" if attack.physical else "vesselofruin"):
        factor *= 0.75
    return factor


def _of_item(type_: PokemonType, attacker: Fighter) -> float:
    item = attacker.item or ""
    return _ALL_MOVES_ITEMS.get(item, 1.2 if type_.name in _TYPE_ITEMS.get(item, ()) else 1.0)


def _of_ability(attack: Attack, type_: PokemonType, attacker: Fighter) -> float:
    ability = attacker.ability or ""
    flag, by_flag = _FLAG_ABILITIES.get(ability, ("", 1.0))
    of_type, by_type = _TYPE_ABILITIES.get(ability, ("", 1.0))
    factor = (by_flag if flag in attack.flags else 1.0) * (by_type if of_type == type_.name else 1.0)
    if ability == "technician" and attack.power <= 60:
        factor *= 1.5
    if ability == "adaptability" and type_ in attacker.stab_types:
        factor *= 4 / 3
    if ability == ("swordofruin" if attack.physical else "beadsofruin"):
        factor *= 4 / 3
    if ability in ("protean", "libero") and attack.move_id and type_ not in attacker.types:
        factor *= 1.5
    return factor


def _of_state(attack: Attack, attacker: Fighter, defender: Fighter) -> float:
    """Moves that are stronger by items, by status or by stages."""
    move_id = attack.move_id
    if move_id == "knockoff" and defender.item != "":
        return 1.5
    if move_id == "facade" and attacker.status is not None:
        return 2.0
    if move_id in ("hex", "infernalparade") and defender.status is not None:
        return 2.0
    if move_id == "acrobatics" and attacker.item == "":
        return 2.0
    if move_id in ("storedpower", "powertrip"):
        return 1.0 + sum(stage for stage in attacker.boosts.values() if stage > 0)
    return 1.0


def _is_grounded(fighter: Fighter) -> bool:
    return is_grounded(fighter.types, fighter.ability, fighter.item)

"""What moves are worth that do no damage, and what entering costs: hazards, screens, moves that raise stats.

For trainers that are `modern` (Thresholds); ratings are in shares of the opponent's HP, as those of attacks are.
"""

from collections.abc import Mapping
from dataclasses import replace

from poke_env.battle import Battle, Field, Move, Pokemon, PokemonType, SideCondition, Target

from gemma_metamon.showdown.scripted.damage import effectiveness
from gemma_metamon.showdown.scripted.duel import worth
from gemma_metamon.showdown.scripted.fighters import STATS, Fighter
from gemma_metamon.showdown.scripted.surroundings import is_grounded
from gemma_metamon.showdown.scripted.thresholds import Thresholds

_LAYERS = {  # of entry hazards, as many as are worth a turn
    "stealthrock": (SideCondition.STEALTH_ROCK, 1),
    "spikes": (SideCondition.SPIKES, 2),
    "ceaselessedge": (SideCondition.SPIKES, 2),
    "stickyweb": (SideCondition.STICKY_WEB, 1),
    "toxicspikes": (SideCondition.TOXIC_SPIKES, 1),
}
_WEIGHTS = {  # of hazards, next to Stealth Rock
    SideCondition.STEALTH_ROCK: 1.0,
    SideCondition.SPIKES: 0.7,
    SideCondition.STICKY_WEB: 0.7,
    SideCondition.TOXIC_SPIKES: 0.4,
}
_REMOVERS = ("rapidspin", "mortalspin", "tidyup", "defog")
_SCREENS = {
    "reflect": SideCondition.REFLECT,
    "lightscreen": SideCondition.LIGHT_SCREEN,
    "auroraveil": SideCondition.AURORA_VEIL,
    "tailwind": SideCondition.TAILWIND,
}
_SPIKES_LOSS = {1: 1 / 8, 2: 1 / 6, 3: 1 / 4}
_BOOSTS_BY_CODE = {  # what the simulator's data leaves to code
    "clangoroussoul": dict.fromkeys(STATS, 1),
    "filletaway": {"atk": 2, "spa": 2, "spe": 2},
    "growth": {"atk": 1, "spa": 1},
}
_HP_COSTS = {"clangoroussoul": 1 / 3, "filletaway": 1 / 2, "bellydrum": 1 / 2}
_HEALING_BY_CODE = ("moonlight", "morningsun", "synthesis", "shoreup", "strengthsap")


def heals(move: Move) -> bool:
    """Whether a status move gives its user about half of its HP at once."""
    return bool(move.heal) or move.id in _HEALING_BY_CODE


def rate_support(move: Move, battle: Battle, mine: Fighter, theirs: Fighter, thresholds: Thresholds) -> float:
    """What a move is worth for hazards, screens or the order of a turn, besides its damage."""
    foes = 6 - sum(pokemon.fainted for pokemon in battle.opponent_team.values())
    friends = sum(not pokemon.fainted for pokemon in battle.team.values())
    rating = 0.0
    if move.id in _LAYERS:
        hazard, layers = _LAYERS[move.id]
        bounced = theirs.ability == "magicbounce" and move.id != "ceaselessedge"
        if battle.opponent_side_conditions.get(hazard, 0) < _layers_wanted(hazard, layers) and not bounced:
            rating += thresholds.hazard * _WEIGHTS[hazard] * (foes - 1) / 5
    if move.id in _REMOVERS and not (move.id == "rapidspin" and PokemonType.GHOST in theirs.types):
        burden = sum(_WEIGHTS.get(hazard, 0.0) for hazard in battle.side_conditions)
        rating += thresholds.removal * burden * (friends - 1) / 5
    if move.id in _SCREENS and _SCREENS[move.id] not in battle.side_conditions:
        snow = mine.around is not None and mine.around.weather == "snow"
        rating += thresholds.screens * (friends - 1) / 5 if move.id != "auroraveil" or snow else 0.0
    if move.id == "trickroom" and Field.TRICK_ROOM not in battle.fields and mine.speed < theirs.speed:
        rating += thresholds.screens
    return rating


def _layers_wanted(hazard: SideCondition, layers: int) -> int:
    """poke-env counts the layers of spikes, and keeps the turn of all others."""
    return layers if hazard == SideCondition.SPIKES else 1


def raised(move: Move, fighter: Fighter, most: int) -> Fighter | None:
    """The fighter after a move that raises its stats by two stages or more; None for any other move.

    None also where the first of the raised stats, in the order of STATS, stands at `most` stages already.
    """
    found: Mapping[str, int] | None = _BOOSTS_BY_CODE.get(move.id)
    if found is None:
        found = move.boosts if move.target == Target.SELF else None
    if not found or sum(found.values()) < 2:
        return None
    gains = {name: stage for name, stage in found.items() if name in STATS}
    first = next((name for name in STATS if gains.get(name, 0) > 0), None)
    if first is None or fighter.boosts.get(first, 0) >= most:
        return None
    cost = _HP_COSTS.get(move.id, 0.0)
    if fighter.hp <= cost:
        return None
    boosts = {name: min(6, fighter.boosts.get(name, 0) + gains.get(name, 0)) for name in STATS}
    return replace(fighter, hp=fighter.hp - cost, boosts={name: stage for name, stage in boosts.items() if stage})


def entering_loss(pokemon: Pokemon, battle: Battle) -> float:
    """The share of its HP that hazards take from one of the player's own that comes in."""
    if pokemon.item == "heavydutyboots" or pokemon.ability == "magicguard":
        return 0.0
    loss = 0.0
    if SideCondition.STEALTH_ROCK in battle.side_conditions:
        loss += effectiveness(PokemonType.ROCK, tuple(pokemon.types), battle.gen) / 8
    if is_grounded(pokemon.types, pokemon.ability, pokemon.item):
        loss += _SPIKES_LOSS.get(battle.side_conditions.get(SideCondition.SPIKES, 0), 0.0)
    return loss


def after_entering(fighter: Fighter, pokemon: Pokemon, battle: Battle) -> tuple[Fighter, float]:
    """The fighter as hazards leave it, and the worth that they take; with 0 HP it does not survive them."""
    hp = max(0.0, fighter.hp - entering_loss(pokemon, battle))
    lost = worth(fighter.status, fighter.hp) - worth(fighter.status, hp)
    web = SideCondition.STICKY_WEB in battle.side_conditions and pokemon.item != "heavydutyboots"
    if web and is_grounded(pokemon.types, pokemon.ability, pokemon.item):
        return replace(fighter, hp=hp, boosts={**fighter.boosts, "spe": -1}), lost
    return replace(fighter, hp=hp), lost


def leaving_gain(mine: Fighter) -> float:
    """What Regenerator is worth to one that leaves."""
    if mine.ability != "regenerator":
        return 0.0
    return worth(mine.status, min(1.0, mine.hp + 1 / 3)) - worth(mine.status, mine.hp)

"""True sentences about a decision, computed from it and from the games' own tables: what a reasoning may say.

Nothing is guessed. A sentence that would need what a player cannot see (items, training, abilities that are hidden)
either says what it leaves out ("by base speed", "by type") or is not made at all: damage is told in generation 1 alone,
where everybody's Pokémon are trained alike, and only where neither side has stages, screens or an effect on it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from gemma_metamon.battle.actions import FIRST_SWITCH, FIRST_TERA
from gemma_metamon.battle.state import BattleState, MoveState, PokemonState
from gemma_metamon.language.telling.matchups import fighter_of, generation, type_of
from gemma_metamon.language.telling.prompts import Decision, percent, types_text
from gemma_metamon.showdown.scripted.attacks import attack_of
from gemma_metamon.showdown.scripted.damage import effectiveness, mean_damage
from gemma_metamon.showdown.scripted.fighters import boost_factor
from gemma_metamon.text.vocabulary import display_name

MOST_SENTENCES: Final = 2
_SHARES: Final = {
    0.0: "no damage",
    0.125: "an eighth of the damage",
    0.25: "a quarter of the damage",
    0.5: "half damage",
    1.0: "normal damage",
    2.0: "double damage",
    4.0: "four times the damage",
    8.0: "eight times the damage",
}
_OTHER_TYPES: Final = {
    "aurawheel", "flyingpress", "freezedry", "hiddenpower", "ivycudgel", "judgment", "multiattack", "naturalgift",
    "naturepower", "ragingbull", "revelationdance", "struggle", "technoblast", "terablast", "terastarstorm",
    "terrainpulse", "thousandarrows", "weatherball",
}  # fmt: skip
"""Moves whose effect does not follow from the type that a state has for them."""
_TYPE_ABILITIES: Final = {"aerilate", "galvanize", "liquidvoice", "normalize", "pixilate", "refrigerate"}
_PARALYSED: Final = {**dict.fromkeys(range(1, 7), 0.25), **dict.fromkeys(range(7, 10), 0.5)}


@dataclass(frozen=True)
class Fact:
    """A sentence, and which kind of claim it makes: what a test has to check it by."""

    kind: Literal["damage", "type", "speed", "resists", "shown", "seen"]
    text: str


def reasoning_of(decision: Decision, action: int) -> str:
    """One or two sentences about a choice, the most telling first; "" where there is nothing to say."""
    return " ".join(fact.text for fact in facts_of(decision, action)[:MOST_SENTENCES])


def facts_of(decision: Decision, action: int) -> list[Fact]:
    """All that can be said of a choice, the most telling first.

    Args:
        decision: at which it is made.
        action: 0-12, one of the decision's choices.
    """
    state = decision.state
    if FIRST_SWITCH <= action < FIRST_TERA:
        bench = state.switches[action - FIRST_SWITCH]
        found = [*_resists(state, bench), *_speed(state, bench, entering=True)]
    else:
        moves, place = state.player_active_pokemon.known_moves, action % FIRST_TERA
        move = moves[place] if place < len(moves) else None
        about = [] if move is None else [*_damage(state, move), *_type(state, move)]
        found = [*about, *_speed(state, state.player_active_pokemon, entering=False)]
    return [*found, *_shown(state), *_seen(decision)]


def _type(state: BattleState, move: MoveState) -> Iterator[Fact]:
    """What the chart of types says of an attack on the opponent's Pokémon."""
    foe = state.opponent_active_pokemon
    share = _share(move, state.player_active_pokemon, foe, generation(state))
    if share is not None:
        told = f"By type, {display_name(move.move_type)} does {_SHARES[share]} to {types_text(foe)}."
        yield Fact("type", told)


def _resists(state: BattleState, bench: PokemonState) -> Iterator[Fact]:
    """What the worst of the attacks that the opponent's Pokémon has shown does to the one that comes in, by type."""
    foe, gen = state.opponent_active_pokemon, generation(state)
    if foe.hp_pct <= 0:
        return
    known = [(share, move) for move in foe.known_moves if (share := _share(move, foe, bench, gen)) is not None]
    if known:
        share, move = max(known, key=lambda entry: entry[0])
        attack = f"{display_name(foe.name)}'s {display_name(move.name)}"
        yield Fact("resists", f"By type, {attack} does {_SHARES[share]} to {display_name(bench.name)}.")


def _share(move: MoveState, attacker: PokemonState, defender: PokemonState, gen: int) -> float | None:
    """What the types multiply an attack's damage by; None where that does not follow from what a state has."""
    attack = attack_of(move.name, gen)
    types = [type_of(word) for word in defender.types.split() if word != "notype"]
    type_ = type_of(move.move_type)
    plain = move.name not in _OTHER_TYPES and attacker.ability not in _TYPE_ABILITIES and move.base_power > 1
    if attack is None or attack.ignores_types or not plain or type_ is None or None in types or not types:
        return None
    share = effectiveness(type_, tuple(type_ for type_ in types if type_ is not None), gen)
    return share if share in _SHARES else None


def _speed(state: BattleState, mine: PokemonState, *, entering: bool) -> Iterator[Fact]:
    """Who is faster, by all that a state tells of speed. One that comes in has no stages."""
    foe, gen = state.opponent_active_pokemon, generation(state)
    if mine.hp_pct <= 0 or foe.hp_pct <= 0 or mine.lvl != foe.lvl:
        return
    speeds = [_speed_of(mine, 0 if entering else mine.spe_boost, gen), _speed_of(foe, foe.spe_boost, gen)]
    told = [f"{display_name(mine.name)} ({speeds[0]:g})", f"{display_name(foe.name)} ({speeds[1]:g})"]
    if speeds[0] == speeds[1]:
        yield Fact("speed", f"{told[0]} and {told[1]} are equally fast by base speed, stages and paralysis.")
        return
    faster, slower = told if speeds[0] > speeds[1] else reversed(told)
    yield Fact("speed", f"{faster} is faster than {slower} by base speed, stages and paralysis.")


def _speed_of(pokemon: PokemonState, stage: int, gen: int) -> float:
    """The base speed with its stage and paralysis, to a tenth."""
    slowed = _PARALYSED[gen] if pokemon.status == "par" else 1.0
    return round(pokemon.base_spe * boost_factor(stage) * slowed, 1)


def _damage(state: BattleState, move: MoveState) -> Iterator[Fact]:
    """What an attack takes on average without a critical hit, where generation 1 leaves nothing to guess."""
    mine, foe = state.player_active_pokemon, state.opponent_active_pokemon
    untouched = all(_is_untouched(pokemon) for pokemon in (mine, foe)) and foe.hp_pct > 0
    screened = state.player_conditions != "noconditions" or state.opponent_conditions != "noconditions"
    attack = attack_of(move.name, 1)
    if generation(state) != 1 or not untouched or screened or attack is None or move.name in _OTHER_TYPES:
        return
    plain = move.base_power > 1 and not (attack.fixed_damage or attack.hp_share or attack.charges or attack.needs_sleep)
    if not plain or attack.level_share or attack.hits != 1:
        return
    attacker, defender = fighter_of(mine, 1), fighter_of(foe, 1)
    if attacker is None or defender is None:
        return
    taken = mean_damage(attack, attacker, defender, critical=False) / defender.max_hp
    yield Fact(
        "damage",
        f"Without a critical hit, {display_name(move.name)} takes about {round(100 * taken)}% of "
        f"{display_name(foe.name)}'s HP, and {percent(foe.hp_pct)} are left.",
    )


def _is_untouched(pokemon: PokemonState) -> bool:
    """Whether nothing that a state tells of changes its Attack, Defense or Special."""
    stages = (pokemon.atk_boost, pokemon.def_boost, pokemon.spa_boost, pokemon.spd_boost)
    return not any(stages) and pokemon.effect == "noeffect" and pokemon.status != "brn"


def _shown(state: BattleState) -> Iterator[Fact]:
    """Which moves the opponent's Pokémon has shown."""
    foe = state.opponent_active_pokemon
    moves = [display_name(move.name) for move in foe.known_moves]
    if foe.hp_pct > 0:
        shown = f"has shown {', '.join(moves)}" if moves else "has shown no move"
        yield Fact("shown", f"{display_name(foe.name)} {shown}.")


def _seen(decision: Decision) -> Iterator[Fact]:
    """How many of the opponent's Pokémon were on the field so far."""
    yield Fact("seen", f"The foe's Pokémon seen so far: {len(decision.seen) + 1}.")

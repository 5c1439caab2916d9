"""Every sentence that a reasoning may hold is true: each kind is checked against the state by tables of this file."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest
from support.paths import BATTLE_FILES

pytest.importorskip("poke_env")

from gemma_metamon.battle.replays import load_battle
from gemma_metamon.battle.state import BattleState, PokemonState
from gemma_metamon.language.data.recorded import recorded_decisions
from gemma_metamon.language.telling.answers import choice_names, parse_answer, write_answer
from gemma_metamon.language.telling.facts import Fact, facts_of, reasoning_of
from gemma_metamon.language.telling.prompts import BattleSoFar, Decision
from gemma_metamon.sample_battles import bundled_formats, extract
from gemma_metamon.text.vocabulary import load_display_names

NAMES = load_display_names()
# The games' chart of today, attacking type -> what it is strong, weak and without effect against, ...
CHART = {
    "normal": ("", "rock steel", "ghost"),
    "fire": ("grass ice bug steel", "fire water rock dragon", ""),
    "water": ("fire ground rock", "water grass dragon", ""),
    "electric": ("water flying", "electric grass dragon", "ground"),
    "grass": ("water ground rock", "fire grass poison flying bug dragon steel", ""),
    "ice": ("grass ground flying dragon", "fire water ice steel", ""),
    "fighting": ("normal ice rock dark steel", "poison flying psychic bug fairy", "ghost"),
    "poison": ("grass fairy", "poison ground rock ghost", "steel"),
    "ground": ("fire electric poison rock steel", "grass bug", "flying"),
    "flying": ("grass fighting bug", "electric rock steel", ""),
    "psychic": ("fighting poison", "psychic steel", "dark"),
    "bug": ("grass psychic dark", "fire fighting poison flying ghost steel fairy", ""),
    "rock": ("fire ice flying bug", "fighting ground steel", ""),
    "ghost": ("psychic ghost", "dark", "normal"),
    "dragon": ("dragon", "steel", "fairy"),
    "dark": ("psychic ghost", "fighting dark fairy", ""),
    "steel": ("ice rock fairy", "fire water electric steel", ""),
    "fairy": ("fighting dragon dark", "fire poison steel", ""),
}
# ... and where generation 1 differed.
CHART_1 = {("bug", "poison"): 2.0, ("poison", "bug"): 2.0, ("ghost", "psychic"): 0.0, ("ice", "fire"): 1.0}
TO_STEEL_UNTIL_5 = ("ghost", "dark")
SHARES = {
    "no damage": 0.0,
    "an eighth of the damage": 0.125,
    "a quarter of the damage": 0.25,
    "half damage": 0.5,
    "normal damage": 1.0,
    "double damage": 2.0,
    "four times the damage": 4.0,
}


def factor(attack: str, types: str, gen: int) -> float:
    product = 1.0
    for type_ in types.split():
        strong, weak, none = (listed.split() for listed in CHART[attack])
        share = 2.0 if type_ in strong else 0.5 if type_ in weak else 0.0 if type_ in none else 1.0
        if gen == 1:
            share = CHART_1.get((attack, type_), share)
        if gen <= 5 and type_ == "steel" and attack in TO_STEEL_UNTIL_5:
            share = 0.5
        product *= 1.0 if type_ == "notype" else share
    return product


def gen_of(state: BattleState) -> int:
    return int(state.format[3])


def check_type(text: str, decision: Decision, action: int) -> None:
    state = decision.state
    attack, share, types = re.fullmatch(r"By type, (.+?) does (.+) to (.+)\.", text).groups()  # type: ignore[union-attr]
    move = state.player_active_pokemon.known_moves[action % 9]
    assert NAMES[move.move_type] == attack
    assert move.category in ("physical", "special")
    assert {NAMES[t] for t in state.opponent_active_pokemon.types.split() if t != "notype"} == set(types.split("/"))
    assert factor(move.move_type, state.opponent_active_pokemon.types, gen_of(state)) == SHARES[share]


def check_resists(text: str, decision: Decision, action: int) -> None:
    state, target = decision.state, decision.state.switches[action - 4]
    foe, move_name, share, mine = re.fullmatch(r"By type, (.+?)'s (.+) does (.+) to (.+)\.", text).groups()  # type: ignore[union-attr]
    assert foe == NAMES[state.opponent_active_pokemon.name]
    assert mine == NAMES[target.name]
    move = next(m for m in state.opponent_active_pokemon.moves if NAMES[m.name] == move_name)
    assert factor(move.move_type, target.types, gen_of(state)) == SHARES[share]


def speed(pokemon: PokemonState, stage: int, gen: int) -> float:
    staged = pokemon.base_spe * (2 + stage) / 2 if stage > 0 else pokemon.base_spe * 2 / (2 - stage)
    return staged / (1 if pokemon.status != "par" else 4 if gen < 7 else 2)


def check_speed(text: str, decision: Decision, action: int) -> None:
    state = decision.state
    foe, switched = state.opponent_active_pokemon, 4 <= action < 9
    mine = state.switches[action - 4] if switched else state.player_active_pokemon
    ours, theirs = (
        speed(mine, 0 if switched else mine.spe_boost, gen_of(state)),
        speed(foe, foe.spe_boost, gen_of(state)),
    )
    told = re.findall(r"\(([\d.]+)\)", text)
    if ours == pytest.approx(theirs):
        assert "equally fast" in text
        return
    assert text.index(f"{NAMES[mine.name]} (") < text.rindex(f"{NAMES[foe.name]} (") if ours > theirs else True
    assert [float(number) for number in told] == pytest.approx(sorted((ours, theirs), reverse=True), abs=0.06)
    faster = text.partition(" (")[0]
    assert faster == NAMES[(mine if ours > theirs else foe).name]


def gen1_mean(state: BattleState, action: int) -> float:
    """The first generation's formula as the games compute it, over the 39 random factors."""
    mine, foe = state.player_active_pokemon, state.opponent_active_pokemon
    move = mine.known_moves[action % 9]

    def stat(base: int, level: int) -> int:
        return math.floor(((base + 15) * 2 + 63) * level / 100) + 5

    a, d = (
        (stat(mine.base_atk, mine.lvl), stat(foe.base_def, foe.lvl))
        if move.category == "physical"
        else (stat(mine.base_spa, mine.lvl), stat(foe.base_spd, foe.lvl))
    )
    if max(a, d) > 255:
        a, d = a // 4, d // 4
    if move.name in ("explosion", "selfdestruct"):
        d //= 2
    damage = (2 * mine.lvl // 5 + 2) * move.base_power * a // d // 50 + 2
    if move.move_type in mine.types.split():
        damage = damage * 3 // 2
    whole = damage * factor(move.move_type, foe.types, 1)
    rolls = [whole * roll // 255 for roll in range(217, 256)]
    hp = math.floor(((foe.base_hp + 15) * 2 + 63) * foe.lvl / 100) + foe.lvl + 10
    return sum(rolls) / len(rolls) / hp


def check_damage(text: str, decision: Decision, action: int) -> None:
    state = decision.state
    foe, move = state.opponent_active_pokemon, state.player_active_pokemon.known_moves[action % 9]
    name, taken, target, left = re.fullmatch(
        r"Without a critical hit, (.+) takes about (\d+)% of (.+)'s HP, and (\d+)% are left\.", text
    ).groups()  # type: ignore[union-attr]
    assert (name, target) == (NAMES[move.name], NAMES[foe.name])
    assert int(left) == pytest.approx(100 * foe.hp_pct, abs=1)
    assert int(taken) == pytest.approx(100 * gen1_mean(state, action), abs=1.5)
    for pokemon in (foe, state.player_active_pokemon):
        assert pokemon.atk_boost == pokemon.def_boost == pokemon.spa_boost == pokemon.spd_boost == 0
        assert pokemon.status != "brn"
        assert pokemon.effect == "noeffect"


def check_shown(text: str, decision: Decision, action: int) -> None:
    foe = decision.state.opponent_active_pokemon
    moves = ", ".join(sorted(NAMES[move.name] for move in foe.moves)) or "no move"
    name, shown = re.fullmatch(r"(.+) has shown (.+)\.", text).groups()  # type: ignore[union-attr]
    assert (name, ", ".join(sorted(shown.split(", ")))) == (NAMES[foe.name], moves)


CHECKERS = {
    "type": check_type,
    "resists": check_resists,
    "speed": check_speed,
    "damage": check_damage,
    "shown": check_shown,
}


def told_facts(battles: int) -> Iterator[tuple[Fact, Decision, int, set[str]]]:
    """Of every legal choice of some bundled and recorded battles, with the species of the foe met so far."""
    files = [path for f in bundled_formats() for path in sorted((extract(f) / f).iterdir())[:battles]]
    for path in (*files, *BATTLE_FILES):
        met: set[str] = set()
        for decision in recorded_decisions(load_battle(path)):
            met.add(decision.state.opponent_active_pokemon.base_species)
            for action in decision.choices:
                for fact in facts_of(decision, action):
                    yield fact, decision, action, met


def test_every_sentence_about_recorded_battles_is_true() -> None:
    checked: Counter[str] = Counter()
    for fact, decision, action, met in told_facts(battles=16):
        if fact.kind == "seen":
            assert fact.text == f"The foe's Pokémon seen so far: {len(met)}."
        else:
            CHECKERS[fact.kind](fact.text, decision, action)
        checked[fact.kind] += 1
    assert set(checked) == {*CHECKERS, "seen"}
    assert min(checked.values()) > 100, checked


def test_a_reasoning_is_one_or_two_of_them_and_its_answer_is_read_back() -> None:
    for _, decision, action, _ in told_facts(battles=1):
        reasoning = reasoning_of(decision, action)
        kept = [fact.text for fact in facts_of(decision, action)][:2]
        assert kept
        assert reasoning == " ".join(kept)
        assert parse_answer(write_answer(decision.choices[action], reasoning), decision.choices) == action


def test_no_damage_is_told_where_stages_a_burn_or_an_effect_would_change_it() -> None:
    files = sorted((extract("gen1ou") / "gen1ou").iterdir())[:30]
    states = [load_battle(path).states[0] for path in files]
    state = next(s for s in states if {"damage"} <= {fact.kind for a in range(4) for fact in facts_of(asked(s), a)})
    mine, foe = state.player_active_pokemon, state.opponent_active_pokemon
    changed = [
        replace(state, player_active_pokemon=replace(mine, status="brn")),
        replace(state, player_active_pokemon=replace(mine, atk_boost=2)),
        replace(state, opponent_active_pokemon=replace(foe, effect="reflect")),
        replace(state, opponent_conditions="reflect"),
        replace(state, format="gen2ou"),
    ]
    for other in changed:
        assert "damage" not in {fact.kind for a in range(4) for fact in facts_of(asked(other), a)}


def asked(state: BattleState) -> Decision:
    return BattleSoFar().decide(state, choice_names(state, range(4)))

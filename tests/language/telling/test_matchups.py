"""What a prompt says of damage, speed and duels, checked against formulas of this file."""

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.paths import BATTLE_FILES

pytest.importorskip("poke_env")

from gemma_metamon.battle.replays import RecordedBattle, load_battle
from gemma_metamon.battle.state import BattleState, PokemonState
from gemma_metamon.language.data.recorded import recorded_decisions
from gemma_metamon.language.telling.answers import choice_names
from gemma_metamon.language.telling.matchups import Matchups
from gemma_metamon.language.telling.prompts import BattleSoFar, Decision, user_text
from gemma_metamon.sample_battles import extract
from gemma_metamon.text.vocabulary import load_display_names

NAMES = load_display_names()


@pytest.fixture(scope="module")
def battles() -> list[RecordedBattle]:
    return [load_battle(path) for path in sorted((extract("gen1ou") / "gen1ou").iterdir())[:12]]


def decisions_of(battles: list[RecordedBattle]) -> Iterator[Decision]:
    for battle in battles:
        yield from recorded_decisions(battle)


def lines_of(decision: Decision) -> dict[str, str]:
    """What stands behind each choice."""
    told = user_text(decision).partition("Choices:\n")[2].splitlines()
    return {choice: facts for choice, _, facts in (line.partition(": ") for line in told)}


def is_untouched(pokemon: PokemonState) -> bool:
    stages = (pokemon.atk_boost, pokemon.def_boost, pokemon.spa_boost, pokemon.spd_boost)
    return not any(stages) and pokemon.status != "brn" and pokemon.effect == "noeffect"


def stat(base: int, level: int) -> int:
    return (2 * (base + 15) + 63) * level // 100 + 5


def max_hp(pokemon: PokemonState) -> int:
    return stat(pokemon.base_hp, pokemon.lvl) + pokemon.lvl + 5


def mean_share(state: BattleState, place: int, effect: float) -> float:
    """Generation 1's formula, by the types' `effect`; its critical hits double the level."""
    mine, foe = state.player_active_pokemon, state.opponent_active_pokemon
    move = mine.known_moves[place]
    physical = move.category == "physical"
    a = stat(mine.base_atk if physical else mine.base_spa, mine.lvl)
    d = stat(foe.base_def if physical else foe.base_spd, foe.lvl)
    if max(a, d) > 255:
        a, d = a // 4, d // 4
    chance = min(mine.base_spe / 512 * (8 if move.name in ("slash", "crabhammer", "razorleaf", "karatechop") else 1), 1)
    stab = 1.5 if move.move_type in mine.types.split() else 1.0
    plain, critical = (
        ((2 * level // 5 + 2) * move.base_power * a // d // 50 + 2) * stab * effect * (217 + 255) / 2 / 255
        for level in (mine.lvl, 2 * mine.lvl)
    )
    return ((1 - chance) * plain + chance * critical) / max_hp(foe)


def test_what_an_attack_takes_is_told_to_the_nearest_step(battles: list[RecordedBattle]) -> None:
    """By types it is nothing, or a quarter to four times as much: the share told must be one of these."""
    checked = 0
    for decision in decisions_of(battles):
        state = decision.state
        lines, moves = lines_of(decision), state.player_active_pokemon.known_moves
        if not is_untouched(state.player_active_pokemon) or not is_untouched(state.opponent_active_pokemon):
            continue
        for place, move in enumerate(moves):
            facts = lines.get(f"move {NAMES[move.name]}", "")
            told = re.search(r"takes (\d+)%", facts)
            if told is None or move.base_power < 2 or re.search(r"two turns|you faint", facts):
                continue
            shares = [mean_share(state, place, effect) for effect in (0, 0.25, 0.5, 1, 2, 4)]
            off = min(abs(int(told[1]) - 100 * share) for share in shares)
            if move.name not in ("doublekick", "pinmissile", "furyattack", "twineedle"):
                assert off <= 3.5, (move.name, told[1], shares)  # half a step, and what formulas round otherwise
                checked += 1
    assert checked > 300


def test_one_attack_at_most_is_the_strongest(battles: list[RecordedBattle]) -> None:
    """None that is told to take less than another in as many turns; one that is likely to knock out comes first."""
    found = 0
    for decision in decisions_of(battles):
        lines = lines_of(decision)
        strongest = [facts for facts in lines.values() if facts.startswith("strongest")]
        assert len(strongest) <= 1
        if strongest and "knocks out" not in strongest[0]:
            best = int(re.search(r"takes (\d+)%", strongest[0])[1])  # type: ignore[index]
            plain = [f for f in lines.values() if re.fullmatch(r"(strongest, )?takes \d+%", f)]
            if "hits" not in strongest[0]:
                assert all(int(re.search(r"(\d+)%", facts)[1]) <= best for facts in plain)  # type: ignore[index]
            sure = [f for f in lines.values() if "knocks out" in f and "you faint" not in f and "two turns" not in f]
            assert not sure
            found += 1
    assert found > 100


def test_who_is_faster_is_told_by_base_speed_stages_and_paralysis(battles: list[RecordedBattle]) -> None:
    found = {"faster": 0, "slower": 0}
    for decision in decisions_of(battles):
        mine, foe = decision.state.player_active_pokemon, decision.state.opponent_active_pokemon
        told = re.search(r"^You: .*\b(faster|slower)\b", user_text(decision), re.MULTILINE)
        if told is None or mine.spe_boost or foe.spe_boost:
            continue
        speeds = [stat(p.base_spe, p.lvl) / (4 if p.status == "par" else 1) for p in (mine, foe)]
        assert (speeds[0] > speeds[1]) == (told[1] == "faster")
        found[told[1]] += 1
    assert min(found.values()) > 30


def test_an_ending_is_of_one_that_wins_or_of_one_that_falls(battles: list[RecordedBattle]) -> None:
    """Who wins leaves nothing of the other and is left itself; coming in, it loses at least as much as being there."""
    for decision in decisions_of(battles):
        state = decision.state
        matchups = Matchups(state)
        foe = state.opponent_active_pokemon
        for pokemon in state.switches:
            ending = matchups.entry(pokemon)
            if ending is None:
                continue
            assert ending.wins is not True or (ending.takes == foe.hp_pct and ending.loses < pokemon.hp_pct)
            assert ending.wins is not False or (ending.loses == pokemon.hp_pct and ending.takes < foe.hp_pct)
            free = Matchups(replace(state, forced_switch=True)).entry(pokemon)
            if free is not None and not ending.wins:
                assert free.takes >= ending.takes - 1e-9
            if free is not None and ending.wins:
                assert free.wins
                assert free.loses <= ending.loses + 1e-9


def test_the_best_of_the_bench_wins_where_one_does_and_loses_least(battles: list[RecordedBattle]) -> None:
    """Among healthy ones: of others that win, none is told to lose less; where it falls, none takes more."""
    found = 0
    for decision in decisions_of(battles):
        bench = {choice: facts for choice, facts in lines_of(decision).items() if choice.startswith("switch ")}
        best = [facts.removeprefix("best, ") for facts in bench.values() if facts.startswith("best")]
        assert len(best) <= 1
        healthy = [facts.removeprefix("best, ") for facts in bench.values() if "%," not in facts]
        if not best or "%," in best[0] or any("sleep" in facts or "para" in facts for facts in healthy):
            continue
        wins = [int(facts.split()[-1][:-1]) for facts in healthy if facts.startswith("wins")]
        if wins:
            assert best[0].startswith("wins")
            assert int(best[0].split()[-1][:-1]) <= min(wins)
            found += 1
    assert found > 50


@settings(max_examples=100)
@given(share=st.floats(0.001, 1))
def test_hp_are_rounded_up_to_a_step(share: float) -> None:
    state = next(s for s in load_battle(BATTLE_FILES[0]).states if not s.forced_switch)
    hurt = replace(state, player_active_pokemon=replace(state.player_active_pokemon, hp_pct=share, status="nostatus"))
    text = user_text(BattleSoFar().decide(hurt, choice_names(hurt, [0])))
    told = int(re.search(r"^You: [^,%]* (\d+)%", text, re.MULTILINE)[1])  # type: ignore[index]
    assert told % 5 == 0
    assert 100 * share - 1e-6 <= told < 100 * share + 5


def test_a_sleep_move_has_no_effect_while_another_sleeps(battles: list[RecordedBattle]) -> None:
    """Only where the one that sleeps was seen and is alive as far as one knows."""
    found = 0
    for decision in decisions_of(battles):
        state = decision.state
        foe = state.opponent_active_pokemon
        asleep = any(pokemon.status == "slp" for pokemon in decision.seen)
        for move in state.player_active_pokemon.known_moves:
            facts = lines_of(decision).get(f"move {NAMES[move.name]}")
            if move.name in ("sleeppowder", "sing", "lovelykiss", "hypnosis", "spore") and facts and foe.hp_pct > 0:
                lands = not asleep and foe.status == "nostatus" and foe.effect != "substitute"
                assert ("puts to sleep" in facts) == lands
                assert ("no effect" in facts) != lands
                found += 1
    assert found > 20


def test_who_is_gone_as_the_opponent_lost_one_has_fainted(battles: list[RecordedBattle]) -> None:
    found = 0
    for battle in battles:
        for before, now in pairwise(recorded_decisions(battle)):
            gone, there = before.state.opponent_active_pokemon, now.state.opponent_active_pokemon
            if gone.base_species == there.base_species:
                continue
            fell = now.state.opponents_remaining < before.state.opponents_remaining
            seen = next(p for p in now.seen if p.base_species == gone.base_species)
            assert (seen.status == "fnt") == (fell or gone.status == "fnt")
            bench = re.search(r"^Foe's bench: .*$", user_text(now), re.MULTILINE)
            assert not fell or NAMES[gone.name] not in (bench[0] if bench else "")
            found += fell
    assert found > 20

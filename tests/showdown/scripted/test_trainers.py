import asyncio
import gzip
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from poke_env.battle import Battle, Move, Pokemon, PokemonType, Status
from poke_env.data import to_id_str
from poke_env.player import Player
from support.live_goldens import FORMATS, LIVE_GOLDENS, decisions, feed, quiet_logger
from support.node import needs_node
from support.trainer_situations import choice, own, situation, trainer

from gemma_metamon.showdown.live.orders import legal_options, order_to_action
from gemma_metamon.showdown.matches.evaluate import play_match
from gemma_metamon.showdown.matches.tallies import Tally
from gemma_metamon.showdown.players.registry import PLAYERS
from gemma_metamon.showdown.scripted.attacks import attack_of
from gemma_metamon.showdown.scripted.damage import effectiveness, hit_share
from gemma_metamon.showdown.scripted.duel import (
    Duel,
    best_outlook,
    duel_between,
    outlook,
    outlook_of_entry,
    status_lands,
    weapons_of,
)
from gemma_metamon.showdown.scripted.fighters import Fighter, opposing_fighter, own_fighter
from gemma_metamon.showdown.scripted.trainers import DamageTrainer, DuelTrainer, ScriptedTrainer, TypeTrainer
from gemma_metamon.showdown.simulator.server import Server
from gemma_metamon.showdown.simulator.teams import load_teams

TRAINERS = (TypeTrainer, DamageTrainer, DuelTrainer)


@pytest.fixture(autouse=True)
def quiet_poke_env(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("poke-env"), "level", logging.CRITICAL)


STARMIE = ["surf", "blizzard", "thunderbolt", "recover"]
CHANSEY = ["icebeam", "thunderwave", "sing", "softboiled"]


# --- choosing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TRAINERS)
def test_each_prefers_the_super_effective_move(kind: type[ScriptedTrainer]) -> None:
    starmie = own("starmie", STARMIE)
    assert choice(kind, situation(starmie, "Zapdos")) == "move blizzard"
    assert choice(kind, situation(starmie, "Rhydon")) == "move surf"
    assert choice(kind, situation(starmie, "Gyarados")) == "move thunderbolt"


@pytest.mark.parametrize("kind", TRAINERS)
def test_none_attacks_what_is_immune(kind: type[ScriptedTrainer]) -> None:
    snorlax = own("snorlax", ["bodyslam", "hyperbeam", "surf", "selfdestruct"])
    assert choice(kind, situation(snorlax, "Gengar")) == "move surf"


@pytest.mark.parametrize("kind", [DamageTrainer, DuelTrainer])
def test_sleep_comes_first_and_only_once(kind: type[ScriptedTrainer]) -> None:
    exeggutor = own("exeggutor", ["sleeppowder", "psychic", "stunspore", "doubleedge"])
    assert choice(kind, situation(exeggutor, "Chansey")) == "move sleeppowder"
    assert choice(kind, situation(exeggutor, "Chansey", "100/100 slp")) in ("move psychic", "move doubleedge")
    assert choice(kind, situation(exeggutor, "Chansey", asleep="Snorlax")) != "move sleeppowder"
    assert choice(kind, situation(exeggutor, "Chansey", "9/100")) in ("move psychic", "move doubleedge")


@pytest.mark.parametrize("kind", [DamageTrainer, DuelTrainer])
def test_paralysis_spares_the_immune_and_the_paralysed(kind: type[ScriptedTrainer]) -> None:
    chansey = own("chansey", ["icebeam", "thunderwave", "softboiled"])
    assert choice(kind, situation(chansey, "Alakazam")) == "move thunderwave"
    assert choice(kind, situation(chansey, "Alakazam", "100/100 par")) == "move icebeam"
    assert choice(kind, situation(chansey, "Rhydon")) == "move icebeam"


@pytest.mark.parametrize("kind", [DamageTrainer, DuelTrainer])
def test_healing_waits_for_half_the_health_and_gives_way_to_the_last_blow(kind: type[ScriptedTrainer]) -> None:
    assert choice(kind, situation(own("starmie", STARMIE), "Chansey")) != "move recover"
    assert choice(kind, situation(own("starmie", STARMIE, "40/100"), "Chansey")) == "move recover"
    assert choice(kind, situation(own("starmie", STARMIE, "40/100"), "Chansey", "5/100")) != "move recover"


@pytest.mark.parametrize("kind", [DamageTrainer, DuelTrainer])
def test_explosion_is_for_the_wounded(kind: type[ScriptedTrainer]) -> None:
    moves = ["explosion", "psychic"]
    assert choice(kind, situation(own("exeggutor", moves), "Chansey")) == "move psychic"
    assert choice(kind, situation(own("exeggutor", moves, "20/100"), "Chansey")) == "move explosion"
    assert choice(kind, situation(own("exeggutor", moves, "20/100"), "Gengar")) == "move psychic"


@pytest.mark.parametrize("kind", [DamageTrainer, DuelTrainer])
def test_hyper_beam_is_for_the_last_blow(kind: type[ScriptedTrainer]) -> None:
    tauros = own("tauros", ["bodyslam", "hyperbeam"])
    assert choice(kind, situation(tauros, "Snorlax")) == "move bodyslam"
    assert choice(kind, situation(tauros, "Snorlax", "38/100")) == "move hyperbeam"


def test_the_duel_trainer_leaves_a_lost_duel_for_a_won_one_and_otherwise_stays() -> None:
    jolteon = own("jolteon", ["thunderbolt", "doublekick"])
    golem, starmie = own("rhydon", ["earthquake", "rockslide"]), own("starmie", STARMIE)
    assert choice(DuelTrainer, situation(golem, "Zapdos", "100/100", starmie)).startswith("move")
    assert choice(DuelTrainer, situation(jolteon, "Rhydon", "100/100", starmie)) == "switch Starmie"
    assert choice(DamageTrainer, situation(jolteon, "Rhydon", "100/100", starmie)).startswith("move")


def test_the_duel_trainer_sends_in_who_wins_the_duel() -> None:
    fallen = own("chansey", CHANSEY, "0")
    bench = [own("charizard", ["fireblast"]), own("starmie", STARMIE), own("sandslash", ["earthquake"])]
    assert choice(DuelTrainer, situation(fallen, "Rhydon", "100/100", *bench, forced=True)) == "switch Starmie"
    assert choice(DuelTrainer, situation(fallen, "Jolteon", "100/100", *bench, forced=True)) == "switch Sandslash"


def test_terastallises_only_where_it_turns_the_duel() -> None:
    tyranitar = own("tyranitar", ["earthquake", "crunch"], gen=9)
    lost = situation(tyranitar, "Lucario", tera="Ghost", gen=9)
    assert choice(DuelTrainer, lost) == "move earthquake terastallize"
    assert choice(DamageTrainer, lost) == "move earthquake"
    assert choice(DuelTrainer, situation(tyranitar, "Gengar", tera="Ghost", gen=9)) == "move crunch"


@pytest.mark.parametrize("kind", TRAINERS)
@pytest.mark.parametrize("battle_format", FORMATS)
def test_every_recorded_situation_gets_a_legal_choice_and_always_the_same(
    kind: type[ScriptedTrainer], battle_format: str
) -> None:
    player = trainer(kind)
    for battle, _ in decisions(battle_format):
        if battle.finished:
            continue
        orders = [player.choose_move(battle) for _ in range(2)]
        assert order_to_action(orders[0], legal_options(battle)) >= 0  # type: ignore[arg-type]
        assert orders[0].message == orders[1].message  # type: ignore[union-attr]


# --- reckoning -----------------------------------------------------------------------------------------------------


def test_type_charts_are_those_of_the_generation() -> None:
    assert effectiveness(PokemonType.GHOST, (PokemonType.PSYCHIC,), 1) == 0
    assert effectiveness(PokemonType.GHOST, (PokemonType.PSYCHIC,), 9) == 2
    assert effectiveness(PokemonType.BUG, (PokemonType.GRASS, PokemonType.POISON), 1) == 4
    assert effectiveness(PokemonType.ICE, (PokemonType.FIRE,), 1) == 1
    assert effectiveness(PokemonType.STELLAR, (PokemonType.DRAGON,), 9) == 1


def test_opposing_stats_in_generation_one_are_fully_trained() -> None:
    """Tauros at level 100 has 353 HP, 298 Attack and 318 Speed, as the simulator's request says of an own one."""
    fighter = opposing_fighter(Pokemon(gen=1, species="tauros"), situation(own("tauros", ["bodyslam"]), "Tauros"))
    assert (fighter.max_hp, fighter.stats["atk"], fighter.stats["spe"]) == (353, 298, 318)


def test_fixed_damage_is_the_level_and_minds_types_only_later() -> None:
    for gen, against_ghost in ((1, 100 / 323), (9, 0.0)):
        battle = situation(own("alakazam", ["seismictoss"]), "Gengar", gen=gen)
        assert battle.active_pokemon is not None
        assert battle.opponent_active_pokemon is not None
        mine = own_fighter(battle.active_pokemon, battle)
        ghost = opposing_fighter(battle.opponent_active_pokemon, battle)
        attack = attack_of("seismictoss", gen)
        assert attack is not None
        assert hit_share(attack, mine, ghost) == pytest.approx(against_ghost)


def test_moves_that_do_nothing_by_themselves_are_no_attacks() -> None:
    for move_id in ("counter", "bide", "fissure", "thunderwave", "recharge", "fight", "nosuchmove"):
        assert attack_of(move_id, 1) is None


def test_a_faster_fighter_wins_the_mirror_and_sleep_turns_it() -> None:
    battle = situation(own("tauros", ["bodyslam"]), "Tauros")
    assert battle.active_pokemon is not None
    mine = own_fighter(battle.active_pokemon, battle)
    weapons = weapons_of(["bodyslam"], 1)

    def duel(mine: Fighter, theirs: Fighter) -> Duel:
        return duel_between(mine, weapons, theirs, weapons)

    slower = Fighter(**{**fields(mine), "stats": {**mine.stats, "spe": 100.0}})
    asleep = Fighter(**{**fields(mine), "status": Status.SLP, "idle": 4.0})
    assert outlook(duel(mine, slower)) > 0 > outlook(duel(slower, mine))
    assert outlook(duel(slower, asleep)) > 0
    assert outlook_of_entry(duel(mine, slower)) < outlook(duel(mine, slower))


share = st.floats(0.0, 1.0)
living = st.floats(0.001, 1.0)


@given(hp=st.tuples(living, living), rates=st.tuples(living, living), idle=st.tuples(share, share))
def test_no_duel_brings_more_than_the_best_outlook(
    hp: tuple[float, float], rates: tuple[float, float], idle: tuple[float, float]
) -> None:
    battle = situation(own("tauros", ["bodyslam"]), "Chansey")
    assert battle.active_pokemon is not None
    assert battle.opponent_active_pokemon is not None
    mine = replace(own_fighter(battle.active_pokemon, battle), hp=hp[0], idle=10 * idle[0])
    theirs = replace(opposing_fighter(battle.opponent_active_pokemon, battle), hp=hp[1], idle=10 * idle[1])
    duel = Duel(mine, theirs, *rates)
    assert max(outlook(duel), outlook_of_entry(duel)) <= best_outlook(theirs) + 1e-12


def test_status_does_not_land_where_the_games_forbid_it() -> None:
    def lands(move_id: str, species: str, gen: int, status: str = "", *, clause: bool = False) -> bool:
        battle = situation(own("chansey", ["icebeam"]), species, f"100/100 {status}".strip(), gen=gen)
        assert battle.opponent_active_pokemon is not None
        target = opposing_fighter(battle.opponent_active_pokemon, battle)
        return status_lands(Move(move_id, gen=gen), target, sleep_clause=clause)

    assert lands("sleeppowder", "Venusaur", 1)
    assert not lands("sleeppowder", "Venusaur", 9)
    assert lands("thunderwave", "Jolteon", 1)
    assert not lands("thunderwave", "Jolteon", 9)
    assert not lands("thunderwave", "Golem", 1)
    assert not lands("toxic", "Gengar", 1)
    assert not lands("thunderwave", "Alakazam", 1, "psn")
    assert lands("thunderwave", "Alakazam", 1, clause=True)
    assert not lands("sing", "Alakazam", 1, clause=True)


@pytest.mark.parametrize(("battle_format", "low", "high"), [("gen1ou", 0.9, 1.1), ("gen9ou", 0.85, 1.15)])
def test_expected_damage_agrees_with_the_simulators(battle_format: str, low: float, high: float) -> None:
    """Over all single hits of recorded battles: the sum, and hit by hit. In gen9ou items and stats are unknown."""
    hits = np.array(list(observed_hits(battle_format)))  # (N, 2): expected, taken
    assert len(hits) > 60
    assert low < hits[:, 1].sum() / hits[:, 0].sum() < high
    assert np.corrcoef(hits.T)[0, 1] > 0.9


def observed_hits(battle_format: str) -> Iterator[tuple[float, float]]:
    battle = Battle("none", "Red", quiet_logger(), gen=1)
    expected: tuple[str, float, float] | None = None
    with gzip.open(LIVE_GOLDENS / f"{battle_format}.jsonl.gz", "rt", encoding="utf-8") as lines:
        for record in map(json.loads, lines):
            if record["battle"] != battle.battle_tag:
                battle = Battle(record["battle"], record["player"], quiet_logger(), gen=int(battle_format[3]))
            for line in record["message"][1:] if "message" in record else ():
                fields_ = line.split("|")
                if fields_[1:2] == ["move"] and "[from]" not in line:
                    expected = expected_hit(battle, fields_)
                elif fields_[1:2] == ["-damage"] and expected and fields_[2][:2] == expected[0]:
                    hp = fields_[3].split(" ")[0]
                    left = 0.0 if hp == "0" else float(hp.split("/")[0]) / float(hp.split("/")[1])
                    if "[from]" not in line:
                        yield expected[1], expected[2] - left
                    expected = None
                feed(battle, [line])


def expected_hit(battle: Battle, move: list[str]) -> tuple[str, float, float] | None:
    """The target's side, the share expected, and its HP before."""
    attack = attack_of(to_id_str(move[3]), battle.gen)
    active, opponent = battle.active_pokemon, battle.opponent_active_pokemon
    if attack is None or not move[4] or move[4][:2] == move[2][:2] or active is None or opponent is None:
        return None
    if Move(to_id_str(move[3]), gen=battle.gen).expected_hits > 1:
        return None
    attacker, defender = own_fighter(active, battle), opposing_fighter(opponent, battle)
    if move[2][:2] != battle.player_role:
        attacker, defender = defender, attacker
    if defender.behind_substitute or defender.hp <= 0:
        return None
    return move[4][:2], min(defender.hp, hit_share(attack, attacker, defender)), defender.hp


def fields(fighter: Fighter) -> dict[str, Any]:
    return {name: getattr(fighter, name) for name in Fighter.__slots__}


# --- on the real server --------------------------------------------------------------------------------------------


def match(server: Server, player: type[Player], opponent: str, battles: int, battle_format: str) -> Tally:
    return asyncio.run(
        play_match(
            player,
            opponent,
            battles,
            battle_format=battle_format,
            teams=load_teams(battle_format),
            websocket_url=server.websocket_url,
            concurrency=8,
        )
    )


@pytest.mark.server
@pytest.mark.slow
@needs_node
@pytest.mark.parametrize("battle_format", FORMATS)
def test_no_trainer_makes_an_illegal_choice(server: Server, battle_format: str) -> None:
    for kind in TRAINERS:
        tally = match(server, kind, "SimpleHeuristicsPlayer", 8, battle_format)
        assert tally.battles == 8
        assert tally.choices.refused == 0


@pytest.mark.server
@pytest.mark.slow
@needs_node
@pytest.mark.long
def test_skill_increases(server: Server) -> None:
    """Each bound is at least five standard deviations from the rate measured in 300 or 500 battles."""
    assert all(kind.__name__ in PLAYERS for kind in TRAINERS)
    assert match(server, TypeTrainer, "RandomPlayer", 60, "gen1ou").win_rate > 0.7
    assert match(server, DamageTrainer, "TypeTrainer", 60, "gen1ou").win_rate > 0.5
    assert match(server, DuelTrainer, "SimpleHeuristicsPlayer", 100, "gen1ou").win_rate > 0.7

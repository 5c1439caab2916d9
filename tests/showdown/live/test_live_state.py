import logging
import time
from typing import Any

import pytest
from poke_env.battle import Battle
from support.live_battles import START, new_battle, pokemon
from support.live_goldens import FORMATS, decisions, feed, quiet_logger

from gemma_metamon.battle.state import BattleState
from gemma_metamon.errors import DataError
from gemma_metamon.showdown.live.battle import LiveBattle, live_battle


@pytest.fixture(autouse=True)
def quiet_poke_env(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("poke-env"), "level", logging.CRITICAL)


def comparable(state: dict[str, Any]) -> dict[str, Any]:
    """Without current_pp, which upstream never lets fall; the preview as a set, which upstream keeps it in."""

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: strip(item) for key, item in value.items() if key != "current_pp"}
        return [strip(item) for item in value] if isinstance(value, list) else value

    return {**strip(state), "opponent_teampreview": sorted(state["opponent_teampreview"])}


def effect_after(*lines: str, gen: int = 9) -> str:
    """The opposing Gengar's effect."""
    return LiveBattle(new_battle(*START, *lines, gen=gen)).state.opponent_active_pokemon.effect


@pytest.mark.parametrize("battle_format", FORMATS)
def test_live_states_equal_recorded_ones(battle_format: str) -> None:
    compared = 0
    for battle, golden in decisions(battle_format):
        assert comparable(live_battle(battle).state.to_dict()) == comparable(golden)
        compared += 1
    assert compared >= 90


def test_previous_move_survives_leaving_and_coming_back() -> None:
    battle = new_battle(
        *START, "|move|p2a: Gengar|Hypnosis|p1a: Snorlax", "|switch|p2a: Tauros|Tauros|100/100", "|turn|2"
    )
    assert live_battle(battle).state.opponent_prev_move.name == "nomove"
    feed(battle, ["|switch|p2a: Gengar|Gengar|100/100", "|turn|3"])
    assert live_battle(battle).state.opponent_prev_move.name == "hypnosis"


def test_what_a_disguise_did_and_suffered_is_the_uncovered_ones() -> None:
    hypnosis = ["|move|p2a: Gengar|Hypnosis|p1a: Snorlax", "|switch|p2a: Tauros|Tauros|100/100", "|turn|2"]
    covered = ["|switch|p2a: Gengar|Gengar|100/100", "|turn|3", "|move|p2a: Gengar|Nasty Plot|p2a: Gengar"]
    taunted = ["|-start|p2a: Gengar|move: Taunt", "|-damage|p2a: Gengar|60/100"]
    uncovered = ["|replace|p2a: Zoroark|Zoroark, M", "|-end|p2a: Zoroark|Illusion", "|turn|4"]
    battle = new_battle(*START, *hypnosis, *covered, *taunted, *uncovered, gen=9)
    state = live_battle(battle).state
    assert (state.opponent_active_pokemon.name, state.opponent_active_pokemon.effect) == ("zoroark", "taunt")
    assert state.opponent_prev_move.name == "nastyplot"
    feed(battle, ["|switch|p2a: Gengar|Gengar|100/100", "|turn|5"])
    state = live_battle(battle).state
    assert (state.opponent_active_pokemon.effect, state.opponent_prev_move.name) == ("noeffect", "hypnosis")


def test_what_our_own_disguised_one_does_and_suffers_is_its_own() -> None:
    """The messages name the disguise to its own player, too; only the request says who is there."""

    def request(active: str) -> dict[str, Any]:
        names = {"Zoroark": "illusion", "Gengar": "cursedbody", "Tauros": "intimidate"}
        side = [
            {**pokemon(name, active=name == active), "baseAbility": ability, "ability": ability}
            for name, ability in names.items()
        ]
        return {"side": {"pokemon": side}, "active": [{"moves": [{"id": "rest"}]}]}

    def seen(battle: Battle, active: str) -> tuple[str, str, str]:
        battle.parse_request(request(active))
        state = live_battle(battle).state
        return state.player_active_pokemon.name, state.player_active_pokemon.effect, state.player_prev_move.name

    battle = Battle("battle-gen9ou-1", "Red", quiet_logger(), gen=9)
    battle.parse_request({**request(""), "teamPreview": True})
    feed(battle, ["|player|p1|Red|1|", "|player|p2|Blue|2|", "|teamsize|p1|3", "|teamsize|p2|6"])
    feed(battle, ["|switch|p1a: Gengar|Gengar|300/300", "|switch|p2a: Tauros|Tauros|100/100", "|turn|1"])
    assert seen(battle, "Zoroark") == ("zoroark", "noeffect", "nomove")
    feed(battle, ["|move|p1a: Gengar|Rest|p1a: Gengar", "|-start|p1a: Gengar|move: Taunt", "|turn|2"])
    assert seen(battle, "Zoroark") == ("zoroark", "taunt", "rest")
    feed(battle, ["|replace|p1a: Zoroark|Zoroark, M", "|-end|p1a: Zoroark|Illusion", "|turn|3"])
    assert seen(battle, "Zoroark") == ("zoroark", "taunt", "rest")
    feed(battle, ["|switch|p1a: Gengar|Gengar|300/300", "|turn|4"])
    assert seen(battle, "Gengar") == ("gengar", "noeffect", "nomove")
    feed(battle, ["|move|p1a: Gengar|Earthquake|p2a: Tauros", "|turn|5"])
    assert seen(battle, "Gengar") == ("gengar", "noeffect", "earthquake")


def test_one_uncovered_before_it_moved_has_its_own_previous_move() -> None:
    hypnosis = ["|move|p2a: Gengar|Hypnosis|p1a: Snorlax", "|switch|p2a: Zoroark|Zoroark, M|100/100", "|turn|2"]
    knock_off = ["|move|p2a: Zoroark|Knock Off|p1a: Snorlax", "|switch|p2a: Gengar|Gengar|100/100", "|turn|3"]
    uncovered = ["|replace|p2a: Zoroark|Zoroark, M", "|-end|p2a: Zoroark|Illusion", "|turn|4"]
    state = LiveBattle(new_battle(*START, *hypnosis, *knock_off, *uncovered, gen=9)).state
    assert state.opponent_prev_move.name == "knockoff"


def test_a_memory_that_starts_late_reads_the_battle_so_far() -> None:
    battle = new_battle(*START, "|move|p2a: Gengar|Hypnosis|p1a: Snorlax", "|turn|2")
    assert LiveBattle(battle).state.opponent_prev_move.name == "hypnosis"


def test_pp_falls_with_use() -> None:
    battle = new_battle(*START, "|move|p2a: Gengar|Hypnosis|p1a: Snorlax", "|turn|2")
    move = LiveBattle(battle).state.opponent_prev_move
    assert move.current_pp == move.max_pp - 1


def test_struggle_is_no_previous_move() -> None:
    battle = new_battle(*START, "|move|p2a: Gengar|Struggle|p1a: Snorlax", "|turn|2")
    assert LiveBattle(battle).state.opponent_prev_move.name == "nomove"


@pytest.mark.parametrize(
    ("lines", "effect"),
    [
        ((), "noeffect"),
        (("|-start|p2a: Gengar|Substitute",), "substitute"),
        (("|-start|p2a: Gengar|fallen3|[silent]",), "fallen"),
        (("|-activate|p2a: Gengar|ability: Supreme Overlord",), "noeffect"),
        (("|-activate|p2a: Gengar|ability: Quark Drive", "|-start|p2a: Gengar|quarkdrivespe"), "quarkdrivespe"),
        (("|-start|p2a: Gengar|quarkdrivespe", "|-end|p2a: Gengar|Quark Drive"), "noeffect"),
        (("|-activate|p2a: Gengar|move: Trick|[of] p1a: Snorlax",), "trick"),
        (("|-start|p2a: Gengar|Substitute", "|-end|p2a: Gengar|Substitute"), "noeffect"),
        (("|-start|p2a: Gengar|confusion", "|-start|p2a: Gengar|Substitute"), "confusion"),
        (("|-start|p2a: Gengar|Substitute", "|faint|p2a: Gengar"), "noeffect"),
        (("|-start|p2a: Gengar|Substitute", "|switch|p2a: Tauros|Tauros|100/100"), "noeffect"),
        (("|-singleturn|p2a: Gengar|Protect", "|turn|2"), "noeffect"),
        (("|-start|p2a: Gengar|Something New",), "unknown"),
    ],
)
def test_effect_word(lines: tuple[str, ...], effect: str) -> None:
    assert effect_after(*lines) == effect


def test_haze_is_an_effect_in_gen_1() -> None:
    assert effect_after("|-activate|p2a: Gengar|move: Haze", gen=1) == "haze"


def test_announced_ability_is_known_afterwards() -> None:
    battle = new_battle(
        "|switch|p1a: Snorlax|Snorlax|100/100", "|switch|p2a: Dragonite|Dragonite|100/100", "|turn|1", gen=9
    )
    assert live_battle(battle).state.opponent_active_pokemon.ability == "unknownability"
    feed(battle, ["|-activate|p2a: Dragonite|ability: Inner Focus"])
    assert live_battle(battle).state.opponent_active_pokemon.ability == "innerfocus"


def test_result_is_in_the_state_and_a_tie_is_neither() -> None:
    for line, won, lost in (("|win|Red", True, False), ("|win|Blue", False, True), ("|tie", False, False)):
        state = LiveBattle(new_battle(*START, line)).state
        assert (state.battle_won, state.battle_lost) == (won, lost)


def test_battle_without_pokemon_on_the_field_is_an_error() -> None:
    with pytest.raises(DataError, match="no Pokémon on the field yet"):
        _ = LiveBattle(new_battle()).state


def test_a_state_takes_a_fraction_of_a_millisecond() -> None:
    """Measured 0.12 ms; it is made at every decision of every battle."""
    taken = []
    for battle, _ in decisions("gen9ou"):
        start = time.perf_counter()
        state = live_battle(battle).state
        taken.append(time.perf_counter() - start)
        assert BattleState.from_dict(state.to_dict()) == state
    assert sorted(taken)[len(taken) // 2] < 2e-3

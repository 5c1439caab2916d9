"""What a spectator's log tells: when something was asked, what was chosen, and what each side knew."""

import json

import pytest
from support.told_battles import NEXT, START, chosen, views_of

# --- what was chosen ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "first"),
    [
        (("|move|p1a: Tauros|Earthquake|p2a: Rotom",), "earthquake"),
        (("|cant|p1a: Tauros|slp",), None),
        (("|cant|p1a: Tauros|flinch",), None),
        (("|cant|p1a: Tauros|Disable|Earthquake",), "earthquake"),
        (
            (
                "|cant|p1a: Tauros|slp",
                "|move|p1a: Tauros|Sleep Talk|p1a: Tauros",
                "|move|p1a: Tauros|Earthquake|p2a: Rotom|[from] Sleep Talk",
            ),
            "sleeptalk",
        ),
        (("|-activate|p1a: Tauros|confusion", "|-damage|p1a: Tauros|90/100|[from] confusion"), None),
        (("|-start|p1a: Tauros|Encore", "|move|p1a: Tauros|Earthquake|p2a: Rotom"), None),
        (
            ("|move|p1a: Tauros|Metronome|p1a: Tauros", "|move|p1a: Tauros|Surf|p2a: Rotom|[from] Metronome"),
            "metronome",
        ),
        (("|drag|p1a: Chansey|Chansey, F|100/100",), None),
        (("|switch|p1a: Chansey|Chansey, F|100/100",), "switch chansey"),
        (
            (
                "|-activate|p2a: Rotom|move: Pursuit",
                "|move|p1a: Tauros|Pursuit|p2a: Rotom|[from] Pursuit",
                "|switch|p2a: Gengar|Gengar, M|80/100",
            ),
            "pursuit",
        ),
        (("|cant|p1a: Tauros|ability: Damp|Explosion|[of] p2a: Rotom", "|move|p1a: Tauros|Surf|p2a: Rotom"), "surf"),
        (("|cant|p2a: Rotom|ability: Damp|Explosion|[of] p1a: Tauros",), "explosion"),
        (("|-end|p1a: Tauros|move: Bide", "|move|p1a: Tauros|Surf|p2a: Rotom"), "bide"),
    ],
)
def test_first_choice(lines: tuple[str, ...], first: str | None) -> None:
    bide = (
        ("|move|p1a: Tauros|Bide|p1a: Tauros", "|", "|switch|p1a: Tauros|Tauros, M|100/100") if first == "bide" else ()
    )
    battle = views_of(*START, *lines, *NEXT, *bide)["p1"]
    assert chosen(battle)[0] == first


def test_a_call_by_dancer_instruct_or_magic_bounce_is_no_choice() -> None:
    for source in ("ability: Dancer", "move: Instruct", "ability: Magic Bounce", "move: Copycat", "Mirror Move"):
        lines = (f"|move|p1a: Tauros|Surf|p2a: Rotom|[from] {source}", "|move|p1a: Tauros|Earthquake|p2a: Rotom")
        battle = views_of(*START, *lines, *NEXT)["p1"]
        assert chosen(battle)[0] == "earthquake"
        assert "surf" not in {move.name for move in battle.states[0].player_active_pokemon.moves}


def test_terastallisation_is_told_and_allowed_once() -> None:
    tera = ("|-terastallize|p1a: Tauros|Water", "|move|p1a: Tauros|Surf|p2a: Rotom")
    battle = views_of(*START, *tera, *NEXT, "|move|p1a: Tauros|Surf|p2a: Rotom", gen=9)["p1"]
    assert chosen(battle) == ["tera surf", "surf"]
    assert [state.can_tera for state in battle.states] == [True, False, False]


def test_recharge_and_struggle_are_the_first_action() -> None:
    lines = ("|move|p1a: Tauros|Hyper Beam|p2a: Rotom", "|-mustrecharge|p1a: Tauros", *NEXT)
    battle = views_of(
        *START, *lines, "|cant|p1a: Tauros|recharge", "|", "|turn|3", "|move|p1a: Tauros|Struggle|p2a: Rotom"
    )
    assert battle["p1"].actions == (0, 0, 0, -1)


IMPRISON = ("|move|p2a: Rotom|Imprison|p2a: Rotom", "|-start|p2a: Rotom|move: Imprison", *NEXT)


def test_who_struggles_under_imprison_may_have_been_offered_more() -> None:
    struggle = ("|move|p1a: Tauros|Struggle|p2a: Rotom",)
    assert views_of(*START, *IMPRISON, *struggle)["p1"].actions == (-1, -1, -1)
    by_itself = tuple(line.replace("p2a", "p1a") for line in IMPRISON)
    assert views_of(*START, *by_itself, *struggle)["p1"].actions == (0, 0, -1)


@pytest.mark.parametrize(
    ("offered", "shown", "action"),
    [
        (["struggle"], "|move|p1a: Tauros|Struggle|p2a: Rotom", 0),
        (["recharge"], "|cant|p1a: Tauros|recharge", 0),
        (["earthquake", "surf"], "|move|p1a: Tauros|Struggle|p2a: Rotom", -1),
        (["earthquake", "surf"], "|cant|p1a: Tauros|recharge", -1),
        (["earthquake", "surf"], "|move|p1a: Tauros|Surf|p2a: Rotom", 1),
    ],
)
def test_a_player_s_own_log_says_what_was_offered(offered: list[str], shown: str, action: int) -> None:
    team = [
        {
            "ident": f"p1: {name}", "details": name, "condition": "100/100", "active": name == "Tauros",
            "moves": ["earthquake", "surf"], "baseAbility": "intimidate", "ability": "intimidate", "item": "",
            "pokeball": "pokeball", "stats": dict.fromkeys(("atk", "def", "spa", "spd", "spe"), 100),
        }
        for name in ("Tauros", "Chansey")
    ]  # fmt: skip
    moves = [{"move": move, "id": move, "pp": 5, "maxpp": 5, "target": "normal", "disabled": False} for move in offered]
    request = {"active": [{"moves": moves}], "side": {"name": "Ann_A", "id": "p1", "pokemon": team}}
    asked = f"|request|{json.dumps(request, separators=(',', ':'))}"
    assert views_of(*START, asked, shown)["p1"].actions == (action, -1)


def test_a_move_that_another_called_is_not_learnt_by_its_second_turn() -> None:
    called = (
        "|move|p1a: Tauros|Metronome|p1a: Tauros",
        "|move|p1a: Tauros|Dig||[from] Metronome|[still]",
        "|-prepare|p1a: Tauros|Dig",
        *NEXT,
        "|move|p1a: Tauros|Dig|p2a: Rotom",
    )
    battle = views_of(*START, *called)["p1"]
    assert battle.actions == (0, 0, -1)
    assert [move.name for move in battle.states[1].player_active_pokemon.moves] == ["metronome"]


# --- when something was asked ---------------------------------------------------------------------------------------


def test_after_a_faint_only_the_side_that_lost_it_chooses() -> None:
    lines = (
        "|move|p1a: Tauros|Earthquake|p2a: Rotom",
        "|-damage|p2a: Rotom|0 fnt",
        "|faint|p2a: Rotom",
        "|",
        "|upkeep",
        "|",
        "|t:|1700000001",
        "|switch|p2a: Gengar|Gengar, M|100/100",
        "|turn|2",
    )
    views = views_of(*START, *lines)
    assert [state.forced_switch for state in views["p2"].states] == [False, True, False, False]
    assert chosen(views["p2"]) == [None, "switch gengar", None]
    assert chosen(views["p1"]) == ["earthquake", None]


def test_u_turn_is_two_choices_before_the_other_side_moves() -> None:
    lines = (
        "|move|p1a: Tauros|U-turn|p2a: Rotom",
        "|-damage|p2a: Rotom|80/100",
        "|",
        "|t:|1700000001",
        "|switch|p1a: Chansey|Chansey, F|100/100|[from] U-turn",
        "|move|p2a: Rotom|Thunderbolt|p1a: Chansey",
    )
    views = views_of(*START, *lines, *NEXT)
    assert chosen(views["p1"]) == ["uturn", "switch chansey", None]
    assert chosen(views["p2"]) == ["thunderbolt", None]
    assert views["p1"].states[1].opponent_active_pokemon.hp_pct == 0.8


def test_both_sides_replace_at_once_without_seeing_each_other() -> None:
    lines = (
        "|move|p1a: Tauros|Explosion|p2a: Rotom",
        "|-damage|p2a: Rotom|0 fnt",
        "|faint|p1a: Tauros",
        "|faint|p2a: Rotom",
        "|",
        "|upkeep",
        "|",
        "|switch|p1a: Chansey|Chansey, F|100/100",
        "|switch|p2a: Gengar|Gengar, M|100/100",
        "|turn|2",
    )
    views = views_of(*START, *lines)
    assert chosen(views["p1"])[1] == "switch chansey"
    assert chosen(views["p2"])[1] == "switch gengar"
    assert views["p2"].states[1].opponent_active_pokemon.name == "tauros"


def test_revival_blessing_chooses_among_the_fainted() -> None:
    lines = (
        "|switch|p1a: Chansey|Chansey, F|100/100",
        "|move|p2a: Rotom|Thunderbolt|p1a: Chansey",
        "|-damage|p1a: Chansey|0 fnt",
        "|faint|p1a: Chansey",
        "|",
        "|upkeep",
        "|",
        "|switch|p1a: Tauros|Tauros, M|100/100",
        "|turn|2",
        "|move|p1a: Tauros|Revival Blessing|p1a: Tauros",
        "|",
        "|t:|1700000001",
        "|-heal|p1: Chansey|50/100|[from] move: Revival Blessing",
        "|move|p2a: Rotom|Thunderbolt|p1a: Tauros",
        "|",
        "|upkeep",
        "|turn|3",
    )
    battle = views_of(*START, *lines, gen=9)["p1"]
    assert chosen(battle) == ["switch chansey", "switch tauros", "revivalblessing", "switch chansey", None]
    assert [pokemon.name for pokemon in battle.states[3].available_switches] == ["chansey"]


def test_a_battle_given_up_ends_with_a_choice_that_nobody_saw() -> None:
    lost = ("|move|p1a: Tauros|Earthquake|p2a: Rotom", "|faint|p2a: Rotom", "|", "|upkeep", "|-message|Bob forfeited.")
    views = views_of(*START, *lost)
    assert (views["p1"].actions[0], views["p1"].actions[1:]) == (0, (-1,))
    assert views["p2"].actions == (-1, -1, -1)
    assert views["p1"].won
    assert views["p2"].states[-1].battle_lost


# --- what was known -------------------------------------------------------------------------------------------------


def test_the_own_team_is_known_from_the_beginning_and_the_opponent_as_revealed() -> None:
    lines = (
        "|move|p1a: Tauros|Earthquake|p2a: Rotom",
        "|-immune|p2a: Rotom|[from] ability: Levitate",
        *NEXT,
        "|switch|p1a: Chansey|Chansey, F|100/100",
        "|-heal|p1a: Chansey|100/100|[from] item: Leftovers",
        "|-ability|p1a: Chansey|Natural Cure",
        "|",
        "|turn|3",
    )
    views = views_of(*START, *lines)
    bench = views["p1"].states[0].available_switches
    assert [(p.name, p.item, p.ability) for p in bench] == [("chansey", "leftovers", "naturalcure")]
    seen = [state.opponent_active_pokemon for state in views["p2"].states]
    assert [pokemon.name for pokemon in seen[:3]] == ["tauros", "tauros", "chansey"]
    assert [len(pokemon.moves) for pokemon in seen[:2]] == [0, 1]
    assert views["p2"].states[0].opponent_active_pokemon.item == "unknownitem"


def test_a_trick_tells_both_first_items() -> None:
    lines = (
        "|move|p1a: Tauros|Trick|p2a: Rotom",
        "|-activate|p1a: Tauros|move: Trick|[of] p2a: Rotom",
        "|-item|p2a: Rotom|Choice Scarf|[from] move: Trick",
        "|-item|p1a: Tauros|Leftovers|[from] move: Trick",
    )
    views = views_of(*START, *lines, *NEXT)
    assert [state.player_active_pokemon.item for state in views["p1"].states[:2]] == ["choicescarf", "leftovers"]
    assert [state.player_active_pokemon.item for state in views["p2"].states[:2]] == ["leftovers", "choicescarf"]


def test_what_regenerator_did_is_known_to_its_player_on_the_bench() -> None:
    lines = (
        "|-damage|p1a: Tauros|40/100",
        *NEXT,
        "|switch|p1a: Chansey|Chansey, F|100/100",
        "|",
        "|turn|3",
        "|switch|p1a: Tauros|Tauros, M|73/100",
        "|",
        "|turn|4",
    )
    battle = views_of(*START, *lines)["p1"]
    assert battle.states[2].available_switches[0].hp_pct == 0.73


def test_what_one_side_alone_was_told_is_not_in_the_other_s_view() -> None:
    silent = ("|-ability|p1a: Tauros|Intimidate|[silent]", "|-activate|p1a: Tauros|move: Struggle")
    views = views_of(*START, *silent, "|move|p1a: Tauros|Struggle|p2a: Rotom", *NEXT, gen=4)
    seen = views["p2"].states[1].opponent_active_pokemon
    assert (seen.ability, seen.effect) == ("unknownability", "noeffect")
    own = views["p1"].states[1].player_active_pokemon
    assert (own.ability, own.effect) == ("intimidate", "struggle")


def test_an_illusion_that_broke_was_known_to_its_player() -> None:
    start = ("|switch|p1a: Chansey|Chansey, F|100/100", "|switch|p2a: Rotom|Rotom|100/100", "|turn|1")
    lines = (
        "|move|p1a: Chansey|Night Daze|p2a: Rotom",
        "|move|p2a: Rotom|Thunderbolt|p1a: Chansey",
        "|-damage|p1a: Chansey|40/100",
        "|replace|p1a: Zoroark|Zoroark, M",
        "|-end|p1a: Zoroark|Illusion",
        *NEXT,
        "|switch|p1a: Chansey|Chansey, F|100/100",
        "|",
        "|turn|3",
    )
    views = views_of(*start, *lines, gen=5)
    assert [state.player_active_pokemon.name for state in views["p1"].states] == [
        "zoroark",
        "zoroark",
        "chansey",
        "chansey",
    ]
    assert [state.opponent_active_pokemon.name for state in views["p2"].states[:2]] == ["chansey", "zoroark"]
    assert chosen(views["p1"]) == ["nightdaze", "switch chansey", None]


def test_mimic_and_transform_are_read_as_what_they_copied() -> None:
    mimic = (
        "|move|p1a: Tauros|Mimic|p2a: Rotom",
        "|-start|p1a: Tauros|Mimic|Thunderbolt",
        *NEXT,
        "|move|p1a: Tauros|Thunderbolt|p2a: Rotom",
        "|",
        "|turn|3",
    )
    battle = views_of(*START, *mimic)["p1"]
    assert chosen(battle) == ["mimic", "thunderbolt", None]
    transform = (
        "|move|p1a: Tauros|Transform|p2a: Rotom",
        "|-transform|p1a: Tauros|p2a: Rotom",
        *NEXT,
        "|move|p1a: Tauros|Shadow Ball|p2a: Rotom",
        "|",
        "|turn|3",
    )
    battle = views_of(*START, *transform)["p1"]
    assert chosen(battle) == ["transform", "shadowball", None]
    assert [move.name for move in battle.states[0].player_active_pokemon.moves] == ["transform"]

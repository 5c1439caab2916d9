"""What a battle's log says of each Pokémon: held to the simulator's own state, and to what a disguise hides."""

import runpy
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.node import needs_node
from support.paths import SCRIPTS

from gemma_metamon.reports.battle_log import BattleStory, read_log
from gemma_metamon.reports.battle_sides import Member, read_condition
from gemma_metamon.reports.replay_page import replay_page

CHECK = SCRIPTS / "check_battle_logs.py"

PLAYERS = ["|player|p1|Ann||", "|player|p2|Bob||"]
PREVIEW = ["|poke|p2|Gholdengo|", "|poke|p2|Skeledirge, F|", "|poke|p2|Zoroark-Hisui, M|", "|teampreview"]
UNCOVERED = ["|replace|p2a: Zoroark|Zoroark-Hisui, M", "|-end|p2a: Zoroark|Illusion"]


def story_of(*lines: str) -> BattleStory:
    return read_log("\n".join([*PLAYERS, *lines]))


def told(*lines: str) -> list[str]:
    return [event.text for turn in story_of(*lines).turns for event in turn.events]


def bobs(*lines: str) -> dict[str, Member]:
    """Bob's team at the end, by species."""
    return {member.species: member for member in story_of(*lines).turns[-1].sides[1].members}


def hp(*lines: str) -> dict[str, float]:
    return {species: member.hp for species, member in bobs(*lines).items()}


@pytest.fixture(scope="module")
def check() -> dict[str, Any]:
    return runpy.run_path(str(CHECK))


@pytest.mark.slow
@needs_node
def test_what_the_reader_holds_is_what_the_simulator_held(check: dict[str, Any]) -> None:
    """The first turns of a battle of each format; the long form is scripts/check_battle_logs.py."""
    kinds = Counter[str]()
    logs, uncovered = [], 0
    for battle in check["play"](check["jobs_of"](battles=27, seed=900, choices=60)):
        assert "error" not in battle
        logs.append(battle["log"])
        uncovered += check["uncovered"](battle)
        for view in check["VIEWS"]:
            kinds.update(kind for kind, _ in check["differences"](battle, view))
    assert len(logs) == 27
    assert uncovered > 20
    assert set(kinds) <= set(check["UNTELLABLE"])
    check["check_spoilt"](logs, 200, seed=900)


def test_the_uncovered_takes_over_and_the_disguise_has_its_own_again() -> None:
    lines = [
        "|switch|p1a: Skeledirge|Skeledirge, M|100/100",
        "|switch|p2a: Gholdengo|Gholdengo|100/100",
        "|turn|1",
        "|move|p1a: Skeledirge|Torch Song|p2a: Gholdengo",
        "|-damage|p2a: Gholdengo|60/100",
        *UNCOVERED,
    ]
    assert hp(*lines) == {"Gholdengo": 1.0, "Zoroark-Hisui": 0.6}
    team = bobs(*lines)
    assert (team["Zoroark-Hisui"].active, team["Gholdengo"].active, team["Gholdengo"].seen) == (True, False, False)
    lines += ["|turn|2", "|-damage|p2a: Zoroark|20/100"]
    assert told(*lines)[-3:] == [
        "Bob's Gholdengo showed its true form, Zoroark-Hisui",
        "Bob's Zoroark: Illusion ended",
        "Bob's Zoroark lost 40 % of its HP, 20 % left",
    ]


def test_status_and_tera_type_go_with_the_uncovered() -> None:
    team = bobs(
        "|switch|p2a: Goldie|Gholdengo|50/100 brn",
        "|switch|p2a: Skeledirge|Skeledirge, F|100/100",
        "|switch|p2a: Goldie|Gholdengo|100/100",
        "|-terastallize|p2a: Goldie|Fairy",
        "|-status|p2a: Goldie|par",
        "|-damage|p2a: Goldie|70/100 par",
        "|replace|p2a: Foxy|Zoroark-Hisui, M",
    )
    assert team["Zoroark-Hisui"] == Member("Foxy", "Zoroark-Hisui", 0.7, "par", True, tera="Fairy", about="M")
    assert team["Gholdengo"] == Member("Goldie", "Gholdengo", 0.5, "brn")
    assert team["Zoroark-Hisui"].label == "Foxy (Zoroark-Hisui)"


def test_a_disguise_of_the_team_preview_is_unseen_again() -> None:
    team = bobs(*PREVIEW, "|switch|p2a: Goldie|Gholdengo|100/100", "|-damage|p2a: Goldie|40/100", *UNCOVERED)
    assert list(team) == ["Gholdengo", "Skeledirge", "Zoroark-Hisui"]
    assert [(member.hp, member.seen, member.active) for member in team.values()] == [
        (1.0, False, False),
        (1.0, False, False),
        (0.4, True, True),
    ]


def test_a_form_that_the_preview_hides_is_hidden_again() -> None:
    team = bobs("|poke|p2|Urshifu-*|", "|switch|p2a: U|Urshifu-Rapid-Strike|100/100", *UNCOVERED)
    assert [(member.label, member.seen) for member in team.values()] == [("Urshifu-*", False), ("Zoroark-Hisui", True)]


def test_a_disguise_that_falls_uncovers_who_fell() -> None:
    lines = [*PREVIEW, "|switch|p2a: Gholdengo|Gholdengo|100/100", "|-damage|p2a: Gholdengo|0 fnt", *UNCOVERED]
    assert hp(*lines, "|faint|p2a: Zoroark") == {"Gholdengo": 1.0, "Skeledirge": 1.0, "Zoroark-Hisui": 0.0}
    assert not any(member.active for member in bobs(*lines, "|faint|p2a: Zoroark").values())


def test_who_fell_may_be_uncovered_thereafter() -> None:
    """As under Neutralizing Gas, which keeps Illusion from ending at the hit."""
    fell = ["|switch|p2a: Gholdengo|Gholdengo|9/100 psn", "|-damage|p2a: Gholdengo|0 fnt", "|faint|p2a: Gholdengo"]
    team = bobs(*PREVIEW, *fell, *UNCOVERED)
    assert {species: member.hp for species, member in team.items()} == {
        "Gholdengo": 1.0,
        "Skeledirge": 1.0,
        "Zoroark-Hisui": 0.0,
    }
    assert not any(member.active for member in team.values())


FELL_COVERED = ["|switch|p2a: Gholdengo|Gholdengo|9/100", "|-damage|p2a: Gholdengo|0 fnt|[from] psn"]
STANDS = ["|faint|p2a: Gholdengo", "|turn|1", "|switch|p2a: Gholdengo|Gholdengo|100/100"]


def test_one_that_fell_and_comes_in_standing_was_another() -> None:
    lines = [*PREVIEW, *FELL_COVERED, *STANDS]
    assert hp(*lines) == {"Gholdengo": 1.0, "Skeledirge": 1.0, "Zoroark-Hisui": 0.0}
    assert told(*lines)[-1] == "Bob sent out Gholdengo; the one that fainted in its shape was Zoroark-Hisui"


def test_where_nobody_can_say_who_fell_one_of_the_team_has_fallen() -> None:
    assert hp(*FELL_COVERED, *STANDS) == {"Gholdengo": 1.0, "a Pokémon with Illusion": 0.0}
    seen_as_two = ["|switch|p2a: Zorua|Zorua, F|100/100", "|switch|p2a: Zoroark|Zoroark, M|100/100"]
    assert hp(*seen_as_two, *FELL_COVERED, *STANDS) == {
        "Zorua": 1.0,
        "Zoroark": 1.0,
        "Gholdengo": 1.0,
        "a Pokémon with Illusion": 0.0,
    }


def test_one_that_was_revived_fell_itself() -> None:
    revived = ["|faint|p2a: Gholdengo", "|-heal|p2: Gholdengo|50/100|[from] move: Revival Blessing"]
    lines = [*PREVIEW, *FELL_COVERED, *revived, "|switch|p2a: Gholdengo|Gholdengo|50/100"]
    assert hp(*lines) == {"Gholdengo": 0.5, "Skeledirge": 1.0, "Zoroark-Hisui": 1.0}


def test_a_disguise_kept_to_the_end_shows_when_the_real_one_comes_in_otherwise() -> None:
    lines = ["|switch|p2a: Gholdengo|Gholdengo|100/100", "|-damage|p2a: Gholdengo|30/100"]
    lines += ["|switch|p2a: Skeledirge|Skeledirge, F|100/100"]
    assert hp(*lines) == {"Gholdengo": 0.3, "Skeledirge": 1.0}  # nothing told otherwise
    assert hp(*lines, "|switch|p2a: Gholdengo|Gholdengo|100/100") == {"Gholdengo": 1.0, "Skeledirge": 1.0}


def test_who_comes_in_hurt_without_having_been_seen_hurt_was_there_in_disguise() -> None:
    covered = ["|switch|p2a: Skeledirge|Skeledirge, F|100/100", "|-damage|p2a: Skeledirge|55/100"]
    again = ["|switch|p2a: Gholdengo|Gholdengo|55/100", "|-damage|p2a: Gholdengo|10/100", *UNCOVERED]
    same_shape = [line.replace("Skeledirge, F", "Gholdengo").replace("Skeledirge", "Gholdengo") for line in covered]
    between = ["|switch|p2a: Blissey|Blissey, F|100/100"]
    assert hp(*covered, *again) == {"Skeledirge": 1.0, "Gholdengo": 1.0, "Zoroark-Hisui": 0.1}
    assert hp(*same_shape, *between, *again) == {"Blissey": 1.0, "Gholdengo": 1.0, "Zoroark-Hisui": 0.1}


def test_of_two_that_left_alike_nobody_can_say_which_was_the_disguise() -> None:
    lines = []
    for name in ("Skeledirge", "Blissey"):
        lines += [f"|switch|p2a: {name}|{name}, F|100/100", f"|-damage|p2a: {name}|55/100"]
    lines += ["|switch|p2a: Gholdengo|Gholdengo|55/100", *UNCOVERED]
    assert hp(*lines) == {"Skeledirge": 0.55, "Blissey": 0.55, "Gholdengo": 1.0, "Zoroark-Hisui": 0.55}


def test_one_in_the_shape_of_another_with_illusion_and_both_uncovered() -> None:
    zorua = ["|switch|p2a: Zoroark|Zoroark-Hisui, M|100/100", "|-damage|p2a: Zoroark|80/100"]
    zorua += ["|replace|p2a: Zorua|Zorua, F"]
    zoroark = ["|switch|p2a: Zorua|Zorua, F|100/100", "|-damage|p2a: Zorua|30/100", *UNCOVERED]
    assert hp(*PREVIEW, *zorua, *zoroark) == {"Gholdengo": 1.0, "Skeledirge": 1.0, "Zoroark-Hisui": 0.3, "Zorua": 0.8}


def test_a_message_about_the_bench_is_not_about_who_has_its_shape_on_the_field() -> None:
    lines = [
        "|switch|p2a: Gholdengo|Gholdengo|50/100 brn",
        "|switch|p2a: Skeledirge|Skeledirge, F|100/100",
        "|switch|p2a: Gholdengo|Gholdengo|100/100 par",
        "|-curestatus|p2: Gholdengo|brn|[msg]",
    ]
    assert bobs(*lines)["Gholdengo"].status == "par"
    assert {species: member.status for species, member in bobs(*lines, *UNCOVERED).items()} == {
        "Gholdengo": "",
        "Skeledirge": "",
        "Zoroark-Hisui": "par",
    }


def test_an_uncovering_that_says_the_condition_is_believed() -> None:
    lines = ["|switch|p2a: Gholdengo|Gholdengo|100/100", "|replace|p2a: Zoroark|Zoroark-Hisui, M|52/100 tox"]
    assert bobs(*lines)["Zoroark-Hisui"].condition == (0.52, "tox")


def test_an_entrance_without_a_condition_leaves_all_as_it_was() -> None:
    team = bobs("|switch|p2a: A|A|40/100", "|switch|p2a: B|B|nothing")
    assert [(member.name, member.active) for member in team.values()] == [("A", True)]


def test_nobody_on_the_field_cannot_be_uncovered() -> None:
    story = story_of(UNCOVERED[0])
    assert [(event.text, event.weight) for event in story.turns[0].events] == [(UNCOVERED[0], "raw")]
    assert story.turns[0].sides[1].members == []


def test_two_of_one_name_are_told_apart_by_what_else_is_said_of_them() -> None:
    lines = ["|switch|p2a: Rat|Pikachu, L50, M|60/100", "|switch|p2a: Rat|Raichu, M|100/100"]
    lines += ["|switch|p2a: Rat|Pikachu, L70, F|30/100", "|switch|p2a: Rat|Pikachu, L50, M|60/100"]
    members = story_of("|poke|p2|Pikachu, L50, M|", "|poke|p2|Pikachu, L70, F|", *lines).turns[0].sides[1].members
    assert [(member.species, member.hp, member.active) for member in members] == [
        ("Pikachu", 0.6, True),
        ("Pikachu", 0.3, False),
        ("Raichu", 1.0, False),
    ]


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        (
            ["detailschange|p1a: Charizard|Charizard-Mega-Y, M", "-mega|p1a: Charizard|Charizard|Charizardite Y"],
            ["Ann's Charizard Mega Evolved into Charizard-Mega-Y"],
        ),
        (
            ["detailschange|p1a: Charizard|Necrozma-Ultra", "-burst|p1a: Charizard|Necrozma|Ultranecrozium Z"],
            ["Ann's Charizard became Necrozma-Ultra by Ultra Burst"],
        ),
        (
            ["detailschange|p1a: Charizard|Kyogre-Primal", "-primal|p1a: Charizard|Blue Orb"],
            ["Ann's Charizard became Kyogre-Primal by Primal Reversion"],
        ),
        (["-mega|p1a: Charizard|Charizard|Charizardite Y"], ["Ann's Charizard Mega Evolved"]),
        (["-primal|p1a: Charizard"], ["Ann's Charizard reverted to its primal form"]),
        (["detailschange|p1a: Charizard|Mimikyu-Busted, M"], ["Ann's Charizard became Mimikyu-Busted"]),
        (
            ["-formechange|p1a: Charizard|Aegislash-Blade||[from] ability: Stance Change"],
            ["Ann's Charizard became Aegislash-Blade (Stance Change)"],
        ),
        (["-start|p1a: Charizard|Dynamax|Gmax"], ["Ann's Charizard Gigantamaxed"]),
        (["-start|p1a: Charizard|Dynamax|"], ["Ann's Charizard Dynamaxed"]),
        (["-end|p1a: Charizard|Dynamax"], ["Ann's Charizard returned to its normal size"]),
        (["-terastallize|p1a: Charizard|Water"], ["Ann's Charizard Terastallized into the Water type"]),
    ],
)
def test_a_change_of_forme_says_what_came_of_it_once(messages: list[str], words: list[str]) -> None:
    assert told("|switch|p1a: Charizard|Charizard, M|100/100", *[f"|{m}" for m in messages])[1:] == words


def test_a_forme_for_a_stay_ends_with_it_and_one_for_good_does_not() -> None:
    lines = ["|switch|p2a: Aegislash|Aegislash|100/100", "|-formechange|p2a: Aegislash|Aegislash-Blade"]
    assert bobs(*lines)["Aegislash"].label == "Aegislash-Blade"
    lines += ["|switch|p2a: Mimikyu|Mimikyu, F|100/100", "|detailschange|p2a: Mimikyu|Mimikyu-Busted, F"]
    lines += ["|switch|p2a: Ditto|Ditto|100/100"]
    assert [member.label for member in bobs(*lines).values()] == ["Aegislash", "Mimikyu-Busted", "Ditto"]


def test_morpeko_keeps_the_forme_that_it_terastallizes_in() -> None:
    lines = ["|switch|p2a: Morpeko|Morpeko, M|100/100", "|-formechange|p2a: Morpeko|Morpeko-Hangry"]
    lines += ["|-terastallize|p2a: Morpeko|Water", "|switch|p2a: Ditto|Ditto|100/100"]
    assert [member.label for member in bobs(*lines).values()] == ["Morpeko-Hangry", "Ditto"]


def test_a_fainted_pokemon_is_no_longer_terastallized() -> None:
    team = bobs("|switch|p2a: A|A|9/100 psn", "|-terastallize|p2a: A|Water", "|-damage|p2a: A|0 fnt", "|faint|p2a: A")
    assert team["A"] == Member("A", "A", 0.0, "", False)


def change_told(before: str, message: str) -> str:
    return told(f"|switch|p2a: A|A|{before}", message)[-1]


@pytest.mark.parametrize("kind", ["-damage", "-heal", "-sethp"])
def test_unchanged_hp_is_neither_lost_nor_regained(kind: str) -> None:
    assert change_told("17/100", f"|{kind}|p2a: A|17/100|[from] Recoil") == "Bob's A stayed at 17 % of its HP (Recoil)"
    assert change_told("311/311", f"|{kind}|p2a: A|311/311") == "Bob's A stayed at 100 % of its HP"
    assert change_told("0 fnt", f"|{kind}|p2a: A|0 fnt") == "Bob's A stayed at 0 % of its HP"


@given(before=st.integers(1, 700), after=st.integers(0, 700), full=st.integers(1, 700))
def test_the_words_say_which_way_the_hp_went(before: int, after: int, full: int) -> None:
    before, after = min(before, full), min(after, full)
    words = change_told(f"{before}/{full}", f"|-damage|p2a: A|{after}/{full}")
    verb = "lost" if after < before else "regained" if after > before else "stayed at"
    assert words.startswith(f"Bob's A {verb} ")


def test_those_who_shared_their_hp_are_both_told() -> None:
    """As servers wrote Pain Split years ago."""
    lines = ["|switch|p1a: A|A|100/100", "|switch|p2a: B|B|20/100"]
    assert told(*lines, "|-sethp|p1a: A|60/100|p2a: B|60/100|[from] move: Pain Split")[-1] == (
        "Ann's A lost 40 % of its HP, 60 % left; Bob's B regained 40 % of its HP, 60 % left (Pain Split)"
    )


@pytest.mark.parametrize(
    ("condition", "read"),
    [
        ("263/353 par", (263 / 353, "par")),
        ("9/48y", (9 / 48, "")),
        ("24/48g slp", (0.5, "slp")),
        ("0 fnt", (0.0, "")),
        ("100/100", (1.0, "")),
        ("77", (0.77, "")),
        ("700/353", (1.0, "")),
        ("50/100 strange", (0.5, "")),
    ],
)
def test_a_condition_is_read_as_the_server_means_it(condition: str, read: tuple[float, str]) -> None:
    assert read_condition(condition) == read


@pytest.mark.parametrize("condition", ["nan/100", "inf", "-5/100", "", "1e3/100", "par", "5/0"])
def test_what_is_no_condition_changes_nothing_and_is_shown_as_it_came(condition: str) -> None:
    story = story_of("|switch|p2a: A|A|40/100", f"|-damage|p2a: A|{condition}")
    assert story.turns[0].events[-1].weight == "raw"
    assert story.turns[0].sides[1].members[0].hp == 0.4
    assert "NaN" not in replay_page(f"|switch|p2a: A|A|{condition}", "none")


def test_a_disguise_that_was_terastallized_before_is_not_when_illusion_ends() -> None:
    log = """|player|p1|Ann||
|player|p2|Bob||
|teamsize|p1|3
|teamsize|p2|1
|start
|switch|p1a: Gholdengo|Gholdengo|100/100
|switch|p2a: Tauros|Tauros|100/100
|turn|1
|-terastallize|p1a: Gholdengo|Fire
|turn|2
|switch|p1a: Pikachu|Pikachu|100/100
|turn|3
|switch|p1a: Gholdengo|Gholdengo, tera:Fire|100/100
|replace|p1a: Zoroark|Zoroark-Hisui, F, tera:Fire
|-end|p1a: Zoroark|Illusion
|turn|4"""
    members = {member.name: member for member in read_log(log).turns[-1].sides[0].members}
    assert {name: member.tera for name, member in members.items()} == {
        "Gholdengo": "",
        "Pikachu": "",
        "Zoroark": "Fire",
    }

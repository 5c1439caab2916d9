"""Texts of teams: split as people post them, packed as the simulator packs them."""

import json
import os
import re
import runpy
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from support.node import needs_node, path_with_node_that
from support.paths import GOLDENS, SCRIPTS
from support.team_files import GENGAR, HIDDEN_POWERS, PACKED, SNORLAX, TAUROS, TEXTS, backup, pack_team, species

from gemma_metamon.errors import DataError, MissingDependencyError, ServerError
from gemma_metamon.showdown.simulator import installation
from gemma_metamon.showdown.simulator.installation import import_teams, validate_teams
from gemma_metamon.showdown.simulator.team_texts import TeamText, pack_teams, split_teams

T = TypeVar("T")
SCRIPT = SCRIPTS / "build_team_goldens.py"
# texts that the simulator packs, but not into a team that can be played
NO_TEAMS = {"quoted": "1 of them without moves"}


def by_simulator(texts: list[str]) -> list[str]:
    """Its own `Teams.pack(Teams.import(text))`, past everything of the package's."""
    packed: list[str] = runpy.run_path(str(SCRIPT))["packed_by_simulator"](texts)
    return packed


# --- as the simulator packs them -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.server
@needs_node
def test_every_text_is_packed_as_the_simulator_packs_it() -> None:
    """pokemon-showdown 0.11.11. Regenerate with: python scripts/build_team_goldens.py"""
    golden = json.loads((GOLDENS / "packed_teams.json").read_text(encoding="utf-8"))
    assert golden.keys() == TEXTS.keys()
    texts = {name: text for name, text in TEXTS.items() if name not in NO_TEAMS}
    teams = [(name, team) for name, text in texts.items() for team in split_teams(text)]
    assert [name for name, _ in teams] == list(texts)
    assert dict(zip(texts, pack_teams(teams), strict=True)) == {name: golden[name] for name in texts}
    for name, words in NO_TEAMS.items():
        with pytest.raises(DataError, match=words):
            pack_team(TEXTS[name])


NAMES = st.text(st.characters(exclude_characters="|\n\r", exclude_categories=["Cs"]), max_size=6)
WORDS = NAMES | st.sampled_from(
    [
        "Zapdos",
        "tapu koko",
        "Mr. Mime",
        "Lando-T",
        "Leftovers",
        "Pressure",
        "Timid",
        "252",
        "-1",
        "HP",
        "Spe",
        "Yes",
        "Fire",
    ]
)
BEGINNINGS = [
    "Ability: ", "Trait: ", "Level: ", "Happiness: ", "Shiny: ", "Pokeball: ", "Hidden Power: ", "Gigantamax: ", "-",
    "- ", "~", "Dynamax Level: ", "Tera Type: ", "EVs: 4 ", "IVs: 3 ", "- Hidden Power [", "- Frustration", "=== ", "",
]  # fmt: skip
ENDINGS = ["", " ", "]", " / ", " Nature", " nature", " HP / 3 Spe", "\r", "  "]
LINES = st.builds("{}{}{}".format, st.sampled_from(BEGINNINGS), WORDS, st.sampled_from(ENDINGS))
FIRST_LINES = st.builds(
    "{}{}{}".format,
    WORDS,
    st.sampled_from(["", " (Zapdos)", " ()", " (M)", " (Mew) (F)", "(", " (a) (b)"]),
    st.sampled_from(["", " @ Leftovers", "@ Leftovers", " @ ", " @ a @ b", " @ No Item"]),
)
SETS = st.builds("{}\n{}\n- Tackle".format, FIRST_LINES, st.lists(LINES, max_size=5).map("\n".join))


def drawn(strategy: st.SearchStrategy[T], count: int) -> list[T]:
    """Examples for one Node process: one for each takes most of a second."""
    examples: list[T] = []

    @settings(max_examples=count, database=None, phases=[Phase.generate])
    @given(strategy)
    def draw(example: T) -> None:
        examples.append(example)

    draw()
    return examples


@pytest.mark.server
@needs_node
def test_whatever_is_written_is_packed_as_the_simulator_does_or_refused() -> None:
    texts = drawn(st.lists(SETS, min_size=1, max_size=2).map("\n\n".join), 150)
    expected = dict(zip(texts, by_simulator(texts), strict=True))
    whole = {text: split_teams(text)[0].text for text in texts if len(split_teams(text)) == 1}
    for text, answer in zip(whole, import_teams(list(whole.values())), strict=True):
        assert answer["packed"] == expected[text]
        if answer["survives"] and not answer["idle"] and answer["pokemon"] <= 6:
            assert pack_teams([("", TeamText(text=answer["packed"], packed=True))]) == [expected[text]]


@pytest.mark.server
@needs_node
@pytest.mark.parametrize("battle_format", ["gen3ou", "gen4ou", "gen5ou", "gen6ou"])
def test_every_hidden_power_without_ivs_is_accepted(battle_format: str) -> None:
    text = "Zapdos @ Leftovers\nAbility: Pressure\nEVs: 4 HP / 252 SpA / 252 Spe\nTimid Nature\n- Hidden Power [{}]"
    teams = [("", *split_teams(text.format(kind))) for kind in HIDDEN_POWERS]
    reasons = validate_teams(battle_format, pack_teams(teams))
    assert dict(zip(HIDDEN_POWERS, reasons, strict=True)) == {kind: [] for kind in HIDDEN_POWERS}


@pytest.mark.server
@needs_node
def test_happiness_ball_and_moves_are_the_sets_own() -> None:
    names = ["happiness", "pokeball", "move without a space", "nickname with @"]
    happy, in_ball, moves, nickname = pack_teams([(name, *split_teams(TEXTS[name])) for name in names])
    assert happy.split("|")[-1] == "0"
    assert in_ball.startswith("Gengar||Leftovers|CursedBody|")
    assert moves.split("|")[4] == "ShadowBall,SludgeBomb"
    assert nickname.startswith("me@home|Scizor|ChoiceBand|Technician|")


@pytest.mark.server
@needs_node
def test_blank_lines_make_no_further_pokemon() -> None:
    other = TAUROS.replace("Tauros", "Snorlax")
    texts = [
        f"=== [gen1ou] mine ===\n\n{blanks}{TAUROS}\n\n{blanks}{other}\n\n{blanks}"
        for blanks in ("", "\n", "\n\n\n", "\r\n\r\n", "\n  \n")
    ]
    packed = pack_teams([("", *split_teams(text)) for text in texts])
    assert [species(team) for team in packed] == [["Tauros", "Snorlax"]] * len(texts)


@pytest.mark.server
@needs_node
def test_a_team_is_packed_wherever_the_script_is_called_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert species(pack_team(TAUROS)) == ["Tauros"]


# --- packed already ------------------------------------------------------------------------------------------------


def test_packed_teams_may_stand_one_on_a_line() -> None:
    other = PACKED.replace("Tauros", "Mew")
    assert [team.text for team in split_teams(f"{PACKED}\n\n{other}\n")] == [PACKED, other]
    stored = split_teams(f"gen7ou]folder/mine|{PACKED}\ngen8ou]other|{other}\nou]of old|{other}")
    assert [(team.battle_format, team.title, team.text) for team in stored] == [
        ("gen7ou", "folder/mine", PACKED),
        ("gen8ou", "other", other),
        ("gen6ou", "of old", other),
    ]


@pytest.mark.parametrize(
    ("before", "battle_format", "title"),
    [
        ("123[gen9ou]folder/One|", "gen9ou", "folder/One"),
        ("123[gen9ou][new] One|", "gen9ou", "[new] One"),
        ("gen9ou][new] One|", "gen9ou", "[new] One"),
        ("gen9ou-box]One|", "gen9oubox", "One"),
        ("7[]One|", "", "One"),
        ("One|", "", "One"),
        ("folder/Two|", "", "folder/Two"),
        ("[new] Two|", "", "[new] Two"),
        ("|", "", ""),
    ],
)
@pytest.mark.parametrize("packed", [PACKED, f"{PACKED}]Bitey|mew|||tackle|||||||"])
def test_a_stored_team_is_read_with_whatever_stands_before_it(
    before: str, battle_format: str, title: str, packed: str
) -> None:
    expected = TeamText(text=packed, packed=True, battle_format=battle_format, title=title)
    assert split_teams(f"{before}{packed}\n") == [expected]
    assert split_teams(f"gen9ou]empty|\n{before}{packed}\n3[gen9ou]empty|\nempty|") == [expected]


def test_a_store_of_empty_teams_holds_none_and_a_line_that_runs_over_is_no_stored_team() -> None:
    assert split_teams("gen9ou]One|") == split_teams("gen9ou]One|\nTwo|\n4[gen9]folder/|\n") == []
    with pytest.raises(DataError, match="no whole packed team"):
        pack_team(f"{PACKED}|")


@pytest.mark.parametrize(
    ("packed", "words"),
    [
        ("|||", "no whole packed team"),
        (f"{PACKED}]", "no whole packed team"),
        (f"{PACKED}]Mew||", "no whole packed team"),
        ("]".join([PACKED] * 7), "has 7 Pokémon; expected one to 6"),
    ],
)
def test_what_is_no_packed_team_is_refused(packed: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        pack_team(packed)


@pytest.mark.server
@needs_node
def test_a_team_without_node_says_that_packed_ones_need_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingDependencyError, match=r"install Node.js.*teams that are packed already need none"):
        pack_team(TAUROS)


# --- backups -------------------------------------------------------------------------------------------------------


@pytest.mark.server
@needs_node
def test_a_backup_holds_the_teams_that_were_put_in() -> None:
    golden = json.loads((GOLDENS / "packed_teams.json").read_text(encoding="utf-8"))
    # a remark is a header like any other there
    names = [name for name in TEXTS if name not in NO_TEAMS and not re.search("header|JSON|remark", name)]
    teams, expected = [], []
    for chosen in drawn(st.lists(st.sampled_from(names), min_size=2, max_size=60, unique=True), 15):
        text = backup(*((f"[gen9ou] {i}", TEXTS[name].removeprefix("\ufeff")) for i, name in enumerate(chosen)))
        teams += [("", team) for team in split_teams(text)]
        expected += [golden[name] for name in chosen]
    assert pack_teams(teams) == expected


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("text", [GENGAR, f"{GENGAR}\n{SNORLAX}"])
@pytest.mark.parametrize("before", ["", SNORLAX])
def test_headers_without_formats_cut_where_pokemon_follow_each(count: int, text: str, before: str) -> None:
    teams = split_teams(f"{before}\n{backup(*((f'team {i}', text) for i in range(count)))}")
    assert [team.title for team in teams] == [""] * bool(before) + [f"team {i}" for i in range(count)]
    assert all(team.text.strip() == text.strip() for team in teams[bool(before) :])


@pytest.mark.parametrize("empty", ["first", "between", "end"])
def test_headers_without_formats_are_remarks_where_one_has_nothing_under_it(empty: str) -> None:
    remarks = [("lead", GENGAR), ("wall", SNORLAX)]
    remarks.insert(["first", "between", "end"].index(empty), (empty, ""))
    assert len(split_teams(backup(*remarks))) == 1
    # but never a team of seven
    assert len(split_teams(backup(*remarks, *((f"{i}", GENGAR) for i in range(5))))) == 7


@pytest.mark.server
@needs_node
@pytest.mark.skipif(os.name == "nt", reason="a script in the place of Node.js")
def test_a_simulator_that_gives_no_answer_is_ended_and_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = tmp_path / "pid"
    hangs = f"echo $$ > '{written}'; exec sleep 600"
    monkeypatch.setenv("PATH", path_with_node_that(hangs, "teams.js", tmp_path))
    monkeypatch.setattr(installation, "ASK_TIMEOUT_S", 3)
    with pytest.raises(ServerError, match=r"^the simulator could not validate a team for 'gen1ou' within 3 s$"):
        validate_teams("gen1ou", ["Tauros"])
    with pytest.raises(ProcessLookupError):
        os.kill(int(written.read_text()), 0)

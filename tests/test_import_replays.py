"""Showdown's replays and logs become battles: what is in them, held against battles that were recorded live."""

import asyncio
import gzip
import html
import importlib.util
import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma_metamon.battle.replays import BattleFileName, RecordedBattle, find_battles, load_battle
from gemma_metamon.commands import main
from gemma_metamon.errors import DataError
from gemma_metamon.replay_logs.choices import Choice
from gemma_metamon.replay_logs.importing import import_replays, read_views
from gemma_metamon.replay_logs.server_logs import as_sent
from gemma_metamon.replay_logs.sources import read_replay
from gemma_metamon.reports.replay_page import replay_page
from gemma_metamon.showdown.teams import load_teams

if TYPE_CHECKING:
    from gemma_metamon.showdown.server import Server

SERVER_LOG = Path(__file__).parent / "replay_logs" / "server_gen9randombattle.log.json.gz"
SCRIPT = Path(__file__).parent.parent / "scripts" / "check_import_replays.py"

HEADER = (
    "|j|☆Ann_A",
    "|t:|1700000000",
    "|gametype|singles",
    "|player|p1|Ann_A|1|1512",
    "|player|p2|Bob|2|1498",
    "|gen|{gen}",
    "|tier|[Gen {gen}] OU",
    "|rule|HP Percentage Mod: HP is shown in percentages",
    "|teamsize|p1|3",
    "|teamsize|p2|3",
    "|start",
)


def replay(*lines: str, gen: int = 4, end: str = "|win|Ann_A") -> bytes:
    header = [line.format(gen=gen) for line in HEADER]
    return "\n".join([*header, *lines, "|", end]).encode()


def views_of(*lines: str, gen: int = 4, end: str = "|win|Ann_A") -> dict[str, RecordedBattle]:
    return read_views(read_replay(replay(*lines, gen=gen, end=end), "gen4ou-7.log"))[0]


def chosen(battle: RecordedBattle) -> list[str | None]:
    """Each action in words, without the terminal one."""
    words: list[str | None] = []
    for state, action in zip(battle.states[:-1], battle.actions[:-1], strict=True):
        moves = [move.name for move in state.player_active_pokemon.known_moves]
        if action < 0:
            words.append(None)
        elif 4 <= action <= 8:
            words.append(f"switch {state.switches[action - 4].name}")
        else:
            words.append(("tera " if action > 8 else "") + moves[action % 9 if action > 8 else action])
    return words


START = ("|switch|p1a: Tauros|Tauros, M|100/100", "|switch|p2a: Rotom|Rotom|100/100", "|turn|1")
NEXT = ("|", "|upkeep", "|turn|2")


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


# --- forms of logs --------------------------------------------------------------------------------------------------

TURN = (*START, "|move|p1a: Tauros|Earthquake|p2a: Rotom", *NEXT)


def forms() -> Iterator[tuple[str, bytes]]:
    log = replay(*TURN)
    text = log.decode()
    yield "gen4ou-7.log", log
    yield "windows.log", text.replace("\n", "\r\n").encode()
    yield "page.json", json.dumps({"id": "gen4ou-7", "formatid": "gen4ou", "log": text, "rating": 1500}).encode()
    yield "battle-gen4ou-7.log.json", json.dumps({"roomid": "battle-gen4ou-7", "log": text.split("\n")}).encode()
    script = '<script type="text/plain" class="battle-log-data">'
    yield "page.html", f"<html>{script}{text.replace('/', chr(92) + '/')}</script></html>".encode()
    yield "escaped.html", f"<html>{script}{html.escape(text)}</script></html>".encode()


@pytest.mark.parametrize(("name", "content"), list(forms()))
def test_every_form_gives_the_same_battle(name: str, content: bytes) -> None:
    log = read_replay(content.replace(rb"\/", b"/") if name == "page.html" else content, name)
    assert (log.battle_format, log.gen, log.winner) == ("gen4ou", 4, "p1")
    assert log.ratings == {"p1": 1512, "p2": 1498}
    assert read_views(log)[0] == views_of(*TURN)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no Showdown battle log"),
        (b"{", "JSON that cannot be read"),
        (b'{"states": []}', "without a battle's"),
        (b'{"log": 5}', "without a battle's"),
        (b"[" * 100_000, "no Showdown battle log"),
        (b'{"log":' + b"[" * 100_000, "JSON that cannot be read"),
        (b'{"log": ' + b"9" * 10_000 + b"}", "JSON"),
        (b"<html class='battle-log-data'></html>", "web page without"),
        (replay(*TURN, end="|"), "ends before the battle does"),
        (replay(*TURN, end="|win|Mallory"), "none of its players"),
        (replay(*START[:2]), "before the first turn"),
        (replay(*TURN).replace(b"|gametype|singles", b"|gametype|doubles"), "not imported: doubles"),
        (replay(*TURN).replace(b"|gen|4", b"|gen|77").replace(b"[Gen 4] ", b""), "a format that is not told"),
        (replay(*TURN).replace(b"Tauros, M|100/100", b"Missingno.|100/100"), "cannot follow"),
        (replay(*TURN).replace(b"100/100", b"lots"), "cannot follow"),
        (replay(*TURN).replace(b"100/100", b"290/100"), "HP above"),
        (replay("|turn|1", *TURN), "both sides have"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_reason(content: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        read_views(read_replay(content, "x.log"))


LINES = st.lists(
    st.sampled_from(
        [
            *TURN,
            "|move|",
            "|switch|p1a: ",
            "|-heal|p1: x|1/0",
            "|replace|p2a: Q|Q",
            "|cant|p1a",
            "|faint|p1a: Tauros",
            "|-transform|p1a: Tauros|",
            "|poke|p1|",
            "|",
            "||",
            "|turn|x",
            "|-item|p1a: Tauros|x|[from] move: Trick",
            "|c|Eve|<script>|switch|p1a: Gengar|",
            "|request|{}",
            '|request|{"side":{"id":"p1","pokemon":[{}]}}',
            "\0",
            "|split|p1",
        ]
    )
)


@settings(deadline=None, max_examples=150)
@given(LINES)
def test_any_lines_give_a_battle_or_a_reason(lines: list[str]) -> None:
    try:
        views, _ = read_views(read_replay(replay(*START, *lines), "gen4ou-7.log"))
    except DataError:
        return
    for battle in views.values():
        assert len(battle.states) == len(battle.actions)


def test_a_player_who_changes_the_name_still_wins() -> None:
    content = replay(*TURN, end="|win|Ann B").replace(b"|turn|2", b"|player|p1|Ann B|1|\n|turn|2")
    log = read_replay(content, "gen4ou-7.log")
    assert (log.players["p1"], log.winner) == ("Ann_A", "p1")


def test_our_own_replay_pages_are_read() -> None:
    page = replay_page(replay(*TURN).decode(), "a title")
    assert read_views(read_replay(page.encode(), "page.html"))[0] == views_of(*TURN)


def test_an_unseen_member_of_the_preview_is_on_the_bench_though_another_has_its_name() -> None:
    preview = (
        "|poke|p1|Tauros, M|",
        "|poke|p1|Chansey, F|",
        "|poke|p1|Genesect-*|",
        "|poke|p2|Rotom|",
        "|poke|p2|Gengar|",
        "|poke|p2|Mew|",
        "|teampreview",
    )
    start = ("|switch|p1a: Chansey|Tauros, M|100/100", "|switch|p2a: Rotom|Rotom|100/100", "|turn|1")
    content = replay(*start, "|move|p1a: Chansey|Earthquake|p2a: Rotom", *NEXT, gen=5)
    content = content.replace(b"|start", "\n".join((*preview, "|start")).encode())
    state = read_views(read_replay(content, "gen5ou-7.log"))[0]["p1"].states[0]
    assert state.player_active_pokemon.name == "tauros"
    assert [pokemon.name for pokemon in state.switches] == ["chansey", "genesect"]
    assert state.opponent_teampreview == ("rotom", "gengar", "mew")


def test_chat_and_names_do_no_harm(tmp_path: Path) -> None:
    content = replay(*TURN).replace(b"Ann_A", "../A\u202e_ñ/<b>|".encode().rstrip(b"|"))
    content = content.replace(
        b"|turn|1", b"|c|Eve|/raw <img onerror=x>|win|Bob\n|raw|Bob's rating: 9x\n|html|<p>\n|turn|1"
    )
    (tmp_path / "gen4ou-7.log").write_bytes(content)
    imported = import_replays([tmp_path / "gen4ou-7.log"], tmp_path / "out")
    assert imported.files == 2, imported.set_aside
    for path in (tmp_path / "out").rglob("*.lz4"):
        assert path.parent == tmp_path / "out" / "gen4ou"
        name = BattleFileName.parse(path.name)
        assert {name.player, name.opponent} == {"Añb", "Bob"}


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_command_writes_files_that_the_package_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "gen4ou-7.log").write_bytes(replay(*TURN))
    (tmp_path / "logs" / "gen4ou-7.json").write_text(json.dumps({"id": "gen4ou-7", "log": replay(*TURN).decode()}))
    (tmp_path / "logs" / "cut.log").write_bytes(replay(*TURN)[:-20])
    out = tmp_path / "battles"
    assert main(["import-replays", str(tmp_path / "logs"), "--out", str(out), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["battles"], result["files"], result["decisions"], result["known"]) == (1, 2, 4, 1)
    assert result["set_aside"] == {"the same battle once more": 1, "the log ends before the battle does": 1}
    paths = find_battles(out, ["gen4ou"])
    assert [path.name.split("_")[:5] for path in paths] == [
        ["gen4ou-7", "1498", "Bob", "vs", "AnnA"],
        ["gen4ou-7", "1512", "AnnA", "vs", "Bob"],
    ]
    assert [load_battle(path).won for path in paths] == [False, True]
    assert main(["inspect", str(paths[0])]) == 0
    assert main(["import-replays", str(tmp_path / "logs"), "--out", str(out)]) == 0
    assert "1 battles, 2 files" in capsys.readouterr().out


def test_no_battle_at_all_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.log").write_text("hello")
    assert main(["import-replays", str(tmp_path / "x.log"), "--out", str(tmp_path / "out")]) == 1
    assert "no Showdown battle log" in capsys.readouterr().err
    assert main(["import-replays", str(tmp_path / "y.log"), "--out", str(tmp_path / "out")]) == 1
    assert "no such file" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "content"), list(forms()))
def test_other_commands_name_this_one(
    name: str, content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    assert main(["inspect", str(tmp_path / name)]) == 1
    assert "make battles of it with: gemma-metamon import-replays FILE --out DIR" in capsys.readouterr().err


# --- held against live recordings -----------------------------------------------------------------------------------


def test_a_server_s_own_log_tells_every_choice_and_the_whole_team() -> None:
    """Of pokemon-showdown 0.11.11: its simulator's "log", "inputLog" and teams, of two random players."""
    log = read_replay(gzip.decompress(SERVER_LOG.read_bytes()), SERVER_LOG.name)
    views, missing = read_views(log)
    assert not missing
    for side, battle in views.items():
        assert len(battle.states[0].available_switches) == 5
        assert all(len(state.player_active_pokemon.moves) == 4 for state in battle.states)
        assert any(state.forced_switch for state in battle.states)
        sent = [line.partition(" ")[2] for line in log.beside["inputLog"] if line.startswith(f">{side} ")]
        told = [word.removeprefix("tera ") if word else "" for word in chosen(battle)]
        for choice, word in zip(sent, told, strict=True):
            assert choice.startswith("switch") == word.startswith("switch")
            assert choice.startswith("switch") or choice.split(" ")[1] == word
    percent = {round(100 * state.opponent_active_pokemon.hp_pct, 6) for state in views["p1"].states}
    assert all(value == int(value) for value in percent)


def test_a_sent_choice_says_more_than_what_was_shown_of_it() -> None:
    shown = Choice(unknown="fainted before it could act")
    assert as_sent("move earthquake terastallize", shown) == Choice(move="earthquake", tera=True)
    assert as_sent("move earthquake mega", shown) == Choice(unknown="mega evolution")
    assert as_sent("switch 3", Choice(switch_at=5)) == Choice(switch_at=5)
    assert as_sent("switch 3", shown) == shown


def both_ways() -> Any:
    spec = importlib.util.spec_from_file_location("check_import_replays", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.server
def test_imported_battles_are_those_that_were_recorded_live(server: "Server") -> None:
    script = both_ways()
    counts, missing = script.Counts(), Counter[str]()
    for battle_format in script.FORMATS:
        teams = None if "random" in battle_format else load_teams(battle_format)
        told = asyncio.run(script.play(server.websocket_url, battle_format, script.PAIRS[0], [teams, teams], 1))
        for tag, battle in told.items():
            script.check(tag, battle, counts, missing)
    assert counts.of("different") == 0, counts.examples
    assert counts.fields["own log: state", "equal"] > 300
    known, unknown = (counts.fields["own log: action", verdict] for verdict in ("equal", "unknown"))
    assert known > 0.7 * (known + unknown)


def test_requests_that_come_before_their_messages_are_put_after_them() -> None:
    late = replay(*START, '|request|{"active":[{"moves":[]}],"side":{"id":"p1","pokemon":[]}}', *TURN[3:])
    early = replay('|request|{"active":[{"moves":[]}],"side":{"id":"p1","pokemon":[]}}', *TURN)
    first, second = (read_replay(content, "gen4ou-7.log") for content in (late, early))
    assert [line for line in first.text if "request" in line] == [line for line in second.text if "request" in line]
    assert replace(first, text=(), lines=()) == replace(second, text=(), lines=())

"""Showdown's replays and logs become battles: what is in them, held against battles that were recorded live."""

import asyncio
import gzip
import html
import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.told_battles import NEXT, START, TURN, chosen, replay, views_of

from gemma_metamon.battle.replays import BattleFileName, find_battles, list_formats, load_battle
from gemma_metamon.commands import main
from gemma_metamon.data.battle_sources import list_sources
from gemma_metamon.errors import DataError, MissingFileError
from gemma_metamon.replay_logs.choices import Choice
from gemma_metamon.replay_logs.importing import find_logs, import_replays, read_views
from gemma_metamon.replay_logs.server_logs import as_sent
from gemma_metamon.replay_logs.sources import read_replay
from gemma_metamon.reports.battle_log import read_log
from gemma_metamon.reports.replay_page import replay_page
from gemma_metamon.showdown.simulator.teams import load_teams

if TYPE_CHECKING:
    from gemma_metamon.showdown.simulator.server import Server

SERVER_LOG = Path(__file__).parent / "server_gen9randombattle.log.json.gz"

# --- forms of logs --------------------------------------------------------------------------------------------------


def forms() -> Iterator[tuple[str, bytes]]:
    log = replay(*TURN)
    text = log.decode()
    yield "gen4ou-7.log", log
    yield "windows.log", text.replace("\n", "\r\n").encode()
    yield "page.json", json.dumps({"id": "gen4ou-7", "formatid": "gen4ou", "log": text, "rating": 1500}).encode()
    yield "battle-gen4ou-7.log.json", json.dumps({"roomid": "battle-gen4ou-7", "log": text.split("\n")}).encode()
    script = '<script type="text/plain" class="battle-log-data">'
    yield "page.html", f"<html>{script}{text.replace('/', chr(92) + '/')}</script></html>".encode()
    yield "chat.log", text.replace("|turn|1", "|c|☆Eve|<script class=battle-log-data>\n|turn|1").encode()
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
        (gzip.compress(replay(*TURN))[:-9], "gzip that is cut off"),
        (b"\x1f\x8b" + bytes(20), "gzip that cannot be read"),
        (gzip.compress(bytes(30_000_000)), "over 20 MB"),
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


@settings(max_examples=150)
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


NO_LINE_ENDS = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e\r"


@pytest.mark.parametrize("char", NO_LINE_ENDS)
def test_a_line_ends_at_a_line_feed_alone(char: str) -> None:
    chat = replay(*TURN).decode().replace("|turn|1", f"|c|☆Eve|gg{char}|win|Bob\n|turn|1")
    assert read_replay(chat.encode(), "gen4ou-7.log").winner == "p1"
    assert read_log(chat).winner == "Ann_A"
    named = replay(*TURN).decode().replace("Tauros|E", f"T{char}s|E").replace("p1a: Tauros|T", f"p1a: T{char}s|T")
    assert chosen(read_views(read_replay(named.encode(), "gen4ou-7.log"))[0]["p1"])[0] == "earthquake"


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
    assert [path.name.split("_")[1:5] for path in paths] == [
        ["1498", "Bob", "vs", "AnnA"],
        ["1512", "AnnA", "vs", "Bob"],
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


def test_a_battle_is_known_by_what_was_told_and_not_by_its_file(tmp_path: Path) -> None:
    log = "\n".join(line for line in replay(*TURN).decode().split("\n") if not line.startswith("|t:|"))
    another = log.replace("|Earthquake|", "|Surf|")
    logs, out = tmp_path / "logs", tmp_path / "out"
    for folder, text in (("a", log), ("b", another)):
        (logs / folder).mkdir(parents=True)
        (logs / folder / "battle-gen4ou-1.log").write_text(text)
        (logs / folder / "battle-gen4ou-1.html").write_text(replay_page(text, "a title"))
    as_bob = log.replace("100/100", "300/300").replace("|turn|1", '|request|{"wait":true}\n|turn|1')
    (logs / "a" / "battle-gen4ou-1-as-bob.log").write_text(as_bob)
    imported = import_replays(find_logs([logs]), out)
    assert (imported.battles, imported.set_aside) == (2, {"the same battle once more": 3})
    names = sorted(path.name for path in out.rglob("*.lz4"))
    assert len(names) == 4
    for path in find_logs([logs]):
        os.utime(path, (1, 1_600_000_000))
    import_replays(find_logs([logs]), out)
    assert sorted(path.name for path in out.rglob("*.lz4")) == names
    assert {BattleFileName.parse(name).played_at for name in names} == {datetime(1970, 1, 1)}


@pytest.mark.parametrize(
    ("name", "tier", "battle_format"),
    [
        ("gen9ou-77.log", "[Gen 4] Random Battle", "gen4randombattle"),
        ("gen4ou-77.log", "[Gen 4] Random Battle", "gen4randombattle"),
        ("gen4uu-77.log", "Random Battle", "gen4randombattle"),
        ("battle-gen4uu-77.log", "", "gen4uu"),
    ],
)
def test_the_tier_says_the_format_before_the_file_s_name(name: str, tier: str, battle_format: str) -> None:
    content = replay(*TURN).replace(b"[Gen 4] OU", tier.encode())
    assert read_replay(content, name).battle_format == battle_format
    page = json.dumps({"id": "gen4ubers-7", "log": content.decode()}).encode()
    assert read_replay(page, name).battle_format == "gen4ubers"


@pytest.mark.parametrize(("name", "content"), list(forms()))
def test_other_commands_name_this_one(
    name: str, content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    assert main(["inspect", str(tmp_path / name)]) == 1
    assert "make battles of it with: gemma-metamon import-replays FILE --out DIR" in capsys.readouterr().err


def test_a_folder_of_logs_names_this_command_too(tmp_path: Path) -> None:
    (tmp_path / "gen4ou-7.log").write_bytes(replay(*TURN))
    with pytest.raises(MissingFileError, match=r"no battle of format 'gen4ou'.*logs, make battles.*import-replays"):
        find_battles(tmp_path, ["gen4ou"])
    for find in (list_formats, list_sources):
        with pytest.raises(MissingFileError, match=r"holds no battles; for its Showdown logs, .*import-replays"):
            find(tmp_path)
    with pytest.raises(MissingFileError, match=r"is a file; .*if it is a Showdown log, .*import-replays"):
        list_formats(tmp_path / "gen4ou-7.log")


def test_the_folder_of_one_format_names_the_one_to_give(tmp_path: Path) -> None:
    (tmp_path / "gen1ou").mkdir()
    (tmp_path / "gen1ou" / "x.json.lz4").touch()
    for find in (list_formats, list_sources):
        with pytest.raises(MissingFileError, match=f"give the folder that it is in, {tmp_path}, and --formats gen1ou"):
            find(tmp_path / "gen1ou")


def test_gzipped_logs_of_a_folder_are_found(tmp_path: Path) -> None:
    (tmp_path / "gen4ou-7.log.gz").write_bytes(gzip.compress(replay(*TURN)))
    assert import_replays(find_logs([tmp_path]), tmp_path / "out").battles == 1
    assert [path.name[:9] for path in (tmp_path / "out" / "gen4ou").iterdir()] == ["gen4ou-7-"] * 2


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
    import check_import_replays

    return check_import_replays


def refusals_change_nothing(tag: str, lines: list[str]) -> None:
    """What the server refused it asks again; Recorder, too, writes down one decision."""
    refused = "|error|[Unavailable choice] Can't switch: The active Pokémon is trapped"
    again = [
        part for line in lines for part in ((line, refused, line) if line.startswith('|request|{"active"') else (line,))
    ]
    first, second = (read_views(read_replay("\n".join(told).encode(), f"{tag}.log"))[0] for told in (lines, again))
    assert first == second


@pytest.mark.parametrize(
    ("ability", "later", "told", "why"),
    [
        ("regenerator", "chansey", 0.3, "Regenerator of one that never came back"),
        ("regenerator", "mienshao", 0.3, "different"),  # what it came back with was there to be read
        ("regenerator", "chansey", 0.4, "different"),
        ("innerfocus", "chansey", 0.3, "different"),
    ],
)
def test_only_a_third_that_nobody_saw_come_back_is_put_down_to_regenerator(
    ability: str, later: str, told: float, why: str
) -> None:
    def pokemon(name: str, ability: str = "noability") -> SimpleNamespace:
        return SimpleNamespace(name=name, ability=ability, moves=())

    def state(active: str) -> SimpleNamespace:
        shown = {"player_active_pokemon": pokemon(active), "opponent_active_pokemon": pokemon("rotom")}
        return SimpleNamespace(**shown, available_switches=[pokemon("mienshao", ability)])

    explain = both_ways()._Explanation(SimpleNamespace(states=[state("chansey"), state(later)]))
    assert explain("bench.hp_pct", ("mienshao", 0.632, told), 0, untold=False) == why


@pytest.mark.slow
@pytest.mark.server
def test_imported_battles_are_those_that_were_recorded_live(server: "Server") -> None:
    script = both_ways()
    counts, missing = script.Counts(), Counter[str]()
    for battle_format in script.FORMATS:
        teams = None if "random" in battle_format else load_teams(battle_format)
        told = asyncio.run(script.play(server.websocket_url, battle_format, script.PAIRS[0], [teams, teams], 1))
        for tag, battle in told.items():
            script.check(tag, battle, counts, missing)
            refusals_change_nothing(tag, next(iter(battle.logs.values())))
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

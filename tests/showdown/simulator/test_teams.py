import asyncio
import logging
import os
import time
from pathlib import Path

import pytest
from poke_env.player import RandomPlayer
from support.node import needs_node
from support.team_files import GENGAR, PACKED, SNORLAX, TAUROS, TEXTS, backup, pack_team, set_of, species

from gemma_metamon.errors import DataError, MissingFileError
from gemma_metamon.showdown.matches.watching import disconnect, play_pair
from gemma_metamon.showdown.players.registry import connection, user_name
from gemma_metamon.showdown.simulator.installation import import_teams, validate_teams
from gemma_metamon.showdown.simulator.server import Server
from gemma_metamon.showdown.simulator.team_texts import pack_teams, split_teams
from gemma_metamon.showdown.simulator.teams import SeededTeambuilder, load_teams, own_formats

# --- folders -------------------------------------------------------------------------------------------------------


@pytest.mark.server
@needs_node
def test_five_hundred_files_are_packed_in_one_process(tmp_path: Path) -> None:
    import_teams([TAUROS])  # the installation is no part of it
    for i in range(500):
        (tmp_path / f"{i:03}.gen9ou_team").write_text(TEXTS["six"])
    started = time.monotonic()
    assert len(load_teams("gen9ou", tmp_path)) == 500
    assert time.monotonic() - started < 30  # a process for each would take minutes


@pytest.mark.parametrize(
    "packed",
    [
        PACKED,
        "a @ b|zapdos||1|||,,,,,|N|,,,30|S|050|255,,luxuryball,G,10,Fire",
        "]".join(["Ditto|||imposter|transform|||||||"] * 6),
        "dräck|mew||||||||||,,,,,",
        "===|mew|||tackle|||||||",
        "[x]|tauros|||tackle|||||||]gen9ou]x|mew|||tackle|||||||",
    ],
)
@pytest.mark.parametrize("ends", ["{}", "{}\n", "\n\n{}\r\n", "\ufeff{}"])
def test_a_packed_team_is_passed_on_byte_for_byte_and_without_node(
    packed: str, ends: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    (tmp_path / "a.gen7ou_team").write_bytes(ends.format(packed).encode())
    assert load_teams("gen7ou", tmp_path) == [packed]


@pytest.mark.server
@needs_node
def test_a_backup_is_split_and_the_formats_own_teams_are_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = backup(
        ("[gen9ou] rain/one", f"{GENGAR}\n{SNORLAX}"),
        ("[gen9uu] two", GENGAR),
        ("[gen9ou] [new] three", SNORLAX),
        ("[gen9ou] empty", ""),
        ("[ou] of the sixth", GENGAR),
        ("[gen9] any", SNORLAX),
        ("[gen9ou-box] shelf", "\n".join([GENGAR] * 9)),
        ("untitled", GENGAR),
    )
    (tmp_path / "all.txt").write_bytes(text.replace("\n", "\r\n").encode())
    with caplog.at_level(logging.WARNING):
        teams = load_teams("gen9ou", tmp_path)
    assert [species(team) for team in teams] == [["Gengar", "Snorlax"], ["Snorlax"], ["Snorlax"], ["Gengar"]]
    assert "4 teams for gen9ou" in caplog.text
    assert "left out for their headers: gen6ou (1), gen9oubox (1), gen9uu (1)" in caplog.text
    titles = [team.title for team in split_teams(text)]
    assert titles == ["rain/one", "two", "[new] three", "of the sixth", "any", "shelf", "untitled"]


def test_a_folder_with_teams_for_other_formats_alone_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(backup(("[gen9uu] a", GENGAR), ("[gen8ou] b", GENGAR)))
    with pytest.raises(
        DataError, match=r"no team for 'gen9ou': the headers .* say gen8ou \(1\), gen9uu \(1\); write \[gen9ou\]"
    ):
        load_teams("gen9ou", tmp_path)
    (tmp_path / "b.gen9ou_team").write_text(backup(("[gen9uu] a", GENGAR)))
    with pytest.raises(DataError, match=r"b\.gen9ou_team is named for gen9ou, but its header says gen9uu \(1\)"):
        load_teams("gen9ou", tmp_path)


@pytest.mark.server
@needs_node
def test_users_folder_is_read_as_metamon_reads_it(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.gen1ou_team").write_text(TAUROS)
    (tmp_path / "b.txt").write_text(TAUROS.replace("Tauros", "Snorlax"))
    (tmp_path / "c.gen9ou_team").write_text(TAUROS)
    assert [species(team) for team in load_teams("gen1ou", tmp_path)] == [["Snorlax"], ["Tauros"]]


def test_no_team_for_a_format_names_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"gen7ou.*there are gen1ou, gen9ou.*--team_dir"):
        load_teams("gen7ou")
    with pytest.raises(MissingFileError, match=r"holds no team file for 'gen1ou': expected NAME\.gen1ou_team"):
        load_teams("gen1ou", tmp_path)
    with pytest.raises(MissingFileError, match="no such folder"):
        load_teams("gen1ou", tmp_path / "absent")
    (tmp_path / "a.txt").write_text(PACKED)
    with pytest.raises(MissingFileError, match=r"a\.txt is a file; give the folder that it lies in"):
        load_teams("gen1ou", tmp_path / "a.txt")


@pytest.mark.server
@needs_node
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no Pokémon"),
        ("=== [gen1ou] empty ===\n\n", "holds no Pokémon"),
        ("hello", r"has 1 Pokémon, 1 of them without moves \('hello'\)"),
        ("My team\nby me\n\n" + TAUROS, r"2 Pokémon, 1 of them without moves \('myteam'\)"),
        ("\n\n".join([TAUROS] * 7), "has 7 Pokémon; expected one to 6"),
        (TAUROS.replace("Tauros", "a|b (Tauros)"), r"a `\|` in a name"),
        (f"{TAUROS}\nTera Type: a]b", r"a `\]` in a type"),
        ("|||", "no whole packed team"),
        ("[]", "has 0 Pokémon"),
        ('[{"species": "Tauros", "moves": 3}]', "1 of them without moves"),
        ('[{"species": "Tauros", "moves": ["Tackle"], "pokeball": 7}]', "has 0 Pokémon"),
        ("[" * 100_000, "is JSON, but no whole list"),
        ('[{"name": "Tauros", "species": "Tauros", "moves": ["Tac', "is JSON, but no whole list"),
        ('[\n  {\n    "name": "Tauros",\n\n    "moves": [', "is JSON, but no whole list"),
        ('{"team": [{"species": "Tauros", "moves": ["Tackle"]}]}', "is JSON, but no whole list"),
        ("[1, 2]", "is JSON, but no whole list"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_team_is_an_error_that_names_it(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "bad.gen1ou_team").write_text(text)
    (tmp_path / "good.gen1ou_team").write_text(TAUROS)
    with pytest.raises(DataError, match=rf"bad\.gen1ou_team.* {words}"):
        load_teams("gen1ou", tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f'"{PACKED}"', "is in quotation marks"),
        (f"'{PACKED}',\n", "is in quotation marks"),
        (f"/utm {PACKED}", r"begins with a command \(/utm\)"),
        ("/utm null||", r"begins with a command \(/utm\)"),
        ("<html><body>|</body></html>", "is a web page"),
        ("\n<!DOCTYPE html>||", "is a web page"),
        ('{"team": "Tauros|||"}', "is JSON, but no whole list"),
        ('[{"name": "a|b", "moves": ["Tackle"', "is JSON, but no whole list"),
        (f"{PACKED}\n/utm {PACKED}", r"begins with a command \(/utm\)"),
    ],
)  # fmt: skip
def test_a_file_of_another_kind_is_called_by_its_name(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "bad.gen1ou_team").write_text(text)
    with pytest.raises(DataError, match=rf"bad\.gen1ou_team {words}"):
        load_teams("gen1ou", tmp_path)


@pytest.mark.parametrize("name", ["<3", "<p", '"', '"x" y', "'", "/me", "/me x", "[x]", "{x}", '["x"]', "<heads>"])
def test_nicknames_that_look_like_another_kind_are_no_trouble(name: str) -> None:
    packed = f"{name}|tauros|||tackle|||||||"
    assert pack_team(packed) == packed


@pytest.mark.server
@needs_node
def test_other_kinds_are_named_in_exported_teams_too_and_json_may_hold_bars() -> None:
    for text, words in [
        (f'"{TAUROS}"', "is in quotation marks"),
        ("<html><body>404</body></html>", "is a web page"),
    ]:
        with pytest.raises(DataError, match=words):
            pack_team(text)
    teams = [f"{name} (Tauros)\n- Tackle" for name in ("<3", '"x"', "/me", "[x]", '["x"]', "{x}")]
    teams.append('[{"name": "a|b", "species": "Tauros", "moves": ["Tackle"]}]')
    lines = pack_teams([("", team) for text in teams for team in split_teams(text)])
    assert [line.split("|")[0] for line in lines] == ["<3", '"x"', "/me", "[x]", '["x"]', "{x}", "a b"]


def test_a_file_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    def fails(words: str) -> None:
        with pytest.raises(DataError, match=rf"bad\.gen1ou_team {words}"):
            load_teams("gen1ou", tmp_path)
        bad.rmdir() if bad.is_dir() else bad.unlink()

    bad = tmp_path / "bad.gen1ou_team"
    bad.write_bytes(TAUROS.encode("utf-16"))
    fails("is not UTF-8 text")
    bad.write_bytes(TAUROS.encode("utf-16-le"))
    fails(r"is not UTF-8 text \(at byte 1\)")
    bad.write_bytes(b"Tauros\n\xff")
    fails(r"is not UTF-8 text \(at byte 7\)")
    bad.mkdir()
    fails("is named like a team, but is no file")
    bad.symlink_to(tmp_path / "nowhere")
    fails(r"is a link to .*nowhere, which is not there; mend the link")
    if hasattr(os, "mkfifo"):
        os.mkfifo(bad)
        fails("is named like a team, but is no file")
    with bad.open("wb") as file:
        file.truncate(2**40)
    fails("is larger than 32 MiB")


@pytest.mark.server
@needs_node
def test_a_bad_team_of_a_backup_is_named_and_the_others_counted(tmp_path: Path) -> None:
    text = backup(("[gen9ou] fine", GENGAR), ("[gen9ou] half", "Mew\n"), ("[gen9ou] too", "Mew\n"))
    (tmp_path / "all.txt").write_text(text)
    with pytest.raises(DataError, match=r"all\.txt, team 'half', has 1 Pokémon, 1 .* \(and 1 more that are no teams\)"):
        load_teams("gen9ou", tmp_path)


# --- sent as they are ----------------------------------------------------------------------------------------------


def test_same_seed_gives_the_same_teams_and_another_does_not() -> None:
    def draw(seed: int) -> list[str]:
        builder = SeededTeambuilder([f"team {i}" for i in range(10)], seed)
        return [builder.yield_team() for _ in range(20)]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    assert len(set(draw(1))) > 1


@pytest.mark.server
@needs_node
def test_a_team_reaches_the_server_as_it_is(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.gen7ou_team").write_text(f"gen7ou]mine|{PACKED}\n")
    (team,) = load_teams("gen7ou", tmp_path)
    sent: list[str] = []

    async def one() -> None:
        options = {"battle_format": "gen7anythinggoes", "websocket_url": server.websocket_url}
        players = [
            RandomPlayer(**connection(user_name("Team"), team=SeededTeambuilder([team], 0), **options))
            for _ in range(2)
        ]
        for player in players:
            send = player.ps_client.send_message

            async def spied(message: str, *rest: str, send=send) -> None:  # type: ignore[no-untyped-def]
                sent.append(message)
                await send(message, *rest)

            player.ps_client.send_message = spied
        try:
            await play_pair(*players, 1, timeout_s=60)
        finally:
            await disconnect(*players)

    asyncio.run(one())
    assert {message for message in sent if message.startswith("/utm")} == {f"/utm {PACKED}"}


# --- this project's own --------------------------------------------------------------------------------------------


@pytest.mark.server
@needs_node
@pytest.mark.parametrize("battle_format", own_formats())
def test_own_teams_are_different_whole_and_accepted(battle_format: str) -> None:
    teams = load_teams(battle_format)
    assert len(set(teams)) >= {"gen9ou": 30, "gen1ou": 10}[battle_format]
    for team in teams:
        assert len(set(species(team))) == 6
        assert all(len(pokemon.split("|")[4].split(",")) == 4 for pokemon in team.split("]"))
    reasons = validate_teams(battle_format, teams)
    assert {team: why for team, why in zip(teams, reasons, strict=True) if why} == {}


@pytest.mark.slow
@pytest.mark.server
@needs_node
def test_the_validator_judges_the_line_that_is_sent_as_it_judges_the_text() -> None:
    legal = "Zapdos @ Leftovers\nAbility: Pressure\nEVs: 4 HP / 252 SpA / 252 Spe\nTimid Nature\n- Hidden Power [Grass]"
    illegal = set_of("Zapdos @ Leftovers", "Ability: Static", moves="- Spore")
    texts = [legal, illegal]
    reasons = validate_teams("gen3ou", texts + pack_teams([("", *split_teams(text)) for text in texts]))
    of_texts, of_lines = reasons[:2], reasons[2:]
    assert of_texts == of_lines
    assert of_lines[0] == []
    assert any("Spore" in reason for reason in of_lines[1])

"""Who meets whom with which teams, what is counted of it, and what `evaluate` says of input that cannot work."""

import asyncio
import dataclasses
import json
import math
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from poke_env.battle import AbstractBattle
from poke_env.player import BattleOrder, MaxBasePowerPlayer, Player, RandomPlayer, SingleBattleOrder
from support.small_agent import train_command

from gemma_metamon.commands import main
from gemma_metamon.errors import ConfigError, ServerError
from gemma_metamon.intervals import wilson_interval
from gemma_metamon.results import schema
from gemma_metamon.results.json_lines import read_rows
from gemma_metamon.showdown.matches.evaluate import Evaluation, evaluate, play_match
from gemma_metamon.showdown.matches.seatings import draw_teams
from gemma_metamon.showdown.matches.tallies import Choices, Tally
from gemma_metamon.showdown.matches.watching import disconnect
from gemma_metamon.showdown.players.contestants import Contestant, Outside, scripted
from gemma_metamon.showdown.players.registry import connection
from gemma_metamon.showdown.simulator.server import Server
from gemma_metamon.showdown.simulator.teams import SeededTeambuilder, load_teams

# the simulator reads them; tests without a simulator use none
TEAMS = load_teams("gen1ou") if shutil.which("node") else []


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    assert main(train_command(folder)) == 0
    return folder / "run"


def played(server: Server, *pairs: tuple[Contestant, Any], battles: int = 4, **options: Any) -> Evaluation:
    settings = {"battle_format": "gen1ou", "teams": TEAMS, "websocket_url": server.websocket_url, **options}
    return asyncio.run(evaluate(pairs, battles, **settings))


def journal(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "battles.jsonl").read_text().splitlines()]


def command_fails(arguments: list[str], capsys: pytest.CaptureFixture) -> str:
    assert main(["evaluate", *arguments]) == 1
    return capsys.readouterr().err.strip().splitlines()[-1]


# --- who meets whom ------------------------------------------------------------------------------------------------


def leads(log: Path) -> list[str]:
    """The first Pokémon of each seat: in gen1ou it is the team's first."""
    lines = [line.split("|") for line in log.read_text().splitlines()]
    first = {line[2][:2]: line[3].split(",")[0] for line in reversed(lines) if line[1:2] == ["switch"]}
    return [first["p1"], first["p2"]]


@pytest.mark.slow
@pytest.mark.server
def test_each_drawn_pair_of_teams_is_played_from_both_sides(server: Server, tmp_path: Path) -> None:
    evaluation = played(server, (scripted("RandomPlayer"), scripted("MaxBasePowerPlayer")), battles=7, out=tmp_path)
    battles = journal(tmp_path)
    assert evaluation.battles == len(battles) == 7
    draws = draw_teams(len(TEAMS), 7, seed=0)
    assert Counter((battle["draw"], battle["p1"]) for battle in battles) == Counter(
        [(draw, "player") for draw in range(4)] + [(draw, "opponent") for draw in range(3)]
    )
    for battle in battles:
        ours, theirs = draws[battle["draw"]] if battle["p1"] == "player" else reversed(draws[battle["draw"]])
        assert battle["teams"] == [ours, theirs]
        assert leads(tmp_path / battle["log"]) == [TEAMS[team].split("|")[0] for team in draws[battle["draw"]]]


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 50), st.integers())
def test_draws_follow_the_seed_and_use_every_team_alike(n_teams: int, n_battles: int, seed: int) -> None:
    draws = draw_teams(n_teams, n_battles, seed)
    assert draws == draw_teams(n_teams, n_battles, seed)
    assert len(draws) == math.ceil(n_battles / 2)
    for seat in zip(*draws, strict=True):
        counts = [seat.count(team) for team in range(n_teams)]
        assert sum(counts) == len(draws)
        assert max(counts) - min(counts) <= 1


def test_nobody_meets_itself() -> None:
    pair = (scripted("RandomPlayer"), scripted("RandomPlayer"))
    with pytest.raises(ConfigError, match="RandomPlayer would meet itself"):
        asyncio.run(evaluate([pair], 1, battle_format="gen1ou", teams=TEAMS, websocket_url="ws://nowhere"))


# --- what is counted -----------------------------------------------------------------------------------------------


@pytest.mark.server
def test_both_sides_counts_agree_and_are_in_the_folder(server: Server, tmp_path: Path) -> None:
    names = ["SimpleHeuristicsPlayer", "MaxBasePowerPlayer", "RandomPlayer"]
    a, b, c = map(scripted, names)
    evaluation = played(server, (a, b), (a, c), (b, c), out=tmp_path, rated=True)
    results = json.loads((tmp_path / "results.json").read_text())
    assert results == json.loads(json.dumps(dataclasses.asdict(evaluation.results())))
    assert schema.read(tmp_path / "results.json") == evaluation.results()
    assert len(read_rows(schema.BattleRow, tmp_path / "battles.jsonl")) == 12
    assert [row["name"] for row in results["contestants"]] == names
    assert sum(row["wins"] for row in results["contestants"]) + sum(row["ties"] for row in results["pairs"]) == 12
    assert sum(row["battles"] for row in results["contestants"]) == 24
    assert results["unfinished"] is None
    battles = journal(tmp_path)
    for pair in results["pairs"]:
        of_pair = [b for b in battles if (b["player"], b["opponent"]) == (pair["player"], pair["opponent"])]
        counts = Counter(battle["result"] for battle in of_pair)
        assert (counts["win"], counts["loss"], counts["tie"]) == (pair["wins"], pair["losses"], pair["ties"])
        assert pair["mean_turns"] == pytest.approx(sum(battle["turns"] for battle in of_pair) / 4)
        assert pair["choices"] == sum(battle["choices"][0] for battle in of_pair) > 0
        assert pair["legal_rate"] == 1
        assert 0 < pair["latency_ms"]["median"] <= pair["latency_ms"]["p95"] < 1000
    elos = [row["rating"]["elo"] for row in results["contestants"]]
    assert sum(elos) == pytest.approx(4500)
    for battle in battles:
        log = (tmp_path / battle["log"]).read_text()
        assert "|win|" in log or "|tie" in log
        assert f"|turn|{battle['turns']}\n" in log


class Stubborn(RandomPlayer):
    """Its first choice of each battle is one that the server must refuse."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.begun: set[str] = set()

    def choose_move(self, battle: AbstractBattle) -> BattleOrder:
        if battle.battle_tag in self.begun:
            return self.choose_random_move(battle)
        self.begun.add(battle.battle_tag)
        return SingleBattleOrder("/choose switch 1")  # who is there already


@pytest.mark.server
def test_refused_choices_are_counted(server: Server, tmp_path: Path) -> None:
    evaluation = played(server, (Contestant("Stubborn", Stubborn), scripted("RandomPlayer")), out=tmp_path)
    (pair,) = evaluation.results().pairs
    assert pair.refused == 4
    assert pair.legal_rate == 1 - 4 / pair.choices
    assert all(battle["refused"] == [1, 0] for battle in journal(tmp_path))


def test_an_empty_tally_says_nothing() -> None:
    tally = Tally()
    assert tally.interval == (0.0, 1.0)
    assert math.isnan(tally.win_rate)
    row = tally.counts()
    assert row.win_rate is row.mean_turns is row.legal_rate is row.latency_ms is None


def test_tallies_add_up() -> None:
    one = Tally(wins=2, losses=1, turns=60, choices=Choices(sent=50, refused=1, latencies_ms=[1.0] * 50))
    one.add(Tally(ties=1, turns=40, choices=Choices(sent=50, latencies_ms=[3.0] * 50)))
    row = one.counts()
    assert (row.battles, row.win_rate, row.mean_turns, row.legal_rate) == (4, 0.5, 25.0, 0.99)
    assert row.latency_ms == schema.Latency(median=2.0, p95=3.0)


# scipy 1.17.1: scipy.stats.binomtest(wins, battles).proportion_ci(method="wilson")
@pytest.mark.parametrize(
    ("wins", "battles", "low", "high"),
    [
        (50, 100, 0.4038315303659956, 0.5961684696340044),
        (0, 10, 0.0, 0.27753279986288926),
        (97, 100, 0.9154806357094724, 0.9897454759759611),
        (500, 500, 0.9923756595384479, 1.0),
    ],
)
def test_the_interval_is_wilsons(wins: int, battles: int, low: float, high: float) -> None:
    assert wilson_interval(wins, battles) == pytest.approx((low, high), abs=1e-12)


def test_the_interval_holds_the_share_even_where_all_or_none_were_won() -> None:
    for battles in range(1, 600):
        for wins in (0, battles // 2, battles):
            low, high = wilson_interval(wins, battles)
            assert 0 <= low <= wins / battles <= high <= 1


# --- failures ------------------------------------------------------------------------------------------------------


class Tiring(RandomPlayer):
    """Fails in its third battle."""

    def choose_move(self, battle: AbstractBattle) -> BattleOrder:
        if len(self.battles) == 3:
            raise ZeroDivisionError("out of ideas")
        return self.choose_random_move(battle)


@pytest.mark.server
def test_what_was_played_before_a_failure_is_kept(server: Server, tmp_path: Path) -> None:
    pair = (Contestant("Tiring", Tiring), scripted("RandomPlayer"))
    evaluation = played(server, pair, battles=20, concurrency=1, out=tmp_path)
    assert evaluation.battles == len(journal(tmp_path)) == 2
    results = json.loads((tmp_path / "results.json").read_text())
    assert "out of ideas" in results["unfinished"]
    assert results["pairs"][0]["battles"] == 2
    with pytest.raises(ConfigError, match="holds an evaluation already"):
        played(server, pair, out=tmp_path)
    with pytest.raises(ServerError, match="out of ideas; 2 of 20 battles were played"):
        asyncio.run(
            play_match(
                Tiring,
                "RandomPlayer",
                20,
                battle_format="gen1ou",
                teams=TEAMS,
                websocket_url=server.websocket_url,
                concurrency=1,
            )
        )


@pytest.mark.server
def test_what_was_played_before_an_interruption_is_kept(server: Server, tmp_path: Path) -> None:
    async def interrupted() -> None:
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        await evaluate(
            [(scripted("RandomPlayer"), scripted("MaxBasePowerPlayer"))],
            200,
            battle_format="gen1ou",
            teams=TEAMS,
            websocket_url=server.websocket_url,
            out=tmp_path,
            on_battle=lambda: loop.call_soon_threadsafe(task.cancel),
        )

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(interrupted())
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["unfinished"] == "interrupted"
    assert 0 < results["pairs"][0]["battles"] <= len(journal(tmp_path)) < 200


@pytest.mark.server
def test_an_illegal_team_is_refused_with_the_simulators_reasons(server: Server, tmp_path: Path) -> None:
    pair = (scripted("RandomPlayer"), scripted("MaxBasePowerPlayer"))
    with pytest.raises(ServerError, match=r"refused .*'s team for gen1ou: .* does not exist in Gen 1"):
        played(server, pair, teams=load_teams("gen9ou"), out=tmp_path)
    assert played(server, pair, battles=1, out=tmp_path).battles == 1  # the folder is still free


@pytest.mark.server
def test_an_unknown_format_is_the_servers_to_refuse(server: Server) -> None:
    with pytest.raises(ServerError, match='Your selected format is invalid: Unrecognized format "gen1foo"'):
        played(server, (scripted("RandomPlayer"), scripted("MaxBasePowerPlayer")), battle_format="gen1foo")


# --- somebody outside ----------------------------------------------------------------------------------------------


@contextmanager
def stranger(server: Server, name: str, opponent: str, *, challenges: bool) -> Iterator[Player]:
    """A player that this test alone knows: it accepts the opponent's challenges, or keeps challenging it."""
    options = connection(
        name, battle_format="gen1ou", websocket_url=server.websocket_url, team=SeededTeambuilder(TEAMS[:1], 0)
    )
    player = MaxBasePowerPlayer(**options)

    async def challenge() -> None:
        while True:  # the opponent may not be there yet
            await player.ps_client.wait_for_login()
            await player.ps_client.challenge(opponent, "gen1ou", TEAMS[0])
            await asyncio.sleep(0.2)

    playing = challenge() if challenges else player.accept_challenges(opponent, 3)
    task = asyncio.run_coroutine_threadsafe(playing, player.ps_client.loop)
    try:
        yield player
    finally:
        task.cancel()
        asyncio.run(disconnect(player))


@pytest.mark.server
@pytest.mark.parametrize("accept", [False, True])
def test_an_outside_player_is_challenged_or_challenges(server: Server, tmp_path: Path, accept: bool) -> None:
    with stranger(server, f"Stranger{accept}", f"Ours{accept}", challenges=accept):
        outside = Outside(f"Stranger{accept}", f"Ours{accept}", accept)
        evaluation = played(server, (scripted("RandomPlayer"), outside), battles=3, concurrency=1, out=tmp_path)
    (pair,) = evaluation.results().pairs
    assert (pair.battles, pair.opponent) == (3, f"Stranger{accept}")
    rows = {row.name: row for row in evaluation.results().contestants}
    assert rows[outside.name].kind == "outside"
    assert rows[outside.name].legal_rate is None
    assert {battle["p1"] for battle in journal(tmp_path)} == {"opponent" if accept else "player"}
    assert all(battle["teams"][1] is None for battle in journal(tmp_path))


@pytest.mark.server
def test_an_outside_player_who_is_not_there_is_named(server: Server, capsys: pytest.CaptureFixture) -> None:
    arguments = ["--players", "RandomPlayer", "--opponents", "user:Nobody", "--server", server.websocket_url]
    assert "The user 'Nobody' was not found" in command_fails(arguments, capsys)


@pytest.mark.server
def test_an_outside_player_who_does_not_challenge_is_named(server: Server, capsys: pytest.CaptureFixture) -> None:
    arguments = ["--players", "RandomPlayer", "--opponents", "user:Nobody", "--server", server.websocket_url]
    sentence = command_fails([*arguments, "--accept", "--username", "Waiting", "--timeout_s", "1"], capsys)
    assert "Nobody did not challenge Waiting to gen1ou within 1 s" in sentence


@pytest.mark.server
def test_a_name_that_is_taken_is_an_error(server: Server, capsys: pytest.CaptureFixture) -> None:
    with stranger(server, "Somebody", "Nobody", challenges=False) as somebody:
        asyncio.run(somebody.ps_client.wait_for_login())
        arguments = ["--players", "RandomPlayer", "--opponents", "user:Nobody", "--server", server.websocket_url]
        sentence = command_fails([*arguments, "--username", "Somebody"], capsys)
    assert 'Someone is already using the name "Somebody"' in sentence


# --- the command ---------------------------------------------------------------------------------------------------


@pytest.mark.server
@pytest.mark.slow
def test_checkpoints_meet_each_other_and_scripted_players(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    command = ["evaluate", "--run_dir", f"{run_dir}@0", f"{run_dir}@1", "--opponents", "RandomPlayer", "--round_robin"]
    out = tmp_path / "league"
    assert main([*command, "--sample", "--battles", "2", "--out", str(out), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["kind"]) for row in report["contestants"]] == [
        ("run@0", "checkpoint"),
        ("run@1", "checkpoint"),
        ("RandomPlayer", "scripted"),
    ]
    assert [(row["player"], row["opponent"]) for row in report["pairs"]] == [
        ("run@0", "run@1"),
        ("run@0", "RandomPlayer"),
        ("run@1", "RandomPlayer"),
    ]
    assert all(row["rating"] for row in report["contestants"])
    assert report["decisions"] > 0
    assert report["decisions_per_s"] > 0
    assert report["unknown_words"] == {}
    assert "run@0" in (out / "report.html").read_text()
    assert "holds an evaluation already" in command_fails([*command[1:], "--out", str(out)], capsys)


@pytest.mark.slow
@pytest.mark.server
def test_the_table_has_a_row_for_each_pair(capsys: pytest.CaptureFixture) -> None:
    command = ["evaluate", "--players", "MaxBasePowerPlayer", "--opponents", "RandomPlayer", "NoSwitchRandomPlayer"]
    assert main([*command, "--battles", "2"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split()[:4] == ["player", "opponent", "battles", "wins"]
    assert [row.split()[:3] for row in rows] == [
        ["MaxBasePowerPlayer", "RandomPlayer", "2"],
        ["MaxBasePowerPlayer", "NoSwitchRandomPlayer", "2"],
    ]
    assert all("100.00%" in row for row in rows)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--opponents", "RandmPlayer"], "did you mean RandomPlayer?"),
        (["--format", "gen5ou"], "no team for format 'gen5ou'"),
        (["--ckpt", "9"], "has no checkpoint 9; it has 0, 1"),
        (["--battles", "0"], "must be at least 1"),
        (["--device", "gameboy"], "device 'gameboy' cannot be used"),
        (["--run_dir", "nowhere"], "nor is 'nowhere' the folder of a run"),
        (["--run_dir", "runs/nowhere"], "runs/nowhere: no such folder"),
        (["--opponents", "user:Bot"], "user:Bot must be on a server that runs already; name it with --server"),
        (["--accept"], "--accept is for battles against user:NAME"),
        (
            ["--opponents", "user:A", "--server", "ws://x", "--accept"],
            "--accept without --username NAME: user:A must know",
        ),
        (["user:Bot"], "user:Bot can only be an opponent"),
        (["--opponents", "user:A", "user:B", "--server", "ws://x", "--username", "Us"], "--username Us is one name"),
        (["--opponents", "user:A", "--server", "ws://x", "--round_robin"], "user:A cannot take part in a round robin"),
        (["--temperature", "0"], "--temperature 0.0; it must be above 0"),
        (["--temperature", "nan"], "--temperature nan; it must be above 0"),
        (["--round_robin"], "a round robin needs two players or more"),
        (["RandomPlayer"], "RandomPlayer would meet itself"),
        (["--server", "localhost:8000"], "--server localhost:8000; give its address, as ws://"),
        (["--out", __file__], "test_evaluate.py cannot be made (File exists); name another folder"),
        (["--server", "ws://127.0.0.1:1/showdown/websocket"], "cannot connect to ws://127.0.0.1:1/showdown/websocket"),
    ],
)
def test_bad_input_gets_one_sentence(
    arguments: list[str], complaint: str, run_dir: Path, capsys: pytest.CaptureFixture
) -> None:
    assert complaint in command_fails(["--run_dir", str(run_dir), *arguments], capsys)

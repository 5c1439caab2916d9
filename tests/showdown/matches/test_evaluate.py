"""Who meets whom with which teams, what is counted of it, and what is kept when it fails."""

import asyncio
import dataclasses
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from poke_env.battle import AbstractBattle
from poke_env.player import BattleOrder, RandomPlayer, SingleBattleOrder
from support.evaluating import TEAMS, journal, played

from gemma_metamon.errors import ConfigError, ServerError
from gemma_metamon.results import schema
from gemma_metamon.results.json_lines import read_rows
from gemma_metamon.showdown.matches.evaluate import evaluate, play_match
from gemma_metamon.showdown.matches.seatings import draw_teams
from gemma_metamon.showdown.players.contestants import Contestant, scripted
from gemma_metamon.showdown.simulator.server import Server
from gemma_metamon.showdown.simulator.teams import load_teams

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

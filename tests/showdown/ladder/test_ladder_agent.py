"""A trained agent on the ladder: its memory of a battle outlasts a cut; a battle told anew is the same battle."""

import asyncio
import json
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest
from poke_env.battle import Battle
from support.ladder_players import QUICK, ladder, play
from support.proxy import Faults, Proxy
from support.small_agent import train_command

from gemma_metamon.battle.replays import load_battle
from gemma_metamon.commands import main
from gemma_metamon.errors import DataError
from gemma_metamon.runs.checkpoints import Checkpoint
from gemma_metamon.runs.loading import load_for_play
from gemma_metamon.showdown.ladder.battle import LadderBattle
from gemma_metamon.showdown.ladder.results import FINISHED, Results
from gemma_metamon.showdown.live.battle import LiveBattle
from gemma_metamon.showdown.players.policy_player import BatchedPolicy, learned
from gemma_metamon.showdown.simulator.server import running_server

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    assert main(train_command(folder)) == 0
    return folder / "run"


@pytest.mark.slow
@pytest.mark.long
def test_an_agent_plays_on_through_cuts(run_dir: Path, tmp_path: Path) -> None:
    playable = load_for_play(Checkpoint.find(run_dir), "cpu")
    policy = BatchedPolicy(playable.agent, playable.view, max_battles=6, sample=True)

    # the cuts alone are tested: nothing is late, however busy the machine is
    patient = replace(QUICK, ping_s=300.0, decision_s=300.0, forfeit_s=300.0)

    async def through_cuts(url: str) -> Any:
        async with Proxy(url, Faults(cut=0.03)) as proxy:
            options = {"concurrency": 2, "timeouts": patient}
            agent = ladder(learned("agent", policy).build, proxy.url, battles=3, folder=tmp_path / "a", **options)
            other = ladder("RandomPlayer", url, **options)
            return (await play([agent], [other]))[0]

    with running_server() as server:
        summary = asyncio.run(asyncio.wait_for(through_cuts(server.websocket_url), 280))
    assert summary.finished == 3
    assert summary.rejoins > 0
    assert summary.fallbacks == 0
    # what was decided before a cut is not decided again, and every battle's memory is given back
    rows = Results(tmp_path / "a").rows.values()
    assert policy.decisions == sum(row.decisions for row in rows if row.result in FINISHED)
    assert len(policy._free_rows) == 6
    records = [load_battle(path) for path in (tmp_path / "a" / "battles" / "gen1ou").glob("*.lz4")]
    assert len(records) == 3
    assert sum(len(record.states) - 1 for record in records) == policy.decisions


@pytest.mark.slow
def test_an_agent_is_named_by_its_run(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(
        "gemma_metamon.showdown.simulator.server.background_servers", list
    )  # one of the developer's own
    command = ["ladder", "--server", "local", "--username", "Anna", "--run_dir", str(run_dir), "--ckpt", "1", "--json"]
    command += ["--sparring", "NoSwitchRandomPlayer", "--battles", "2", "--out", str(tmp_path / "out")]
    assert main(command) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["won"] + report["lost"] + report["tied"] == 2
    assert report["this_run"]["fallbacks"] == report["this_run"]["refused"] == 0
    assert main([*command, "--battles", "3"]) == 0  # the count goes on
    assert json.loads(capsys.readouterr().out)["this_run"]["battles"] == 1


class Retold:
    """Feeds a second battle with all that the first one was told, at each request, and compares what can be seen."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.compared = 0
        self.differences: list[str] = []
        on_request = LadderBattle._on_request

        def compared(played: LadderBattle, text: str, *, sent_choice: bool) -> None:
            on_request(played, text, sent_choice=sent_choice)
            request = json.loads(text)
            if not request.get("wait") and not request.get("teamPreview"):
                self.compare(played, request)

        monkeypatch.setattr(LadderBattle, "_on_request", compared)

    def compare(self, played: LadderBattle, request: dict[str, Any]) -> None:
        kept = played.battle
        retold = played._fresh_battle()
        try:
            played.battle = retold
            for line in played.log.lines:
                if line.startswith("|") and line.split("|")[1] not in ("t:", "win", "tie"):
                    played._feed(line)
            retold.parse_request(request)
        finally:
            played.battle = kept
        states = [self.seen(battle) for battle in (kept, retold)]
        self.compared += 1
        if states[0] != states[1]:
            self.differences += [
                f"{played.tag} turn {kept.turn}: {name}: {self.parts(states[0][name], states[1][name])}"
                for name in states[0]
                if states[0][name] != states[1][name]
            ]

    @staticmethod
    def parts(one: Any, other: Any) -> str:
        """What of a Pokémon differs, or both wholly."""
        if isinstance(one, dict) and isinstance(other, dict):
            return ", ".join(f"{key}: {one[key]} or {other[key]}" for key in one if one[key] != other[key])
        return f"{one} or {other}"

    @staticmethod
    def seen(battle: Battle) -> dict[str, Any]:
        """The state, and what is legal. Moves and the bench by name, as everybody who reads a state has them."""
        try:
            live = LiveBattle(battle)
            state = live.state.to_dict()
        except DataError as error:
            return {"error": str(error)}
        state["available_switches"] = sorted(state["available_switches"], key=itemgetter("name"))
        for pokemon in (state["player_active_pokemon"], *state["available_switches"]):
            pokemon["moves"] = sorted(pokemon["moves"], key=itemgetter("name"))
        return {**state, "legal": list(live.options)}


@pytest.mark.slow
@pytest.mark.parametrize("battle_format", ["gen1ou", "gen9ou"])
def test_a_battle_told_anew_is_the_one_that_was_followed(battle_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    retold = Retold(monkeypatch)

    async def battles(url: str) -> None:
        await play(
            [ladder("SimpleHeuristicsPlayer", url, battles=8, battle_format=battle_format, concurrency=2)],
            [ladder("RandomPlayer", url, battle_format=battle_format, concurrency=2)],
        )

    with running_server() as server:
        asyncio.run(asyncio.wait_for(battles(server.websocket_url), 120))
    assert retold.compared > 100
    assert retold.differences == []

"""A battle that poke-env cannot follow is given up and counted nowhere; the others go on, unless there are none.

The simulator and the players are real; poke-env is made to stumble over a message, as it does over Pokémon and moves
that it does not know.
"""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from poke_env.battle import Battle

from gemma_metamon.commands import main
from gemma_metamon.errors import ServerError
from gemma_metamon.showdown.matches.collect import collect, draw_matchups
from gemma_metamon.showdown.matches.evaluate import Evaluation, evaluate
from gemma_metamon.showdown.players.contestants import scripted
from gemma_metamon.showdown.simulator.server import Server
from gemma_metamon.showdown.simulator.teams import load_teams

pytestmark = pytest.mark.server
ALL, SOME = 1, 3


def stumble(monkeypatch: pytest.MonkeyPatch, every: int, kind: str = "turn", *, side: str | None = None) -> None:
    """In each so-many-th battle, from the first message of that kind on; for both players or for one seat."""
    parse: Callable[[Any, Any], None] = Battle.parse_message
    broken: set[int] = set()

    def parse_message(battle: Battle, message: list[str]) -> None:
        number = int(battle.battle_tag.split("-")[2])
        if number % every == 0 and side in (None, battle.player_role):
            if message[1] == kind:
                broken.add(id(battle))
            if id(battle) in broken:
                raise KeyError("missingno")
        parse(battle, message)

    monkeypatch.setattr(Battle, "parse_message", parse_message)


def played(server: Server, battles: int, **options: Any) -> Evaluation:
    return asyncio.run(
        evaluate(
            [(scripted("MaxBasePowerPlayer"), scripted("RandomPlayer"))],
            battles,
            battle_format="gen1ou",
            teams=load_teams("gen1ou"),
            websocket_url=server.websocket_url,
            timeout_s=30,
            **options,
        )
    )


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "side"), [("turn", None), ("faint", None), ("-damage", "p1"), ("move", "p2")])
def test_such_battles_are_set_aside_and_the_others_counted(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, side: str | None
) -> None:
    stumble(monkeypatch, SOME, kind, side=side)
    told: list[None] = []
    evaluation = played(server, 9, out=tmp_path, on_battle=lambda: told.append(None))
    report = json.loads((tmp_path / "results.json").read_text())
    assert evaluation.unfinished is report["unfinished"] is None
    assert (evaluation.battles, report["set_aside"]) == (6, 3)
    assert report["pairs"][0]["set_aside"] == {"KeyError: 'missingno'": 3}
    lines = [json.loads(line) for line in (tmp_path / "battles.jsonl").read_text().splitlines()]
    assert len(lines) == 6
    assert not any(int(line["battle"].split("-")[2]) % SOME == 0 for line in lines)
    assert len(told) == 9


def test_where_it_can_follow_none_the_format_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    stumble(monkeypatch, ALL)
    with pytest.raises(
        ServerError, match=r"poke-env can follow none of 3 battles of gen1ou \(KeyError: 'missingno'\);"
    ):
        played(server, 3)


def test_the_command_tells_of_them(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    stumble(monkeypatch, SOME)
    command = ["evaluate", "--players", "MaxBasePowerPlayer", "--opponents", "RandomPlayer", "--battles", "6"]
    assert main([*command, "--server", server.websocket_url, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "2 not counted, MaxBasePowerPlayer against RandomPlayer: poke-env: KeyError: 'missingno'" in said
    assert "2 battles are counted nowhere" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(("every", "files"), [(SOME, 8), (ALL, 0)])
def test_they_are_not_recorded(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, every: int, files: int
) -> None:
    stumble(monkeypatch, every, "-damage", side="p1")
    players = [scripted("MaxBasePowerPlayer")]
    collecting = collect(
        draw_matchups(players, 6, seed=0),
        battle_format="gen1ou",
        teams=load_teams("gen1ou"),
        websocket_url=server.websocket_url,
        out=tmp_path,
        timeout_s=30,
    )
    if files:
        collection = asyncio.run(collecting)
        assert collection.files == files == len(list(tmp_path.rglob("*.json.lz4")))
        assert collection.set_aside == {"poke-env cannot follow it (KeyError: 'missingno')": 4}
    else:
        with pytest.raises(ServerError, match=r"not one battle of gen1ou could be recorded: poke-env cannot follow it"):
            asyncio.run(collecting)

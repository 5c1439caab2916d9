"""What the tests of `evaluate` have in common: pairs on a server, its journal, what the command says."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from gemma_metamon.commands import main
from gemma_metamon.showdown.matches.evaluate import Evaluation, evaluate
from gemma_metamon.showdown.players.contestants import Contestant
from gemma_metamon.showdown.simulator.server import Server
from gemma_metamon.showdown.simulator.teams import load_teams

# the simulator reads them; tests without a simulator use none
TEAMS = load_teams("gen1ou") if shutil.which("node") else []


def played(server: Server, *pairs: tuple[Contestant, Any], battles: int = 4, **options: Any) -> Evaluation:
    settings = {"battle_format": "gen1ou", "teams": TEAMS, "websocket_url": server.websocket_url, "timeout_s": 600.0}
    return asyncio.run(evaluate(pairs, battles, **settings | options))


def journal(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "battles.jsonl").read_text().splitlines()]


def command_fails(arguments: list[str], capsys: pytest.CaptureFixture) -> str:
    assert main(["evaluate", *arguments]) == 1
    return capsys.readouterr().err.strip().splitlines()[-1]

"""Battles as a client received them, fed to poke-env: for the tests of live states and of orders."""

import gzip
import json
import logging
from collections.abc import Iterator
from typing import Any

from poke_env.battle import Battle
from support.paths import GOLDENS

LIVE_GOLDENS = GOLDENS / "live"
FORMATS = ("gen1ou", "gen9ou")
# as poke-env's player: these never reach the battle
IGNORED = {"t:", "expire", "uhtmlchange", "tempnotify", "tempnotifyoff"}


def quiet_logger() -> logging.Logger:
    """poke-env warns of messages that it does not know, which is not what these tests are about."""
    logger = logging.getLogger("live_goldens")
    logger.setLevel(logging.CRITICAL)
    return logger


def feed(battle: Battle, lines: list[str]) -> None:
    for line in lines:
        message = line.split("|")
        if len(message) < 2 or message[1] in IGNORED:
            continue
        if message[1] == "request":
            if message[2]:
                battle.parse_request(json.loads(line.removeprefix("|request|")))
        elif message[1] == "win":
            battle.won_by(message[2])
        elif message[1] == "tie":
            battle.tied()
        else:
            battle.parse_message(message)


def decisions(battle_format: str) -> Iterator[tuple[Battle, dict[str, Any]]]:
    """Each battle as it stood at a recorded state, with that state. The same `Battle` goes on until its end."""
    battle: Battle | None = None
    with gzip.open(LIVE_GOLDENS / f"{battle_format}.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            if battle is None or battle.battle_tag != record["battle"]:
                gen = int(battle_format[3])
                battle = Battle(record["battle"], record["player"], quiet_logger(), gen=gen)
            if "message" in record:
                feed(battle, record["message"][1:])
            else:
                yield battle, record["state"]


def told(battle_format: str) -> Iterator[tuple[str, str, list[str]]]:
    """Each message in order: the battle, the player who received it, and its lines without the room."""
    with gzip.open(LIVE_GOLDENS / f"{battle_format}.jsonl.gz", "rt", encoding="utf-8") as lines:
        for record in map(json.loads, lines):
            if "message" in record:
                yield record["battle"], record["player"], record["message"][1:]

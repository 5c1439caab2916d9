"""A service in this process over real HTTP, and battles of an arena with all that one seat was told and sent."""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from support.arena_battles import teams_for

from gemma_metamon.language.players.text import TextPolicy
from gemma_metamon.runs.checkpoints import Checkpoint
from gemma_metamon.runs.loading import Playable, load_for_play
from gemma_metamon.serving.app import Service
from gemma_metamon.serving.battles import SPARE, Battles
from gemma_metamon.serving.limits import Gate, Limits
from gemma_metamon.serving.server import serving
from gemma_metamon.serving.writing import Writer
from gemma_metamon.showdown.arena.arena import SEATS, Arena
from gemma_metamon.showdown.matches.arena_tables import begin_battle, player_of
from gemma_metamon.showdown.players.contestants import Contestant, scripted
from gemma_metamon.showdown.players.policy_player import BatchedPolicy

REQUEST: dict[str, Any] = {
    "active": [{"moves": [{"move": "Rest", "id": "rest", "pp": 16, "maxpp": 16, "target": "self", "disabled": False}]}],
    "side": {
        "name": "Ann",
        "id": "p1",
        "pokemon": [
            {
                "ident": f"p1: {name}",
                "details": name,
                "condition": "300/300",
                "active": name == "Snorlax",
                "stats": {"atk": 1, "def": 1, "spa": 1, "spd": 1, "spe": 1},
                "moves": ["rest"],
                "baseAbility": "noability",
                "item": "",
                "pokeball": "pokeball",
            }
            for name in ("Snorlax", "Gengar")
        ],
    },
    "rqid": 3,
}
"""What the simulator asks Ann at the end of LOG."""
LOG = [
    "|player|p1|Ann|1|", "|player|p2|Bob|2|", "|teamsize|p1|2", "|teamsize|p2|2", "|gametype|singles", "|gen|1",
    "|start",
        "|switch|p1a: Snorlax|Snorlax|300/300", "|switch|p2a: Tauros|Tauros|100/100", "|turn|1",
]  # fmt: skip


@dataclass
class Moment:
    """A decision of the first seat: what it had been told, and what it sent."""

    lines: list[str]
    sent: str

    @property
    def request(self) -> dict[str, Any]:
        text = next(line for line in reversed(self.lines) if line.startswith("|request|"))
        asked: dict[str, Any] = json.loads(text.removeprefix("|request|"))
        return asked

    @property
    def log(self) -> list[str]:
        """Without requests."""
        return [line for line in self.lines if not line.startswith("|request|")]


@lru_cache
def loaded(run_dir: Path) -> Playable:
    return load_for_play(Checkpoint.find(run_dir), "cpu")


def policy_of(run_dir: Path, most: int = 16, **options: Any) -> BatchedPolicy:
    playable = loaded(run_dir)
    policy = BatchedPolicy(playable.agent, playable.view, max_battles=most + SPARE, **options)
    policy.judges = True
    return policy


@contextmanager
def served(policy: Any, most: int = 16, *, token: str | None = None, **limits: Any) -> Iterator[tuple[str, Service]]:
    chats = Writer(policy.chat, policy, "tiny").complete if isinstance(policy, TextPolicy) else None
    service = Service("tiny", Battles(policy, most), Gate(Limits(**limits), token), chats=chats)
    with serving(service) as url:
        yield url, service


def played(arena: Arena, who: Contestant, battle_format: str, number: int = 0, most: int = 1000) -> list[Moment]:
    """The decisions of `who` in a battle against RandomPlayer, until it ends or has taken so many."""
    return asyncio.run(_played(arena, who, battle_format, number, most))


async def _played(arena: Arena, who: Contestant, battle_format: str, number: int, most: int) -> list[Moment]:
    tag = f"battle-{battle_format}-{number}"
    players = (player_of(who, "p1", battle_format), player_of(scripted("RandomPlayer"), "p2", battle_format))
    teams = teams_for(battle_format)
    table = begin_battle(
        arena, tag, battle_format=battle_format, seed=5, number=number, players=players, teams=(teams[0], teams[1])
    )
    lines: list[str] = []
    moments: list[Moment] = []
    while tag in arena.battles and len(moments) < most:
        for news in arena.receive():
            assert news.lost is None, news.lost
            for name, seat in zip(SEATS, table, strict=True):
                seat.read(news.told.get(name, ()))
            lines += [line for message in news.told.get("p1", ()) for line in message.split("\n")]
        for name, seat in zip(SEATS, table, strict=True):
            if tag in arena.battles and seat.is_asked:
                message = await seat.answer()
                if name == "p1":
                    moments.append(Moment([*lines], message))
                arena.send(tag, name, message)
    arena.drop(tag)
    for seat in table:
        seat.abandon()
    return moments


def ask(url: str, body: Any = None, *, token: str | None = None, **headers: str) -> tuple[int, Any]:
    """The status and the body of an answer, JSON where it is some; a body that is given is posted."""
    content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, content, headers)
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            status, text = response.status, response.read()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read()
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text.decode()

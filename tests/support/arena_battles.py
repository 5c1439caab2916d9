"""Battles in an arena, played to their end by whoever answers the requests."""

import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from bench_arena import random_choice

from gemma_metamon.showdown.arena.arena import Arena, Ending, News, Seat
from gemma_metamon.showdown.arena.seeds import dice, simulator_seed
from gemma_metamon.showdown.simulator.teams import load_teams

Choose = Callable[[str, str, dict[str, Any]], str | None]
"""(battle, seat, request) -> an answer, or None where nothing is to be chosen."""


@dataclass
class Story:
    """What the seats of a battle were told, and how it ended."""

    told: dict[str, list[str]] = field(default_factory=lambda: {"p1": [], "p2": []})
    ended: Ending | None = None
    lost: str | None = None

    def add(self, news: News) -> None:
        for seat, messages in news.told.items():
            self.told[seat] += messages
        self.ended, self.lost = news.ended or self.ended, news.lost or self.lost

    def lines(self, seat: str) -> list[str]:
        """Of the log, without requests."""
        return [line for message in self.told[seat] if "|request|" not in message for line in message.split("\n")]


class Coins(random.Random):
    """What random_choice draws with."""

    def below(self, n: int) -> int:
        return self.randrange(n)


class RandomPlayers:
    """Any legal choice, drawn for each seat from the run's seed and the battle's name."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._coins: dict[tuple[str, str], Coins] = {}

    def __call__(self, battle: str, seat: str, request: dict[str, Any]) -> str | None:
        if (battle, seat) not in self._coins:
            self._coins[battle, seat] = Coins(dice(self._seed, battle, seat).getrandbits(64))
        choice = random_choice(request, self._coins[battle, seat])  # type: ignore[arg-type]
        return None if choice is None else f"/choose {choice}"


def begin(arena: Arena, battle: str, battle_format: str, seed: int = 0) -> None:
    """A battle with teams and dice drawn from its name."""
    first, second = seats_for(battle_format, battle, seed)
    arena.start(battle, battle_format=battle_format, seed=simulator_seed(seed, battle, "dice"), seats=(first, second))


def seats_for(battle_format: str, battle: str, seed: int = 0) -> tuple[Seat, Seat]:
    if "random" in battle_format:
        return (
            Seat(name="Ann", seed=simulator_seed(seed, battle, "team", "p1")),
            Seat(name="Bob", seed=simulator_seed(seed, battle, "team", "p2")),
        )
    first, second = dice(seed, battle, "teams").choices(teams_for(battle_format), k=2)
    return Seat(name="Ann", team=first), Seat(name="Bob", team=second)


@lru_cache
def teams_for(battle_format: str) -> list[str]:
    return load_teams(battle_format)


def play(
    arena: Arena,
    choose: Choose | None = None,
    *,
    first: Iterable[News] = (),
    until: Callable[[dict[str, Story]], bool] = lambda stories: False,
) -> dict[str, Story]:
    """Plays all that is in play to its end; or until the stories so far are enough, and leaves the last unanswered."""
    choose = choose or RandomPlayers()
    stories: dict[str, Story] = {}
    news = list(first)
    while True:
        for each in news:
            stories.setdefault(each.battle, Story()).add(each)
        if (stories and until(stories)) or not arena.battles:
            return stories
        for each in news:
            if each.battle in arena.battles:
                answer(arena, each, choose)
        news = arena.receive()


def answer(arena: Arena, news: News, choose: Choose) -> None:
    """The requests in the news; a refused choice is left to the simulator."""
    for seat, messages in news.told.items():
        if messages[-1].startswith("|request|"):
            message = choose(news.battle, seat, json.loads(messages[-1][len("|request|") :]))
            if message is not None:
                arena.send(news.battle, seat, message)
        elif messages[-1].startswith("|error|"):
            arena.send(news.battle, seat, "/choose default")

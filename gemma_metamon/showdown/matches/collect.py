"""Battles between players on a real server, recorded as parsed replays: from both sides, or from the players' alone.

Who meets whom is random: for each battle both sides are chosen independently among the named players, so that a player
also meets itself; or one side among the players and the other among their opponents. This choice and the teams follow
from the seed. The players' own random choices and the simulator's do not, so that battles differ from run to run.
"""

import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from poke_env.battle import Battle
from poke_env.player import Player

from gemma_metamon.battle.replays import BattleFileName, RecordedBattle, save_battle
from gemma_metamon.errors import ServerError
from gemma_metamon.showdown.live.door import given_up, open_door
from gemma_metamon.showdown.live.recording import MAX_TURNS, Recorder
from gemma_metamon.showdown.matches.watching import SILENCE_TIMEOUT_S, disconnect, play_pair
from gemma_metamon.showdown.players.contestants import Contestant
from gemma_metamon.showdown.players.registry import connection, user_name
from gemma_metamon.showdown.simulator.teams import SeededTeambuilder

# poke-env keeps every battle that a player has played: both players start afresh after so many
BATTLES_PER_PLAYER = 100
CONCURRENCY = 16


@dataclass(frozen=True, kw_only=True)
class Matchup:
    """How many battles two players have with each other, and whether the opponent's view of them is recorded, too."""

    player: Contestant
    opponent: Contestant
    battles: int
    record_opponent: bool = True


@dataclass(kw_only=True)
class Collection:
    """What was played and recorded.

    Attributes:
        battles: played.
        files: views recorded.
        seconds: that it took.
        results: how many views had which result.
        set_aside: how many views were not recorded, by the reason.
    """

    battles: int = 0
    files: int = 0
    seconds: float = 0.0
    results: Counter[str] = field(default_factory=Counter)  # "SimpleHeuristicsPlayer vs RandomPlayer: won"
    set_aside: Counter[str] = field(default_factory=Counter)

    @property
    def battles_per_s(self) -> float:
        """0 before the first battle has ended."""
        return self.battles / self.seconds if self.seconds else 0.0


def draw_matchups(
    players: Sequence[Contestant],
    battles: int,
    seed: int,
    *,
    opponents: Sequence[Contestant] | None = None,
    record_opponents: bool = False,
) -> list[Matchup]:
    """Random pairs for a number of battles; the battles of one pair become one matchup.

    Args:
        players: whose views are recorded.
        battles: how many in all.
        seed: of the random choices.
        opponents: among whom the other side is chosen; None chooses it among the players.
        record_opponents: whether to record the views of opponents that are not among the players, too.
    """
    rng = random.Random(seed)
    names = [player.name for player in players]
    by_name = {contestant.name: contestant for contestant in (*players, *(opponents or ()))}

    def draw() -> tuple[str, str]:
        if opponents is None:
            first, second = sorted(rng.choices(names, k=2))
            return first, second
        return rng.choice(names), rng.choice(opponents).name

    pairs = Counter(draw() for _ in range(battles))
    return [
        Matchup(
            player=by_name[player],
            opponent=by_name[opponent],
            battles=count,
            record_opponent=record_opponents or opponent in names,
        )
        for (player, opponent), count in sorted(pairs.items())
    ]


async def collect(
    matchups: Sequence[Matchup],
    *,
    battle_format: str,
    teams: list[str],
    websocket_url: str,
    out: Path,
    seed: int = 0,
    concurrency: int = CONCURRENCY,
    max_turns: int = MAX_TURNS,
    timeout_s: float = SILENCE_TIMEOUT_S,
    on_battle: Callable[[], Any] | None = None,
) -> Collection:
    """Plays the matchups one after the other and writes `out/<battle_format>/*.json.lz4`, a file for each view.

    A battle that poke-env cannot follow is set aside.

    Args:
        matchups: who meets whom, how often.
        battle_format: e.g. "gen1ou".
        teams: packed; each side gets a random one. None for a format that gives out teams.
        websocket_url: of the server.
        out: the folder to write to.
        seed: of the teams.
        concurrency: battles at a time.
        max_turns: a player gives up a battle that gets this far.
        timeout_s: silence of the server after which the battles are given up.
        on_battle: called after each battle.

    Raises:
        ServerError: the server refuses a team or falls silent, or poke-env can follow none of the battles. What was
            written before stays.
    """
    collection = Collection()
    run = secrets.token_hex(4)
    rng = random.Random(seed)
    started = time.monotonic()
    for matchup in matchups:
        for first in range(0, matchup.battles, BATTLES_PER_PLAYER):
            n_battles = min(BATTLES_PER_PLAYER, matchup.battles - first)
            names = (matchup.player.name, matchup.opponent.name)
            player, opponent = (
                contestant.build(
                    **connection(
                        user_name(contestant.name),
                        battle_format=battle_format,
                        websocket_url=websocket_url,
                        team=SeededTeambuilder(teams, rng.getrandbits(32)) if teams else None,
                        concurrency=concurrency,
                    )
                )
                for contestant in (matchup.player, matchup.opponent)
            )
            sides = [(player, " vs ".join(names), on_battle)]
            if matchup.record_opponent:
                sides.append((opponent, " vs ".join(reversed(names)), None))
            for side, label, counts in sides:
                writer = _Writer(collection, out / battle_format, run, label, (player, opponent), counts)
                open_door(side).record(Recorder(writer.write, max_turns=max_turns))
            try:
                await play_pair(player, opponent, n_battles, timeout_s=timeout_s)
            finally:
                await disconnect(player, opponent)
                collection.battles += player.n_finished_battles
                collection.seconds = time.monotonic() - started
    if not collection.files and (lost := [reason for reason in collection.set_aside if reason.startswith("poke-env")]):
        raise ServerError(f"not one battle of {battle_format} could be recorded: {lost[0]}; play another format")
    return collection


@dataclass(frozen=True)
class _Writer:
    collection: Collection
    folder: Path
    run: str
    label: str
    players: tuple[Player, Player]
    on_battle: Callable[[], Any] | None

    def write(self, battle: Battle, record: RecordedBattle | None) -> None:
        if self.on_battle is not None:
            self.on_battle()
        reasons = [given_up(player, battle.battle_tag) for player in self.players]
        if any(reasons):
            self.collection.set_aside[f"poke-env cannot follow it ({next(filter(None, reasons))})"] += 1
            return
        if record is None:
            self.collection.set_aside["ended before this side chose anything"] += 1
            return
        terminal = record.states[-1]
        result = "won" if terminal.battle_won else "lost" if terminal.battle_lost else "neither"
        self.collection.results[f"{self.label}: {result}"] += 1
        _, battle_format, number = battle.battle_tag.split("-")[:3]
        name = BattleFileName(
            battle_id=f"gemma-{battle_format}-{self.run}{number}",
            rating=None,
            player=battle.player_username,
            opponent=battle.opponent_username or "unknown",
            played_at=datetime.now().replace(microsecond=0),
            won=record.won,
        )
        save_battle(record, self.folder, name)
        self.collection.files += 1

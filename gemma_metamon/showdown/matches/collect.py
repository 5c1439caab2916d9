"""Battles in an arena or on a server, recorded as parsed replays: from both sides, or from the players' alone.

Who meets whom is random: for each battle both sides are chosen independently among the named players, so that a player
also meets itself; or one side among the players and the other among their opponents. This choice and the teams follow
from the seed. In an arena everything else does, too; on a server neither the players' own random choices nor the
simulator's do.
"""

import itertools
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from poke_env.battle import Battle
from poke_env.player import Player

from gemma_metamon.battle.replays import BattleFileName, RecordedBattle, save_battle
from gemma_metamon.errors import ServerError
from gemma_metamon.showdown.arena.arena import Arena
from gemma_metamon.showdown.arena.seeds import dice
from gemma_metamon.showdown.live.door import given_up, open_door
from gemma_metamon.showdown.live.recording import MAX_TURNS, Recorder
from gemma_metamon.showdown.matches.arena_play import ArenaMatch, Plan, Table, needs_rounds
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
    out: Path,
    websocket_url: str | None = None,
    workers: int = 1,
    seed: int = 0,
    concurrency: int = CONCURRENCY,
    max_turns: int = MAX_TURNS,
    timeout_s: float = SILENCE_TIMEOUT_S,
    on_battle: Callable[[], Any] | None = None,
) -> Collection:
    """Plays the matchups in their order and writes `out/<battle_format>/*.json.lz4`, a file for each view.

    In an arena, the same arguments give the same battles, whatever the number of workers: files with the same content,
    though the time is in their names. A battle that poke-env cannot follow is set aside.

    Args:
        matchups: who meets whom, how often.
        battle_format: e.g. "gen1ou".
        teams: packed; each side gets a random one. None for a format that gives out teams.
        out: the folder to write to.
        websocket_url: of a server to play on; None plays in an arena.
        workers: of the arena: processes of the simulator.
        seed: of the teams; in an arena of all that is drawn.
        concurrency: battles at a time.
        max_turns: a player gives up a battle that gets this far.
        timeout_s: silence of the server, or of a worker, after which the battles are given up.
        on_battle: called after each battle.

    Raises:
        ServerError: the server refuses a team or falls silent, or poke-env can follow none of the battles. What was
            written before stays.
    """
    collection = Collection()
    recording = _Recording(collection, out / battle_format, max_turns, on_battle)
    with ExitStack() as stack:
        if websocket_url is None:
            arena = stack.enter_context(Arena(workers, silence_timeout_s=timeout_s))
            await _collect_in_arena(matchups, recording, arena, battle_format, teams, seed, concurrency)
        else:
            await _collect_on_server(
                matchups,
                recording,
                battle_format=battle_format,
                teams=teams,
                websocket_url=websocket_url,
                rng=random.Random(seed),
                concurrency=concurrency,
                timeout_s=timeout_s,
            )
    if not collection.files and (lost := [reason for reason in collection.set_aside if reason.startswith("poke-env")]):
        raise ServerError(f"not one battle of {battle_format} could be recorded: {lost[0]}; play another format")
    return collection


async def _collect_in_arena(
    matchups: Sequence[Matchup],
    recording: "_Recording",
    arena: Arena,
    battle_format: str,
    teams: Sequence[str],
    seed: int,
    concurrency: int,
) -> None:
    """The parameters are those of `collect`."""
    who = [(matchup.player.name, matchup.opponent.name, matchup.battles) for matchup in matchups]
    run = f"{dice(seed, battle_format, repr(who)).getrandbits(32):08x}"
    started = time.monotonic()

    def ended(plan: Plan, table: Table) -> None:
        recording.collection.battles += 1
        recording.collection.seconds = time.monotonic() - started

    in_rounds = needs_rounds(who for matchup in matchups for who in (matchup.player, matchup.opponent))
    match = ArenaMatch(arena, battle_format, seed, concurrency, ended, in_rounds)
    number = itertools.count()

    def plans() -> Iterator[Plan]:
        for matchup in matchups:
            first, second = recording.recorders(matchup, run, match.given_up)
            for _ in range(matchup.battles):
                n = next(number)
                draw = dice(seed, n, "teams")
                brought = (draw.choice(teams), draw.choice(teams)) if teams else (None, None)
                players = matchup.player, matchup.opponent
                yield Plan(number=n, players=players, teams=brought, recorders=(first, second))

    await match.play(plans())


async def _collect_on_server(
    matchups: Sequence[Matchup],
    recording: "_Recording",
    *,
    battle_format: str,
    teams: list[str],
    websocket_url: str,
    rng: random.Random,
    concurrency: int,
    timeout_s: float,
) -> None:
    """The parameters are those of `collect`; `rng` draws the teams."""
    collection, run = recording.collection, secrets.token_hex(4)
    started = time.monotonic()
    for matchup in matchups:
        for first in range(0, matchup.battles, BATTLES_PER_PLAYER):
            n_battles = min(BATTLES_PER_PLAYER, matchup.battles - first)
            player, opponent = (
                contestant.build(
                    **connection(
                        user_name(contestant.name),
                        battle_format=battle_format,
                        websocket_url=websocket_url,
                        team=SeededTeambuilder(teams, rng.getrandbits(32)) if teams else None,
                        concurrency=concurrency,
                    ),
                    start_listening=False,  # until it is watched
                )
                for contestant in (matchup.player, matchup.opponent)
            )

            def why(tag: str, sides: tuple[Player, Player] = (player, opponent)) -> str | None:
                return given_up(sides[0], tag) or given_up(sides[1], tag)

            for side, recorder in zip((player, opponent), recording.recorders(matchup, run, why), strict=True):
                if recorder is not None:
                    open_door(side).record(recorder)
            try:
                await play_pair(player, opponent, n_battles, timeout_s=timeout_s)
            finally:
                await disconnect(player, opponent)
                collection.battles += player.n_finished_battles
                collection.seconds = time.monotonic() - started


@dataclass(frozen=True)
class _Recording:
    """What all battles of a collection are recorded with."""

    collection: Collection
    folder: Path
    max_turns: int
    on_battle: Callable[[], Any] | None

    def recorders(
        self, matchup: Matchup, run: str, why_given_up: Callable[[str], str | None]
    ) -> tuple[Recorder, Recorder | None]:
        """Of the player and of the opponent, where its view is written, too; `run` is in the files' names."""
        names = (matchup.player.name, matchup.opponent.name)
        mine = _Writer(self.collection, self.folder, run, " vs ".join(names), why_given_up, self.on_battle)
        first = Recorder(mine.write, max_turns=self.max_turns)
        if not matchup.record_opponent:
            return first, None
        theirs = replace(mine, label=" vs ".join(reversed(names)), on_battle=None)
        return first, Recorder(theirs.write, max_turns=self.max_turns)


@dataclass(frozen=True)
class _Writer:
    collection: Collection
    folder: Path
    run: str
    label: str
    why_given_up: Callable[[str], str | None]
    on_battle: Callable[[], Any] | None

    def write(self, battle: Battle, record: RecordedBattle | None) -> None:
        if self.on_battle is not None:
            self.on_battle()
        reason = self.why_given_up(battle.battle_tag)
        if reason is not None:
            self.collection.set_aside[f"poke-env cannot follow it ({reason})"] += 1
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

"""Players and settings for the tests of ladder play: four scripted ones on one simulator, and some that misbehave."""

import asyncio
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from poke_env.battle import AbstractBattle
from poke_env.player import BattleOrder, Player, RandomPlayer, SingleBattleOrder

from gemma_metamon.results.schema import LadderRow
from gemma_metamon.showdown.accounts import LadderServer
from gemma_metamon.showdown.ladder.ladder import Ladder
from gemma_metamon.showdown.ladder.results import FINISHED, Results, Summary
from gemma_metamon.showdown.ladder.timeouts import LadderTimeouts
from gemma_metamon.showdown.players.registry import player_class
from gemma_metamon.showdown.simulator.teams import load_teams

FOUR = ("RandomPlayer", "NoSwitchRandomPlayer", "MaxBasePowerPlayer", "SimpleHeuristicsPlayer")
QUICK = LadderTimeouts(
    connect_s=120.0,  # a server that has just begun reads its formats first: half a minute on a loaded machine
    login_s=120.0,
    ping_s=10.0,
    first_pause_s=0.1,
    longest_pause_s=1.0,
    decision_s=5.0,
    join_s=1.0,
    stall_s=3.0,
    forfeit_s=30.0,
    search_s=2.0,
    rating_s=2.0,
)


def ladder(
    build: Callable[..., Player] | str,
    url: str,
    *,
    name: str | None = None,
    battles: int | None = None,
    folder: Path | None = None,
    battle_format: str = "gen1ou",
    **options: Any,
) -> Ladder:
    made = player_class(build) if isinstance(build, str) else build
    return Ladder(
        made,
        server=LadderServer(name="the simulator", websocket_url=url),
        username=name or f"L-{getattr(made, '__name__', 'agent')[:12]}",
        battle_format=battle_format,
        battles=battles,
        results=None if folder is None else Results(folder),
        **{"timeouts": QUICK, "teams": load_teams(battle_format), **options},
    )


async def play(main: Sequence[Ladder], others: Sequence[Ladder] = ()) -> list[Summary]:
    """Until all of `main` are through; the others then finish what they play. Whoever fails, fails all."""
    played = asyncio.gather(*(one.run() for one in main))
    other_tasks = [asyncio.create_task(one.run()) for one in others]
    try:
        await asyncio.wait({played, *other_tasks}, return_when=asyncio.FIRST_COMPLETED)
        if not played.done():
            played.cancel()
    finally:
        for one in others:
            one.stop()
        ended = await asyncio.gather(*other_tasks)
        for one in (*main, *others):
            if one._results is not None:
                one._results.close()
    return [*await played, *ended]


def rows_by_battle(folders: Sequence[Path]) -> dict[tuple[str, ...], list[LadderRow]]:
    """(battle, both names) -> the lines of both sides."""
    rows = []
    for folder in folders:
        results = Results(folder)
        rows += results.rows.values()
        results.close()
    battles = defaultdict(list)
    # whose first message of a battle was lost may never learn the other's name: it belongs to the other's line
    for row in sorted(rows, key=lambda row: row.opponent == "unknown"):
        own = (row.battle, *sorted((row.username, row.opponent)))
        theirs = (key for key in battles if key[0] == row.battle and row.username in key[1:])
        battles[next(theirs, own) if row.opponent == "unknown" else own].append(row)
    return battles


def tell(words: str) -> None:
    """What a proof found, for those who look (pytest -s)."""
    sys.stdout.write(f"\n{words}\n")


def unrecorded(folders: Sequence[Path]) -> list[str]:
    """The logs of battles that have no line in the results."""
    logs = {path.name for folder in folders for path in (folder / "replays").glob("*.log")}
    recorded = set()
    for folder in folders:
        results = Results(folder)
        recorded |= {row.log for row in results.rows.values()}
        results.close()
    return sorted(logs - recorded)


class Hanging(RandomPlayer):
    """Never answers, and cannot be interrupted: it does not even await."""

    released = threading.Event()

    def choose_move(self, battle: AbstractBattle) -> BattleOrder:
        self.released.wait()
        return super().choose_move(battle)


class Dreaming(RandomPlayer):
    """Never answers either, but awaits."""

    async def choose_move(self, battle: AbstractBattle) -> BattleOrder:  # type: ignore[override]
        await asyncio.sleep(3600)
        return self.choose_random_move(battle)


class Thoughtful(RandomPlayer):
    """Takes a moment for each choice, so that a battle outlasts what is done to it."""

    async def choose_move(self, battle: AbstractBattle) -> BattleOrder:  # type: ignore[override]
        await asyncio.sleep(0.1)
        return self.choose_random_move(battle)


class Failing(RandomPlayer):
    def choose_move(self, battle: AbstractBattle) -> BattleOrder:
        raise ZeroDivisionError("no idea")


class Leaderless(RandomPlayer):
    """Cannot say who goes first."""

    def teampreview(self, battle: AbstractBattle) -> str:
        raise ZeroDivisionError("no idea")


class Stubborn(RandomPlayer):
    """Always wants what the simulator does not allow."""

    def choose_move(self, battle: AbstractBattle) -> BattleOrder:
        return SingleBattleOrder("/choose move notamove")


def quick(**changes: float) -> LadderTimeouts:
    return LadderTimeouts(**{**QUICK.__dict__, **changes})


def check_agreement(folders: list[Path]) -> Counter[str]:
    """Both sides wrote every battle down, and say the same of it."""
    outcomes: Counter[str] = Counter()
    for battle, rows in rows_by_battle(folders).items():
        results = sorted(row.result for row in rows if row.result in FINISHED)
        outcomes[" and ".join(results)] += 1
        assert results in (["lost", "won"], ["tied", "tied"]), (battle, rows)
        assert len({row.turns for row in rows if row.result in FINISHED}) == 1
    return outcomes


def run_four(url: str, folder: Path, battles: int, **options: Any) -> tuple[list[Path], list[Any]]:
    """Four players; the first two stop after so many battles each, the others when those are through."""
    folders = [folder / name for name in FOUR]
    goals = (battles, battles, None, None)
    concurrency = options.pop("concurrency", 2)

    async def all_four() -> list[Any]:
        four = [
            ladder(name, url, battles=goal, folder=place, concurrency=concurrency, **options)
            for name, goal, place in zip(FOUR, goals, folders, strict=True)
        ]
        return await play(four[:2], four[2:])

    return folders, asyncio.run(all_four())

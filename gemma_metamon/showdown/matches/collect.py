"""Battles in an arena or on a server, recorded as parsed replays: from both sides, or from the players' alone.

Who meets whom is random: for each battle both sides are chosen independently among the named players, so that a player
also meets itself; or one side among the players and the other among their opponents. This choice, the seats and the
teams follow from the seed. In an arena everything else does, too; on a server neither the players' own random choices
nor the simulator's do.
"""

import random
import secrets
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from poke_env.player import Player

from gemma_metamon.atomic_files import sync, written_whole
from gemma_metamon.errors import ConfigError, ServerError
from gemma_metamon.showdown.arena.arena import Arena
from gemma_metamon.showdown.arena.seeds import dice
from gemma_metamon.showdown.live.door import given_up, open_door
from gemma_metamon.showdown.live.recording import MAX_TURNS
from gemma_metamon.showdown.matches.arena_play import ArenaMatch, Plan, needs_rounds
from gemma_metamon.showdown.matches.arena_tables import Table, draw_pair
from gemma_metamon.showdown.matches.labelling import Labeller
from gemma_metamon.showdown.matches.processes import PlayPlans, Tell, play_plans
from gemma_metamon.showdown.matches.recordings import Collection, Recording, battle_id
from gemma_metamon.showdown.matches.watching import SILENCE_TIMEOUT_S, disconnect, play_pair
from gemma_metamon.showdown.players.contestants import Contestant, why_ended
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


def draw_matchups(
    players: Sequence[Contestant],
    battles: int,
    seed: int,
    *,
    opponents: Sequence[Contestant] | None = None,
    record_opponents: bool | Sequence[str] = False,
) -> list[Matchup]:
    """Random pairs for a number of battles; the battles of one pair become one matchup.

    Args:
        players: whose views are recorded.
        battles: how many in all.
        seed: of the random choices.
        opponents: among whom the other side is chosen; None chooses it among the players.
        record_opponents: whether to record the views of opponents that are not among the players, too; or of which,
            by their names.
    """
    rng = random.Random(seed)
    names = [player.name for player in players]
    recorded = [*names, *(() if isinstance(record_opponents, bool) else record_opponents)]
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
            record_opponent=record_opponents is True or opponent in recorded,
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
    label_by: Contestant | None = None,
    on_battle: Callable[[], Any] | None = None,
    elsewhere: PlayPlans | None = None,
) -> Collection:
    """Plays the matchups and writes `out/<battle_format>/*.json.lz4`, a file for each view.

    In an arena, the matchups' battles are mixed, and the same arguments give the same battles, whatever the number of
    workers: files with the same content, though the time is in their names. On a server it is one matchup after the
    other. A battle that poke-env cannot follow is set aside.

    Args:
        matchups: who meets whom, how often.
        battle_format: e.g. "gen1ou".
        teams: packed; each side gets a random one. Empty for a format that gives out teams.
        out: the folder to write to.
        websocket_url: of a server to play on; None plays in an arena.
        workers: processes that play in an arena, see `play_plans`; above 1 the program must be one that can be
            imported, with `if __name__ == "__main__":`.
        seed: of the teams and, over all of a matchup's battles, of the seats; in an arena of all that is drawn.
        concurrency: battles at a time.
        max_turns: a player gives up a battle that gets this far.
        timeout_s: silence of the server, or of a worker, after which the battles are given up.
        label_by: a scripted player, whose choice in each state is recorded beside what was chosen; see `Labeller`.
        on_battle: called after each battle.
        elsewhere: plays the battles of an arena on other machines, from which their files come to `out`; None plays
            them on this one.

    Raises:
        ConfigError: label_by is a policy; or, in an arena, the folder holds battles of the same arguments, which would
            be played once more.
        ServerError: the server refuses a team or falls silent, or poke-env can follow none of the battles. What was
            written before stays.
    """
    collection = Collection()
    label = None if label_by is None else Labeller(label_by, battle_format, seed)
    if websocket_url is None:
        await _collect_in_arena(
            matchups,
            collection,
            battle_format=battle_format,
            teams=teams,
            out=out,
            workers=workers,
            seed=seed,
            concurrency=concurrency,
            max_turns=max_turns,
            timeout_s=timeout_s,
            label_by=label_by,
            on_battle=on_battle,
            elsewhere=elsewhere,
        )
    else:
        await _collect_on_server(
            matchups,
            Recording(collection, out / battle_format, secrets.token_hex(4), max_turns, on_battle, label),
            battle_format=battle_format,
            teams=teams,
            websocket_url=websocket_url,
            rng=random.Random(seed),
            concurrency=concurrency,
            timeout_s=timeout_s,
        )
    if collection.files:
        sync(out / battle_format)
    if collection.battles < sum(matchup.battles for matchup in matchups):
        collection.unfinished = why_ended(who for matchup in matchups for who in (matchup.player, matchup.opponent))
    if not collection.files and (lost := [reason for reason in collection.set_aside if reason.startswith("poke-env")]):
        raise ServerError(f"not one battle of {battle_format} could be recorded: {lost[0]}; play another format")
    return collection


async def _collect_in_arena(
    matchups: Sequence[Matchup],
    collection: Collection,
    *,
    battle_format: str,
    teams: Sequence[str],
    out: Path,
    workers: int,
    seed: int,
    concurrency: int,
    max_turns: int,
    timeout_s: float,
    label_by: Contestant | None,
    on_battle: Callable[[], Any] | None,
    elsewhere: PlayPlans | None,
) -> None:
    """The parameters are those of `collect`; adds to the collection what was played."""
    who = [(matchup.player.name, matchup.opponent.name, matchup.battles) for matchup in matchups]
    run = f"{dice(seed, battle_format, repr(who)).getrandbits(32):08x}"
    folder = out / battle_format
    if there := sum(1 for _ in folder.glob(f"{battle_id(battle_format, run, '')}*")):
        raise ConfigError(
            f"{folder} holds battles of these players with seed {seed} already, in {there} files, and the same would "
            "be played again; give another --seed to add others, or another --out"
        )
    started = time.monotonic()

    def ended(number: int, kept: Collection | _Carried) -> None:
        share = kept.unpack(folder) if isinstance(kept, _Carried) else kept
        collection.add(share)
        collection.seconds = time.monotonic() - started
        if on_battle is not None:
            on_battle()

    def forget(number: int) -> None:
        """What a killed process has written of a battle that it has not told of."""
        for view in folder.glob(f"*{battle_id(battle_format, run, number)}_*"):
            view.unlink()

    options: dict[str, Any] = {"battle_format": battle_format, "run": run, "seed": seed, "max_turns": max_turns}
    options["label_by"] = label_by
    record = partial(_record, folder=folder, **options) if elsewhere is None else partial(_record_elsewhere, **options)
    await (elsewhere or play_plans)(
        _plans(matchups, teams, seed),
        record,
        ended,
        workers=workers,
        in_play=concurrency,
        timeout_s=timeout_s,
        on_again=forget,
    )


def _plans(matchups: Sequence[Matchup], teams: Sequence[str], seed: int) -> Iterator[Plan]:
    """The matchups' battles in random order, so that the first of them are a sample of all; seats are drawn, too."""
    order = [matchup for matchup in matchups for _ in range(matchup.battles)]
    dice(seed, "order").shuffle(order)
    for n, matchup in enumerate(order):
        place = dice(seed, n, "seats").randrange(2)
        players = (matchup.player, matchup.opponent)
        yield Plan(
            number=n,
            players=players[::-1] if place else players,
            teams=draw_pair(teams, seed, n),
            views=(place, 1 - place) if matchup.record_opponent else (place,),
        )


async def _record(
    arena: Arena,
    plans: Sequence[Plan],
    in_play: int,
    tell: Tell,
    *,
    battle_format: str,
    folder: Path,
    run: str,
    seed: int,
    max_turns: int,
    label_by: Contestant | None,
) -> None:
    """Plays some of a collection's battles, and tells for each what it has written.

    Args:
        arena: to play in.
        plans: without recorders.
        in_play: battles at a time.
        tell: gets a Collection of the battle.
        battle_format: e.g. "gen1ou".
        folder: to write to.
        run: of all files' names.
        seed: of the collection.
        max_turns: see `collect`.
        label_by: see `collect`.
    """
    label = None if label_by is None else Labeller(label_by, battle_format, seed)
    recording = Recording(Collection(), folder, run, max_turns, None, label)

    def ended(plan: Plan, table: Table) -> None:
        share, recording.collection = recording.collection, Collection()
        share.battles = 1
        tell(plan.number, share)

    def recorded() -> Iterator[Plan]:
        for plan in plans:
            place = plan.views[0]
            names = plan.players[place].name, plan.players[1 - place].name
            views = recording.recorders(*names, match.given_up, both=len(plan.views) > 1)
            yield replace(plan, recorders=views[::-1] if place else views)

    experts = [] if label_by is None else [label_by]
    in_rounds = needs_rounds([*experts, *(who for plan in plans for who in plan.players)])
    match = ArenaMatch(arena, battle_format, seed, in_play, ended, in_rounds)
    await match.play(recorded())


@dataclass(frozen=True, kw_only=True)
class _Carried:
    """A battle that was recorded on another machine: how it is counted, and its files by their names."""

    share: Collection
    files: dict[str, bytes]

    def unpack(self, folder: Path) -> Collection:
        """Writes the files."""
        for name, content in self.files.items():
            with written_whole(folder / name, durable=False) as staged:  # `collect` waits once, for all of them
                staged.write_bytes(content)
        return self.share


async def _record_elsewhere(
    arena: Arena, plans: Sequence[Plan], in_play: int, tell: Tell, *, run: str, **options: Any
) -> None:
    """As `_record`, on a machine that does not have the collection's folder: tells a `_Carried` of each battle."""
    with tempfile.TemporaryDirectory(prefix="gemma-metamon-") as name:
        folder = Path(name)

        def told(number: int, share: Collection) -> None:  # before anything else is written
            files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
            for file in files:
                (folder / file).unlink()
            tell(number, _Carried(share=share, files=files))

        await _record(arena, plans, in_play, told, folder=folder, run=run, **options)


async def _collect_on_server(
    matchups: Sequence[Matchup],
    recording: Recording,
    *,
    battle_format: str,
    teams: list[str],
    websocket_url: str,
    rng: random.Random,
    concurrency: int,
    timeout_s: float,
) -> None:
    """The parameters are those of `collect`; `rng` draws the teams."""
    collection = recording.collection
    started = time.monotonic()
    for matchup in matchups:
        for n_battles, swapped in portions(matchup.battles, rng):
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

            names = matchup.player.name, matchup.opponent.name
            recorders = recording.recorders(*names, why, both=matchup.record_opponent)
            for side, recorder in zip((player, opponent), recorders, strict=True):
                if recorder is not None:
                    open_door(side).record(recorder)
            first, second = (opponent, player) if swapped else (player, opponent)
            try:
                await play_pair(first, second, n_battles, timeout_s=timeout_s)
            finally:
                await disconnect(player, opponent)
                collection.battles += player.n_finished_battles
                collection.seconds = time.monotonic() - started


def portions(battles: int, rng: random.Random) -> Iterator[tuple[int, bool]]:
    """Battles on a server, in portions of at most BATTLES_PER_PLAYER: how many, and whether the opponent is p1."""
    n_swapped = sum(rng.randrange(2) for _ in range(battles))
    for swapped, n_seated in ((False, battles - n_swapped), (True, n_swapped)):
        for first in range(0, n_seated, BATTLES_PER_PLAYER):
            yield min(BATTLES_PER_PLAYER, n_seated - first), swapped

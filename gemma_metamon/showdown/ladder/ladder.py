"""Ladder play that survives disconnects and restarts: it searches for battles, plays them, and writes down the results.

The player (poke-env's, or an agent's) only decides: it has no connection. A `Connection` receives the messages; each
goes to the `LadderBattle` that it belongs to. Ten times a second `Ladder` does what has become due: it searches,
requests logs, and gives up battles in which nothing happens.
"""

import asyncio
import contextlib
import json
import logging
import re
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from poke_env.battle import Battle
from poke_env.player import Player

from gemma_metamon.battle.replays import BattleFileName, RecordedBattle, save_battle
from gemma_metamon.errors import ServerError
from gemma_metamon.results.schema import LadderRow
from gemma_metamon.showdown.accounts import LadderServer, Secret, check_ladder
from gemma_metamon.showdown.ladder.battle import LadderBattle
from gemma_metamon.showdown.ladder.connection import Connection
from gemma_metamon.showdown.ladder.results import FINISHED, LOST, STOPPED, BattleLog, Results, Summary, read_outcome
from gemma_metamon.showdown.ladder.search import SETTLE_S, Search
from gemma_metamon.showdown.ladder.timeouts import LadderTimeouts
from gemma_metamon.showdown.live.recording import Recorder
from gemma_metamon.showdown.matches.watching import plain
from gemma_metamon.showdown.players.registry import connection

logger = logging.getLogger(__name__)
TICK_S = 0.1
GONE = "the server does not know the battle any more"
_NOT_IN_FILE_NAMES = re.compile(r"[^A-Za-z0-9 -]")


class Ladder:
    """One player on one ladder.

    Args:
        build: makes the player; called with poke-env's connection arguments.
        server: to play on.
        username: to log in with.
        label: what plays under that name, for the results.
        password: None where names need none.
        battle_format: e.g. "gen1ou".
        teams: packed teams, one of which is chosen at random for each battle; none for formats that give out teams.
        battles: stop after so many, including those in `results`; None plays until stopped.
        concurrency: battles at a time.
        results: the folder to write; None writes nothing.
        timeouts: all waiting times.
        seed: of the choice of teams.
        on_row: called with the line of each battle that has ended.
    """

    def __init__(
        self,
        build: Callable[..., Player],
        *,
        server: LadderServer,
        username: str,
        battle_format: str,
        teams: list[str],
        battles: int | None,
        label: str | None = None,
        password: Secret | None = None,
        concurrency: int = 1,
        results: Results | None = None,
        timeouts: LadderTimeouts | None = None,
        seed: int = 0,
        on_row: Callable[[LadderRow], Any] | None = None,
    ) -> None:
        self.summary = Summary()
        self.format = battle_format
        self.battles: dict[str, LadderBattle] = {}
        self.stops = 0
        self._server = server
        self._username = username
        self._label = label
        self._goal = battles
        self._concurrency = concurrency
        self._results = results
        self._timeouts = timeouts or LadderTimeouts()
        self._on_row = on_row
        options = connection(
            username, battle_format=battle_format, websocket_url=server.websocket_url, team=None, concurrency=0
        )
        self._player = build(**options, start_listening=False)
        self._recorder = Recorder(self._save)
        self._connection = Connection(server, username, password, self, self._timeouts)
        self._search = Search(
            battle_format,
            teams=teams,
            server_name=server.name,
            timeouts=self._timeouts,
            seed=seed,
            send=self._queue,
        )
        self.summary.teams_refused = self._search.teams_refused
        self._formats_checked = False
        self._closed: dict[str, str | None] = {}  # tag -> when the battle started, by the server's clock
        self._unknown: dict[str, float] = {}  # battles of ours without a log yet -> when it was last requested
        self._outbox: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    def stop(self) -> None:
        """Called once: begins no new battle, and finishes those in play. Called twice: ends at once.

        To be called in the thread of the event loop.
        """
        self.stops += 1

    async def run(self) -> Summary:
        """Plays until the goal is reached or `stop` is called.

        After a result could not be written to the disk, no new battle begins, and those in play are finished.

        Raises:
            ServerError: the server cannot be reached, refuses the name, the password, the format or all teams, or
                stays away for `give_up_s`. Battles in play are then written down as unfinished.
            OSError: some results could still not be written at the end.
        """
        self._resume_interrupted()
        connected = asyncio.create_task(self._connection.run())
        sender = asyncio.create_task(self._send_queued())
        reason = STOPPED
        try:
            while not self._over():
                for ended in (await asyncio.wait({connected, sender}, timeout=TICK_S))[0]:
                    ended.result()  # both end only by an error
                self._tick()
            with contextlib.suppress(asyncio.TimeoutError, TimeoutError):  # two classes until Python 3.11
                await asyncio.wait_for(self._outbox.join(), SETTLE_S)
        except ServerError:
            reason = LOST
            raise
        finally:
            connected.cancel()
            sender.cancel()
            for battle in list(self.battles.values()):
                self._write_down(battle, "" if battle.ended_at is not None else reason)
            await asyncio.wait({connected, sender}, timeout=5)
            self.summary.cuts = self._connection.cuts
        if self._results is not None:
            self._results.write_rest()
        return self.summary

    # called by the connection

    def on_login(self, username: str) -> None:
        """We are logged in, under the name as the server writes it."""
        self._username = username
        now = time.monotonic()
        self._search.on_login()
        for battle in self.battles.values():
            battle.asked_at = now  # the server sends the logs of those in play without being asked
            battle.note_progress()
        self._unknown = dict.fromkeys(self._unknown, now)

    def on_cut(self) -> None:
        """The connection is lost."""
        self._search.on_cut()
        while not self._outbox.empty():  # these messages were for the lost connection
            self._outbox.get_nowait()
            self._outbox.task_done()
        for battle in self.battles.values():
            battle.on_cut()

    def on_line(self, line: str) -> None:
        """Handles a message that belongs to no room."""
        kind, _, rest = line[1:].partition("|")
        if kind == "updatesearch":
            told = json.loads(rest)
            for room in told.get("games") or ():
                self._note_unknown_battle(room)
            self._search.on_update(told.get("searching") or ())
        elif kind == "formats" and not self._formats_checked:
            self._formats_checked = True
            check_ladder(rest, self.format, self._server.name)
        elif kind == "popup":
            self._search.on_popup(plain(rest))

    def on_room(self, room: str, lines: list[str]) -> None:
        """Handles the messages of a room; other rooms than those of our battles are ignored."""
        if not self._is_battle(room):
            return
        first = lines[0] if lines else ""
        whole_log, gone = first.startswith("|init|"), first.startswith("|noinit|")
        battle = self._restart_from_log(room, lines) if whole_log else self.battles.get(room)
        if whole_log or gone:
            self._unknown.pop(room, None)
        elif battle is None and not first.startswith("|deinit"):
            self._note_unknown_battle(room)  # its first message was lost
        if battle is None:
            return
        if gone:
            self._write_down(battle, GONE)
            return
        try:
            battle.receive(lines)
        except Exception:
            battle.wants_log = True
            raise

    def _is_battle(self, room: str) -> bool:
        return re.fullmatch(rf"battle-{self.format}-\d+(-\w+)?", room) is not None

    def _note_unknown_battle(self, room: str) -> None:
        if self._is_battle(room) and room not in self.battles and room not in self._closed:
            self._unknown.setdefault(room, time.monotonic())

    def _restart_from_log(self, room: str, lines: list[str]) -> LadderBattle | None:
        """The battle to which this whole log belongs; None if it is over for us, or not ours."""
        outcome = read_outcome(lines)
        battle = self.battles.get(room)
        if battle is None and outcome.started is not None and self._closed.get(room) == outcome.started:
            return None
        not_ours = len(outcome.players) == 2 and self._username not in outcome.players
        if battle is not None and (not_ours or battle.outcome.started not in (None, outcome.started)):
            self._write_down(battle, GONE)  # a restarted server gives its numbers again, even to other players
            battle = None
        if not_ours:
            self._closed[room] = outcome.started
            self._queue(f"/leave {room}")
            return None
        return battle or self._add(room, None)

    # called ten times a second

    def _over(self) -> bool:
        if self.stops > 1:
            return True
        return (self.stops > 0 or self._battles_to_begin() <= 0) and not self._under_way and not self._search.open

    @property
    def _under_way(self) -> int:
        return len(self.battles) + len(self._unknown)

    def _battles_to_begin(self) -> float:
        """Battles still to begin."""
        if self._goal is None:
            return float("inf")
        finished = self.summary.finished if self._results is None else self._results.finished
        return self._goal - finished - self._under_way

    def _tick(self) -> None:
        now = time.monotonic()
        for battle in list(self.battles.values()):
            self._check_battle(battle, now)
        if not self._connection.logged_in:
            return
        for room, since in self._unknown.items():
            if now - since > self._timeouts.join_s:
                self._unknown[room] = now
                self._request_log(room)
        wanted = not self.stops and self._battles_to_begin() > 0 and self._under_way < self._concurrency
        self._search.tick(wanted=wanted)

    def _check_battle(self, battle: LadderBattle, now: float) -> None:
        if battle.ended_at is not None:
            outcome = battle.outcome
            complete = not outcome.rated or len(outcome.ratings) == len(outcome.players)
            if complete or now - battle.ended_at > self._timeouts.rating_s:
                self._write_down(battle, "")
        elif self._connection.logged_in:
            self._check_progress(battle, now)

    def _check_progress(self, battle: LadderBattle, now: float) -> None:
        """The watchdog. Where nothing happens: request the log, then start the clock, then forfeit, then give up."""
        quiet_s, stall_s = now - battle.progress_at, self._timeouts.stall_s
        if quiet_s > self._timeouts.forfeit_s + stall_s:
            self._write_down(battle, f"no progress for {quiet_s:.0f} s")
        elif quiet_s > self._timeouts.forfeit_s and battle.stage < 3:
            battle.stage = 3
            self._queue("/forfeit", battle.tag)
        elif not battle.in_room or battle.wants_log:
            if now - battle.asked_at > self._timeouts.join_s:
                self._rejoin(battle, now)
        elif quiet_s > (battle.stage + 1) * stall_s and battle.stage < 2:
            battle.stage += 1
            self._rejoin(battle, now)
            if battle.stage == 2:
                self._queue("/timer on", battle.tag)

    def _rejoin(self, battle: LadderBattle, now: float) -> None:
        """Has the server send the whole log and the open request again, as after a disconnect."""
        battle.asked_at = now
        battle.in_room = battle.wants_log = False
        self._request_log(battle.tag)

    def _request_log(self, room: str) -> None:
        self._queue(f"/leave {room}")  # the server sends the log only to those who enter
        self._queue(f"/join {room}")

    def _queue(self, message: str, room: str = "") -> None:
        self._outbox.put_nowait((message, room))

    async def _send_queued(self) -> None:
        while True:
            message, room = await self._outbox.get()
            await self._connection.send(message, room)
            self._outbox.task_done()

    # battles

    def _add(self, tag: str, log: BattleLog | None) -> LadderBattle:
        if log is None:
            log = BattleLog(None) if self._results is None else self._results.new_log(tag)
        battle = self.battles[tag] = LadderBattle(
            tag,
            player=self._player,
            username=self._username,
            battle_format=self.format,
            log=log,
            send=self._connection.send,
            recorder=self._recorder,
            timeouts=self._timeouts,
        )
        self._closed.pop(tag, None)
        self._search.on_battle()
        return battle

    def _resume_interrupted(self) -> None:
        """Takes over the battles of an earlier process: those whose log has the end are written down, others joined."""
        for tag, log in [] if self._results is None else self._results.interrupted():
            if tag in self.battles:  # from before a restart of the server, which numbers from 1 again
                self._write_down(self.battles[tag], GONE)
            battle = self._add(tag, log)
            if battle.outcome.winner is not None:
                self._write_down(battle, "read from its log after a restart")

    def _write_down(self, battle: LadderBattle, reason: str) -> None:
        """Ends a battle for us: writes its result, has its record saved, and leaves its room."""
        outcome = battle.outcome
        self._closed[battle.tag] = outcome.started
        battle.close()
        del self.battles[battle.tag]
        if self._connection.logged_in:
            self._queue(f"/leave {battle.tag}")
        result = battle.result()
        row = battle.row(self._label, result, reason)
        self.summary.results[result] += 1
        self.summary.decisions += battle.decisions.count
        self.summary.fallbacks += row.fallbacks
        self.summary.refused += battle.decisions.refusals
        self.summary.rejoins += battle.rejoins
        self.summary.rating = row.rating_after or self.summary.rating
        if self._results is not None and not self._results.write(battle.log, row) and not self.stops:
            logger.warning("no new battle begins; those in play are finished")
            self.stop()
        if self._on_row is not None:
            self._on_row(row)

    def _save(self, battle: Battle, record: RecordedBattle | None) -> None:
        """Called by the recorder: saves a finished battle, which was seen from its beginning, for training."""
        played = self.battles.get(battle.battle_tag)
        if record is None or played is None or played.resumed or self._results is None:
            return
        if played.result() not in FINISHED:
            return
        ratings = played.outcome.ratings.get(self._username)
        name = BattleFileName(
            battle_id=f"ladder-{'-'.join(played.log_name.split('-')[1:])}",
            rating=None if ratings is None else ratings[0],
            player=_NOT_IN_FILE_NAMES.sub("-", self._username),
            opponent=_NOT_IN_FILE_NAMES.sub("-", played.opponent),
            played_at=datetime.now().replace(microsecond=0),
            won=record.won,
        )
        try:
            save_battle(record, self._results.folder / "battles" / self.format, name)
        except OSError as error:  # its result counts all the same
            logger.warning("%s is not kept to train on: %s", battle.battle_tag, error.strerror)

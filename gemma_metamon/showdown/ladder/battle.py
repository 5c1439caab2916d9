"""One battle of a ladder player: follows the server's messages, and answers its requests in time.

After a disconnect the server sends the battle's whole log and the open request again. A new poke-env battle then reads
all of it, so that nothing depends on what was missed. A choice that the server did not get is sent again unchanged; one
that it has is not.
"""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timezone
from typing import Any

from poke_env.battle import Battle
from poke_env.data import GenData
from poke_env.player import BattleOrder, ForfeitBattleOrder, Player

from gemma_metamon.results.schema import LadderRow, Result
from gemma_metamon.showdown.ladder.results import BattleLog, Outcome
from gemma_metamon.showdown.ladder.timeouts import LadderTimeouts
from gemma_metamon.showdown.live.battle import NOT_FED, LiveBattle, live_battle
from gemma_metamon.showdown.live.battle_progress import count_progress
from gemma_metamon.showdown.live.deciding import Decisions, decide, decide_lead, is_refusal
from gemma_metamon.showdown.live.poke_env_hooks import end_battle
from gemma_metamon.showdown.live.recording import Recorder

logger = logging.getLogger(__name__)

Send = Callable[[str, str], Awaitable[bool]]
"""Sends a message to a room; returns whether there was a connection to send it over."""


class LadderBattle:
    """A battle from its first message to its line in the results.

    Args:
        tag: "battle-gen1ou-12".
        player: makes the choices; it has no connection of its own.
        username: ours, as the server writes it.
        battle_format: "gen1ou".
        log: where the battle's messages are logged; not empty where an earlier process began the battle.
        send: sends the choices.
        recorder: is told of every request, of what is sent for it, and of the end.
        timeouts: of which `decision_s` counts here.
    """

    def __init__(
        self,
        tag: str,
        *,
        player: Player,
        username: str,
        battle_format: str,
        log: BattleLog,
        send: Send,
        recorder: Recorder,
        timeouts: LadderTimeouts,
    ) -> None:
        self.tag = tag
        self.username = username
        self.log = log
        self.resumed = bool(log.lines)
        self.decisions = Decisions()
        self.reconnects = 0
        self.rejoins = 0
        self.in_room = False
        self.wants_log = False  # a message could not be read: the whole log is to be requested
        self.asked_at = 0.0  # when the log was last requested
        self.progress_at = time.monotonic()
        self.stage = 0  # how many of its steps the watchdog has taken since there was progress
        self.ended_at: float | None = None
        self._player = player
        self._send_to_room = send
        self._recorder = recorder
        self._timeouts = timeouts
        self._gen = GenData.from_format(battle_format).gen
        self._format = battle_format
        started = self.outcome.started
        self._began_at = float(started) if started else time.time()
        # of a battle that an earlier process began: by the server's clock, or ours then, of which either may be ahead
        self._seconds_before = max(time.time() - self._began_at, 0.0)
        self._seen_since = time.monotonic()
        self._count = self._progress = 0  # messages that show progress: in the present log, and the most ever
        self._unreadable: set[str] = set()
        self._rqid = -1
        self._choices: dict[int, str] = {}  # by request: the choice that was, or is to be, sent
        self._deciding: asyncio.Task[None] | None = None
        self.battle = self._fresh_battle()

    @property
    def outcome(self) -> Outcome:
        """What the log says so far: the players, turns, the winner, new ratings."""
        return self.log.outcome

    @property
    def log_name(self) -> str:
        """The name of the log's file without ".log"; the tag where there is no file."""
        return self.tag if self.log.path is None else self.log.path.stem

    def receive(self, lines: list[str]) -> None:
        """Handles a message of this battle's room."""
        if lines and lines[0].startswith("|init|"):
            self._restart(lines)
        else:
            self.log.add(lines)
        request: str | None = None
        sent_choice = False
        for line in lines:
            kind, _, rest = line[1:].partition("|")
            if kind == "request":
                request = rest
            elif kind == "sentchoice":
                sent_choice = True
            elif kind == "error":
                self._on_error(rest)
            elif kind in ("win", "tie"):
                self._end()
            elif line.startswith("|") and kind not in NOT_FED:
                self._feed(line)
        self._count += count_progress(lines)
        if self._count > self._progress:
            self._progress = self._count
            self.note_progress()
        if request and request != "null" and self.ended_at is None:
            self._on_request(request, sent_choice=sent_choice)

    def on_cut(self) -> None:
        """The connection is lost; the server has to let us into the room again."""
        self.reconnects += 1
        self.in_room = False

    @property
    def opponent(self) -> str:
        """The other player's name; "unknown" before the server has told it."""
        return next((name for name in self.outcome.players if name != self.username), "unknown")

    def row(self, player: str | None, result: Result, reason: str) -> LadderRow:
        """The battle's line in the results.

        Args:
            player: the label of who plays.
            result: as `result` gives it, or "unfinished".
            reason: why it is unfinished, or how the result was found; "" for a battle that ended normally.
        """
        outcome = self.outcome
        before, after = outcome.ratings.get(self.username, (None, None))
        return LadderRow(
            log="" if self.log.path is None else self.log.path.name,
            player=player,
            battle=self.tag,
            username=self.username,
            format=self._format,
            opponent=self.opponent,
            result=result,
            reason=reason,
            rating_before=before,
            rating_after=after,
            turns=outcome.turns,
            began_at=datetime.fromtimestamp(self._began_at, timezone.utc).isoformat(timespec="seconds"),
            seconds=round(self._seconds_before + time.monotonic() - self._seen_since, 2),
            decisions=self.decisions.count,
            fallbacks=sum(self.decisions.fallbacks.values()),
            fallback_reasons=dict(self.decisions.fallbacks),
            refused=self.decisions.refusals,
            reconnects=self.reconnects,
            rejoins=self.rejoins,
        )

    def result(self) -> Result:
        """What the log says: "won", "lost", "tied", or "unfinished"."""
        winner = self.outcome.winner
        if winner is None:
            return "unfinished"
        return "tied" if not winner else "won" if winner == self.username else "lost"

    def close(self) -> None:
        """Stops deciding, and tells the player that the battle is over, so that it forgets it."""
        if self._deciding is not None:
            self._deciding.cancel()
        self._tell_of_end(lambda: self._recorder.note_end(live_battle(self.battle)))
        self._tell_of_end(lambda: end_battle(self._player, self.battle))

    def _tell_of_end(self, tell: Callable[[], None]) -> None:
        try:
            tell()
        except Exception as error:  # noqa: BLE001 the battle may never have begun, or a message have been damaged
            logger.info("%s ended with %s: %s", self.tag, type(error).__name__, error)

    def _fresh_battle(self) -> Battle:
        return Battle(battle_tag=self.tag, username=self.username, logger=self._player.logger, gen=self._gen)

    def _restart(self, lines: list[str]) -> None:
        """The server sends the whole log: a new poke-env battle will read it."""
        if self.in_room or self.rejoins or self.log.lines:
            self.rejoins += 1
        self.in_room, self.wants_log = True, False
        self.log.replace(lines)
        self._count = 0
        self.battle = self._fresh_battle()

    def _feed(self, line: str) -> None:
        try:
            self.battle.parse_message(line.split("|"))
        except NotImplementedError:  # a kind of message that poke-env does not know, and so has no use for
            logger.debug("%s: not known to poke-env: %s", self.tag, line)
        except Exception as error:  # noqa: BLE001 poke-env's readers fail in many ways on what they do not expect
            self._note_unreadable(line, error)

    def _note_unreadable(self, what: str, error: Exception) -> None:
        """Has the whole log requested, once for each thing that cannot be read: it may have been damaged on its way."""
        if what not in self._unreadable:
            self._unreadable.add(what)
            self.wants_log = True
        logger.info("%s: %s: %s in %.100s", self.tag, type(error).__name__, error, what)

    def note_progress(self) -> None:
        """The watchdog starts to wait again from now."""
        self.progress_at, self.stage = time.monotonic(), 0

    def _end(self) -> None:
        winner = self.outcome.winner
        if winner is None:  # the message names nobody who plays here: it is damaged
            self.wants_log = True
            return
        if self.ended_at is None:
            self.ended_at = time.monotonic()
            if self._deciding is not None:
                self._deciding.cancel()
        if winner:
            self.battle.won_by(winner)
        else:
            self.battle.tied()  # type: ignore[no-untyped-call]

    def _on_error(self, reason: str) -> None:
        choice = self._choices.get(self._rqid)
        if choice is None or not is_refusal(reason):
            return
        logger.info("%s: the server refused %s: %s", self.tag, choice, reason)
        self.decisions.refuse(choice)
        if reason.startswith("[Invalid choice]"):  # after an unavailable one the server sends a new request
            del self._choices[self._rqid]
            self._start_deciding(self._rqid)

    def _on_request(self, text: str, *, sent_choice: bool) -> None:
        try:
            request = json.loads(text)
            rqid = int(request["rqid"])
        except (ValueError, KeyError, TypeError) as error:
            self._note_unreadable(text, error)
            return
        try:
            self.battle.parse_request(request)
        except Exception as error:  # noqa: BLE001 as in _feed
            known = text in self._unreadable
            self._note_unreadable(text, error)
            if not known:  # wait for the log; the second time, decide with what could be read
                return
        if request.get("wait"):
            return
        if rqid != self._rqid:
            self.decisions.begin_request(self._choices.get(self._rqid))
            self._rqid = rqid
            self.note_progress()
        choice = self._choices.get(rqid)
        if sent_choice:
            self._choices.setdefault(rqid, "")
        elif choice:
            self._spawn(self._send(choice, rqid))
        elif self._deciding is None or self._deciding.done() or self._deciding.get_name() != str(rqid):
            self._start_deciding(rqid)

    def _start_deciding(self, rqid: int) -> None:
        if self._deciding is not None:
            self._deciding.cancel()
        self._deciding = asyncio.get_running_loop().create_task(self._decide(rqid), name=str(rqid))

    async def _decide(self, rqid: int) -> None:
        deadline_s = self._timeouts.decision_s
        if self.battle.teampreview:
            message = await decide_lead(self._player.teampreview, self.battle, self.decisions, deadline_s)
        else:
            message = (await self._decide_and_record(live_battle(self.battle), deadline_s)).message
        if message in self.decisions.refused:  # even the default choice is refused: the watchdog will give up
            return
        self._choices[rqid] = message
        await self._send(message, rqid)

    async def _decide_and_record(self, live: LiveBattle, deadline_s: float) -> BattleOrder:
        lack: Exception | None = None
        try:
            self._recorder.note_request(live)
        except Exception as error:  # noqa: BLE001 the choice must be sent, whatever is wrong with our battle object
            lack = error

        def choose(battle: Battle) -> Any:
            if lack is not None:  # the player is not asked about a battle without a state
                raise lack
            return self._player.choose_move(battle)

        order = await decide(choose, live, self.decisions, deadline_s)
        if self.decisions.failure is not None:  # perhaps because a message was missed
            self._note_unreadable(str(self.decisions.failure), self.decisions.failure)
        if lack is None:
            self._recorder.note_sent(live, order)
        return order

    async def _send(self, message: str, rqid: int) -> None:
        forfeit = message == ForfeitBattleOrder().message
        await self._send_to_room(message if forfeit else f"{message}|{rqid}", self.tag)

    def _spawn(self, sending: Any) -> None:
        task = asyncio.ensure_future(sending)
        _sendings.add(task)
        task.add_done_callback(_sendings.discard)


_sendings: set["asyncio.Future[None]"] = set()  # asyncio itself keeps only weak references to tasks

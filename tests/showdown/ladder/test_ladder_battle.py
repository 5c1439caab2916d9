"""One battle of a ladder player, told what a client was told in recorded battles; no server takes part."""

import asyncio
import time
from typing import Any

import pytest
from poke_env.player import Player, RandomPlayer
from support.ladder_players import QUICK, Failing
from support.live_goldens import FORMATS, decisions, told

from gemma_metamon.battle.replays import RecordedBattle
from gemma_metamon.results.schema import LadderRow
from gemma_metamon.showdown.ladder import results
from gemma_metamon.showdown.ladder.battle import LadderBattle
from gemma_metamon.showdown.ladder.results import BattleLog
from gemma_metamon.showdown.live.recording import Recorder
from gemma_metamon.showdown.players.registry import connection


class Sent(list[str]):
    """A connection that keeps what is sent."""

    async def send(self, message: str, room: str) -> bool:
        self.append(message)
        return True


def begin(
    kind: type[Player], tag: str, username: str, sent: Sent, recorder: Recorder, log: BattleLog | None = None
) -> LadderBattle:
    battle_format = tag.split("-")[1]
    options = connection(username, battle_format=battle_format, websocket_url="ws://localhost:1/", team=None)
    return LadderBattle(
        tag,
        player=kind(**options, start_listening=False),
        username=username,
        battle_format=battle_format,
        log=log or BattleLog(None),
        send=sent.send,
        recorder=recorder,
        timeouts=QUICK,
    )


async def play(kind: type[Player], battle_format: str) -> list[tuple[RecordedBattle, Sent]]:
    """Each battle of the goldens as this player of a ladder would record it, and what it sends."""
    battles: dict[str, tuple[LadderBattle, Sent, list[Any]]] = {}
    for tag, username, lines in told(battle_format):
        if tag not in battles:
            sent, records = Sent(), []
            recorder = Recorder(lambda battle, record, records=records: records.append(record))
            battles[tag] = begin(kind, tag, username, sent, recorder), sent, records
        battle = battles[tag][0]
        battle.receive(lines)
        if battle._deciding is not None and battle.ended_at is None:
            await battle._deciding
    for battle, _, _ in battles.values():
        battle.close()
    return [(records[0], sent) for _, sent, records in battles.values()]


@pytest.mark.parametrize("kind", [RandomPlayer, Failing])
@pytest.mark.parametrize("battle_format", FORMATS)
def test_what_is_recorded_is_what_is_sent_whoever_chose_it(kind: type[Player], battle_format: str) -> None:
    states = [battle.finished for battle, _ in decisions(battle_format)]
    played = asyncio.run(play(kind, battle_format))
    assert sum(len(record.states) for record, _ in played) == len(states)
    for record, sent in played:
        assert all(action >= 0 for action in record.actions[:-1])
        orders = [message for message in sent if "/choose move" in message or "/choose switch" in message]
        assert len(orders) == len(record.actions) - 1
        for action, order in zip(record.actions, orders, strict=False):
            verb, place = order.split("|")[0].split(" ")[1:3]
            assert verb == ("switch" if 4 <= action <= 8 else "move")
            assert place.isdigit()


@pytest.mark.parametrize("jump_s", [-86_400, 86_400])
@pytest.mark.parametrize("before_s", [None, -3600, 3600], ids=["ours", "ahead of us", "resumed"])
def test_a_clock_that_jumps_changes_no_battles_length(
    before_s: int | None, jump_s: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is a battle shorter than nothing that began, by the server's clock, in our future."""

    async def row_after_a_minute() -> LadderRow:
        now, since = time.time(), time.monotonic()
        log = BattleLog(None, [] if before_s is None else [f"|t:|{int(now) - before_s}"])
        battle = begin(RandomPlayer, "battle-gen1ou-1", "Anna", Sent(), Recorder(lambda *_: None), log)
        monkeypatch.setattr(time, "time", lambda: now + jump_s)
        monkeypatch.setattr(time, "monotonic", lambda: since + 60)
        row = battle.row(None, "unfinished", "")
        monkeypatch.undo()
        battle.close()
        return row

    row = asyncio.run(row_after_a_minute())
    assert row.seconds == pytest.approx(60 + max(before_s or 0, 0), abs=30)


def test_the_log_is_read_again_only_when_it_has_grown(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    read_outcome = results.read_outcome
    monkeypatch.setattr(results, "read_outcome", lambda lines: (read.append(len(lines)), read_outcome(lines))[1])

    async def told_in_two_parts() -> None:
        battle = begin(RandomPlayer, "battle-gen1ou-1", "Red", Sent(), Recorder(lambda battle, record: None))
        battle.receive(["|init|battle", "|player|p1|Red|1|", "|player|p2|Blue|2|", "|turn|1"])
        for _ in range(3):
            assert (battle.outcome.turns, battle.opponent, battle.result()) == (1, "Blue", "unfinished")
        battle.receive(["|turn|2"])
        for _ in range(3):
            assert battle.outcome.turns == 2

    asyncio.run(told_in_two_parts())
    assert read == [0, 4, 5]

"""A battle as its recorder writes it down: each state and what was chosen in it, whatever the end."""

import asyncio
from types import SimpleNamespace
from typing import Any

from poke_env.battle import AbstractBattle, Battle
from poke_env.player import BattleOrder, ForfeitBattleOrder, SingleBattleOrder
from support.live_battles import battle_with_request
from support.live_goldens import feed

from gemma_metamon.battle.replays import RecordedBattle
from gemma_metamon.showdown.live.door import open_door
from gemma_metamon.showdown.live.recording import Recorder


class Scripted:
    """What a door needs of a player."""

    def __init__(self, *orders: str) -> None:
        self._orders = list(orders)
        self.ps_client = SimpleNamespace(_on_battle_message=None)

    def teampreview(self, battle: AbstractBattle) -> str:
        return "/team 1"

    def choose_move(self, battle: AbstractBattle) -> BattleOrder:
        return SingleBattleOrder(self._orders.pop(0))

    def _battle_finished_callback(self, battle: AbstractBattle) -> None:
        pass


def record(*orders: str, max_turns: int = 100) -> tuple[Any, Battle, list[RecordedBattle | None]]:
    records: list[RecordedBattle | None] = []
    player: Any = Scripted(*orders)
    open_door(player).record(Recorder(lambda battle, record: records.append(record), max_turns=max_turns))
    return player, battle_with_request(), records


def choose(player: Any, battle: Battle) -> BattleOrder:
    order: BattleOrder = asyncio.run(player.choose_move(battle))
    return order


def test_each_decision_is_a_state_and_its_action() -> None:
    player, battle, records = record("/choose move earthquake", "/choose switch Tauros", "/choose default")
    for turn in (2, 3, 4):
        choose(player, battle)
        feed(battle, [f"|turn|{turn}"])
    battle.won_by("Red")
    player._battle_finished_callback(battle)
    assert records[0] is not None
    assert records[0].actions == (1, 4, -1, -1)  # "default" leaves the choice to the server: unknown
    assert records[0].won


def test_refused_choice_is_replaced_by_the_next() -> None:
    player, battle, records = record("/choose switch Tauros", "/choose move rest")
    choose(player, battle)
    choose(player, battle)  # asked again, nothing has happened in between
    battle.won_by("Blue")
    player._battle_finished_callback(battle)
    assert records[0] is not None
    assert records[0].actions == (2, -1)


def test_tie_is_neither_won_nor_lost() -> None:
    player, battle, records = record("/choose move rest")
    choose(player, battle)
    battle.tied()
    player._battle_finished_callback(battle)
    assert records[0] is not None
    assert not records[0].states[-1].battle_won
    assert not records[0].states[-1].battle_lost


def test_long_battle_is_given_up_and_is_neither_won_nor_lost() -> None:
    player, battle, records = record("/choose move rest", max_turns=1)
    choose(player, battle)
    feed(battle, ["|turn|2"])
    assert isinstance(choose(player, battle), ForfeitBattleOrder)
    battle.won_by("Blue")
    player._battle_finished_callback(battle)
    assert records[0] is not None
    assert records[0].actions == (2, -1)
    assert not records[0].states[-1].battle_lost


def test_battle_that_ends_while_a_player_chooses_has_a_record_without_that_choice() -> None:
    _, battle, records = record()

    class Slow(Scripted):
        def choose_move(self, battle: AbstractBattle) -> BattleOrder:
            battle.won_by("Red")
            slow._battle_finished_callback(battle)
            return super().choose_move(battle)

    slow: Any = Slow("/choose move rest")
    open_door(slow).record(Recorder(lambda battle, record: records.append(record)))
    assert choose(slow, battle).message == "/choose move 1"
    assert records[0] is not None
    assert records[0].actions == (-1, -1)
    assert records[0].won


def test_battle_without_a_choice_has_no_record() -> None:
    player, battle, records = record()
    battle.won_by("Red")
    player._battle_finished_callback(battle)
    assert records == [None]

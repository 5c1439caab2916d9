"""A battle is derived once per request, whoever looks at it: player, recorder and observer."""

import asyncio
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from poke_env.battle import AbstractBattle, Battle, DoubleBattle
from poke_env.player import BattleOrder
from support.live_battles import START, new_battle
from support.live_goldens import FORMATS, decisions, feed, quiet_logger

from gemma_metamon.errors import ServerError
from gemma_metamon.showdown.live import battle as derivation
from gemma_metamon.showdown.live import deciding
from gemma_metamon.showdown.live.battle import LiveBattle, live_battle
from gemma_metamon.showdown.live.door import open_door
from gemma_metamon.showdown.live.memory import BattleMemory
from gemma_metamon.showdown.live.recording import Recorder
from gemma_metamon.showdown.live.state import StateReader


def test_all_who_look_at_a_battle_share_one_derivation() -> None:
    first, second = new_battle(*START), new_battle(*START)
    assert live_battle(first) is live_battle(first)
    assert live_battle(first) is not live_battle(second)
    live = live_battle(first)
    assert live.state is live.state
    assert live.options is live.options


def test_a_message_a_request_and_the_end_make_what_was_derived_anew() -> None:
    battle = new_battle(*START)
    live = LiveBattle(battle)
    states, options = [live.state], [live.options]
    for step in (
        lambda: feed(battle, ["|-damage|p2a: Gengar|50/100"]),
        lambda: battle.parse_request({"side": {"pokemon": []}}),
        lambda: battle.won_by("Red"),
    ):
        step()
        states.append(live.state)
        options.append(live.options)
        assert states[-1] is not states[-2]
        assert options[-1] is not options[-2]
    assert states[1].opponent_active_pokemon.hp_pct == 0.5
    assert states[-1].battle_won


@pytest.mark.parametrize("battle_format", FORMATS)
def test_looked_at_once_or_at_every_message_a_battle_is_the_same(battle_format: str) -> None:
    for battle, _ in decisions(battle_format):
        live = live_battle(battle)
        assert live.state == LiveBattle(battle).state
        assert {a: order.message for a, order in live.options.items()} == {
            a: order.message for a, order in LiveBattle(battle).options.items()
        }


def test_a_battle_of_more_than_one_pokemon_a_side_has_none() -> None:
    with pytest.raises(ServerError, match="battle-gen9doublesou-1 is no singles battle; only singles formats"):
        live_battle(DoubleBattle("battle-gen9doublesou-1", "Red", quiet_logger(), gen=9))  # type: ignore[arg-type]


class Looking:
    """A player that looks at everything, as an agent does, and takes its first option."""

    def __init__(self) -> None:
        self.ps_client = SimpleNamespace(_on_battle_message=None)
        self.seen: list[Any] = []

    def choose_move(self, battle: AbstractBattle) -> BattleOrder:
        live = live_battle(battle)
        self.seen.append(live.state)
        return next(iter(live.options.values()))

    def teampreview(self, battle: AbstractBattle) -> str:
        return "/team 123456"

    def _battle_finished_callback(self, battle: AbstractBattle) -> None:
        pass


@pytest.mark.parametrize("battle_format", FORMATS)
def test_player_and_recorder_cost_one_state_one_set_of_options_and_one_translation(
    battle_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: Counter[str] = Counter()

    def count(owner: Any, name: str) -> None:
        function = getattr(owner, name)

        def counted(*arguments: Any) -> Any:
            calls[name] += 1
            return function(*arguments)

        monkeypatch.setattr(owner, name, counted)

    count(StateReader, "read")
    count(derivation, "legal_options")
    count(deciding, "as_sent")
    count(BattleMemory, "_read_message")
    player: Any = Looking()
    records: list[Any] = []
    open_door(player).record(Recorder(lambda battle, record: records.append(record)))
    battles: dict[str, Battle] = {}
    for battle, _ in decisions(battle_format):
        battles[battle.battle_tag] = battle
        if not battle.finished:
            asyncio.run(player.choose_move(battle))
    for battle in battles.values():
        player._battle_finished_callback(battle)
    n_decisions = len(player.seen)
    assert n_decisions > 50
    assert calls["legal_options"] == calls["as_sent"] == n_decisions
    assert calls["read"] == n_decisions + len(battles)  # and the one at the end
    assert calls["_read_message"] <= sum(live_battle(battle).n_messages for battle in battles.values())
    assert [state for record in records for state in record.states[:-1]] == player.seen
    assert all(action >= 0 for record in records for action in record.actions[:-1])

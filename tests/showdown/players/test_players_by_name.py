"""Players by name, the names they log in with, and one that has a rule of its own."""

from typing import Any

import pytest
from support.live_battles import battle_with_request

from gemma_metamon.errors import ConfigError
from gemma_metamon.showdown.players.registry import MAX_NAME, NoSwitchRandomPlayer, player_class, user_name


def test_unknown_player_is_an_error_with_the_nearest_and_all_names() -> None:
    with pytest.raises(
        ConfigError, match=r"'SimpleHeuristicPlayer'; did you mean SimpleHeuristicsPlayer\?.*RandomPlayer"
    ):
        player_class("SimpleHeuristicPlayer")


def test_user_names_fit_the_server_and_the_file_names() -> None:
    names = {user_name("SimpleHeuristicsPlayer") for _ in range(50)} | {user_name("my_own player/ÄÖ")}
    assert len(names) == 51
    assert all(len(name) <= MAX_NAME and "_" not in name and name.isascii() for name in names)


def test_player_without_switches_only_leaves_when_it_must() -> None:
    battle = battle_with_request()
    choose = NoSwitchRandomPlayer.choose_move
    player: Any = object.__new__(NoSwitchRandomPlayer)
    for _ in range(20):
        assert choose(player, battle).message.startswith("/choose move")
    battle._available_moves = []
    battle._force_switch = True
    assert choose(player, battle).message.startswith("/choose switch")

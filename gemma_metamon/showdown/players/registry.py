"""The scripted players by name, and how any player is connected to a server."""

import difflib
import logging
import random
import secrets
from typing import Any

from poke_env import AccountConfiguration, ServerConfiguration
from poke_env.battle import AbstractBattle
from poke_env.player import BattleOrder, MaxBasePowerPlayer, Player, RandomPlayer, SimpleHeuristicsPlayer
from poke_env.teambuilder import Teambuilder

from gemma_metamon.errors import ConfigError
from gemma_metamon.showdown.accounts import MAX_NAME
from gemma_metamon.showdown.live.poke_env_hooks import check_poke_env
from gemma_metamon.showdown.scripted.trainers import DamageTrainer, DuelTrainer, TypeTrainer

# poke-env warns of every message that it does not model, several times a battle; failures reach us in another way
logging.getLogger("poke-env").setLevel(logging.ERROR)


class NoSwitchRandomPlayer(RandomPlayer):
    """Random moves, never leaving of its own accord: what a player that has learnt nothing else could do."""

    def choose_move(self, battle: AbstractBattle) -> BattleOrder:
        """A random move; a random switch where no move is allowed."""
        moves: Any = battle.available_moves
        if moves:
            return self.create_order(moves[random.randrange(len(moves))])
        return self.choose_random_move(battle)


PLAYERS: dict[str, type[Player]] = {
    player.__name__: player
    for player in (
        RandomPlayer,
        NoSwitchRandomPlayer,
        MaxBasePowerPlayer,
        SimpleHeuristicsPlayer,
        TypeTrainer,
        DamageTrainer,
        DuelTrainer,
    )
}


def player_class(name: str) -> type[Player]:
    """Raises ConfigError, with the nearest name and all of them, for a name that is none of PLAYERS."""
    if name not in PLAYERS:
        by_lower = {known.lower(): known for known in PLAYERS}
        near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.4)
        meant = f"did you mean {by_lower[near[0]]}? " if near else ""
        raise ConfigError(f"no player is called {name!r}; {meant}there are {', '.join(PLAYERS)}")
    return PLAYERS[name]


def user_name(label: str) -> str:
    """A user name that nobody else has: the label's beginning and eight random characters, without underscores."""
    return _named(label, secrets.token_hex(4))


def seat_name(label: str, seat: str) -> str:
    """A user name that only the other seat of the battle does not have: the label's beginning, and "p1" or "p2"."""
    return _named(label, seat)


def _named(label: str, token: str) -> str:
    kept = "".join(char for char in label.removesuffix("Player") if char.isascii() and char.isalnum())
    return f"{kept[: MAX_NAME - len(token) - 1]}-{token}"


def connection(
    name: str,
    *,
    battle_format: str,
    websocket_url: str,
    team: Teambuilder | None,
    concurrency: int = 1,
) -> dict[str, Any]:
    """Keyword arguments with which any poke-env Player joins a server without accounts, silently.

    Args:
        name: the user name, at most `MAX_NAME` characters that the server knows nobody else by.
        battle_format: e.g. "gen1ou".
        websocket_url: of the server, "ws://localhost:8000/showdown/websocket".
        team: gives each battle its team; None for a format that gives out teams.
        concurrency: battles at a time; 0 sets no limit.

    Raises:
        MissingDependencyError: a version of poke-env is installed that battles cannot be followed with.
    """
    check_poke_env()
    return {
        "account_configuration": AccountConfiguration(name, None),
        "server_configuration": ServerConfiguration(websocket_url, "no-login-server"),
        "battle_format": battle_format,
        "team": team,
        "max_concurrent_battles": concurrency,
        # poke-env logs whole messages, and its own errors twice; matches/watching.py watches the player instead
        "log_level": logging.CRITICAL + 1,
        # on a busy machine, a server that has just begun takes its time
        "open_timeout": 60,
        # a long computation must not look like a dead connection
        "ping_timeout": None,
    }

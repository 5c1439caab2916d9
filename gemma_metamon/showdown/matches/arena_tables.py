"""Both seats of a battle in an arena: who plays, with which team. What is drawn follows from a seed and a number."""

from collections.abc import Sequence
from typing import Any

from poke_env.player import Player

from gemma_metamon.showdown.arena.arena import SEATS, Arena, Seat
from gemma_metamon.showdown.arena.seeds import dice, simulator_seed
from gemma_metamon.showdown.live.recording import Recorder
from gemma_metamon.showdown.matches.arena_seats import ArenaSeat
from gemma_metamon.showdown.players.contestants import Contestant
from gemma_metamon.showdown.players.registry import connection, seat_name

Table = tuple[ArenaSeat, ArenaSeat]
"""Both seats of a battle: p1 and p2."""
Teams = tuple[str | None, str | None]
"""Theirs, packed; None in formats that give out teams."""
_NOWHERE = "ws://arena"
"""poke-env's players want an address, and do not go there."""


def player_of(who: Contestant, seat: str, battle_format: str, **options: Any) -> Player:
    """A player for the battles in which that contestant sits in that seat; `options` are poke-env's."""
    name = seat_name(who.name, seat)
    connected = connection(name, battle_format=battle_format, websocket_url=_NOWHERE, team=None)
    return who.build(**connected, start_listening=False, **options)


def draw_pair(teams: Sequence[str], seed: int, number: int) -> Teams:
    """The teams of one battle; None where there are none to draw from."""
    drawn = dice(seed, number, "teams")
    return (drawn.choice(teams), drawn.choice(teams)) if teams else (None, None)


def begin_battle(
    arena: Arena,
    tag: str,
    *,
    battle_format: str,
    seed: int,
    number: int,
    players: tuple[Player, Player],
    teams: Teams,
    recorders: tuple[Recorder | None, Recorder | None] = (None, None),
) -> Table:
    """Seats the players, and begins the battle.

    Args:
        arena: in which it is played.
        tag: "battle-gen1ou-12".
        battle_format: "gen1ou".
        seed: of the run.
        number: of the battle in it: the dice, what each player draws and a team that is given out follow from both.
        players: of p1 and p2.
        teams: theirs.
        recorders: of what they see.
    """
    seated = zip(SEATS, players, recorders, strict=True)
    first, second = (ArenaSeat(tag, who, dice(seed, number, "player", seat), to, arena) for seat, who, to in seated)
    p1, p2 = (
        Seat(name=who.username, team=team, seed=None if team else simulator_seed(seed, number, "team", seat))
        for seat, who, team in zip(SEATS, players, teams, strict=True)
    )
    arena.start(tag, battle_format=battle_format, seed=simulator_seed(seed, number, "dice"), seats=(p1, p2))
    return first, second

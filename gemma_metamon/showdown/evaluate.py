"""How often a player wins: matches against named opponents on a running server, with 95 % intervals.

What an evaluation leaves in its folder (all names are contestants' labels, all rates are shares of 1):

    results.json        one object:
        format, seed, seconds
        battles_per_pair    as asked for
        unfinished          null, or one sentence: why fewer were played
        contestants         in the order of the command line, each
            name, kind          kind is "checkpoint", "scripted" or "outside"
            battles, wins, losses, ties, win_rate, interval_95 ([low, high]; win_rate is null of no battles)
            mean_turns          null of no battles
            choices, refused    sent to the server, and those of them that it refused
            legal_rate          1 - refused / choices; null where we do not see its choices (an outside player)
            latency_ms          {"median": ..., "p95": ...} of a decision, or null
            rating              null, or in a round robin {"elo": ..., "interval_95": [low, high], "deviation": ..., "gxe": ...}
        pairs               each who met whom, from the first one's side:
            player, opponent, and every field of a contestant from battles to latency_ms
    battles.jsonl       one object per battle, written when it ends:
        battle              its tag, "battle-gen1ou-12"
        player, opponent    labels; the order of `pairs`
        p1                  "player" or "opponent": who sat in the simulator's first seat
        result              "win", "loss" or "tie", the player's
        turns
        draw                which drawn pair of teams; each is played twice, with seats and teams exchanged
        teams               [the player's, the opponent's]: positions among the teams of the format
        choices, refused    [the player's, the opponent's]
        log                 "battles/battle-gen1ou-12.log", beneath the folder
    battles/<tag>.log   the simulator's messages as the player received them, one a line, as replays hold them
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from poke_env.player import Player

from gemma_metamon.showdown.baselines import connection, player_class, user_name
from gemma_metamon.showdown.play import SILENCE_TIMEOUT_S, disconnect, play_pair
from gemma_metamon.showdown.teams import SeededTeambuilder

Z_95 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""


@dataclass(frozen=True, kw_only=True)
class MatchResult:
    """Battles of one player against one opponent, from the player's side."""

    opponent: str
    wins: int
    losses: int
    ties: int

    @property
    def battles(self) -> int:
        return self.wins + self.losses + self.ties

    @property
    def win_rate(self) -> float:
        return self.wins / self.battles if self.battles else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        return wilson_interval(self.wins, self.battles)

    def as_dict(self) -> dict[str, Any]:
        low, high = self.interval
        return {
            "opponent": self.opponent,
            "battles": self.battles,
            "wins": self.wins,
            "losses": self.losses,
            "ties": self.ties,
            "win_rate": self.win_rate,
            "interval_95": [low, high],
        }


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % score interval of a proportion (Wilson 1927, JASA 22:209-212), within 0..1; (0, 1) of no trials."""
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    scale = 1 + Z_95**2 / trials
    centre = (share + Z_95**2 / (2 * trials)) / scale
    half_width = Z_95 / scale * math.sqrt(share * (1 - share) / trials + Z_95**2 / (4 * trials**2))
    return max(0.0, centre - half_width), min(1.0, centre + half_width)


async def play_match(
    build_player: Callable[..., Player],
    opponent: str,
    n_battles: int,
    *,
    battle_format: str,
    teams: Sequence[str],
    websocket_url: str,
    seed: int = 0,
    concurrency: int = 16,
    timeout_s: float = SILENCE_TIMEOUT_S,
) -> MatchResult:
    """Plays n_battles and counts them. Both sides draw their teams from `teams`, by the seed.

    Args:
        build_player: called with poke-env's connection arguments; the class of a scripted player will do.
        opponent: a name of baselines.PLAYERS.
        n_battles: how many.
        battle_format: e.g. "gen1ou".
        teams: Showdown's export texts.
        websocket_url: of the server.
        seed: of the teams.
        concurrency: battles at a time.
        timeout_s: silence after which the match is given up.

    Raises:
        ConfigError: an unknown opponent.
        ServerError: a refused team, a lost connection, or silence.
    """
    dice = random.Random(seed)

    def options(label: str) -> dict[str, Any]:
        return connection(
            user_name(label),
            battle_format=battle_format,
            websocket_url=websocket_url,
            team=SeededTeambuilder(list(teams), dice.getrandbits(32)),
            concurrency=concurrency,
        )

    opponent_class = player_class(opponent)
    player, other = build_player(**options("Agent")), opponent_class(**options(opponent))
    try:
        await play_pair(player, other, n_battles, timeout_s=timeout_s)
    finally:
        await disconnect(player, other)
    return MatchResult(
        opponent=opponent, wins=player.n_won_battles, losses=player.n_lost_battles, ties=player.n_tied_battles
    )

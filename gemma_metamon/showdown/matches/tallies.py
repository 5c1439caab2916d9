"""What is counted of somebody's battles: results, turns, choices sent and refused, the time of each decision."""

import math
import time
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
from poke_env.battle import AbstractBattle
from poke_env.player import BattleOrder, Player

from gemma_metamon.intervals import wilson_interval
from gemma_metamon.results.schema import Counts, Latency, counts_of
from gemma_metamon.showdown.live.deciding import is_refusal
from gemma_metamon.showdown.live.door import open_door
from gemma_metamon.showdown.live.poke_env_hooks import (
    Choose,
    ReceiveBattleMessages,
    intercept_battle_messages,
    intercept_choices,
)


@dataclass(kw_only=True)
class Choices:
    """Of one side: how many it sent, how many of them the server refused, and the milliseconds of each decision."""

    sent: int = 0
    refused: int = 0
    latencies_ms: list[float] = field(default_factory=list)

    def add(self, other: "Choices") -> None:
        """Counts the other's, too."""
        self.sent += other.sent
        self.refused += other.refused
        self.latencies_ms += other.latencies_ms

    @property
    def latency(self) -> Latency | None:
        """Of a decision; None of no decisions."""
        if not self.latencies_ms:
            return None
        median, p95 = np.percentile(self.latencies_ms, (50, 95))
        return Latency(median=float(median), p95=float(p95))


@dataclass(kw_only=True)
class Tally:
    """Battles from one side. Rates are shares of 1."""

    wins: int = 0
    losses: int = 0
    ties: int = 0
    turns: int = 0
    choices: Choices = field(default_factory=Choices)

    @property
    def battles(self) -> int:
        """All of them."""
        return self.wins + self.losses + self.ties

    @property
    def win_rate(self) -> float:
        """Wins among all battles; nan where there are none."""
        return self.wins / self.battles if self.battles else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """The win rate's 95 % interval; a tie counts as not won."""
        return wilson_interval(self.wins, self.battles)

    def add(self, other: "Tally") -> None:
        """Counts the other's, too."""
        self.wins += other.wins
        self.losses += other.losses
        self.ties += other.ties
        self.turns += other.turns
        self.choices.add(other.choices)

    def counts(self) -> Counts:
        """What a row of results.json holds of it."""
        return counts_of(
            wins=self.wins,
            losses=self.losses,
            ties=self.ties,
            turns=self.turns,
            choices=self.choices.sent,
            refused=self.choices.refused,
            latency_ms=self.choices.latency,
        )


class ChoiceMeter:
    """Counts and times the choices of a player, battle by battle, from the moment it is made. One per player.

    A decision's time is that of `choose_move`; for a checkpoint it includes waiting for the policy's step before. The
    server also refuses a switch where a Pokémon turns out to be trapped: that counts, though nobody could know.
    """

    def __init__(self, player: Player) -> None:
        open_door(player)
        self._by_battle: defaultdict[str, Choices] = defaultdict(Choices)
        intercept_choices(player, self._choose_move)
        intercept_battle_messages(player, self._on_battle_messages)

    def take(self, battle_tag: str) -> Choices:
        """Those of a battle that is over; they are forgotten here."""
        return self._by_battle.pop(battle_tag, Choices())

    async def _choose_move(self, battle: AbstractBattle, choose: Choose) -> BattleOrder:
        started = time.perf_counter()
        order: BattleOrder = await choose(battle)
        choices = self._by_battle[battle.battle_tag]
        choices.sent += 1
        choices.latencies_ms.append(1000 * (time.perf_counter() - started))
        return order

    async def _on_battle_messages(self, split_messages: list[list[str]], receive: ReceiveBattleMessages) -> None:
        tag = split_messages[0][0].removeprefix(">")
        refused = sum(message[1:2] == ["error"] and is_refusal(message[2]) for message in split_messages)
        if refused:
            self._by_battle[tag].refused += refused
        await receive(split_messages)

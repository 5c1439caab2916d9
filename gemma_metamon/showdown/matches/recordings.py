"""What becomes of the battles of a collection: their files, and the counts of what was written and what was not."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from poke_env.battle import Battle

from gemma_metamon.battle.replays import BattleFileName, RecordedBattle, save_battle
from gemma_metamon.showdown.live.recording import Label, Recorder


@dataclass(kw_only=True)
class Collection:
    """What was played and recorded.

    Attributes:
        battles: played.
        files: views recorded.
        seconds: that it took.
        results: how many views had which result.
        set_aside: how many views were not recorded, by the reason.
        unfinished: why fewer battles were played than asked for; None where none is missing.
    """

    battles: int = 0
    files: int = 0
    seconds: float = 0.0
    results: Counter[str] = field(default_factory=Counter)  # "SimpleHeuristicsPlayer vs RandomPlayer: won"
    set_aside: Counter[str] = field(default_factory=Counter)
    unfinished: str | None = None

    def add(self, other: "Collection") -> None:
        """Counts what the other holds, too, but for its seconds."""
        self.battles += other.battles
        self.files += other.files
        self.results += other.results
        self.set_aside += other.set_aside

    @property
    def battles_per_s(self) -> float:
        """0 before the first battle has ended."""
        return self.battles / self.seconds if self.seconds else 0.0


def battle_id(battle_format: str, run: str, number: str | int) -> str:
    """The first part of the names of a battle's files."""
    return f"gemma-{battle_format}-{run}{number}"


@dataclass
class Recording:
    """What the battles of a collection are recorded with.

    Attributes:
        collection: counts them.
        folder: of their files.
        run: in the names of all files.
        max_turns: see `Recorder`.
        on_battle: called when a battle has ended, before it is written.
        label: what somebody else would choose, see `Recorder`; of all views that are written.
    """

    collection: Collection
    folder: Path
    run: str
    max_turns: int
    on_battle: Callable[[], Any] | None
    label: Label | None = None

    def recorders(
        self, player: str, opponent: str, why_given_up: Callable[[str], str | None], *, both: bool
    ) -> tuple[Recorder, Recorder | None]:
        """Of the player and, with `both`, of the opponent.

        Args:
            player: its name.
            opponent: its name.
            why_given_up: of a battle's tag: why poke-env cannot follow it, None of all others.
            both: whether the opponent's view is written, too.
        """
        mine = _Writer(self, f"{player} vs {opponent}", why_given_up, self.on_battle)
        first = Recorder(mine.write, max_turns=self.max_turns, label=self.label)
        if not both:
            return first, None
        theirs = _Writer(self, f"{opponent} vs {player}", why_given_up, None)
        return first, Recorder(theirs.write, max_turns=self.max_turns, label=self.label)


@dataclass(frozen=True)
class _Writer:
    recording: Recording
    label: str
    why_given_up: Callable[[str], str | None]
    on_battle: Callable[[], Any] | None

    def write(self, battle: Battle, record: RecordedBattle | None) -> None:
        if self.on_battle is not None:
            self.on_battle()
        collection = self.recording.collection
        reason = self.why_given_up(battle.battle_tag)
        if reason is not None:
            collection.set_aside[f"poke-env cannot follow it ({reason})"] += 1
            return
        if record is None:
            collection.set_aside["ended before this side chose anything"] += 1
            return
        terminal = record.states[-1]
        result = "won" if terminal.battle_won else "lost" if terminal.battle_lost else "neither"
        collection.results[f"{self.label}: {result}"] += 1
        _, battle_format, number = battle.battle_tag.split("-")[:3]
        name = BattleFileName(
            battle_id=battle_id(battle_format, self.recording.run, number),
            rating=None,
            player=battle.player_username,
            opponent=battle.opponent_username or "unknown",
            played_at=datetime.now().replace(microsecond=0),
            won=record.won,
        )
        save_battle(record, self.recording.folder, name, durable=False)  # `collect` waits once, for all of them
        collection.files += 1

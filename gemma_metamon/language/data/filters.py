"""Which decisions of recorded battles become chat data, and how many were left out for which reason."""

import fnmatch
from collections import Counter
from dataclasses import dataclass, field
from typing import Final, Literal

from gemma_metamon.battle.replays import BattleFileName, RecordedBattle
from gemma_metamon.errors import ConfigError
from gemma_metamon.language.data.rows import RESULTS, Result, result_of

Turns = Literal["all", "sampled"]

REASONS: Final = {
    "result": "of battles with another result",
    "rating": "of battles below --min_rating, or unrated",
    "length": "of battles that are shorter or longer than asked",
    "players": "of other players",
    "unknown": "the choice is not recorded",
    "stand-in": "nothing was chosen: a turn of recharging, Struggle or being held",
    "illegal": "the choice is none that the state allows",
    "forced": "there was one legal choice",
    "repeated": "state and choice are those of the decision before",
    "made for it": "a chat model named no legal choice, and one was made for it",
    "silent": "nothing is recorded of why it was chosen",
    "disagreement": "the agent of --agree_with prefers another choice",
    "advantage": "the critics give the choice less than --min_advantage",
    "not sampled": "another decision of the battle was drawn",
    "duplicate": "the chat is that of another decision",
    "subset": "not among the --subset",
}
"""Why a decision is left out -> what the table says of it, in the order in which it is asked."""


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What a decision must be to become a row.

    Attributes:
        results: of the battle, for the player whose view it is.
        min_rating: of the battle; an unrated one is left out. None takes all.
        min_length: the fewest decisions of a battle.
        max_length: the most decisions of a battle; None for no bound.
        players: patterns as of file names ("DuelTrai*"), of which the player's name must fit one; none takes all.
        keep_forced: keep decisions with one legal choice.
        keep_duplicates: keep chats that are equal to another one.
        min_advantage: in rewards, of the choice above the policy's mean, as the critics see it; None takes all.
        turns: "sampled" keeps one decision of each view of a battle, drawn among those that pass all else.

    Raises:
        ConfigError: a max_length below the min_length.
    """

    results: tuple[Result, ...] = RESULTS
    min_rating: int | None = None
    min_length: int = 1
    max_length: int | None = None
    players: tuple[str, ...] = ()
    keep_forced: bool = False
    keep_duplicates: bool = False
    min_advantage: float | None = None
    turns: Turns = "all"

    def __post_init__(self) -> None:
        if self.max_length is not None and self.max_length < self.min_length:
            raise ConfigError(
                f"--max_length {self.max_length} is below --min_length {self.min_length}; no battle could be both"
            )

    def refuses(self, battle: RecordedBattle, name: BattleFileName | None) -> str | None:
        """Which of REASONS keeps a whole battle out; None where it may pass. `name` is None where it tells nothing."""
        length = len(battle.states) - 1
        if result_of(battle.states[-1]) not in self.results:
            return "result"
        if self.min_rating is not None and (name is None or name.rating is None or name.rating < self.min_rating):
            return "rating"
        if length < self.min_length or (self.max_length is not None and length > self.max_length):
            return "length"
        player = "" if name is None else name.player
        if self.players and not any(fnmatch.fnmatchcase(player, pattern) for pattern in self.players):
            return "players"
        return None


@dataclass
class Counts:
    """What was read and what became of it.

    Attributes:
        battles: views of battles that were read.
        decisions: of those.
        labelled: decisions whose answer is an expert's label.
        left_out: how many decisions, by reason.
    """

    battles: int = 0
    decisions: int = 0
    labelled: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Counts") -> None:
        """Counts what another one counted, too."""
        self.battles += other.battles
        self.decisions += other.decisions
        self.labelled += other.labelled
        self.left_out.update(other.left_out)

"""How far a player looks ahead."""

from dataclasses import dataclass

from gemma_metamon.errors import ConfigError

MAX_FORKS, MAX_TURNS = 100_000, 100
USUAL_FORKS, USUAL_TURNS = 64, 2
USUAL_GEN1_FORKS, USUAL_GEN1_TURNS = 600, 8
"""Generation 1 is looked at in a model (arena/assets/gen1.js), which plays more turns in less time."""


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """How much is looked at, and how a decision follows from it.

    Attributes:
        forks: of the battle, for one decision: each plays one choice in one guess at what is hidden. More are never
            made; a decision between few choices may take less. None is what is usual in the battle's generation.
        turns: that each fork is played for; 1 is the coming turn alone. None as for forks.
        temperature: 0 takes the choice with the highest score; above 0, one is drawn from the softmax of
            scores / temperature. Scores are about chances to win: 0.03 prefers a choice that wins 3 % more often by
            a factor of e.

    Raises ConfigError for a number out of its range.
    """

    forks: int | None = None
    turns: int | None = None
    temperature: float = 0.0

    def __post_init__(self) -> None:
        if self.forks is not None and not 1 <= self.forks <= MAX_FORKS:
            raise ConfigError(f"forks={self.forks} of a search; give 1 to {MAX_FORKS}")
        if self.turns is not None and not 1 <= self.turns <= MAX_TURNS:
            raise ConfigError(f"turns={self.turns} of a search; give 1 to {MAX_TURNS}")
        if not 0 <= self.temperature <= 1000:
            raise ConfigError(f"temperature={self.temperature:g} of a search; give 0 (the best choice) to 1000")

    def forks_in(self, gen: int) -> int:
        """How many forks a decision may take in a battle of that generation."""
        return self.forks or (USUAL_GEN1_FORKS if gen == 1 else USUAL_FORKS)

    def turns_in(self, gen: int) -> int:
        """For how many turns each is played there."""
        return self.turns or (USUAL_GEN1_TURNS if gen == 1 else USUAL_TURNS)

"""What an evaluation, the rounds of `improve`, a ladder run and a training's evaluations write, as frozen dataclasses.

A field here is a name in the file, in the same spelling. All names of players are contestants' labels, all rates are
shares of 1. Fields with a default were added later, and are missing in files that older versions wrote.

    results.json        EvaluationResults, or RoundsResults of `gemma-metamon improve`
    battles.jsonl       a BattleRow per battle of an evaluation, written when it ends
    results.jsonl       a LadderRow per battle of a ladder run
    evaluations.jsonl   a TrainingEvaluation per format and epoch that was evaluated while a run trained
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Literal

from gemma_metamon import __version__
from gemma_metamon.atomic_files import written_whole
from gemma_metamon.errors import DataError
from gemma_metamon.intervals import wilson_interval
from gemma_metamon.strict_json import Count, UnknownFieldError, read_dataclass, read_json_object, shown, shown_path

LAYOUT: Final = 1
"""Of results.json. A version that gives a field another meaning writes "layout": 2; without that word it is 1."""

NEWER: Final = f"a newer gemma_metamon than this one ({__version__}) may have written it; update, and read it again"
"""The mend of what this version does not know."""


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Milliseconds of a decision."""

    median: float
    p95: float


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Battles from one side.

    Attributes:
        win_rate: wins / battles, None of no battles.
        interval_95: of the win rate, (low, high); a tie counts as not won.
        mean_turns: None of no battles.
        choices: sent to the server.
        refused: those of them that the server refused.
        legal_rate: 1 - refused / choices; None where we do not see the choices (of an outside player).
        latency_ms: None where we do not see the decisions.
    """

    battles: Count
    wins: Count
    losses: Count
    ties: Count
    win_rate: float | None
    interval_95: tuple[float, float]
    mean_turns: float | None
    choices: Count
    refused: Count
    legal_rate: float | None
    latency_ms: Latency | None

    def __post_init__(self) -> None:
        if self.battles != self.wins + self.losses + self.ties:
            raise DataError(
                f"battles is {self.battles}; expected wins, losses and ties together "
                f"({self.wins} + {self.losses} + {self.ties})"
            )
        low, high = self.interval_95
        if (self.win_rate is None) != (self.battles == 0):
            raise DataError(f"win_rate is {shown(self.win_rate)} of {self.battles} battles")
        if not 0 <= low <= (low if self.win_rate is None else self.win_rate) <= high <= 1:
            raise DataError(f"interval_95 is [{low}, {high}]; expected two shares with win_rate between them")


def counts_of(
    *,
    wins: int,
    losses: int,
    ties: int,
    turns: float,
    choices: int,
    refused: int,
    latency_ms: Latency | None = None,
) -> Counts:
    """Counts, with the rates that follow from them.

    Args:
        wins: battles won.
        losses: battles lost.
        ties: battles that nobody won.
        turns: of all battles together.
        choices: sent to the server; 0 where we do not see them.
        refused: those of them that the server refused.
        latency_ms: of the decisions.
    """
    battles = wins + losses + ties
    return Counts(
        battles=battles,
        wins=wins,
        losses=losses,
        ties=ties,
        win_rate=wins / battles if battles else None,
        interval_95=wilson_interval(wins, battles),
        mean_turns=turns / battles if battles else None,
        choices=choices,
        refused=refused,
        legal_rate=1 - refused / choices if choices else None,
        latency_ms=latency_ms,
    )


@dataclass(frozen=True, kw_only=True)
class RatingRow:
    """Elo among those who were rated together, whose mean is 1500; `deviation` is its standard error. gxe: percent."""

    elo: float
    interval_95: tuple[float, float]
    deviation: float
    gxe: float

    def __post_init__(self) -> None:
        low, high = self.interval_95
        if not low <= self.elo <= high:
            raise DataError(f"interval_95 is [{low}, {high}]; expected elo ({self.elo}) between them")


@dataclass(frozen=True, kw_only=True)
class MemberRow:
    """A checkpoint that decides: its label, as in "first@2", its temperature and the weight of its say."""

    name: str
    temperature: float
    weight: float


@dataclass(frozen=True, kw_only=True)
class PolicyRow:
    """How a checkpoint or an ensemble decides.

    Attributes:
        sampled: whether its actions were drawn, and not the most probable ones.
        combined: how its members decide together; None of one checkpoint.
        members: one or more.
        too_long: decisions that were longer than a model's context, and made for it.
    """

    sampled: bool
    combined: Literal["mean", "vote"] | None
    members: list[MemberRow]
    too_long: Count = 0


@dataclass(frozen=True, kw_only=True)
class ChatUsageRow:
    """What the choices of a chat model took.

    Attributes:
        decisions: that it was asked for: those with two or more legal choices.
        calls: of the endpoint, the one before the first battle and those that failed included.
        retries: calls that were tried again, each time.
        prompt_tokens: as the endpoint counts them.
        completion_tokens: likewise.
        repairs: decisions in which its answer could not be read, and it was asked once more.
        fallbacks: reason -> decisions that were made for it.
        ended: why it was not asked any more; None where it was asked to the end.
    """

    decisions: Count
    calls: Count
    retries: Count
    prompt_tokens: Count
    completion_tokens: Count
    repairs: Count
    fallbacks: dict[str, Count]
    ended: str | None


Kind = Literal["checkpoint", "ensemble", "text", "chat", "scripted", "outside"]


@dataclass(frozen=True, kw_only=True)
class _Contestant:
    name: str
    kind: Kind
    policy: PolicyRow | None = None
    chat: ChatUsageRow | None = None


@dataclass(frozen=True, kw_only=True)
class ContestantRow(Counts, _Contestant):  # in this order a file begins with the name
    """Somebody who played, with all battles.

    `policy` is None of who has none, `chat` of who is no chat model; `rating` where nobody was rated.
    """

    rating: RatingRow | None


@dataclass(frozen=True, kw_only=True)
class _Pair:
    player: str
    opponent: str


@dataclass(frozen=True, kw_only=True)
class PairRow(Counts, _Pair):
    """Two who met, from the player's side. `set_aside`: reason -> battles that are not counted, of this pair."""

    set_aside: dict[str, Count] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class EvaluationResults:
    """results.json.

    Attributes:
        format: such as "gen1ou".
        seed: of the teams' draws.
        seconds: that the battles took.
        battles_per_pair: as asked for.
        unfinished: None, or one sentence: why fewer were played.
        set_aside: battles that were played and are counted nowhere, because poke-env could not follow them.
        contestants: everybody, in the order of the command line.
        pairs: who met whom.
    """

    format: str
    seed: int
    seconds: float
    battles_per_pair: Count
    unfinished: str | None
    set_aside: Count = 0
    contestants: list[ContestantRow]
    pairs: list[PairRow]

    def __post_init__(self) -> None:
        names = {row.name for row in self.contestants}
        for name in (name for pair in self.pairs for name in (pair.player, pair.opponent)):
            if name not in names:
                raise DataError(f"pairs name {shown(name)}, who is not among the contestants")


@dataclass(frozen=True, kw_only=True)
class _Rounds:
    rounds_of: str


@dataclass(frozen=True, kw_only=True)
class RoundsResults(EvaluationResults, _Rounds):  # in this order a file begins with what it is of
    """The evaluations of all rounds of `improve` as one. The agent of round 3 is called `rounds_of` + "@3"."""


@dataclass(frozen=True, kw_only=True)
class EvaluationReport(EvaluationResults):
    """What `gemma-metamon evaluate --json` prints: how fast the policies decided and what they did not know, too."""

    decisions: Count
    decisions_per_s: float
    unknown_words: dict[str, Count]


@dataclass(frozen=True, kw_only=True)
class BattleRow:
    """A line of battles.jsonl.

    Attributes:
        battle: its tag, "battle-gen1ou-12".
        player: as in the results' `pairs`.
        opponent: as in the results' `pairs`.
        p1: who sat in the simulator's first seat.
        result: the player's.
        turns: of the battle.
        draw: which drawn pair of teams; each is played twice, with seats and teams exchanged.
        teams: the player's and the opponent's: positions among the teams of the format; None of an outside player, and
            of both where the format gives teams out.
        choices: sent by the player, and by the opponent.
        refused: those of them that the server refused.
        log: "battles/battle-gen1ou-12.log", beneath the folder.
    """

    battle: str
    player: str
    opponent: str
    p1: Literal["player", "opponent"]
    result: Literal["win", "loss", "tie"]
    turns: Count
    draw: Count
    teams: tuple[Count | None, Count | None]
    choices: tuple[Count, Count]
    refused: tuple[Count, Count]
    log: str


Result = Literal["won", "lost", "tied", "unfinished"]


@dataclass(frozen=True, kw_only=True)
class LadderRow:
    """A line of a ladder run's results.jsonl.

    Attributes:
        log: the battle's log, a file in the folder `replays`; "" where none is kept.
        player: who played, as an evaluation would call it; None of somebody without a label.
        battle: its tag, "battle-gen1ou-12".
        username: ours on the server.
        format: such as "gen1ou".
        opponent: its name on the server; "unknown" where that was never told.
        result: ours. An "unfinished" battle may go on without us.
        reason: why it is unfinished; "" of others.
        rating_before: as the server told it; None where it told none.
        rating_after: likewise.
        turns: of the battle.
        began_at: ISO 8601, UTC.
        seconds: that it took us.
        decisions: that were asked of us.
        fallbacks: those of them that the player did not make in time, or made wrongly.
        fallback_reasons: reason -> how many.
        refused: choices that the server refused.
        reconnects: cuts of the connection while it lasted.
        rejoins: times that its room was entered anew.
    """

    log: str
    player: str | None
    battle: str
    username: str
    format: str
    opponent: str
    result: Result
    reason: str
    rating_before: int | None
    rating_after: int | None
    turns: Count
    began_at: str
    seconds: float
    decisions: Count
    fallbacks: Count
    fallback_reasons: dict[str, Count]
    refused: Count
    reconnects: Count
    rejoins: Count


@dataclass(frozen=True, kw_only=True)
class TrainingEvaluation:
    """A line of evaluations.jsonl: how the checkpoint of an epoch played against each opponent in a format."""

    epoch: Count
    format: str
    seconds: float
    pairs: list[PairRow]


def read(path: Path) -> EvaluationResults:
    """The results.json of an evaluation, or RoundsResults where it is that of rounds.

    Raises:
        MissingFileError: there is no such file.
        DataError: it holds something else, or what only a newer version of this package knows. Names the field.
    """
    content = read_json_object(path)
    layout = content.pop("layout", LAYOUT)
    if layout != LAYOUT:
        raise DataError(f"{shown_path(path)} has layout {shown(layout)}, expected {LAYOUT}; {NEWER}")
    cls = RoundsResults if "rounds_of" in content else EvaluationResults
    try:
        return read_dataclass(cls, content)
    except UnknownFieldError as error:
        raise DataError(f"{shown_path(path)}: {error}; {NEWER}") from error
    except DataError as error:
        raise DataError(f"{shown_path(path)} holds no results of an evaluation: {error}") from error


def write(path: Path, results: EvaluationResults) -> None:
    """Writes results.json, whole or not at all."""
    with written_whole(path) as staged:
        staged.write_text(json.dumps(asdict(results), indent=1), encoding="utf-8")

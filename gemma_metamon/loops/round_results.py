"""The evaluations of all rounds taken together: ratings of everybody, and a report."""

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

from gemma_metamon.results import schema
from gemma_metamon.results.schema import ContestantRow, EvaluationResults, PairRow, RatingRow, RoundsResults, counts_of

RESULTS, PAGE, EVALUATIONS = "results.json", "report.html", "evaluations"


def evaluation_folder(out: Path, number: int, *, parent: bool = False) -> Path:
    """Where the evaluation of a round is kept, in the folder of `improve --out`; `parent`: against parent and first."""
    return out / EVALUATIONS / f"round_{number}{'_parent' if parent else ''}"


def is_evaluated(folder: Path) -> bool:
    """Whether all battles of an evaluation were played. Raises DataError where its results are damaged."""
    results = folder / RESULTS
    return results.is_file() and schema.read(results).unfinished is None


def report(out: Path, run_dir: Path, last: int) -> RoundsResults:
    """Writes results.json and report.html of the rounds up to `last`; returns the first.

    Raises DataError where the results of a round are damaged.
    """
    from gemma_metamon.reports.evaluation import write_report

    folders = [evaluation_folder(out, number, parent=parent) for number in range(last + 1) for parent in (True, False)]
    results = together(run_dir.name, [schema.read(folder / RESULTS) for folder in folders if folder.exists()])
    schema.write(out / RESULTS, results)
    write_report(out, run_dirs=[run_dir] if (run_dir / "metrics.jsonl").is_file() else [])
    return results


def together(rounds_of: str, evaluations: Sequence[EvaluationResults]) -> RoundsResults:
    """The results of one evaluation or more as one, everybody rated by all battles.

    The times of decisions are left out: medians do not add up.
    """
    from gemma_metamon.showdown.matches.ratings import rate

    pairs = [pair for evaluation in evaluations for pair in evaluation.pairs]
    ratings = {
        rating.name: rating.row() for rating in rate([(p.player, p.opponent, p.wins, p.losses, p.ties) for p in pairs])
    }
    rows: dict[str, list[ContestantRow]] = {}
    for row in (row for evaluation in evaluations for row in evaluation.contestants):
        rows.setdefault(row.name, []).append(row)
    # checkpoints in the order of their rounds, then those who were there all along
    contestants = sorted(
        (_total(each, ratings.get(name)) for name, each in rows.items()), key=lambda row: row.kind != "checkpoint"
    )
    last = evaluations[-1]
    return RoundsResults(
        format=last.format,
        seed=last.seed,
        seconds=sum(evaluation.seconds for evaluation in evaluations),
        battles_per_pair=last.battles_per_pair,
        unfinished=last.unfinished,
        set_aside=sum(evaluation.set_aside for evaluation in evaluations),
        contestants=contestants,
        pairs=pairs,
        rounds_of=rounds_of,
    )


def _total(rows: Sequence[ContestantRow], rating: RatingRow | None) -> ContestantRow:
    """Of one contestant's evaluations."""
    counts = counts_of(
        wins=sum(row.wins for row in rows),
        losses=sum(row.losses for row in rows),
        ties=sum(row.ties for row in rows),
        turns=sum(row.battles * (row.mean_turns or 0) for row in rows),
        choices=sum(row.choices for row in rows),
        refused=sum(row.refused for row in rows),
    )
    return ContestantRow(name=rows[0].name, kind=rows[0].kind, policy=rows[0].policy, rating=rating, **vars(counts))


def shares_of_parents(results: RoundsResults) -> dict[str, PairRow]:
    """The agent of each round but the first -> its battles against its parent, the agent of the round before.

    Where there are three rounds or more, "NAME@3 / NAME@0", the last against the first, comes last.
    """
    played = {(pair.player, pair.opponent): pair for pair in results.pairs}
    of_round = re.compile(re.escape(results.rounds_of) + "@([0-9]{1,9})")
    rounds = sorted({int(match[1]) for name, _ in played if (match := of_round.fullmatch(name))})
    names = [f"{results.rounds_of}@{number}" for number in rounds]
    steps = {name: (name, parent) for parent, name in itertools.pairwise(names)}
    if len(names) > 2:
        steps[f"{names[-1]} / {names[0]}"] = (names[-1], names[0])
    return {name: played[pair] for name, pair in steps.items() if pair in played}


def as_table(results: RoundsResults) -> str:
    """Elo of everybody, how often each agent of a round beat those who are in every round's evaluation, and its parent.

    Shares of parents have their 95 % intervals.
    """
    fixed = [row.name for row in results.contestants if row.kind != "checkpoint"]
    rates = {(pair.player, pair.opponent): pair.win_rate for pair in results.pairs}
    width = max(len(row.name) for row in results.contestants)
    heads = "".join(f"  {name}" for name in fixed)
    lines = [f"{'':{width}}  {'Elo':>5}  {'95 % interval':>14}{heads}"]
    for row in results.contestants:
        if row.rating is None:
            continue
        low, high = row.rating.interval_95
        cells = (rates.get((row.name, name)) for name in fixed)
        shares = "".join(
            f"  {'' if rate is None else f'{rate:.1%}':>{len(name)}}" for name, rate in zip(fixed, cells, strict=True)
        )
        lines.append(f"{row.name:{width}}  {row.rating.elo:5.0f}  {f'{low:.0f} to {high:.0f}':>14}{shares}")
    of_parents = shares_of_parents(results)
    if of_parents:
        wide = max(map(len, of_parents))
        lines.append(f"\n{'':{wide}}   won against parent  95 % interval     battles")
        for name, pair in of_parents.items():
            low, high = pair.interval_95
            lines.append(f"{name:{wide}}  {pair.win_rate or 0:17.1%}  {low:6.1%} to {high:6.1%}  {pair.battles:7}")
    return "\n".join(line.rstrip() for line in lines)

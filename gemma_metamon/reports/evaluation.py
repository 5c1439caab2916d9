"""The report of what `gemma-metamon evaluate` or `gemma-metamon train` left in a folder: charts, replays, a page.

What an evaluation's folder holds is written down in results/schema.py; that of a run in training/tracking.py.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from gemma_metamon.atomic_files import written_whole
from gemma_metamon.errors import DataError, MissingFileError
from gemma_metamon.intervals import wilson_interval
from gemma_metamon.reports import charts
from gemma_metamon.reports.replay_page import TEMPLATES, replay_page
from gemma_metamon.reports.run_curves import run_charts
from gemma_metamon.results import schema
from gemma_metamon.results.json_lines import read_rows
from gemma_metamon.results.schema import BattleRow, EvaluationResults, PairRow, RoundsResults
from gemma_metamon.strict_json import shown, shown_path

RESULTS, BATTLES, METRICS = "results.json", "battles.jsonl", "metrics.jsonl"
DEFAULT_REPLAYS = 20


@dataclass(frozen=True)
class Chart:
    """A chart of the page: the <svg> element, and what it shows for those who cannot see it."""

    svg: Markup
    says: str


@dataclass(frozen=True)
class BattleLink:
    """A battle in the page's list. `href` is beneath the page's folder, None where no log was saved."""

    tag: str
    result: str
    turns: int
    href: str | None


def write_report(
    folder: Path,
    *,
    run_dirs: Sequence[Path] = (),
    replays: int = DEFAULT_REPLAYS,
) -> Path:
    """Makes folder/report.html, and of an evaluation heatmap.png, bars.png and battles/<tag>.html. Returns the page.

    Of the rounds of `gemma-metamon improve` it makes rating_curve.png as well.

    Args:
        folder: of an evaluation (results.json), of a run (metrics.jsonl), or both in one.
        run_dirs: runs whose training curves the page shows as well.
        replays: pages for so many battles of each pair; the other battles are linked as logs.

    Raises:
        MissingFileError: a folder with neither file.
        DataError: a file that does not hold what it should.
    """
    runs = [*run_dirs, *([folder] if (folder / METRICS).is_file() else [])]
    for run_dir in run_dirs:
        if not (run_dir / METRICS).is_file():
            raise MissingFileError(f"{run_dir} holds no {METRICS}; give the folder of a run of `gemma-metamon train`")
    results = folder / RESULTS
    if not results.is_file() and not runs:
        raise MissingFileError(
            f"{folder} holds neither {RESULTS}, of `gemma-metamon evaluate --out`, nor {METRICS}, of a training run"
        )
    evaluation = schema.read(results) if results.is_file() else None
    parts = {} if evaluation is None else _evaluation_parts(folder, evaluation, replays)
    page = TEMPLATES.get_template("report.html.j2").render(
        title=f"Training of {folder.resolve().name}" if evaluation is None else f"Battles in {evaluation.format}",
        evaluation=evaluation,
        runs=[(run_dir.resolve().name, _charts(run_charts(run_dir))) for run_dir in runs],
        **{"charts": [], "pairs": [], "battle_groups": [], "replays": replays, **parts},
    )
    path = folder / "report.html"
    with written_whole(path) as staged:
        staged.write_text(page, encoding="utf-8")
    return path


def _evaluation_parts(folder: Path, evaluation: EvaluationResults, replays: int) -> dict[str, Any]:
    played = [pair for pair in evaluation.pairs if pair.battles]
    figures: list[tuple[Figure, str]] = []
    if isinstance(evaluation, RoundsResults):
        curve = rating_curve(evaluation)
        charts.save_png(curve, folder / "rating_curve.png")
        figures.append((curve, "Elo of the agent after each round, beside the others', with bands of 95 % intervals"))
    rates = _rates_by_player(evaluation, played)
    if rates:
        bars = charts.win_rate_bars(rates)
        charts.save_png(bars, folder / "bars.png")
        figures.append((bars, "Battles won against each opponent, with 95 % intervals"))
    ratings = {
        row.name: charts.Estimate(row.rating.elo, *row.rating.interval_95)
        for row in evaluation.contestants
        if row.rating is not None
    }
    if ratings:
        figures.append((charts.rating_dots(ratings), "Elo of each contestant, with 95 % intervals"))
    if len(played) > 1:
        heat = charts.heat_map(*_matrix(evaluation, played))
        charts.save_png(heat, folder / "heatmap.png")
        figures.append((heat, "Win rate of each row against each column"))
    return {"charts": _charts(figures), "pairs": evaluation.pairs, "battle_groups": _battle_groups(folder, replays)}


def rating_curve(evaluation: RoundsResults) -> Figure:
    """Elo over the rounds of self-play: the agent's as a curve, that of each other as a level line."""
    ratings = {row.name: row.rating for row in evaluation.contestants if row.rating is not None}
    of_round = re.compile(re.escape(evaluation.rounds_of) + "@([0-9]{1,9})")
    own = {int(match[1]): ratings.pop(name) for name in [*ratings] if (match := of_round.fullmatch(name))}
    rounds = sorted(own)
    elos, bands = [own[number].elo for number in rounds], [own[number].interval_95 for number in rounds]
    lines = [charts.Curve(evaluation.rounds_of, rounds, elos, bands)]
    ends = [*rounds[:1], *rounds[-1:]]
    lines += [charts.Curve(name, ends, [row.elo] * len(ends), dashed=True) for name, row in ratings.items()]
    return charts.curves(charts.Panel(title="Rating by round", x_label="round", y_label="Elo", lines=lines))


def _charts(figures: Sequence[tuple[Figure, str]]) -> list[Chart]:
    return [Chart(Markup(charts.as_svg(figure)), says) for figure, says in figures]


def _rates_by_player(evaluation: EvaluationResults, pairs: Sequence[PairRow]) -> dict[str, dict[str, charts.Estimate]]:
    """For each that learned, or for all where none did: its rates against those it met, in the order of contestants."""
    names = [row.name for row in evaluation.contestants]
    learned = ("checkpoint", "ensemble", "text")
    players = [row.name for row in evaluation.contestants if row.kind in learned] or names
    rates: dict[str, dict[str, charts.Estimate]] = {}
    for player in players:
        for opponent in names:
            for pair in pairs:
                if (pair.player, pair.opponent) == (player, opponent):
                    rates.setdefault(player, {})[opponent] = _share(pair.wins, pair.battles)
                elif (pair.opponent, pair.player) == (player, opponent):
                    rates.setdefault(player, {})[opponent] = _share(pair.losses, pair.battles)
    return rates


def _share(won: int, battles: int) -> charts.Estimate:
    return charts.Estimate(won / battles, *wilson_interval(won, battles))


def _matrix(
    evaluation: EvaluationResults, pairs: Sequence[PairRow]
) -> tuple[list[str], list[str], dict[tuple[str, str], float]]:
    """Rows, columns and win rates of the heat map: everyone twice where some play on both sides of a pair."""
    names = [row.name for row in evaluation.contestants]
    players, opponents = {pair.player for pair in pairs}, {pair.opponent for pair in pairs}
    if players & opponents:
        players = opponents = players | opponents
    rates = {(pair.player, pair.opponent): pair.wins / pair.battles for pair in pairs}
    rates |= {(pair.opponent, pair.player): pair.losses / pair.battles for pair in pairs}
    return [n for n in names if n in players], [n for n in names if n in opponents], rates


def _battle_groups(folder: Path, replays: int) -> list[tuple[str, str, list[BattleLink]]]:
    """(player, opponent, battles) of each pair, in the order in which they first met. Writes the replay pages."""
    if not (folder / BATTLES).is_file():
        return []
    groups: dict[tuple[str, str], list[BattleLink]] = {}
    for battle in read_rows(BattleRow, folder / BATTLES):
        links = groups.setdefault((battle.player, battle.opponent), [])
        links.append(_battle_link(folder, battle, with_page=len(links) < replays))
    return [(player, opponent, links) for (player, opponent), links in groups.items()]


def _battle_link(folder: Path, battle: BattleRow, *, with_page: bool) -> BattleLink:
    log = folder / battle.log
    if ".." in log.parts or not log.is_relative_to(folder):
        raise DataError(f"{folder / BATTLES} names a log outside {folder}: {shown(battle.log)}")
    href = None
    if log.is_file():
        href = battle.log
        if with_page:
            names = [battle.player, battle.opponent]
            seats = names if battle.p1 == "player" else names[::-1]
            page = log.with_suffix(".html")
            text = replay_page(_read_log(log), " against ".join(names), {"p1": seats[0], "p2": seats[1]})
            with written_whole(page) as staged:
                staged.write_text(text, encoding="utf-8")
            href = page.relative_to(folder).as_posix()
    return BattleLink(battle.battle, battle.result, battle.turns, href)


def _read_log(path: Path) -> str:
    try:
        # bytes: as text, a carriage return in somebody's chat would become the end of a line
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{shown_path(path)} is no battle's log: not UTF-8 at byte {error.start}") from error

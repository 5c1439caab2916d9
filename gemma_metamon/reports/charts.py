"""Charts of evaluations and of training runs, for a PNG file or for the inside of a page.

Colours are Okabe and Ito's eight, which the colour-blind can tell apart. In a page, text and lines of a chart take the
page's own colours, so that it can be read in light and in dark.
"""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gemma_metamon.atomic_files import written_whole

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999", "#f0e442")
_TEXT, _LINE = "#1d1f22", "#dcdfe3"
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "gemma_metamon",  # the same chart twice is the same text
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _TEXT,
    "axes.axisbelow": True,
    "text.color": _TEXT,
    "xtick.color": _TEXT,
    "ytick.color": _TEXT,
    "grid.color": _LINE,
    "legend.frameon": False,
}
_PNG_DPI = 150


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval: the share of battles won, or Elo."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """A line of a chart, dashed if it may lie on another. `bands`, if any: the (low, high) of each point."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    bands: Sequence[tuple[float, float]] = ()
    dashed: bool = False


def save_png(figure: Figure, path: Path) -> None:
    """Writes a chart as a PNG file on white, whole or not at all."""
    with written_whole(path) as staged:
        figure.savefig(staged, format="png", dpi=_PNG_DPI, bbox_inches="tight", facecolor="white")


def as_svg(figure: Figure) -> str:
    """The chart as an <svg> element for a page, in the page's colours and as wide as there is room."""
    text = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(text, format="svg", bbox_inches="tight", transparent=True, metadata=nothing)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].replace(_TEXT, "currentColor").replace(_LINE, "var(--line)")
    # it keeps its shape by its viewBox, and does not grow beyond its own size
    return re.sub(r'width="([\d.]+pt)" height="[\d.]+pt"', r'style="max-width: \1"', svg, count=1)


def heat_map(rows: Sequence[str], columns: Sequence[str], rates: Mapping[tuple[str, str], float]) -> Figure:
    """Win rates of each row against each column; a pair that never met stays empty."""
    values = np.array([[rates.get((row, column), np.nan) for column in columns] for row in rows])
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(max(6.2, 2.6 + 0.85 * len(columns)), 1.8 + 0.5 * len(rows)))
        axes = figure.subplots()
        # blue wins, red loses: told apart by the colour-blind, and white is even
        image = axes.imshow(values, cmap="RdBu", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(len(columns)), columns, rotation=35, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(rows)), rows)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        for i, j in np.argwhere(~np.isnan(values)):
            ink = "white" if abs(values[i, j] - 0.5) > 0.3 else "black"
            axes.text(j, i, f"{100 * values[i, j]:.0f}", ha="center", va="center", color=ink)
        axes.set_title("Win rate of the row against the column (%)")
        bar = figure.colorbar(image, ax=axes, ticks=[0, 0.5, 1], shrink=0.8)
        bar.ax.set_yticklabels(["0 %", "50 %", "100 %"])
        bar.outline.set_visible(False)
    return figure


def win_rate_bars(rates: Mapping[str, Mapping[str, Estimate]]) -> Figure:
    """A panel for each player: a bar for each opponent, with its 95 % interval."""
    heights = [0.6 + 0.34 * len(opponents) for opponents in rates.values()]
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(6.2, 0.5 + sum(heights)), layout="constrained")
        panels = figure.subplots(len(rates), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        for axes, (player, opponents) in zip(panels, rates.items(), strict=True):
            _bars(axes, list(opponents), list(opponents.values()))
            axes.set_title(player)
        panels[-1].set_xlabel("battles won (%), with 95 % intervals")
    return figure


def _bars(axes: Axes, names: Sequence[str], rates: Sequence[Estimate]) -> None:
    shares = 100 * np.array([rate.value for rate in rates])
    lows, highs = 100 * np.array([[rate.low, rate.high] for rate in rates]).T
    places = range(len(names))
    axes.barh(places, shares, height=0.62, color=COLOURS[0])
    # the darker half of an interval lies on its bar: a line in the colour of text is seen on both
    axes.errorbar(
        shares, places, xerr=np.stack([shares - lows, highs - shares]), fmt="none", ecolor=_TEXT, capsize=3, lw=1.2
    )
    for place, share, high in zip(places, shares, highs, strict=True):
        axes.annotate(f"{share:.1f}", (high, place), xytext=(6, 0), textcoords="offset points", va="center")
    axes.set_yticks(places, names)
    axes.set_xlim(0, 108)
    axes.set_xticks(range(0, 101, 25))
    axes.axvline(50, color=_TEXT, lw=0.8, ls=(0, (4, 4)))
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def rating_dots(ratings: Mapping[str, Estimate]) -> Figure:
    """Elo with 95 % intervals, in the order given: of the rounds of self-play this is their curve."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(6.2, 0.9 + 0.34 * len(ratings)), layout="constrained")
        axes = figure.subplots()
        elo = np.array([rating.value for rating in ratings.values()])
        lows, highs = np.array([[rating.low, rating.high] for rating in ratings.values()]).T
        places = range(len(ratings))
        axes.errorbar(
            elo, places, xerr=np.stack([elo - lows, highs - elo]), fmt="o", color=COLOURS[0], capsize=3, lw=1.4
        )
        for place, value, high in zip(places, elo, highs, strict=True):
            axes.annotate(f"{value:.0f}", (high, place), xytext=(6, 0), textcoords="offset points", va="center")
        axes.set_yticks(places, list(ratings))
        axes.margins(x=0.12, y=0.1)
        axes.invert_yaxis()
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("Elo, with 95 % intervals")
        axes.set_title("Ratings")
    return figure


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A chart of lines.

    Attributes:
        title: above the chart.
        x_label: what is counted from left to right.
        y_label: what the lines show, with its unit.
        lines: each with a name in the legend, where there is more than one.
        percent: the values are shares, drawn from 0 to 100 %.
    """

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Curve]
    percent: bool = False


def curves(*panels: Panel) -> Figure:
    """Lines over updates, epochs, rounds or forks; of several panels two in a row, and one legend for all.

    A line of the same name has the same colour in every panel.
    """
    n_columns = min(2, len(panels))
    n_rows = -(-len(panels) // 2)
    labels = list(dict.fromkeys(line.label for panel in panels for line in panel.lines))
    with matplotlib.rc_context(_STYLE):
        # one alone is as large as the other charts of a page
        figure = Figure(figsize=(6.2, 3.2) if len(panels) == 1 else (9.6, 2.9 * n_rows), layout="constrained")
        places = list(figure.subplots(n_rows, n_columns, squeeze=False).flat)
        for panel, axes in zip(panels, places, strict=False):
            _draw_lines(axes, panel, labels)
        for axes in places[len(panels) :]:
            axes.set_visible(False)
        if len(labels) > 1:
            named = {handle.get_label(): handle for axes in figure.axes for handle in axes.get_lines()}
            figure.legend(handles=[named[label] for label in labels], loc="outside lower center", ncols=3)
    return figure


def _draw_lines(axes: Axes, panel: Panel, labels: Sequence[str]) -> None:
    scale = 100 if panel.percent else 1
    for line in panel.lines:
        colour = COLOURS[labels.index(line.label) % len(COLOURS)]
        marker = "o" if len(line.x) <= 30 else None
        style = "--" if line.dashed else "-"
        axes.plot(line.x, scale * np.array(line.y), style, color=colour, label=line.label, marker=marker, ms=4)
        if line.bands:
            lows, highs = scale * np.array(line.bands).T
            axes.fill_between(line.x, lows, highs, color=colour, alpha=0.15, lw=0)
    if panel.percent:
        axes.set_ylim(0, 102)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y")
    axes.set_title(panel.title)
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)


@dataclass(frozen=True, kw_only=True)
class Axis:
    """An upright axis of `parallel_coordinates`.

    Attributes:
        label: beneath it.
        values: of each line, numbers or texts; texts stand above each other in the order of their first appearance.
        log: numbers stand by their logarithms.
    """

    label: str
    values: Sequence[float] | Sequence[str]
    log: bool


def parallel_coordinates(axes: Sequence[Axis], *, best: int | None, title: str) -> Figure:
    """A line for each trial through its place on every axis, coloured by the last axis, which has numbers.

    Args:
        axes: from left to right, each with a value of every line.
        best: the line that is drawn thick, on top.
        title: above the chart.
    """
    judged = np.array(axes[-1].values, dtype=float)
    heights = np.array([_places(axis) for axis in axes]).T  # (lines, axes), each from 0 to 1
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(max(6.2, 1.5 * len(axes)), 3.8), layout="constrained")
        panel = figure.subplots()
        shades = matplotlib.colormaps["viridis"](heights[:, -1])
        for line in np.argsort(judged):
            thick = line == best
            width, alpha, order = (3.0, 1.0, 3) if thick else (1.2, 0.7, 2)
            panel.plot(range(len(axes)), heights[line], color=shades[line], lw=width, alpha=alpha, zorder=order)
        for place, axis in enumerate(axes):
            panel.axvline(place, color=_TEXT, lw=0.8, zorder=1)
            for height, text in _marks(axis):
                panel.annotate(text, (place, height), xytext=(4, 0), textcoords="offset points", va="center", size=8)
        panel.set_xticks(range(len(axes)), [axis.label for axis in axes], rotation=20, ha="right")
        panel.set_yticks([])
        panel.set_xlim(-0.2, len(axes) - 0.5)
        panel.spines[:].set_visible(False)
        panel.tick_params(length=0)
        panel.set_title(title)
    return figure


def _places(axis: Axis) -> list[float]:
    """Of each value from 0, the lowest, to 1; in the middle where all are the same."""
    texts = list(dict.fromkeys(axis.values))
    if any(isinstance(value, str) for value in axis.values):
        numbers = np.array([texts.index(value) for value in axis.values], dtype=float)
    else:
        numbers = np.array(axis.values, dtype=float)
        numbers = np.log(numbers) if axis.log else numbers
    span = float(np.ptp(numbers))
    return [float(height) for height in (numbers - numbers.min()) / span] if span else [0.5] * len(numbers)


def _marks(axis: Axis) -> list[tuple[float, str]]:
    """Texts, or the lowest and the highest number, where they stand."""
    places = _places(axis)
    said = [value if isinstance(value, str) else f"{value:.3g}" for value in axis.values]
    by_place = dict(zip(places, said, strict=True))
    if any(isinstance(value, str) for value in axis.values):
        return sorted(by_place.items())
    return [(height, by_place[height]) for height in sorted({min(by_place), max(by_place)})]

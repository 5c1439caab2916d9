"""A battle as one web page that stands alone: no script, font or picture from elsewhere, and it opens from a file."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from gemma_metamon.battle.state import BattleState
from gemma_metamon.explain.follow import Decision, Entity, Setting, Shown
from gemma_metamon.explain.words import WordsDecision
from gemma_metamon.pages import load_templates

PLOT_HEIGHT = 40.0
TIMELINE_HEIGHT = 60.0
_ROWS = ({"format", "player"}, {"move"}, {"bench"}, {"opponent", "opponent's move"})


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A battle of which each decision was looked at.

    Attributes:
        battle: its name.
        battle_format: e.g. "gen1ou".
        player: the agent's side.
        opponent: the other side.
        agent: which one it is.
        result: "won", "lost" or "no winner"; None while it is played.
        setting: what is the same at every decision of an agent; None of a model that answers in words.
        decisions: in order, all of one kind; at least one.
    """

    battle: str
    battle_format: str
    player: str
    opponent: str
    agent: str
    result: str | None
    setting: Setting | None
    decisions: Sequence[Shown]

    @property
    def recorded(self) -> int:
        """Decisions of which is known what was done."""
        return sum(decision.chosen is not None for decision in self.decisions)

    @property
    def agreed(self) -> int:
        """Decisions in which that was the agent's most probable action."""
        return sum(decision.chosen == decision.preferred for decision in self.decisions)

    @property
    def adviser(self) -> str | None:
        """Who else was asked what to do; None where nobody was."""
        return next((decision.advice.who for decision in self.decisions if decision.advice is not None), None)

    @property
    def advised(self) -> int:
        """Decisions in which that one would have done what was done."""
        advice = [(decision.advice, decision.chosen) for decision in self.decisions]
        return sum(given is not None and given.action == chosen for given, chosen in advice)


def render_page(
    explanation: Explanation, *, sections: Sequence[Markup] | None = None, refresh_s: float | None = None
) -> str:
    """The page's HTML.

    Args:
        explanation: what it shows.
        sections: of its decisions, where `render_section` has made them already.
        refresh_s: the page loads itself again after so many seconds, unless its reader is looking at an earlier
            decision; None for a battle that is over.
    """
    if sections is None:
        sections = [render_section(decision, explanation.setting) for decision in explanation.decisions]
    return _TEMPLATES.get_template("page.html.j2").render(
        explanation=explanation,
        sections=sections,
        refresh_s=refresh_s,
        timeline=_timeline(explanation.decisions) if explanation.setting and explanation.setting.critics else None,
    )


def render_section(decision: Shown, setting: Setting | None) -> Markup:
    """The part of the page that is about one decision."""
    name = "words.html.j2" if isinstance(decision, WordsDecision) else "decision.html.j2"
    section = _TEMPLATES.get_template(name).render(decision=decision, setting=setting)
    return Markup(section)  # it escapes all that it shows


def result_of(terminal: BattleState) -> str:
    """What `Explanation.result` is of a battle that ended in this state."""
    return "won" if terminal.battle_won else "lost" if terminal.battle_lost else "no winner"


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """The critics' value of the actions taken, through the battle. Points are of an SVG as wide as there are decisions.

    Attributes:
        line: the critics' mean.
        band: from the lowest critic to the highest.
        limit: the return at the upper edge; its negative is at the lower one.
    """

    line: str
    band: str
    limit: float


def _timeline(decisions: Sequence[Shown]) -> Timeline:
    judged = [decision.judged_option.values for decision in decisions if isinstance(decision, Decision)]
    limit = max(1.0, *(abs(value) for values in judged for value in values))

    def points(returns: Sequence[float]) -> list[str]:
        half = TIMELINE_HEIGHT / 2
        return [f"{t + 0.5:g},{half - half * value / limit:.1f}" for t, value in enumerate(returns)]

    band = points([max(values) for values in judged]) + points([min(values) for values in judged])[::-1]
    return Timeline(line=" ".join(points([_mean(values) for values in judged])), band=" ".join(band), limit=limit)


def _rows(entities: Sequence[Entity]) -> list[list[Entity]]:
    """The entities in their order, those of one kind side by side."""
    rows: dict[int, list[Entity]] = {}
    for entity in entities:
        kind = entity.name.rstrip(" 0123456789")
        rows.setdefault(next((i for i, kinds in enumerate(_ROWS) if kind in kinds), len(_ROWS)), []).append(entity)
    return list(rows.values())


def _area(probabilities: Sequence[float], highest: float) -> str:
    """A distribution's steps as points of an SVG polygon, one wide for each bin."""
    heights = [PLOT_HEIGHT * (1 - probability / highest) for probability in probabilities]
    steps = [f"{edge},{height:.1f}" for i, height in enumerate(heights) for edge in (i, i + 1)]
    return " ".join([f"0,{PLOT_HEIGHT:g}", *steps, f"{len(heights)},{PLOT_HEIGHT:g}"])


def _place(value: float, returns: Sequence[float]) -> float:
    """Where a return is among the bins, 0...1."""
    return (float(np.interp(value, returns, np.arange(len(returns)))) + 0.5) / len(returns)


def _percent(share: float) -> str:
    return "<0.1 %" if 0 < share < 0.001 else f"{share:.1%}".replace("%", " %")


def _signed(value: float) -> str:
    return f"{value:+.{1 if abs(value) >= 10 else 2}f}".replace("-", "\N{MINUS SIGN}")


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


_TEMPLATES = load_templates(
    "gemma_metamon.explain",
    percent=_percent,
    signed=_signed,
    mean=_mean,
    rows=_rows,
    area=_area,
    place=_place,
)

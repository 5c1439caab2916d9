"""What a monitor saw, as a page that stands alone."""

from collections.abc import Sequence
from itertools import pairwise

from gemma_metamon.reports.charts import Curve, Panel, as_svg, curves
from gemma_metamon.reports.replay_page import TEMPLATES
from gemma_metamon.serving.monitor import PERCENTILES, Figures, Look, figures, finite_ms, shown_ms


def monitor_page(url: str, looks: Sequence[Look], found: Figures, problems: Sequence[str]) -> str:
    """The page: what is wrong, the figures, and over time the latency, the requests and the memory."""
    seen = [look for look in looks if not look.fault]
    return TEMPLATES.get_template("monitor.html.j2").render(
        title=f"Service at {url}",
        agent=next((look.agent for look in reversed(looks) if look.agent), ""),
        looks=len(looks),
        seconds=looks[-1].at_s - looks[0].at_s,
        well=len(seen),
        found=found,
        latency={percent: shown_ms(found.latency_ms[percent]) for percent in PERCENTILES},
        memory_mb=seen[-1].memory_mb if seen else None,
        battles=seen[-1].battles if seen else None,
        problems=problems,
        chart=as_svg(curves(*_panels(seen))) if len(seen) > 2 else "",
    )


def _panels(seen: Sequence[Look]) -> list[Panel]:
    pairs = list(pairwise(seen))
    between = [figures(pair) for pair in pairs]
    times = [look.at_s for _, look in pairs]
    rates = [each.requests / max(b.at_s - a.at_s, 1e-9) for (a, b), each in zip(pairs, between, strict=True)]
    memory = [look.memory_mb or 0.0 for look in seen]

    def latency(percent: int) -> Curve:
        values = [finite_ms(each.latency_ms[percent]) for each in between]
        known = [(x, y) for x, y in zip(times, values, strict=True) if y is not None]
        return Curve(f"p{percent}", [x for x, _ in known], [y for _, y in known])

    def panel(title: str, unit: str, *lines: Curve) -> Panel:
        return Panel(title=title, x_label="seconds", y_label=unit, lines=lines)

    return [
        panel("Latency", "ms", *map(latency, PERCENTILES)),
        panel("Requests", "a second", Curve("requests", times, rates)),
        panel("Memory", "MB", Curve("memory", [look.at_s for look in seen], memory)),
    ]

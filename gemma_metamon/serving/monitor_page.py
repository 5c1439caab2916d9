"""What a monitor saw, as a page that stands alone."""

from collections.abc import Callable, Sequence

from gemma_metamon.reports.charts import Curve, Panel, as_svg, curves
from gemma_metamon.reports.replay_page import TEMPLATES
from gemma_metamon.serving.monitor import PERCENTILES, Figures, Look, figures


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
        percentiles=PERCENTILES,
        memory_mb=seen[-1].memory_mb if seen else None,
        battles=seen[-1].battles if seen else None,
        problems=problems,
        chart=as_svg(curves(*_panels(seen))) if len(seen) > 2 else "",
    )


def _panels(seen: Sequence[Look]) -> list[Panel]:
    pairs = list(zip(seen, seen[1:], strict=False))
    between = [figures(pair) for pair in pairs]

    def line(label: str, value: Callable[[Figures], float | None]) -> Curve:
        points = [(look.at_s, value(each)) for (_, look), each in zip(pairs, between, strict=True)]
        known = [(x, y) for x, y in points if y is not None]
        return Curve(label=label, x=[x for x, _ in known], y=[y for _, y in known])

    rates = [
        each.requests / max(look.at_s - before.at_s, 1e-9) for (before, look), each in zip(pairs, between, strict=True)
    ]
    times = [look.at_s for _, look in pairs]
    return [
        Panel(
            title="Latency",
            x_label="seconds",
            y_label="ms",
            lines=[
                line(f"p{percent}", lambda each, percent=percent: each.latency_ms[percent]) for percent in PERCENTILES
            ],
        ),
        Panel(
            title="Requests",
            x_label="seconds",
            y_label="a second",
            lines=[Curve(label="requests", x=times, y=rates)],
        ),
        Panel(
            title="Memory",
            x_label="seconds",
            y_label="MB",
            lines=[Curve(label="memory", x=[look.at_s for look in seen], y=[look.memory_mb or 0.0 for look in seen])],
        ),
    ]

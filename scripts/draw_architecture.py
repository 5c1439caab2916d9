"""The pictures of docs/architecture.md, from the code: which room imports which, and the ways of the data.

    python scripts/draw_architecture.py

Writes docs/images/rooms.svg and docs/images/ways.svg. An arrow leads from a room to one that it imports. Left out are
arrows that follow from others, and the single modules beneath, which everybody imports.
"""

import sys
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Final

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]
from support.modules import FILES, imports_of, module_of  # noqa: E402
from test_layers import SHARED, room_of  # noqa: E402

OUT = ROOT / "docs" / "images"
WIDTH, ROW, BOX, HIGH = 1200, 82, 150, 34
Graph = Mapping[str, set[str]]

FAMILIES: Final = {
    "nets": "#d6e4ff", "runs": "#d6e4ff", "training": "#d6e4ff", "configs": "#d6e4ff", "data": "#d6e4ff",
    "showdown": "#d9f2dd", "envs": "#d9f2dd", "replay_logs": "#d9f2dd", "teams": "#d9f2dd",
    "language": "#ffe3cc", "vision": "#ffe3cc",
    "battle": "#fff3bf", "text": "#fff3bf", "view": "#fff3bf", "sample_battles": "#fff3bf",
}  # fmt: skip
OTHERS: Final = "#e9e6f2"

WAYS: Final[Sequence[tuple[str, Sequence[tuple[str, str]]]]] = (
    (
        "From a battle file to a loss",
        (
            ("battle.replays", "RecordedBattle: states and actions of one view"),
            ("data.encoding", "EncodedBattle: word ids, numbers, legal, actions, rewards"),
            ("data.dataset", "Window, then Batch: slices side by side, padded"),
            ("nets.reader.tstep_encoder", "words through Gemma: 2688, numbers: 256"),
            ("nets.trajectory.traj_encoder", "the battle so far: 1280 a timestep"),
            ("nets.heads", "actor: 13 actions; critics: bins of returns"),
            ("nets.agents", "AgentLosses: actor, critic, what to log"),
            ("training.trainer", "an update, a checkpoint, metrics.jsonl"),
        ),
    ),
    (
        "From a server's message to an order",
        (
            ("showdown.live.poke_env_hooks", "the message, as poke-env read it"),
            ("showdown.live.battle", "state and options, once for a request"),
            ("view", "words, numbers, legal actions, as in training"),
            ("showdown.players.ensembles", "all battles that wait, in one batch"),
            ("nets.agents", "probabilities; the most probable, or one drawn"),
            ("showdown.live.deciding", "what was refused once is not chosen again"),
            ("showdown.live.door", "the order leaves by its place in the request"),
            ("showdown.live.recording", "request, order and end, as a battle file"),
        ),
    ),
)


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    for name, drawing in drawings().items():
        (OUT / name).write_text(drawing, encoding="utf-8")
        print(OUT / name)


def drawings() -> dict[str, str]:
    """File names, and the drawings themselves."""
    return {"rooms.svg": rooms(), "ways.svg": ways()}


def imported() -> dict[str, set[str]]:
    """Which rooms each room imports, as its files have it."""
    graph: dict[str, set[str]] = {}
    for path in FILES:
        room = room_of(module_of(path))
        if room in SHARED or room == "__main__":
            continue
        others = {room_of(name) for name in imports_of(path) if name.startswith("gemma_metamon.")}
        graph.setdefault(room, set()).update(others - {room} - set(SHARED))
    return graph


def height_of(room: str, graph: Graph) -> int:
    """How many rooms stand beneath it, one upon the other."""
    return 1 + max((height_of(below, graph) for below in graph[room]), default=-1)


def beneath(room: str, graph: Graph) -> set[str]:
    """All that it reaches."""
    return {found for below in graph[room] for found in {below} | beneath(below, graph)}


def without_detours(graph: Graph) -> dict[str, set[str]]:
    """Only the imports that do not follow from others."""
    reached = {room: beneath(room, graph) for room in graph}
    return {
        room: {one for one in below if not any(one in reached[other] for other in below)}
        for room, below in graph.items()
    }


def places(graph: Graph) -> dict[str, tuple[float, float]]:
    """The middle of each room's box: rows by height, in a row near what it is joined to.

    An arrow that passes a row has a place there, too, under the name of `passing`, so that it goes between the boxes.
    """
    heights = {room: height_of(room, graph) for room in graph}
    chains = [way(room, below, heights) for room in sorted(graph) for below in sorted(graph[room])]
    rows: dict[int, list[str]] = {}
    for room in sorted(graph):
        rows.setdefault(heights[room], []).append(room)
    joined: dict[str, set[str]] = {}
    for chain in chains:
        for step, (one, other) in enumerate(pairwise(chain)):
            joined.setdefault(one, set()).add(other)
            joined.setdefault(other, set()).add(one)
            if step:
                rows[heights[chain[0]] - step].append(one)
    across = {name: x for row in rows.values() for name, x in spread(row, graph)}
    for _ in range(60):
        for row in rows.values():
            row.sort(key=lambda name: (fmean(across[one] for one in joined.get(name, {name})), name))
            across |= dict(spread(row, graph))
    top = max(rows)
    return {
        name: (round(across[name] * WIDTH, 1), round((top - height + 0.5) * ROW, 1))
        for height, row in rows.items()
        for name in row
    }


def way(room: str, below: str, heights: Mapping[str, int]) -> list[str]:
    """From a room to what it imports, row by row."""
    between = range(heights[room] - 1, heights[below], -1)
    return [room, *(f"{room} to {below} at {height}" for height in between), below]


def spread(row: Sequence[str], graph: Graph) -> list[tuple[str, float]]:
    """Places from 0 to 1 in this order; what only passes takes less room than a box."""
    widths = [1.0 if name in graph else 0.18 for name in row]
    return [(name, (sum(widths[:place]) + widths[place] / 2) / sum(widths)) for place, name in enumerate(row)]


def rooms() -> str:
    """Every room, and the arrows."""
    graph = without_detours(imported())
    heights = {room: height_of(room, graph) for room in graph}
    at = places(graph)
    lines = [
        f'<path d="{line([at[step] for step in way(room, below, heights)])}" class="way"/>'
        for room in sorted(graph)
        for below in sorted(graph[room])
    ]
    boxes = [box(*at[room], BOX, room.replace(".", "/") + "/") for room in sorted(graph)]
    height = max(y for _, y in at.values()) + ROW / 2
    return svg(WIDTH, height, [*lines, *boxes], "Rooms of the package, and what each imports")


def line(points: Sequence[tuple[float, float]]) -> str:
    """A curve from box to box, straight down where it passes a row."""
    (x, y), path = points[0], []
    y += HIGH / 2
    path.append(f"M{x} {y:g}")
    for place, (to_x, middle) in enumerate(points[1:], 2):
        to_y = middle - HIGH / 2 - (4 if place == len(points) else 0)
        bend = (to_y - y) / 2
        path.append(f"C{x} {y + bend:g} {to_x} {to_y - bend:g} {to_x} {to_y:g}")
        if place < len(points):
            path.append(f"L{to_x} {middle + HIGH / 2:g}")
        x, y = to_x, middle + HIGH / 2
    return " ".join(path)


def ways() -> str:
    """Two columns of steps."""
    parts, column = [], WIDTH / len(WAYS)
    for place, (title, steps) in enumerate(WAYS):
        x = column * (place + 0.5)
        parts.append(f'<text x="{x}" y="24" class="title">{escape(title)}</text>')
        for step, (module, what) in enumerate(steps):
            y = 64 + step * 66
            if step:
                parts.append(f'<path d="M{x} {y - 44} L{x} {y - 26}" class="way"/>')
            parts.append(box(x, y, column - 40, module.replace(".", "/"), what))
    return svg(WIDTH, 64 + 66 * max(len(steps) for _, steps in WAYS) - 30, parts, "The ways of the data")


def box(x: float, y: float, width: float, name: str, what: str = "") -> str:
    """A room or a step: its name, and what comes out of it."""
    high = 44 if what else HIGH
    colour = FAMILIES.get(name.split("/")[0], OTHERS)
    lines = f'<text x="{x}" y="{y - 3 if what else y + 4}" class="name">{escape(name)}</text>'
    lines += f'<text x="{x}" y="{y + 14}" class="what">{escape(what)}</text>' if what else ""
    return (
        f'<rect x="{x - width / 2}" y="{y - high / 2}" width="{width}" height="{high}" rx="6" fill="{colour}"/>{lines}'
    )


def svg(width: float, height: float, parts: Sequence[str], title: str) -> str:
    """A drawing that is readable on light and on dark pages."""
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:g}" role="img" '
        'font-family="sans-serif">',
        f"<title>{escape(title)}</title>",
        "<style>rect{stroke:#6b7280;stroke-width:1}text{text-anchor:middle;fill:#111827}.name{font-size:13px;font-weight:600}"
        ".what{font-size:12px}.title{font-size:16px;font-weight:600;fill:#808694}"
        ".way{fill:none;stroke:#8b93a7;stroke-width:1.3;marker-end:url(#end)}</style>",
        '<defs><marker id="end" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" fill="#8b93a7"/></marker></defs>',
        *parts,
        "</svg>\n",
    ])  # fmt: skip


if __name__ == "__main__":
    main()

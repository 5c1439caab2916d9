"""Holds the reader of battle logs to the simulator: many battles, and each turn's end compared with the battle's own.

    python scripts/check_battle_logs.py --battles 405
    python scripts/check_battle_logs.py --battles 27 --mutations 20000    # and as many spoilt logs, which must be read

Plays battles of 27 formats with random choices (scripts/play_battles.js, needs Node), reads each log as the server, a
player and a spectator have it, and compares what the reader holds of each Pokémon at each turn's end: whether it is on
the field, HP to the digit, status, species, forme and type. Prints what differs by kind, and exits with 1 where there
is more than what no log can tell.
"""

import argparse
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gemma_metamon.reports.battle_log import Turn, read_log
from gemma_metamon.reports.battle_sides import Member, Side, read_condition
from gemma_metamon.reports.replay_page import replay_page
from gemma_metamon.showdown.simulator.installation import ensure_installed, find_node

FORMATS = [
    *[(f"gen{gen}randombattle", "random") for gen in range(1, 10)],
    *[(f"gen{gen}ou", "mechanics") for gen in range(1, 10)],
    *[(f"gen{gen}customgame", "mechanics") for gen in range(4, 10)],
    ("gen6anythinggoes", "mechanics"),
    ("gen7anythinggoes", "mechanics"),
    ("gen7letsgorandombattle", "random"),
]
VIEWS = ("server", "p1", "spectator")
LEAVING = "an ability that works as it leaves, known when it comes in again (Regenerator, Natural Cure)"
COVERED = "it was on the field in another's shape, or another in its own, and nothing told so"
UNTELLABLE = (LEAVING, COVERED)  # by any log; all else is the reader's fault


def play(jobs: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    command = [find_node(), str(Path(__file__).with_name("play_battles.js")), str(ensure_installed())]
    lines = "\n".join(json.dumps(job) for job in jobs)
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=True)
    yield from map(json.loads, done.stdout.splitlines())


def as_seen(log: Sequence[str], view: str) -> list[str]:
    """Line by line, so that the numbers of lines stay: "" for a line that this view has not."""
    seen = list(log)
    for number, line in enumerate(log):
        if line.startswith("|split|"):
            own = view == "server" or line == f"|split|{view}"
            seen[number] = ""
            seen[number + (2 if own else 1)] = ""
    return seen


class Disguises:
    """Who really is on the field, and whose state no log tells: `covered`, as (side, Pokémon)."""

    def __init__(self, entrances: Sequence[dict[str, Any]]) -> None:
        self._entrances = list(entrances)
        self.on_field: dict[int, tuple[int, int]] = {}  # side -> (who it is, whose shape it has)
        self.covered: set[tuple[int, int]] = set()

    def read_until(self, line: int) -> None:
        while self._entrances and self._entrances[0]["line"] < line:
            entrance = self._entrances.pop(0)
            side = entrance["side"]
            who, shape = self.on_field.get(side, (0, 0))
            if entrance["kind"] != "replace" and who != shape:
                self.covered |= {(side, who), (side, shape)}
            self.on_field[side] = (entrance["id"], entrance["as"])
            if entrance["id"] == entrance["as"]:
                self.covered.discard((side, entrance["id"]))


def differences(battle: dict[str, Any], view: str) -> Iterator[tuple[str, str]]:
    """What the reader does not hold as the battle did, each as (its kind, where and what)."""
    lines = battle["log"] if view == "server" else as_seen(battle["log"], view)
    story = read_log("\n".join(lines))
    for turn in story.turns:
        yield from (("no words", event.text) for event in turn.events if event.weight == "raw")
    if len(story.turns) != len(battle["states"]):
        yield "turns", f"{len(story.turns)} turns read of {len(battle['states'])}"
        return
    disguises = Disguises(battle["entrances"])
    for turn, state in zip(story.turns, battle["states"], strict=True):
        disguises.read_until(state["line"])
        for number, team in enumerate(state["sides"]):
            for kind, what in of_side(turn, number, team, disguises, view):
                yield kind, f"{battle['format']} {battle['seed']} {view} turn {turn.number} {what}"


def of_side(
    turn: Turn, number: int, team: list[dict[str, Any]], disguises: Disguises, view: str
) -> Iterator[tuple[str, str]]:
    side = turn.sides[number]
    who, shape = disguises.on_field[number]
    for pokemon in team:
        disguised = pokemon["id"] == who != shape
        if pokemon["id"] == shape != who:
            continue  # the log speaks of the other by its name
        name = next(p["name"] for p in team if p["id"] == shape) if disguised else pokemon["name"]
        member = member_named(side, name)
        condition = pokemon["secret" if view in ("server", f"p{number + 1}") else "shared"]
        covered = (number, pokemon["id"]) in disguises.covered
        if member is None:
            if pokemon["seen"] and not covered:
                yield "not known", name
            continue
        for kind, ours, theirs in compared(member, pokemon, condition, disguised):
            if covered:
                kind = COVERED
            elif not pokemon["active"] and pokemon["abilityLeft"] in ("regenerator", "naturalcure"):
                kind = LEAVING
            yield kind, f"{side.player}'s {name}: {ours} for {theirs}"


def member_named(side: Side, name: str) -> Member | None:
    return next((member for member in side.members if member.seen and member.name == name), None)


def compared(
    member: Member, pokemon: dict[str, Any], condition: str, disguised: bool
) -> Iterator[tuple[str, Any, Any]]:
    hp, _ = read_condition(condition)
    pairs = [
        ("hp", member.hp, hp),
        ("status", member.status, pokemon["status"]),
        ("active", member.active, pokemon["active"]),
        ("tera", member.tera, pokemon["tera"]),
    ]
    if not disguised:
        pairs.append(("species", member.species, pokemon["species"]))
        if not pokemon["transformed"]:
            pairs.append(("forme", member.forme or member.species, pokemon["forme"]))
    yield from ((kind, ours, theirs) for kind, ours, theirs in pairs if ours != theirs)


def spoilt(lines: Sequence[str], draw: random.Random) -> list[str]:
    """A log with some lines gone, doubled, moved or written otherwise."""
    lines = list(lines)
    pieces = [piece for line in draw.sample(lines, min(9, len(lines))) for piece in line.split("|")]
    pieces += [
        "",
        "p1a: ",
        "p2: Nobody",
        "nan/100",
        "1/0",
        "9" * 5000,
        "-1/100",
        "50/100y",
        "p3a: X",
        "[of]",
        "0 fnt",
        "\ud800",
    ]
    for _ in range(draw.randrange(1, 12)):
        at, other = draw.randrange(len(lines)), draw.randrange(len(lines))
        parts = lines[at].split("|")
        parts[draw.randrange(len(parts))] = draw.choice(pieces)
        changed = draw.choice(["|".join(parts), "|".join(parts[: draw.randrange(len(parts) + 1)]), lines[other], ""])
        lines[at : at + draw.randrange(2)] = [changed]
    return lines


def check_spoilt(logs: Sequence[Sequence[str]], count: int, seed: int) -> None:
    """Reads so many spoilt logs, and draws the page of each; whatever is raised ends the script."""
    draw = random.Random(seed)
    for _ in range(count):
        log = draw.choice(logs)
        start = draw.randrange(len(log))
        lines = spoilt([*log[: draw.randrange(60)], *log[start : start + 60]] or [""], draw)
        story = read_log("\n".join(lines))
        shares = [member.hp for turn in story.turns for side in turn.sides for member in side.members]
        if not all(0 <= share <= 1 for share in shares):
            raise ValueError(f"HP beyond 0..1 in {lines}")
        replay_page("\n".join(lines), "spoilt")
    print(f"{count} spoilt logs read, none raised")


def jobs_of(battles: int, seed: int, choices: int = 400) -> list[dict[str, Any]]:
    drawn = zip(range(battles), FORMATS * battles, strict=False)
    return [{"format": name, "teams": teams, "seed": seed + i, "choices": choices} for i, (name, teams) in drawn]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--battles", type=int, default=405)
    parser.add_argument("--seed", type=int, default=0, help="of the first battle")
    parser.add_argument("--examples", type=int, default=3, help="shown of each kind")
    parser.add_argument("--mutations", type=int, default=0, help="how many spoilt logs to read")
    args = parser.parse_args(argv)
    examples: dict[str, list[str]] = {}
    counts = Counter[str]()
    logs = []
    for battle in play(jobs_of(args.battles, args.seed)):
        if "error" in battle:
            print(f"{battle['format']} {battle['seed']}: {battle['error']}", file=sys.stderr)
            return 1
        logs.append(battle["log"])
        counts += Counter(battles=1, turns=len(battle["states"]), uncovered=uncovered(battle))
        for view in VIEWS:
            for kind, what in differences(battle, view):
                examples.setdefault(kind, []).append(what)
    print(
        f"{counts['battles']} battles, {counts['turns']} states of both teams, each in {len(VIEWS)} views; "
        f"{counts['uncovered']} disguises uncovered"
    )
    for kind, found in sorted(examples.items(), key=lambda item: -len(item[1])):
        print(f"{len(found):7d} {kind}")
        print("".join(f"            {what}\n" for what in found[: args.examples]), end="")
    check_spoilt(logs, args.mutations, args.seed)
    return int(any(kind not in UNTELLABLE for kind in examples))


def uncovered(battle: dict[str, Any]) -> int:
    return sum(entrance["kind"] == "replace" for entrance in battle["entrances"])


if __name__ == "__main__":
    sys.exit(main())

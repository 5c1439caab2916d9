"""Battles a second in the arena with random players, against the simulator as a library in one Node process.

    python scripts/bench_arena.py --formats gen1ou gen9ou --rounds 5

Both sides play the same battles: the same seeds, teams and choices. The library's players choose in JavaScript
(bench_arena.js); the arena's choose here, from the requests' JSON. The sides take turns, in rounds; the figures are
medians. The processors' time is per turn of a battle, Node's and Python's: of the arena, what is above the library's is
what the arena costs. Prints a table; --json ends with one line of JSON.
"""

import argparse
import json
import statistics
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from gemma_metamon.showdown.arena.arena import Arena, Seat
from gemma_metamon.showdown.arena.seeds import dice, simulator_seed
from gemma_metamon.showdown.simulator.installation import ensure_installed, find_node
from gemma_metamon.showdown.simulator.teams import load_teams

LIBRARY = Path(__file__).with_suffix(".js")
SIDES = ("library", "arena, 1 worker", "arena, 2 workers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--formats", nargs="+", default=["gen1ou", "gen9ou"])
    parser.add_argument("--battles", type=int, default=60, help="of a side in a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--in_play", type=int, default=16, help="battles of the arena at a time (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    args = parser.parse_args()
    results = {name: compare(name, args) for name in args.formats}
    for name, sides in results.items():
        print(f"{name}\n{'':20}battles/s  of library   turns/s   Node ms/turn   Python ms/turn")
        for side, row in sides.items():
            share = row["battles_per_s"] / sides["library"]["battles_per_s"]
            print(
                f"{side:20}{row['battles_per_s']:9.1f}{share:12.0%}{row['turns_per_s']:10.0f}"
                f"{row['node_ms_per_turn']:15.3f}{row['python_ms_per_turn']:17.3f}"
            )
    if args.json:
        print(json.dumps(results))


def compare(battle_format: str, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Medians over the rounds, for each side. The sides alternate, and must have played the same turns."""
    battles = draw_battles(battle_format, range(args.battles), args.seed)
    validated = validated_teams(battle_format, battles)
    rows: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    with Library() as library, Arena(1) as one, Arena(2) as two:
        library.play(battle_format, validated[:6])  # loads what is loaded once
        for arena in (one, two):
            play(arena, battle_format, battles[:6], args.in_play)
        for _ in range(args.rounds):
            rows["library"].append(library.play(battle_format, validated))
            rows["arena, 1 worker"].append(play(one, battle_format, battles, args.in_play))
            rows["arena, 2 workers"].append(play(two, battle_format, battles, args.in_play))
    if len({row["turns"] for of_side in rows.values() for row in of_side}) != 1:
        raise SystemExit("bench_arena: the sides have not played the same battles")
    return {side: summary(of_side, args.battles) for side, of_side in rows.items()}


def draw_battles(battle_format: str, numbers: Iterable[int], seed: int) -> list[dict[str, Any]]:
    """The dice and both teams of each battle: `play` plays them."""
    teams = load_teams(battle_format)
    draws = {number: dice(seed, number, "teams") for number in numbers}
    return [
        {"seed": simulator_seed(seed, number, "dice"), "teams": [draw.choice(teams), draw.choice(teams)]}
        for number, draw in draws.items()
    ]


def summary(rounds: Sequence[dict[str, float]], n_battles: int) -> dict[str, float]:
    turns = rounds[0]["turns"]
    seconds = statistics.median(row["seconds"] for row in rounds)
    return {
        "battles_per_s": n_battles / seconds,
        "turns_per_s": turns / seconds,
        "node_ms_per_turn": 1e3 * statistics.median(row["node_s"] for row in rounds) / turns,
        "python_ms_per_turn": 1e3 * statistics.median(row["python_s"] for row in rounds) / turns,
    }


def validated_teams(battle_format: str, battles: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same battles with the teams as the simulator's validator leaves them, which is how the arena plays them."""
    with Arena() as arena:
        found = []
        for battle in battles:
            begin(arena, "one", battle_format, battle)
            (news,) = arena.receive()
            if news.lost:
                raise SystemExit(f"bench_arena: {news.lost}")
            arena.send("one", "p1", "/forfeit")
            (news,) = arena.receive()
            players = [json.loads(line.partition("{")[1] + line.partition("{")[2]) for line in news.ended.inputs[1:3]]
            found.append({"seed": battle["seed"], "teams": [player["team"] for player in players]})
    return found


class Library:
    """The simulator as a library in a process of its own, which is warm from the second job on, as a worker is."""

    def __enter__(self) -> "Library":
        command = [find_node(), str(LIBRARY.absolute()), str(ensure_installed())]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()

    def play(self, battle_format: str, battles: Sequence[dict[str, Any]]) -> dict[str, float]:
        print(json.dumps({"format": battle_format, "battles": battles}), file=self.process.stdin, flush=True)
        return {"python_s": 0.0, **json.loads(self.process.stdout.readline())}


def play(arena: Arena, battle_format: str, battles: Sequence[dict[str, Any]], in_play: int) -> dict[str, float]:
    """So many battles at a time, each with a random player in both seats."""
    node_before, python_before, began = node_seconds(arena), time.process_time(), time.monotonic()
    draws: dict[str, dict[str, Draws]] = {}
    waiting = list(enumerate(battles))[::-1]
    turns = 0
    while waiting or arena.battles:
        while waiting and len(arena.battles) < in_play:
            number, battle = waiting.pop()
            name = f"battle-{battle_format}-{number}"
            draws[name] = {"p1": Draws(2 * number), "p2": Draws(2 * number + 1)}
            begin(arena, name, battle_format, battle)
        for news in arena.receive():
            if news.lost:
                raise SystemExit(f"bench_arena: {news.lost}")
            for seat, messages in news.told.items():
                for message in messages:
                    if message.startswith("|request|"):
                        choice = random_choice(json.loads(message[9:]), draws[news.battle][seat])
                        if choice is not None:
                            arena.send(news.battle, seat, f"/choose {choice}")
            if news.ended:
                turns += news.ended.turns
                del draws[news.battle]
    return {
        "seconds": time.monotonic() - began,
        "turns": turns,
        "node_s": node_seconds(arena) - node_before,
        "python_s": time.process_time() - python_before,
    }


def begin(arena: Arena, name: str, battle_format: str, battle: dict[str, Any]) -> None:
    first, second = (Seat(name=f"Player {i}", team=team) for i, team in enumerate(battle["teams"], 1))
    arena.start(name, battle_format=battle_format, seed=battle["seed"], seats=(first, second))


class Draws:
    """Numbers that JavaScript draws alike."""

    def __init__(self, seed: int) -> None:
        self.state = seed

    def below(self, n: int) -> int:
        self.state = (self.state * 1664525 + 1013904223) % 2**32
        return self.state * n >> 32


def random_choice(request: dict[str, Any], draws: Draws) -> str | None:
    """Any legal move or switch of a request: "move 2", "switch 4"; None where nothing is to be chosen."""
    if request.get("wait"):
        return None
    if request.get("teamPreview"):
        return "default"
    members = request["side"]["pokemon"]
    reviving = any(member.get("reviving") for member in members)
    forced = request.get("forceSwitch")
    active = {} if forced else request["active"][0]
    options = [f"move {i}" for i, move in enumerate(active.get("moves", ()), 1) if not move.get("disabled")]
    if forced or not (active.get("trapped") or active.get("maybeTrapped")):
        options += [
            f"switch {i}"
            for i, member in enumerate(members, 1)
            if not member["active"] and member["condition"].endswith(" fnt") == reviving
        ]
    return options[draws.below(len(options))] if options else "default"


def node_seconds(arena: Arena) -> float:
    """Of the processors, by all workers since they began, as Linux counts them."""
    ticks = 0
    for pid in arena.process_ids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / 100


if __name__ == "__main__":
    main()

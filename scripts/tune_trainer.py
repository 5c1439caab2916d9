"""DuelTrainer's thresholds, one changed at a time: `python scripts/tune_trainer.py --out runs/tune`.

Each changed trainer plays --battles against SimpleHeuristicsPlayer and as many against DuelTrainer with the thresholds
that were the first (those of generation 1). All play the same drawn teams, so that two rows differ by less than their
intervals say. The table is ordered by the wins of both.

A row that stands in --out is not played again; another --battles or --seed, or another table in thresholds.py, is
another row. One process; about ten seconds a row of 200 battles on a quiet core.
"""

import argparse
import asyncio
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from gemma_metamon.intervals import wilson_interval
from gemma_metamon.showdown.matches.evaluate import evaluate
from gemma_metamon.showdown.players.contestants import scripted
from gemma_metamon.showdown.players.registry import PLAYERS
from gemma_metamon.showdown.scripted.thresholds import THRESHOLDS, Thresholds, thresholds_of
from gemma_metamon.showdown.scripted.trainers import DuelTrainer
from gemma_metamon.showdown.simulator.teams import load_teams

FIRST, TUNED = "FirstDuelTrainer", "TunedDuelTrainer"
OPPONENTS = ("SimpleHeuristicsPlayer", FIRST)
VALUES: dict[str, tuple[Any, ...]] = {
    "switch_margin": (0.4, 0.7, 1.0),
    "pivot_margin": (0.0, 0.2, 0.5),
    "tera_margin": (0.05, 0.2, 0.4),
    "assumed_power": (80.0, 90.0, 105.0),
    "assumed_coverage": (65.0, 80.0, 95.0),
    "heal_below": (0.4, 0.5, 0.65),
    "heal_under": (0.25, 0.4, 0.55),
    "other_status": (0.1, 0.2, 0.4),
    "hazard": (0.2, 0.5, 0.8),
    "removal": (0.0, 0.2, 0.4),
    "setup_margin": (-0.4, -0.1, 0.1, 9.0),
    "setup_hp": (0.0, 0.3, 0.6),
    "setup_stages": (2, 4),
    "screens": (0.0, 0.5),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--format", default="gen9ou", help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/tune"), help="(default: %(default)s)")
    parser.add_argument("--battles", type=int, default=300, help="of a row and opponent (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--names", nargs="+", default=list(VALUES), choices=VALUES, metavar="THRESHOLD")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    now = thresholds_of(int(args.format[3]))
    rows = {"as it is": row(now, args)}
    for name in args.names:
        for value in VALUES[name]:
            if value != getattr(now, name):
                rows[f"{name} = {value}"] = row(replace(now, **{name: value}), args)
    for label, wins in sorted(rows.items(), key=lambda found: -sum(found[1])):
        low, high = wilson_interval(sum(wins), len(wins) * args.battles)
        shares = "  ".join(f"{won / args.battles:6.1%}" for won in wins)
        print(f"{label:24} {shares}   both {sum(wins) / len(wins) / args.battles:.1%} ({low:.1%} to {high:.1%})")


def row(thresholds: Thresholds, args: argparse.Namespace) -> list[int]:
    """Wins against each of OPPONENTS."""
    shown = {field.name: str(getattr(thresholds, field.name)) for field in fields(thresholds)}
    key = json.dumps([args.format, args.battles, args.seed, shown], sort_keys=True)
    path = args.out / "rows.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    known = {found["key"]: found["wins"] for found in map(json.loads, lines)}
    if key not in known:
        known[key] = asyncio.run(play(thresholds, args))
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": key, "wins": known[key]}) + "\n")
    wins: list[int] = known[key]
    return wins


async def play(thresholds: Thresholds, args: argparse.Namespace) -> list[int]:
    # among the scripted players they need not wait for each other
    PLAYERS[FIRST] = trainer(FIRST, THRESHOLDS[1])
    PLAYERS[TUNED] = trainer(TUNED, thresholds)
    pairs = [(scripted(TUNED), scripted(name)) for name in OPPONENTS]
    teams = load_teams(args.format)
    played = await evaluate(pairs, args.battles, battle_format=args.format, teams=teams, seed=args.seed)
    return [pair.players.wins for pair in played.pairs]


def trainer(name: str, thresholds: Thresholds) -> type[DuelTrainer]:
    return type(name, (DuelTrainer,), {"thresholds": lambda self, gen: thresholds})


if __name__ == "__main__":
    main()

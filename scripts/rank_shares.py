"""How well a run's critics rank the battles that they learned from, by how much a state's own worth is held against.

    python scripts/rank_shares.py runs/rl_bench/runs/best_quarter-1 runs/rl_bench/runs/best_quarter-2 ...

Runs of recommended_rl.gin have RUN/judged.jsonl: of each battle the mean of Q(h, a), and of V(s). For shares from 0 to
1 of V(s) it prints whose battles the best ones would be, and how many of them were won.
"""

import argparse
from collections import Counter
from pathlib import Path

from gemma_metamon.battle.replays import BattleFileName
from gemma_metamon.training.diagnostics import player_of
from gemma_metamon.training.ranking import best_places, read_judged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--best", type=float, default=0.25, help="share of the battles (default: %(default)s)")
    parser.add_argument(
        "--held_against", type=float, nargs="+", default=[0, 0.25, 0.5, 0.75, 1], help="(default: 0 0.25 0.5 0.75 1)"
    )
    args = parser.parse_args()
    for run in args.runs:
        names, played = read_judged(run)
        print(run)
        for held_against in args.held_against:
            best = [
                of_source[place]
                for of_source, judged in zip(names, played, strict=True)
                for place in best_places([one and one.score(held_against) for one in judged], args.best)
            ]
            who = Counter(player_of(name) for name in best).most_common()
            won = sum(BattleFileName.parse(name).won for name in best) / len(best)
            print(
                f"  {held_against:4.2f} of V(s): won {won:4.0%}  "
                + "  ".join(f"{p} {n / len(best):.0%}" for p, n in who)
            )


if __name__ == "__main__":
    main()

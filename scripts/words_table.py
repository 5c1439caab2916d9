"""One table of what scripts/words_gen1ou.sh or eyes_gen1ou.sh has left: agreement, legal answers, battles won.

    python scripts/words_table.py runs/words_gen1ou
    python scripts/words_table.py --of eyes runs/eyes_gen1ou

Shares stand with their 95 % intervals; what is not there yet is a dash.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from gemma_metamon.intervals import wilson_interval

OPPONENTS = ("RandomPlayer", "MaxBasePowerPlayer", "SimpleHeuristicsPlayer")
WORDS = {  # name in the table -> its run, and the folders of its battles
    "SFT": ("words", ["words_table"]),
    "SFT, battle blanked": ("blank", ["blank_table"]),
    "untrained": (None, ["untrained_random", "untrained_table"]),
    "random, no switching": (None, ["no_switch_table"]),
    "SFT, stopped early": ("early", ["early_table"]),
    "GRPO from there": ("grpo", ["grpo_table"]),
}
EYES = {
    "sees": ("eyes", ["eyes_table"]),
    "sees blank pictures": ("eyes_blank", ["blank_table"]),
    "untrained": (None, ["untrained_table"]),
    "random, no switching": (None, ["no_switch_table"]),
}
COLUMNS = ("agrees", "legal answers", *OPPONENTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the script")
    parser.add_argument("--of", choices=("words", "eyes"), default="words", help="which script (default: %(default)s)")
    args = parser.parse_args()
    folder, players = args.folder, EYES if args.of == "eyes" else WORDS
    print(f"| {'player':22} | {' | '.join(f'{column:22}' for column in COLUMNS)} |")
    print(f"|{'---|' * (1 + len(COLUMNS))}")
    for name, (run, battles) in players.items():
        cells = [*measured(folder / run if run else None), *won([folder / each / "results.json" for each in battles])]
        print(f"| {name:22} | {' | '.join(f'{cell:22}' for cell in cells)} |")


def measured(run: Path | None) -> list[str]:
    """Agreement and legal answers, as the run's last look at held-out decisions found them."""
    path = run / "metrics.jsonl" if run else None
    lines = (
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path and path.exists() else []
    )
    looked: list[dict[str, Any]] = [line for line in lines if "held_out/agreement" in line]
    if not looked:
        return ["-", "-"]
    last = looked[-1]
    return [
        share_text(last["held_out/agreement"], last["held_out/decisions"]),
        share_text(last["held_out/legal_share"], last["held_out/generated"]),
    ]


def won(paths: list[Path]) -> list[str]:
    """The share of battles won against each of OPPONENTS; the last file that has one counts."""
    pairs = [pair for path in paths if path.exists() for pair in json.loads(path.read_text(encoding="utf-8"))["pairs"]]
    found = {pair["opponent"]: share_text(pair["win_rate"], pair["battles"]) for pair in pairs}
    return [found.get(opponent, "-") for opponent in OPPONENTS]


def share_text(share: float, n: float) -> str:
    low, high = wilson_interval(round(share * n), int(n))
    return f"{share:.1%} ({100 * low:.1f} to {100 * high:.1f})"


if __name__ == "__main__":
    main()

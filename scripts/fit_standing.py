"""Fits the weights by which a search judges how a battle stands (showdown/arena/assets/standing.json).

    python scripts/fit_standing.py --format gen1ou --battles 6000           # seconds: gen 1 is played in its model
    python scripts/fit_standing.py --format gen9ou --battles 600 --write    # a minute, in the simulator

DuelTrainer plays itself with the packaged teams (scripts/fit_standing.js); a logistic regression says from about every
sixth turn who wins. Printed are the AUC of the result and the Brier score on the last fifth of the battles, beside what
worth and duel on the field alone give (the damage heuristic that was used before). With --write the weights are kept.
"""

import argparse
import json
import subprocess
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gemma_metamon.showdown.simulator.installation import ensure_installed, find_node
from gemma_metamon.showdown.simulator.teams import load_teams

HEURISTIC = ("worth", "active outlook")
RIDGE = 1e-3
Array = npt.NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--format", default="gen1ou", help="(default: %(default)s)")
    parser.add_argument("--battles", type=int, default=6000, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--write", action="store_true", help="keep the weights")
    args = parser.parse_args()
    with resources.as_file(resources.files("gemma_metamon.showdown.arena") / "assets") as assets:
        names, battles, results, numbers = play(assets, args.format, args.battles, args.seed)
        first = battles < 0.8 * args.battles
        print(f"{len(results)} positions of {args.battles} battles of {args.format}; on the last fifth of the battles:")
        for what, columns in (("worth and outlook alone", [names.index(name) for name in HEURISTIC]), ("all", None)):
            chosen = numbers if columns is None else numbers[:, columns]
            weights = fit(chosen[first], results[first])
            scores = chosen[~first] @ weights
            brier = np.mean((1 / (1 + np.exp(-scores)) - results[~first]) ** 2)
            print(f"{what:24} AUC {auc(scores, results[~first]):.3f}  Brier {brier:.4f}")
        for name, weight in zip(names, weights, strict=True):
            print(f"{name:20}{weight:8.3f}")
        if args.write:
            keep(assets / "standing.json", args.format.removeprefix("gen")[0], weights)


def play(assets: Path, battle_format: str, n: int, seed: int) -> tuple[list[str], Array, Array, Array]:
    """Names of the numbers (N), and of each position (P) its battle (P,), result (P,) and numbers (P, N)."""
    command = [
        find_node(),
        str(Path(__file__).with_suffix(".js").resolve()),
        str(assets),
        battle_format,
        str(n),
        str(seed),
    ]
    done = subprocess.run(
        command,
        input=json.dumps(load_teams(battle_format)),
        cwd=ensure_installed(),
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    header, *lines = done.stdout.splitlines()
    table = np.array([[float(value) for value in line.split(",")] for line in lines])
    return header.split(","), table[:, 0], table[:, 1], table[:, 2:]


def fit(numbers: Array, results: Array) -> Array:
    """Weights (N,) of a logistic regression without a constant, by Newton's method."""
    scale = numbers.std(axis=0) + 1e-9
    scaled, weights = numbers / scale, np.zeros(numbers.shape[1])
    for _ in range(25):
        probs = 1 / (1 + np.exp(-scaled @ weights))
        slope = scaled.T @ (probs - results) / len(results) + RIDGE * weights
        curvature = (scaled * (probs * (1 - probs))[:, None]).T @ scaled / len(results)
        weights -= np.linalg.solve(curvature + RIDGE * np.eye(len(weights)), slope)
    return np.asarray(weights / scale)


def auc(scores: Array, results: Array) -> float:
    """How often a position of a won battle has a higher score than one of a lost battle; ties are left out."""
    decided = results != 0.5
    order = np.argsort(scores[decided])
    won = results[decided][order] == 1
    n_won = int(won.sum())
    ranks = np.flatnonzero(won).sum() - n_won * (n_won - 1) / 2
    return float(ranks / (n_won * (len(won) - n_won)))


def keep(path: Path, gen: str, weights: Array) -> None:
    """Puts a generation's weights into the file."""
    known = json.loads(path.read_text())
    known[gen] = [round(float(weight), 4) for weight in weights]
    lines = [f'\t"{gen}": {json.dumps(known[gen])}' for gen in sorted(known)]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()

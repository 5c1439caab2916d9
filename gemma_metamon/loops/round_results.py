"""The evaluations of all rounds taken together: ratings of everybody, and a report.

Their results.json is that of an evaluation with one field more: `rounds_of`, the name that the agents of the rounds
have before their "@".
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gemma_metamon.atomic_files import written_whole
from gemma_metamon.errors import DataError
from gemma_metamon.strict_json import read_json_object, shown

RESULTS, PAGE, EVALUATIONS = "results.json", "report.html", "evaluations"


def evaluation_folder(out: Path, number: int) -> Path:
    """Where the evaluation of a round is, or will be."""
    return out / EVALUATIONS / f"round_{number}"


def is_evaluated(folder: Path) -> bool:
    """Whether all battles of an evaluation were played."""
    results = folder / RESULTS
    return results.is_file() and _read(results)["unfinished"] is None


def report(out: Path, run_dir: Path, last: int) -> dict[str, Any]:
    """Writes results.json and report.html of the rounds up to `last`; returns the first."""
    from gemma_metamon.reports.evaluation import write_report

    folders = [evaluation_folder(out, number) for number in range(last + 1)]
    results = {
        "rounds_of": run_dir.name,
        **together([_read(folder / RESULTS) for folder in folders if folder.exists()]),
    }
    with written_whole(out / RESULTS) as staged:
        staged.write_text(json.dumps(results, indent=1), encoding="utf-8")
    write_report(out, run_dirs=[run_dir] if (run_dir / "metrics.jsonl").is_file() else [])
    return results


def together(evaluations: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Several results.json as one (see showdown/evaluate.py), everybody rated by all battles.

    The times of decisions are left out: medians do not add up.
    """
    from gemma_metamon.intervals import wilson_interval
    from gemma_metamon.showdown.matches.ratings import rate

    pairs = [pair for evaluation in evaluations for pair in evaluation["pairs"]]
    ratings = {
        rating.name: rating.as_dict()
        for rating in rate([(p["player"], p["opponent"], p["wins"], p["losses"], p["ties"]) for p in pairs])
    }
    contestants: dict[str, dict[str, Any]] = {}
    for row in (row for evaluation in evaluations for row in evaluation["contestants"]):
        total = contestants.setdefault(
            row["name"], {"name": row["name"], "kind": row["kind"], "turns": 0.0} | dict.fromkeys(_COUNTS, 0)
        )
        total["turns"] += row["battles"] * (row["mean_turns"] or 0)
        for count in _COUNTS:
            total[count] += row[count]
    for name, total in contestants.items():
        battles, choices = total["battles"], total["choices"]
        total["win_rate"] = total["wins"] / battles if battles else None
        total["interval_95"] = [*wilson_interval(total["wins"], battles)]
        total["mean_turns"] = total.pop("turns") / battles if battles else None
        total["legal_rate"] = 1 - total["refused"] / choices if choices else None
        total["latency_ms"] = None
        total["rating"] = ratings.get(name)
    # checkpoints in the order of their rounds, then those who were there all along
    by_kind = sorted(contestants.values(), key=lambda total: total["kind"] != "checkpoint")
    return {
        **evaluations[-1],
        "seconds": sum(evaluation["seconds"] for evaluation in evaluations),
        "contestants": by_kind,
        "pairs": pairs,
    }


_COUNTS = ("battles", "wins", "losses", "ties", "choices", "refused")


def as_table(results: dict[str, Any]) -> str:
    """Elo of everybody, and how often each agent of a round beat those who are in every round's evaluation."""
    fixed = [row["name"] for row in results["contestants"] if row["kind"] != "checkpoint"]
    rates = {(pair["player"], pair["opponent"]): pair["win_rate"] for pair in results["pairs"]}
    width = max(len(row["name"]) for row in results["contestants"])
    heads = "".join(f"  {name}" for name in fixed)
    lines = [f"{'':{width}}  {'Elo':>5}  {'95 % interval':>14}{heads}"]
    for row in results["contestants"]:
        low, high = row["rating"]["interval_95"]
        cells = (rates.get((row["name"], name)) for name in fixed)
        shares = "".join(
            f"  {'' if rate is None else f'{rate:.1%}':>{len(name)}}" for name, rate in zip(fixed, cells, strict=True)
        )
        lines.append(f"{row['name']:{width}}  {row['rating']['elo']:5.0f}  {f'{low:.0f} to {high:.0f}':>14}{shares}")
    return "\n".join(line.rstrip() for line in lines)


def _read(path: Path) -> dict[str, Any]:
    """Raises DataError where it is not what an evaluation writes."""
    content = read_json_object(path)
    kinds: dict[str, tuple[type, ...]] = {"seconds": (int, float), "contestants": (list,), "pairs": (list,)}
    for name, kind in {"unfinished": (object,), **kinds}.items():
        if name not in content or not isinstance(content[name], kind):
            raise DataError(f"{path} holds no results of an evaluation: {name} is {shown(content.get(name))}")
    return content

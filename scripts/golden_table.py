"""AMAGO's numbers against ours: a Markdown table of the largest relative error, |ours - AMAGO's| / (1 + |AMAGO's|).

python scripts/golden_table.py [--goldens DIR]

Exit status 1 if one is beyond its tolerance. A row sums up files that differ in seed, variant or setting alone, and
arrays that differ in parameter or update alone. Tolerances and their exceptions stand in tests/support/golden_check.py.
"""

import argparse
import re
import sys
from collections import defaultdict
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from support.amago_goldens import ROOT
from support.golden_check import Tolerance, compare, golden_paths, tolerance

BY_PARAMETER = ("grads", "grad_norms", "norms_after_step", "final", "buffers_after_train_call", "after/traj_encoder")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--goldens", type=Path, default=ROOT, help="a folder laid out like tests/goldens/amago")
    root = parser.parse_args(arguments).goldens
    torch.set_num_threads(1)  # as the goldens were made
    paths = golden_paths(root)
    if not paths:
        print(f"no goldens under {root}: it should hold amago-3.1.1/ and amago-3.3.0/", file=sys.stderr)
        return 1
    rows: dict[tuple[str, str, Tolerance], list[float]] = defaultdict(list)
    for path in paths:
        for name, error in compare(path, root).items():
            rows[group_of(path), quantity_of(name), tolerance(path, name)].append(error)
    print("| goldens | quantity | arrays | largest relative error | tolerance |")
    print("|---|---|---|---|---|")
    failed = 0
    for (group, quantity, allowed), errors in rows.items():
        # NaN compares as beyond, and would be lost in max()
        beyond = not all(error <= allowed.limit for error in errors)
        failed += beyond
        worst = max(errors, key=lambda error: (error != error, error))
        limit = f"{allowed.base:.0e}" if allowed.factor == 1 else f"{allowed.factor} x {allowed.base:.0e}"
        print(f"| {group} | {quantity} | {len(errors)} | {worst:.1e}{' BEYOND' if beyond else ''} | {limit} |")
    count = sum(map(len, rows.values()))
    print(f"\n{count:,} arrays of {len(paths)} files; {failed or 'none'} of {len(rows)} rows beyond the tolerance")
    return 1 if failed else 0


def group_of(path: str) -> str:
    version, kind, *rest = path.split("/")
    return f"{version} {kind}" + (f" {rest[0].partition('_seed')[0]}" if len(rest) > 1 else "")


def quantity_of(name: str) -> str:
    for group in BY_PARAMETER:
        if name.startswith(group):
            return group
    return re.sub(r"_step\d", "", name)


if __name__ == "__main__":
    sys.exit(main())

"""Rows of a look around, printed as they come, and the exit status that they make."""

import json
from collections.abc import Iterable
from dataclasses import asdict

from gemma_metamon.checklist import Row, as_text


def print_rows(rows: Iterable[Row], *, as_json: bool, well: str) -> int:
    """Prints each row as soon as it is known; returns 1 where one is wrong, else 0.

    Args:
        rows: perhaps still being looked for.
        as_json: one object at the end in place of the table: `well`, and the `rows`.
        well: the last line where no row is wrong.
    """
    seen: list[Row] = []
    for row in rows:
        seen.append(row)
        if not as_json:
            print(as_text(row), flush=True)
    wrong = [row.name for row in seen if row.state == "wrong"]
    if as_json:
        print(json.dumps({"well": not wrong, "rows": [asdict(row) for row in seen]}))
    else:
        print(f"\nto mend: {', '.join(wrong)}" if wrong else f"\n{well}")
    return 1 if wrong else 0

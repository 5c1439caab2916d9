"""What a look around finds: a row for each thing, with its mend; as `doctor` and `upstream check` print them."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "absent", "untried", "wrong"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One thing that was looked at.

    Attributes:
        name: of the thing.
        state: `absent` is what only some commands need; `untried` is what nothing speaks against; `wrong` keeps this
            package, or metamon, from running.
        found: what is there.
        mend: what to do, where there is something.
    """

    name: str
    state: State
    found: str
    mend: str = ""


def as_text(row: Row) -> str:
    """A line of the table; a second one, with an arrow, where there is a mend."""
    text = f"{row.state:8} {row.name:18} {row.found}"
    return f"{text}\n{'':8} {'':18} -> {row.mend}" if row.mend else text

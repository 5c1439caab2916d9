"""Showdown's protocol, line by line: "|-damage|p2a: Gengar|71/100|[from] item: Life Orb|[of] p1a: Tauros"."""

from dataclasses import dataclass
from functools import lru_cache

SIDES = ("p1", "p2")


@dataclass(frozen=True, slots=True)
class Line:
    """A message: its kind, what stands between the bars, and the two annotations that matter here.

    `source` is what "[from]" names, without "move: ": "item: Life Orb", "ability: Intimidate", "Sleep Talk"; `of` is
    the Pokémon that "[of]" names. Both are "" where there is none.
    """

    kind: str
    args: tuple[str, ...]
    source: str
    of: str

    @property
    def side(self) -> str:
        """Whose Pokémon or side the message is about: "p1", "p2", or "" of neither."""
        return side_of(self.actor)

    @property
    def actor(self) -> str:
        """Who did, or could not do, what this tells. Damp and its like hinder "[of]"; their owner is named first."""
        return self.of if self.kind == "cant" and self.of else self.arg(0)

    def arg(self, place: int) -> str:
        """The argument at this place, "" where there are fewer."""
        return self.args[place] if place < len(self.args) else ""


@lru_cache(maxsize=4096)
def read_line(text: str) -> Line:
    """Any text: what is no message is one of kind ""."""
    if not text.startswith("|"):
        return Line("", (), "", "")
    kind, *fields = text[1:].split("|")
    source = of = ""
    args = []
    for field in fields:
        if field.startswith("[from]"):
            source = field.removeprefix("[from]").strip().removeprefix("move: ").strip()
        elif field.startswith("[of]"):
            of = field.removeprefix("[of]").strip()
        elif not (field.startswith("[") and field.endswith("]")):
            args.append(field)
    return Line(kind, tuple(args), source, of)


def side_of(ident: str) -> str:
    """Of "p1a: Gengar", "p1: Gengar" or "p1: Anna"; "" where it is none."""
    return ident[:2] if ident[:2] in SIDES and ident[2:3] in ("", ":", "a") else ""


def other(side: str) -> str:
    """The opposing side: p2 of p1, p1 of p2."""
    return "p2" if side == "p1" else "p1"

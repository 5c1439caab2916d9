"""The other side's team in a fork, as somebody takes it to be: sets that are guessed, and what was seen of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

TRUTH: Literal["truth"] = "truth"
"""In the place of a hidden team: the team that the other side really has, which its opponent must not know."""


@dataclass(frozen=True, kw_only=True)
class HiddenPokemon:
    """One Pokémon of the other side in a fork.

    Attributes:
        packed: its set, as Showdown packs it, with the name, level and gender that were shown.
        ident: the name that it was seen under ("p2: Gengar"); None of one that has not been on the field.
        condition: its HP and status as they were shown last ("52/100 par", "0 fnt"); empty: all its HP.
        item: the id of what it is known to hold now, "" for nothing; None: what the set says.
        ability: the id of the ability that it is known to have now; None: what the set says.
        uses: PP that its moves are known to have spent, by the move's id.
    """

    packed: str
    ident: str | None = None
    condition: str = ""
    item: str | None = None
    ability: str | None = None
    uses: Mapping[str, int] = field(default_factory=dict)


HiddenTeam = Sequence[HiddenPokemon] | Literal["truth"]
"""A whole team, as large as the one that was announced, or TRUTH."""

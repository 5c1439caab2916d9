"""When the simulator asked for choices, and what for, told from a log in which nobody's requests are.

A turn's beginning asks both sides for a move. In between, after a Pokémon has fainted or left by U-turn and its like,
one or both are asked for a Pokémon: the log shows that by a batch of messages (it begins with an empty one, "|") that
opens with a switch. Revival Blessing's choice is a heal at the same place.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from gemma_metamon.replay_logs.lines import SIDES, Line

MOVE, SWITCH, REVIVE = "move", "switch", "revive"
_EJECTED = {"Eject Button", "Eject Pack", "ability: Emergency Exit", "ability: Wimp Out"}
_FULL_TEAM = 6


@dataclass(frozen=True)
class Ask:
    """The simulator waits, `lines[:at]` having been said. `of` is what is asked of the sides that do not wait."""

    at: int
    of: dict[str, str]


@dataclass
class _Side:
    fainted: bool = False  # the one on the field
    n_fainted: int = 0
    team_size: int = _FULL_TEAM
    acted: bool = False  # since the turn began
    ejected: bool = False  # since it was last asked

    @property
    def left(self) -> int:
        return self.team_size - self.n_fainted


@dataclass
class _Walk:
    sides: dict[str, _Side] = field(default_factory=lambda: {side: _Side() for side in SIDES})

    def read(self, line: Line) -> None:
        if line.kind == "turn":
            for side in self.sides.values():
                side.acted = side.ejected = False
            return
        state = self.sides.get(line.side)
        if state is None:
            return
        if line.kind in ("switch", "drag"):
            state.fainted = state.ejected = False
            state.acted = state.acted or line.kind == "switch"
        elif line.kind in ("move", "cant"):
            state.acted = True
        elif line.kind == "faint":
            state.fainted = True
            state.n_fainted += 1
        elif line.kind in ("-enditem", "-activate") and line.arg(1) in _EJECTED:
            state.ejected = True
        elif line.kind == "teamsize" and line.arg(1).isdigit():
            state.team_size = int(line.arg(1)[:2])
        elif is_revival(line):
            state.n_fainted -= 1


def is_revival(line: Line) -> bool:
    """Whether this is a choice made for Revival Blessing."""
    return line.kind == "-heal" and line.source == "Revival Blessing"


def find_asks(lines: Sequence[Line]) -> list[Ask]:
    """All asks of a battle in order, from its first turn on; team preview is none."""
    asks: list[Ask] = []
    walk = _Walk()
    quiet = True  # nothing has happened since the last ask
    for at, line in enumerate(lines):
        if line.kind == "" and not quiet:
            asked = _asked_between(lines, at, walk)
            if asked:
                asks.append(Ask(at, asked))
        elif line.kind in ("win", "tie"):
            asks += _asked_at_the_end(at, walk)
            break
        walk.read(line)
        if line.kind == "turn":
            asks.append(Ask(at + 1, dict.fromkeys(SIDES, MOVE)))
            quiet = True
        elif line.kind not in ("", "t:"):
            quiet = not asks
    return asks


def _asked_between(lines: Sequence[Line], at: int, walk: _Walk) -> dict[str, str]:
    """What each side was asked before the batch that begins here, by how it answered."""
    asked: dict[str, str] = {}
    for line in lines[at + 1 :]:
        if line.kind in ("", "move", "cant", "turn", "upkeep"):
            break
        state = walk.sides.get(line.side)
        if state is None or line.side in asked:
            continue
        if is_revival(line):
            asked[line.side] = REVIVE
        elif line.kind == "switch" and (state.fainted or state.acted or state.ejected):
            asked[line.side] = SWITCH
    return asked


def _asked_at_the_end(at: int, walk: _Walk) -> list[Ask]:
    """A battle that was given up while a side had to replace a fainted Pokémon ends with a question."""
    sides = walk.sides
    going_on = all(state.left > 0 for state in sides.values())
    asked = {side: SWITCH for side, state in sides.items() if state.fainted and going_on}
    return [Ask(at, asked)] if asked else []

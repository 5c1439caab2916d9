"""What a side chose, told from what followed."""

from collections.abc import Sequence
from dataclasses import dataclass

from poke_env.battle import Move

from gemma_metamon.replay_logs.asks import MOVE, is_revival
from gemma_metamon.replay_logs.lines import Line, other

# "[from]" of a move that was nevertheless its user's own choice
_STILL_CHOSEN = {"lockedmove", "pursuit"}
_ENDS = {"faint": "fainted before it could act", "drag": "was dragged out before it could act"}
# in gen 1 these go on for some turns, although other moves are offered
_TRAPS = {"Bind", "Clamp", "Fire Spin", "Wrap"}
# its victim is offered all its moves, and struggles if the one that it chose is forbidden
_IMPRISON = {"Imprison", "move: Imprison"}
# what the 13 actions have no number for, by the message that comes before the move
_BEYOND_ACTIONS = {"-mega": "mega evolution", "-burst": "ultra burst", "-zpower": "a z-move"}


@dataclass(frozen=True)
class Choice:
    """A move by its id, or a switch by its place among the log's lines; or neither, and why it cannot be known.

    `locked` says that the move was the only one offered.
    """

    move: str = ""
    switch_at: int = -1
    tera: bool = False
    locked: bool = False
    unknown: str = ""


def read_choice(lines: Sequence[Line], start: int, stop: int, side: str, asked: str, gen: int) -> Choice:
    """What a side chose, as the lines after the request show it.

    Args:
        lines: of the whole battle.
        start: the first line after the request.
        stop: of the side's next request, or the number of lines.
        side: p1 or p2.
        asked: what for: MOVE, or a switch.
        gen: the generation, whose rules say what a missing move means.
    """
    if asked == MOVE:
        return _read_turn(lines, start, stop, side, gen)
    for at in range(start, stop):
        line = lines[at]
        if line.side == side and (line.kind == "switch" or is_revival(line)):
            return Choice(switch_at=at)
    return Choice(unknown="the battle ended before the choice was carried out")


def _read_turn(lines: Sequence[Line], start: int, stop: int, side: str, gen: int) -> Choice:
    turn = _Turn(
        _going_on(lines, start, side),
        may_trap_on=gen == 1 and _last_move(lines, start, side) in _TRAPS,
        may_be_imprisoned=any(line.side == other(side) and line.arg(1) in _IMPRISON for line in lines[:stop]),
    )
    for at in range(start, stop):
        if lines[at].side == side:
            choice = turn.read(at, lines[at])
            if choice is not None:
                return choice
    return Choice(unknown=turn.hindered or "nothing of it was shown")


class _Turn:
    """What one side has shown since its turn began, until something tells its choice."""

    def __init__(self, going_on: str, *, may_trap_on: bool, may_be_imprisoned: bool) -> None:
        self._may_trap_on = may_trap_on
        self._may_be_imprisoned = may_be_imprisoned
        self._going_on = going_on
        self.hindered = ""  # by what first
        self._tera = self._encored = False

    def read(self, at: int, line: Line) -> Choice | None:
        kind, what = line.kind, line.arg(1)
        if kind == "switch":
            return Choice(switch_at=at)
        if kind == "move":
            return self._read_move(line)
        if kind == "cant":
            return self._read_hindrance(line)
        if kind in _BEYOND_ACTIONS or (kind == "-start" and what == "Dynamax"):
            return Choice(unknown=_BEYOND_ACTIONS.get(kind, "dynamax"))
        if kind in ("-activate", "-end") and _effect(what) == "bide":
            return Choice(move="bide", locked=True)
        self._tera |= kind == "-terastallize"
        self._encored |= kind == "-start" and _effect(what) == "encore"
        if kind == "-damage" and line.source == "confusion":
            self.hindered = self.hindered or "hit itself in confusion"
        elif kind in _ENDS:
            self.hindered = self.hindered or _ENDS[kind]
        return None

    def _read_move(self, line: Line) -> Choice | None:
        if not _is_own(line):
            return None
        if self._encored:
            return Choice(unknown="encored before it moved")
        if self._may_trap_on and line.arg(1) in _TRAPS:
            return Choice(unknown="perhaps went on trapping, whatever it chose (gen 1)")
        name = line.arg(1)
        struggles = name == "Struggle" and not self._may_be_imprisoned
        locked = struggles or name == self._going_on or line.source.lower() == "lockedmove"
        return Choice(move=Move.retrieve_id(name), tera=self._tera, locked=locked)

    def _read_hindrance(self, line: Line) -> Choice | None:
        reason, move = line.arg(1), line.arg(2)
        if reason == "recharge":
            return Choice(move=reason, locked=True)
        if move and not self._encored:
            return Choice(move=Move.retrieve_id(move), tera=self._tera)
        # one that sleeps may still move: Sleep Talk comes after this
        self.hindered = self.hindered or f"could not move ({_reason(reason)})"
        return None


def _going_on(lines: Sequence[Line], start: int, side: str) -> str:
    """A move of earlier turns that, if it is shown now, was not chosen: its second turn, or one that another called."""
    name = ""
    for line in reversed(lines[:start]):
        if line.side != side:
            continue
        if line.kind in ("switch", "drag"):
            break
        if line.kind == "-anim":  # by Power Herb or in the sun there is no second turn
            return ""
        if line.kind == "-prepare":
            return "" if name else line.arg(1)
        if line.kind == "move":
            name = name or line.arg(1)
            if name != line.arg(1):
                break
            if not _is_own(line):
                return name
    return ""


def _last_move(lines: Sequence[Line], start: int, side: str) -> str:
    """Of the one on the field, "" where it has shown none."""
    for line in reversed(lines[:start]):
        if line.side == side and line.kind in ("move", "switch", "drag"):
            return line.arg(1) if line.kind == "move" else ""
    return ""


def _is_own(line: Line) -> bool:
    """Whether its user chose the move that is shown: nothing else called it."""
    source = line.source.lower()
    return not source or source in _STILL_CHOSEN or source == line.arg(1).lower()


def _effect(name: str) -> str:
    return name.removeprefix("move: ").lower()


def _reason(reason: str) -> str:
    known = {"slp": "asleep", "frz": "frozen", "par": "paralysed", "flinch": "flinched"}
    return known.get(reason, reason.removeprefix("move: ").removeprefix("ability: ").lower())

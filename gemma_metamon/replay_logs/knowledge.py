"""What a whole log tells of one side's team, which its player knew from the beginning.

Moves that it chose, the first item and ability, and whom it brought. What a Pokémon holds later, and what it is while
transformed or disguised, is told by place in the log.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from poke_env.battle import Move, Pokemon

from gemma_metamon.battle.words import species_word
from gemma_metamon.replay_logs.lines import Line, side_of
from gemma_metamon.showdown.live.memory import pokemon_key

UNKNOWN_ITEM = "unknown_item"
# items that come to a Pokémon, by what "[from]" says; any other message about one tells what was there before
_GIVEN_BY = {
    "Trick", "Switcheroo", "Thief", "Covet", "Bestow", "Recycle", "Magician", "Pickpocket", "Harvest", "Pickup",
    "Symbiosis", "Mystery Thief",
}  # fmt: skip
_SWAPS = {"Trick", "Switcheroo"}
_TAKES = {"Thief", "Covet", "Magician", "Pickpocket"}
# of these, "[of]" is the one that caused it, and the ability belongs to the one named first
_REPLACES_ABILITY = {"ability: Mummy", "ability: Lingering Aroma", "ability: Wandering Spirit", "move: Skill Swap"}
_ABILITY_OF_FIRST = {"-heal", "-immune", "-item", "-fail", "-block", "cant", "-formechange"}


@dataclass
class Member:
    """A Pokémon of the team. Moves are ids in the order in which they showed; "" and UNKNOWN_ITEM were never told."""

    ident: str
    details: str
    moves: list[str] = field(default_factory=list)
    item: str = ""
    ability: str = ""
    tera: str = ""


@dataclass
class Team:
    """One side's, told from its whole log.

    Attributes:
        members: by poke-env's keys ("p1: Gengar"); those of the preview that never came have their species for a name.
        on_field: for each line the key of the Pokémon that really stands there, "" before the first.
        shown: the same as everybody saw it, under an Illusion.
        copied_moves: what was chosen as such a copy, by the other's key.
        came: key -> (place, HP and status) of each time that it came onto the field.
        cures: the places where a status of this side was cured.
        items: key -> (place, item held from there on), in order.
        copies: for each line the key of what the one on the field has become, "" if it is itself.
    """

    members: dict[str, Member] = field(default_factory=dict)
    on_field: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    copied_moves: dict[str, list[str]] = field(default_factory=dict)
    came: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    cures: list[int] = field(default_factory=list)
    items: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    copies: list[str] = field(default_factory=list)

    def item_at(self, key: str, at: int) -> str:
        """What it held before `lines[at]`."""
        held = self.members[key].item or UNKNOWN_ITEM
        for place, item in self.items.get(key, []):
            if place < at:
                held = item
        return held

    def condition_on_return(self, key: str, at: int, status: str) -> str | None:
        """HP and status of one on the bench, by what it comes back with; None if it never does.

        What Regenerator and Natural Cure did is told only then. `status` is what is known of it: it stays where
        somebody else's move will cure it in between.
        """
        for place, condition in self.came.get(key, []):
            if place >= at:
                cured = any(at <= cure < place for cure in self.cures)
                return f"{condition.split(' ')[0]} {status}".strip() if cured else condition
        return None


def read_team(lines: Sequence[Line], side: str, gen: int) -> Team:
    """The side's team. Raises ValueError or KeyError where a Pokémon is none of the game's."""
    team = Team()
    _find_who_stands_there(team, lines, side)
    _Reader(team, side, gen).read(lines)
    _add_previewed(team, lines, side)
    return team


def _find_who_stands_there(team: Team, lines: Sequence[Line], side: str) -> None:
    """An Illusion that breaks tells who it was since that Pokémon came."""
    real = shown = ""
    since = 0
    arrivals: list[int] = []
    for at, line in enumerate(lines):
        if line.side == side and line.kind in ("switch", "drag", "replace"):
            real = pokemon_key(line.arg(0))
            details = line.arg(1).split(", tera:")[0]
            known = team.members.setdefault(real, Member(real, details))
            if line.kind == "replace":
                known.ability = "illusion"
                team.on_field[since:] = [real] * (at - since)
            else:
                since = at
                arrivals.append(at)
            shown = real
        team.on_field.append(real)
        team.shown.append(shown)
    for at in arrivals:
        team.came.setdefault(team.on_field[at], []).append((at, lines[at].arg(2)))


class _Reader:
    def __init__(self, team: Team, side: str, gen: int) -> None:
        self.team, self.side, self.gen = team, side, gen
        self._lines: Sequence[Line] = ()
        self._copying = ""  # whom the one on the field has become
        self._called = ""  # the last move, if another one called it: it may go on for turns
        self._charging = False  # and that move has begun the first of two turns
        self._mimicked = ""
        self._thawed = ""  # in gen 1 it then does what was chosen last, by whomever
        self._changed_abilities: set[str] = set()

    def read(self, lines: Sequence[Line]) -> None:
        self._lines = lines
        for at, line in enumerate(lines):
            if line.kind == "turn":
                self._thawed = ""
            elif line.kind in ("-curestatus", "-cureteam") and line.side == self.side:
                self.team.cures.append(at)
            if line.kind in ("switch", "drag") and line.side == self.side:
                self._copying = self._called = self._mimicked = ""
                self._changed_abilities.clear()
            self._read_line(at, line)
            self.team.copies.append(self._copying)

    def _read_line(self, at: int, line: Line) -> None:
        first, of = self._key(at, line.arg(0)), self._key(at, line.of)
        if first:
            self._read_own(at, line, first)
            if line.kind in ("-start", "-activate") and line.arg(1).removeprefix("move: ") == "Mimic":
                self._mimicked = Move.retrieve_id(line.arg(2))
        hindered = self._key(at, line.actor) if line.kind == "cant" and line.arg(2) else ""
        if hindered:
            self._learn(hindered, line.arg(2))
        if line.kind == "-item":
            self._item_message(first, of, at, line)
        self._causes(at, line, first, of)
        if first and line.kind == "-transform":
            self._copying = pokemon_key(line.arg(1))

    def _read_own(self, at: int, line: Line, key: str) -> None:
        kind, what = line.kind, line.arg(1)
        if kind == "-curestatus" and what == "frz" and self.gen == 1:
            self._thawed = key
        elif kind == "-prepare":
            self._charging = True
        elif kind == "move" and key != self._thawed:
            self._move(key, line)
        elif kind == "-anim" and self._charging:
            self._called, self._charging = "", False
        elif kind == "-terastallize":
            self.team.members[key].tera = what
        elif kind == "-enditem":
            self._held(key, what)
            self._now_holds(key, at, "")
        elif kind == "-mega":
            self._held(key, line.arg(2))
        elif kind == "-ability":
            self._ability_message(key, line)

    def _key(self, at: int, ident: str) -> str:
        """Of our Pokémon that is named here, "" if it is none."""
        if side_of(ident) != self.side or ":" not in ident:
            return ""
        key = self.team.on_field[at] if ident[2:3] == "a" else pokemon_key(ident)
        return key if key in self.team.members else ""

    def _move(self, key: str, line: Line) -> None:
        """What goes on ("lockedmove") may have been called by another move, and was learnt at its beginning if not."""
        source, name = line.source.lower(), line.arg(1)
        called = bool(source) and source not in ("pursuit", "sleep talk", name.lower())
        if name == self._called:
            self._called = "" if self._charging else name
        else:
            if not called:
                self._learn(key, name)
            self._called = name if called else ""
        self._charging = False

    def _learn(self, key: str, name: str) -> None:
        move = Move.retrieve_id(name)
        own = self.team.members[key].moves
        moves = self.team.copied_moves.setdefault(self._copying, []) if self._copying else own
        if move != self._mimicked and move not in moves and Move.should_be_stored(move, self.gen):
            moves.append(move)

    def _held(self, key: str, item: str) -> None:
        """This item was seen on it; if nothing came to it before, it had it from the beginning."""
        if item and not self.team.items.get(key):
            member = self.team.members[key]
            member.item = member.item or species_word(item)

    def _now_holds(self, key: str, at: int, item: str) -> None:
        self.team.items.setdefault(key, []).append((at, species_word(item)))

    def _item_message(self, first: str, of: str, at: int, line: Line) -> None:
        cause = line.source.removeprefix("ability: ")
        if cause in _TAKES and of:
            self._held(of, line.arg(1))
            self._now_holds(of, at, "")
        if not first:
            return
        if cause in _SWAPS:
            self._held(first, self._got_in_exchange(at))
        if cause in _GIVEN_BY:
            self._now_holds(first, at, line.arg(1))
        else:
            self._held(first, line.arg(1))

    def _got_in_exchange(self, at: int) -> str:
        """What the other side has got by the swap that is told in this line and the one before or after it."""
        for line in (*self._lines[max(0, at - 1) : at], *self._lines[at + 1 : at + 2]):
            if line.kind == "-item" and line.source in _SWAPS and line.side != self.side:
                return line.arg(1)
        return ""

    def _ability_message(self, key: str, line: Line) -> None:
        if line.source == "ability: Trace":
            self._has_ability(key, "trace")
            self._changed_abilities.add(key)
        elif not line.source:
            self._has_ability(key, line.arg(1))

    def _causes(self, at: int, line: Line, first: str, of: str) -> None:
        """What is the cause of something belongs to somebody: an item or an ability, here or in "[from]"."""
        for cause in (line.source, line.arg(1) if line.kind in ("-activate", "cant") else ""):
            what, _, name = cause.partition(": ")
            if what == "item" and line.kind != "-item":
                owner = of if line.of else first
                if owner:
                    self._held(owner, name)
            elif what == "ability":
                owner = first if line.kind in _ABILITY_OF_FIRST or not line.of else of
                if owner:
                    self._has_ability(owner, name)
        if line.kind == "-activate" and line.arg(1) in _REPLACES_ABILITY:
            replaced = self._key(at, line.arg(2))
            if replaced:
                self._has_ability(replaced, line.arg(3).removeprefix("[ability] "))
            self._changed_abilities |= {first, of, replaced}
        if line.kind == "-endability" and first:
            self._changed_abilities.add(first)

    def _has_ability(self, key: str, name: str) -> None:
        member = self.team.members[key]
        if self.gen >= 3 and not member.ability and key not in self._changed_abilities and not self._copying:
            ability = species_word(name)
            possible = Pokemon(gen=self.gen, details=member.details).possible_abilities
            if ability in possible:
                member.ability = ability


def _add_previewed(team: Team, lines: Sequence[Line], side: str) -> None:
    """Those that team preview showed and that never came; none where only some of a team are brought."""
    previewed = [line.arg(1) for line in lines if line.kind == "poke" and line.arg(0) == side]
    sizes = [line.arg(1) for line in lines if line.kind == "teamsize" and line.arg(0) == side]
    if sizes and sizes[0] != str(len(previewed)):
        return
    unseen = list(previewed)
    for member in team.members.values():
        species = _species(member.details)
        same = [details for details in unseen if _species(details) == species] or [
            details for details in unseen if species.startswith(_species(details))
            or _species(details).split("-")[0] == species.split("-")[0]
        ]  # fmt: skip
        if same:
            unseen.remove(same[0])
    for details in unseen[: max(0, len(previewed) - len(team.members))]:
        ident = f"{side}: {_species(details)}"
        while ident in team.members:  # somebody's nickname
            ident += "'"
        team.members[ident] = Member(ident, details.replace("-*", ""))


def _species(details: str) -> str:
    return details.split(", ")[0].removesuffix("-*")

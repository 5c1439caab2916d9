"""The two teams of a battle as far as its log has shown them, and who of them is on the field.

The one on the field may be another in disguise (the ability Illusion). What the log said of it is then kept apart from
what the disguise had before, so that each has its own again once the disguise is known for one.
"""

import copy
import re
from dataclasses import dataclass, field
from typing import NamedTuple

from gemma_metamon.reports.battle_words import STATUSES

_CONDITION = re.compile(
    r"(\d{1,9})(?:/(\d{1,9}))?[gyr]?(?: ([a-z]+))?(?!\S)"
)  # a pixel that two colours share names its own
_WITH_ILLUSION = {"Zorua", "Zoroark", "Zorua-Hisui", "Zoroark-Hisui"}
_UNKNOWN = "a Pokémon with Illusion"


class Condition(NamedTuple):
    """`hp`: a share of the full; `status`: as the server writes it ("par"), empty for none."""

    hp: float
    status: str


UNHURT = Condition(1.0, "")


@dataclass
class Member:
    """A Pokémon as far as the log has shown it.

    Attributes:
        hp: a share of the full.
        status: as the server writes it ("par").
        tera: the type that it Terastallized into.
        forme: what it is only for its stay on the field ("Aegislash-Blade").
        about: level, gender and shininess ("L50, F, shiny").
    """

    name: str
    species: str
    hp: float = 1.0
    status: str = ""
    active: bool = False
    seen: bool = True
    tera: str = ""
    forme: str = ""
    about: str = ""

    @property
    def label(self) -> str:
        """As "Tauros" or "Landorus-Therian"; with a nickname, "Bully (Tauros)"."""
        species = self.forme or self.species
        known_by_species = species == self.name or species.startswith(f"{self.name}-")
        return species if known_by_species else f"{self.name} ({species})"

    @property
    def condition(self) -> Condition:
        """Its share of hit points, 0 to 1, and its status."""
        return Condition(self.hp, self.status)

    @condition.setter
    def condition(self, condition: Condition) -> None:
        self.hp, self.status = condition

    @property
    def fainted(self) -> bool:
        """Whether it has no hit points left."""
        return self.hp == 0

    def leave(self) -> None:
        """It leaves the field, and takes its own form again."""
        self.active, self.forme = False, ""

    def faint(self) -> None:
        """It leaves the field for good."""
        self.leave()
        self.condition, self.tera = Condition(0.0, ""), ""


@dataclass
class Side:
    """A player, and the members of the team that the log has named so far."""

    player: str
    team_size: int = 0
    members: list[Member] = field(default_factory=list)

    def copy(self) -> "Side":
        """The side as it is now: what happens to one afterwards does not change the other."""
        return Side(self.player, self.team_size, [copy.copy(member) for member in self.members])


@dataclass
class _Stay:
    """A member's time on the field.

    Attributes:
        before: the member as it was until then.
        came: its condition when it came in.
        left: and when it left; None while it stays, and when it fainted.
    """

    member: Member
    before: Member
    came: Condition
    left: Condition | None = None


class Team:
    """A side, and what is needed to tell its members apart."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self._stays: list[_Stay] = []  # without those that another made in the member's shape

    def preview(self, details: str) -> None:
        """Team preview shows a Pokémon; some forms it hides ("Urshifu-*")."""
        species, about, _ = _read_details(details)
        self.side.members.append(Member(species.removesuffix("-*"), species, seen=False, about=about))

    def named(self, name: str, on_field: bool) -> Member:
        """The member that a message calls so; raises ValueError where there is none.

        Args:
            name: the nickname, or the species.
            on_field: whether the message gave it a place on the field. One that has the name of the Pokémon on the
                field, and no place there, is the one whose shape that Pokémon has taken.
        """
        known = [member for member in self.side.members if member.seen and member.name == name]
        if not known:
            raise ValueError(name)
        best = min(known, key=lambda member: member.active != on_field)
        if best.active and not on_field and self._stays:
            return self._stays[-1].before
        return best

    def enter(self, name: str, details: str, condition: str) -> tuple[Member, Member | None]:
        """A Pokémon takes its place on the field; one of the team preview gets its name now.

        Returns:
            The member, and who had fainted in its shape where it is only now that this shows.
        """
        came = read_condition(condition)
        for member in self.side.members:
            if member.active:
                self._stays[-1].left = member.condition
                member.leave()
        found = self._find(name, details)
        fallen = None
        if found is not None and found.fainted and came.hp:  # it stands, so it was not itself that fainted
            fallen = self._uncover_fallen(found)
            found = self._find(name, details)
        return self._place(found, name, details, came), fallen

    def replace(self, name: str, details: str, condition: str) -> tuple[Member, str]:
        """Illusion ends: the Pokémon on the field, or just fallen there, takes over what its disguise seemed to have.

        Returns:
            The Pokémon, and the disguise's name. Raises ValueError where nobody is on the field.
        """
        stay = self._stays[-1] if self._stays else None
        if stay is None:
            raise ValueError(name)
        shown = copy.copy(stay.member)
        told = read_condition(condition) if condition else None
        self._undo(stay)
        found = self._find(name, details)
        came = self._undo_earlier_disguises(found, stay.came)
        member = self._place(found, name, details, came)
        member.condition = told or shown.condition
        member.tera, member.active = shown.tera, shown.active
        if member.tera:  # one of a team Terastallizes, and in whose shape it was seen before was this one, too
            for other in self.side.members:
                if other is not member:
                    other.tera = ""
        return member, shown.name

    def cure(self) -> None:
        """All members lose their status."""
        for member in self.side.members:
            member.status = ""
        for stay in self._stays[-1:]:
            stay.before.status = ""

    def _find(self, name: str, details: str) -> Member | None:
        """The best of those that it may be: rather not who is on the field or fainted, rather one known by name."""
        species, about, _ = _read_details(details)
        base = species.split("-")[0]
        fitting = [
            member
            for member in self.side.members
            if (member.seen and member.name == name and member.species.split("-")[0] == base)
            or (not member.seen and _shows(member, species))
        ]
        return min(fitting, key=lambda m: (m.active, m.fainted, m.about != about, not m.seen), default=None)

    def _place(self, found: Member | None, name: str, details: str, came: Condition) -> Member:
        species, about, tera = _read_details(details)
        member = found or Member(name, species, seen=False, about=about)
        if found is None:
            self.side.members.append(member)
        self._stays.append(_Stay(member, copy.copy(member), came))
        member.name, member.species, member.about, member.tera = name, species, about, tera
        member.seen, member.active, member.condition = True, True, came
        return member

    def _undo(self, stay: _Stay) -> None:
        """Another was on the field in this member's shape: the member is again as it was before.

        One that nobody had seen yet stays known: only a member of the own team can be a disguise.
        """
        self._stays = [other for other in self._stays if other is not stay]
        vars(stay.member).update(vars(stay.before))

    def _undo_earlier_disguises(self, member: Member | None, came: Condition) -> Condition:
        """Who comes in hurt, and otherwise than it left, was on the field in between, in the shape that left like that.

        Nothing is undone where several left like that.

        Returns:
            In what condition the Pokémon came in the first time since it was last seen itself.
        """
        own = UNHURT if member is None else member.condition
        while came not in (own, UNHURT):
            alike = [stay for stay in self._stays[self._last_of(member) + 1 :] if stay.left == came]
            if len(alike) != 1 or self._stays[self._last_of(alike[0].member)] is not alike[0]:
                break
            self._undo(alike[0])
            came = alike[0].came
        return came

    def _last_of(self, member: Member | None) -> int:
        """The index of the member's last stay; -1 if it had none."""
        return max((i for i, stay in enumerate(self._stays) if stay.member is member), default=-1)

    def _uncover_fallen(self, disguise: Member) -> Member:
        last = self._last_of(disguise)
        if last >= 0 and self._stays[last].left is None:
            self._undo(self._stays[last])
        able = [m for m in self.side.members if m is not disguise and m.species in _WITH_ILLUSION and not m.fainted]
        if len(able) == 1:
            fallen = able[0]
        else:  # nobody can say which
            fallen = Member(_UNKNOWN, _UNKNOWN)
            self.side.members.append(fallen)
        fallen.seen = True
        fallen.faint()
        return fallen


def read_condition(condition: str) -> Condition:
    """Of "263/353 par" (0.745, "par"), of "9/48y" (0.1875, ""), of "0 fnt" (0.0, ""); else raises ValueError."""
    match = _CONDITION.match(condition)
    if match is None:
        raise ValueError(condition)
    share = min(int(match[1]) / int(match[2] or 100), 1.0)
    return Condition(share, match[3] if match[3] in STATUSES and share else "")


def _read_details(details: str) -> tuple[str, str, str]:
    """Of "Landorus-Therian, L50, M, tera:Water": ("Landorus-Therian", "L50, M", "Water")."""
    species, *rest = details.split(", ")
    about = [part for part in rest if not part.startswith("tera:")]
    tera = [part.removeprefix("tera:") for part in rest if part.startswith("tera:")]
    return species, ", ".join(about), "".join(tera[:1])


def _shows(previewed: Member, species: str) -> bool:
    """Whether team preview showed this species so."""
    hidden_form = previewed.species.endswith("-*") and species.startswith(previewed.species.removesuffix("-*"))
    return previewed.species == species or hidden_form

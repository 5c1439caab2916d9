"""A battle's Showdown log, turn by turn: what happened in words, and how both teams stood at the end of each turn.

Single battles: one Pokémon of a side is active at a time.
"""

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gemma_metamon.reports.battle_words import UNTOLD, cause, in_words

_IDENT = re.compile(r"(p[1-4])([a-c]?): (.+)")
_TAG = re.compile(r"\[([a-z]+)\] ?(.*)")
_EFFECT = re.compile(r"(?:move|item|ability): ?")
# who does something, and what it comes to when it is done
_MAJOR = {"move", "switch", "drag", "faint", "cant", "-terastallize", "-mega", "win", "tie"}


@dataclass
class Member:
    """A Pokémon as far as the log has shown it: `hp` a share of the full, `status` as the server writes it ("par")."""

    name: str
    species: str
    hp: float = 1.0
    status: str = ""
    active: bool = False
    seen: bool = True
    tera: str = ""

    @property
    def label(self) -> str:
        """As "Tauros" or "Landorus-Therian"; with a nickname, "Bully (Tauros)"."""
        known_by_species = self.species == self.name or self.species.startswith(f"{self.name}-")
        return self.species if known_by_species else f"{self.name} ({self.species})"


@dataclass
class Side:
    """A player, and the members of the team that the log has named so far."""

    player: str
    team_size: int = 0
    members: list[Member] = field(default_factory=list)


@dataclass(frozen=True)
class Event:
    """A line of the story. `weight`: "major" (a choice or a knock-out), "minor" (what came of it), "raw" (no words)."""

    text: str
    weight: str


@dataclass
class Turn:
    """What happened in a turn, and the sides at its end. Turn 0 is what happens before the first choice."""

    number: int
    events: list[Event] = field(default_factory=list)
    sides: list[Side] = field(default_factory=list)


@dataclass(frozen=True)
class BattleStory:
    """A battle. `winner` is None of a tie, and of a log that ends before the battle does."""

    tier: str
    turns: list[Turn]
    winner: str | None


def read_log(log: str, names: Mapping[str, str] | None = None) -> BattleStory:
    """Reads a log as a spectator, a player or the server itself has it. What it cannot read becomes a "raw" event.

    Args:
        log: the lines.
        names: what to call the players in place of their names on the server: {"p1": "first@2", ...}.
    """
    reader = _Reader(names or {})
    lines = iter(log.splitlines())
    for line in lines:
        if line.startswith("|split|"):  # one event twice: as its own side sees it, then as all others do
            line = next(lines, "")
            next(lines, None)
        if line.startswith("|"):
            reader.read(line)
    reader.close_turn()
    return BattleStory(reader.tier, reader.turns, reader.winner)


class _Reader:
    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names
        self._by_user_name: dict[str, str] = {}
        self.tier = ""
        self.winner: str | None = None
        self.turns: list[Turn] = []
        self._sides = {"p1": Side("p1"), "p2": Side("p2")}
        self._turn = Turn(0)
        # each may answer with the event in its own words
        self._updates: dict[str, Callable[[list[str], dict[str, str]], str | None]] = {
            "turn": self._on_turn,
            "tier": self._on_tier,
            "win": self._on_win,
            "player": self._on_player,
            "teamsize": self._on_teamsize,
            "poke": self._on_poke,
            "switch": self._on_switch,
            "drag": self._on_drag,
            "replace": self._on_replace,
            "faint": self._on_faint,
            "detailschange": self._on_new_species,
            "-damage": self._on_hp,
            "-heal": self._on_hp,
            "-sethp": self._on_hp,
            "-status": self._on_status,
            "-curestatus": self._on_cured,
            "-cureteam": self._on_team_cured,
            "-terastallize": self._on_tera,
        }

    def read(self, line: str) -> None:
        kind, *parts = line[1:].split("|")
        tags = {match[1]: _EFFECT.sub("", match[2]) for part in parts if (match := _TAG.fullmatch(part))}
        fields = [part for part in parts if not _TAG.fullmatch(part)]
        try:
            words = self._updates[kind](fields, tags) if kind in self._updates else None
        except (LookupError, ValueError, ZeroDivisionError):  # a known kind of message that is not as it should be
            self._turn.events.append(Event(line, "raw"))
            return
        if kind in UNTOLD or "silent" in tags:
            return
        words = words or in_words(kind, [self._named(part) for part in fields], tags)
        weight = "raw" if words is None else "major" if kind in _MAJOR else "minor"
        self._turn.events.append(Event(words or line, weight))

    def close_turn(self) -> None:
        self._turn.sides = copy.deepcopy(list(self._sides.values()))
        self.turns.append(self._turn)

    def _named(self, part: str) -> str:
        """A field as the reader knows it: "p1a: Tauros" is "Ann's Tauros", "p1: Ann" is Ann."""
        match = _IDENT.fullmatch(part)
        if match is None:
            return self._by_user_name.get(part) or _EFFECT.sub("", part)
        if match[3] in self._by_user_name:
            return self._by_user_name[match[3]]
        return f"{self._sides[match[1]].player if match[1] in self._sides else match[1]}'s {match[3]}"

    def _side(self, ident: str) -> tuple[Side, str]:
        match = _IDENT.fullmatch(ident)
        if match is None or match[1] not in self._sides:
            raise ValueError(ident)
        return self._sides[match[1]], match[3]

    def _member(self, ident: str) -> Member:
        side, name = self._side(ident)
        for member in side.members:
            if member.seen and member.name == name:
                return member
        raise ValueError(ident)

    def _on_turn(self, fields: list[str], tags: dict[str, str]) -> None:
        number = int(fields[0])
        self.close_turn()
        self._turn = Turn(number)

    def _on_tier(self, fields: list[str], tags: dict[str, str]) -> None:
        self.tier = fields[0]

    def _on_win(self, fields: list[str], tags: dict[str, str]) -> None:
        self.winner = self._named(fields[0])

    def _on_player(self, fields: list[str], tags: dict[str, str]) -> None:
        if len(fields) > 1 and fields[1]:
            name = self._names.get(fields[0], fields[1])
            self._sides.setdefault(fields[0], Side(name)).player = name
            self._by_user_name[fields[1]] = name

    def _on_teamsize(self, fields: list[str], tags: dict[str, str]) -> None:
        self._sides[fields[0]].team_size = int(fields[1])

    def _on_poke(self, fields: list[str], tags: dict[str, str]) -> None:
        species = fields[1].split(",")[0]
        self._sides[fields[0]].members.append(Member(species.removesuffix("-*"), species, seen=False))

    def _enter(self, ident: str, details: str, condition: str) -> tuple[Side, Member]:
        """A Pokémon takes its place; one of the team preview gets its name now."""
        side, name = self._side(ident)
        species = details.split(",")[0]
        for member in side.members:
            member.active = False
        for member in side.members:
            hidden = not member.seen and (member.species == species or _is_form(species, member.species))
            if hidden or (member.seen and member.name == name):
                break
        else:
            member = Member(name, species)
            side.members.append(member)
        member.name, member.species, member.seen, member.active = name, species, True, True
        if condition:
            member.hp, member.status = _read_condition(condition)
        return side, member

    def _on_switch(self, fields: list[str], tags: dict[str, str]) -> str:
        side, member = self._enter(fields[0], fields[1], fields[2])
        return f"{side.player} sent out {member.label}{_share(member.hp)}{cause(tags)}"

    def _on_drag(self, fields: list[str], tags: dict[str, str]) -> str:
        side, member = self._enter(fields[0], fields[1], fields[2])
        return f"{side.player}'s {member.label} was dragged out{_share(member.hp)}"

    def _on_replace(self, fields: list[str], tags: dict[str, str]) -> None:
        self._enter(fields[0], fields[1], "")

    def _on_faint(self, fields: list[str], tags: dict[str, str]) -> None:
        member = self._member(fields[0])
        member.hp, member.status, member.active = 0.0, "", False

    def _on_new_species(self, fields: list[str], tags: dict[str, str]) -> str:
        member = self._member(fields[0])
        member.species = fields[1].split(",")[0]
        return f"{self._named(fields[0])} became {member.species}"

    def _on_hp(self, fields: list[str], tags: dict[str, str]) -> str:
        member = self._member(fields[0])
        before = member.hp
        member.hp, member.status = _read_condition(fields[1])
        change = round(100 * abs(member.hp - before)) or "less than 1"
        verb = "lost" if member.hp < before else "regained"
        left = f"{_percent(member.hp)} left" if member.hp else "none left"
        return f"{self._named(fields[0])} {verb} {change} % of its HP, {left}{cause(tags)}"

    def _on_status(self, fields: list[str], tags: dict[str, str]) -> None:
        self._member(fields[0]).status = fields[1]

    def _on_cured(self, fields: list[str], tags: dict[str, str]) -> None:
        self._member(fields[0]).status = ""

    def _on_team_cured(self, fields: list[str], tags: dict[str, str]) -> None:
        for member in self._side(fields[0])[0].members:
            member.status = ""

    def _on_tera(self, fields: list[str], tags: dict[str, str]) -> None:
        self._member(fields[0]).tera = fields[1]


def _is_form(species: str, previewed: str) -> bool:
    """Whether team preview, which hides some forms ("Urshifu-*"), may have shown this species so."""
    return previewed.endswith("-*") and species.startswith(previewed.removesuffix("-*"))


def _read_condition(condition: str) -> tuple[float, str]:
    """Of "263/353 par" (0.745, "par"), of "0 fnt" (0.0, "")."""
    hp, _, status = condition.partition(" ")
    now, _, full = hp.partition("/")
    return float(now) / float(full or 100), status.removesuffix("fnt")


def _percent(share: float) -> str:
    # a Pokémon that stands has at least 1 %, and only an unhurt one has 100 %
    return f"{min(max(round(100 * share), 1), 100 if share >= 1 else 99)} %"


def _share(hp: float) -> str:
    return "" if hp >= 1 else f", {_percent(hp)} of its HP left"

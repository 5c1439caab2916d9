"""A battle's Showdown log, turn by turn: what happened in words, and how both teams stood at the end of each turn.

Single battles: one Pokémon of a side is active at a time.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gemma_metamon.protocol import protocol_lines
from gemma_metamon.reports.battle_sides import Member, Side, Team, read_condition
from gemma_metamon.reports.battle_words import UNTOLD, cause, in_words

_IDENT = re.compile(r"(p[1-4])([a-c]?): (.+)")
_TAG = re.compile(r"\[([a-z]+)\] ?(.*)")
_EFFECT = re.compile(r"(?:move|item|ability): ?")
_Update = Callable[[list[str], dict[str, str]], str | None]
# who does something, and what it comes to when it is done
_MAJOR = {"move", "switch", "drag", "faint", "cant", "-terastallize", "-mega", "-burst", "win", "tie"}


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
    lines = iter(protocol_lines(log))
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
        self._teams = {"p1": Team(Side("p1")), "p2": Team(Side("p2"))}
        self._turn = Turn(0)
        # each may answer with the event in its own words
        self._updates: dict[str, _Update] = {
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
            "-formechange": self._on_forme,
            "-mega": self._on_evolved("-Mega", "{0} Mega Evolved into {1}", "{0} Mega Evolved"),
            "-primal": self._on_evolved(
                "-Primal", "{0} became {1} by Primal Reversion", "{0} reverted to its primal form"
            ),
            "-burst": self._on_evolved("-Ultra", "{0} became {1} by Ultra Burst", "{0} changed by Ultra Burst"),
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
        self._turn.sides = [team.side.copy() for team in self._teams.values()]
        self.turns.append(self._turn)

    def _named(self, part: str) -> str:
        """A field as the reader knows it: "p1a: Tauros" is "Ann's Tauros", "p1: Ann" is Ann."""
        match = _IDENT.fullmatch(part)
        if match is None:
            return self._by_user_name.get(part) or _EFFECT.sub("", part)
        if match[3] in self._by_user_name:
            return self._by_user_name[match[3]]
        return f"{self._teams[match[1]].side.player if match[1] in self._teams else match[1]}'s {match[3]}"

    def _team(self, ident: str) -> tuple[Team, str]:
        match = _IDENT.fullmatch(ident)
        if match is None or match[1] not in self._teams:
            raise ValueError(ident)
        return self._teams[match[1]], match[3]

    def _member(self, ident: str) -> Member:
        team, name = self._team(ident)
        return team.named(name, on_field=ident[2] != ":")

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
            self._teams.setdefault(fields[0], Team(Side(name))).side.player = name
            self._by_user_name[fields[1]] = name

    def _on_teamsize(self, fields: list[str], tags: dict[str, str]) -> None:
        self._teams[fields[0]].side.team_size = int(fields[1])

    def _on_poke(self, fields: list[str], tags: dict[str, str]) -> None:
        self._teams[fields[0]].preview(fields[1])

    def _on_switch(self, fields: list[str], tags: dict[str, str]) -> str:
        member, fallen = self._enter(fields)
        return f"{self._player(fields[0])} sent out {member.label}{_share(member.hp)}{cause(tags)}{_told_late(fallen)}"

    def _on_drag(self, fields: list[str], tags: dict[str, str]) -> str:
        member, fallen = self._enter(fields)
        return f"{self._player(fields[0])}'s {member.label} was dragged out{_share(member.hp)}{_told_late(fallen)}"

    def _enter(self, fields: list[str]) -> tuple[Member, Member | None]:
        team, name = self._team(fields[0])
        return team.enter(name, fields[1], fields[2])

    def _player(self, ident: str) -> str:
        return self._team(ident)[0].side.player

    def _on_replace(self, fields: list[str], tags: dict[str, str]) -> str:
        team, name = self._team(fields[0])
        member, disguise = team.replace(name, fields[1], "".join(fields[2:3]))
        return f"{team.side.player}'s {disguise} showed its true form, {member.label}"

    def _on_faint(self, fields: list[str], tags: dict[str, str]) -> None:
        self._member(fields[0]).faint()

    def _on_new_species(self, fields: list[str], tags: dict[str, str]) -> str:
        member = self._member(fields[0])
        member.species, member.forme = fields[1].split(",")[0], ""
        return self._became(fields[0], member.species)

    def _on_forme(self, fields: list[str], tags: dict[str, str]) -> str:
        self._member(fields[0]).forme = fields[1]
        return self._became(fields[0], fields[1]) + cause(tags)

    def _became(self, ident: str, species: str) -> str:
        return f"{self._named(ident)} became {species}"

    def _on_evolved(self, suffix: str, words: str, species_unknown: str) -> _Update:
        def update(fields: list[str], tags: dict[str, str]) -> str:
            """The message names the species before; the one after came just ahead of it, in a message of its own."""
            species = self._member(fields[0]).species
            if self._turn.events[-1:] == [Event(self._became(fields[0], species), "minor")]:
                del self._turn.events[-1]
            return (words if suffix in species else species_unknown).format(self._named(fields[0]), species)

        return update

    def _on_hp(self, fields: list[str], tags: dict[str, str]) -> str:
        pairs = zip(fields[::2], fields[1::2], strict=False)  # long ago, one message told of both who share their HP
        return "; ".join(self._set_hp(ident, condition) for ident, condition in pairs) + cause(tags)

    def _set_hp(self, ident: str, condition: str) -> str:
        member = self._member(ident)
        before = member.hp
        member.condition = read_condition(condition)
        if member.hp == before:  # at full health, or less than the server's percents can tell
            return f"{self._named(ident)} stayed at {_percent(before)} of its HP"
        change = round(100 * abs(member.hp - before)) or "less than 1"
        verb = "lost" if member.hp < before else "regained"
        left = f"{_percent(member.hp)} left" if member.hp else "none left"
        return f"{self._named(ident)} {verb} {change} % of its HP, {left}"

    def _on_status(self, fields: list[str], tags: dict[str, str]) -> None:
        self._member(fields[0]).status = fields[1]

    def _on_cured(self, fields: list[str], tags: dict[str, str]) -> None:
        self._member(fields[0]).status = ""

    def _on_team_cured(self, fields: list[str], tags: dict[str, str]) -> None:
        self._team(fields[0])[0].cure()

    def _on_tera(self, fields: list[str], tags: dict[str, str]) -> None:
        member = self._member(fields[0])
        member.tera = fields[1]
        if member.forme.startswith("Morpeko"):  # alone keeps for good the forme that it Terastallizes in
            member.species = member.forme


def _told_late(fallen: Member | None) -> str:
    return f"; the one that fainted in its shape was {fallen.label}" if fallen else ""


def _percent(share: float) -> str:
    # a Pokémon that stands has at least 1 %, and only an unhurt one has 100 %
    return f"{min(max(round(100 * share), 1), 100 if share >= 1 else 99) if share else 0} %"


def _share(hp: float) -> str:
    return "" if hp >= 1 else f", {_percent(hp)} of its HP left"

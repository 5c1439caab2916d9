"""What only the files of a server's own logs folder hold beside the log: the teams, and what each side chose."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from poke_env.battle import Move

from gemma_metamon.battle.words import species_word
from gemma_metamon.replay_logs.choices import Choice
from gemma_metamon.replay_logs.knowledge import Member, Team
from gemma_metamon.replay_logs.lines import SIDES

# the simulator writes down other inputs of a side, too
_NO_CHOICE = ("team ", "undo", "chat ")
_BEYOND_ACTIONS = {
    "mega": "mega evolution", "megax": "mega evolution", "megay": "mega evolution", "ultra": "ultra burst",
    "zmove": "a z-move", "dynamax": "dynamax", "max": "dynamax",
}  # fmt: skip


@dataclass(frozen=True)
class PokemonSet:
    """A Pokémon of a team as it was entered."""

    name: str
    details: str
    moves: tuple[str, ...]
    item: str
    ability: str
    tera: str


def read_choices(beside: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Of "inputLog", by side and in order: "move earthquake terastallize", "switch 3"."""
    inputs = beside.get("inputLog")
    chosen: dict[str, list[str]] = {side: [] for side in SIDES}
    for line in inputs if isinstance(inputs, list) else ():
        side, _, choice = line[1:].partition(" ") if isinstance(line, str) and line.startswith(">") else ("", "", "")
        if side in chosen and not choice.startswith(_NO_CHOICE):
            chosen[side].append(choice)
    return {side: tuple(choices) for side, choices in chosen.items()}


def read_sets(beside: Mapping[str, Any], side: str) -> tuple[PokemonSet, ...]:
    """Of "p1team"; none where it is not there, or not as the simulator writes it."""
    team = beside.get(f"{side}team")
    if not isinstance(team, list) or not all(_is_set(entry) for entry in team):
        return ()
    return tuple(
        PokemonSet(
            name=str(entry.get("name") or entry["species"])[:18],
            details=_details(entry),
            moves=tuple(Move.retrieve_id(move) for move in entry["moves"]),
            item=species_word(str(entry.get("item") or "")),
            ability=species_word(str(entry.get("ability") or "")),
            tera=str(entry.get("teraType") or ""),
        )
        for entry in team
    )


def add_sets(team: Team, sets: Sequence[PokemonSet], side: str) -> None:
    """Fills in what the log itself does not tell."""
    for entry in sets:
        key = f"{side}: {entry.name}"
        unseen = f"{side}: {entry.details.split(', ')[0]}"
        if key not in team.members and unseen in team.members:
            del team.members[unseen]  # known by the preview alone
        member = team.members.setdefault(key, Member(key, entry.details))
        member.moves, member.item, member.tera = list(entry.moves), entry.item, entry.tera
        member.ability = entry.ability or member.ability


def as_sent(sent: str, shown: Choice) -> Choice:
    """The choice that was sent, beside what was shown of it: switches are told by place, which the log names."""
    verb, _, rest = sent.partition(" ")
    if verb != "move" or not rest:
        return shown
    move, *options = rest.split(" ")
    for option in options:
        if option in _BEYOND_ACTIONS:
            return Choice(unknown=_BEYOND_ACTIONS[option])
    return Choice(move=Move.retrieve_id(move), tera="terastallize" in options, locked=shown.locked)


def _is_set(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("species") or entry.get("name"), str)
        and isinstance(entry.get("moves"), list)
        and all(isinstance(move, str) for move in entry["moves"])
    )


def _details(entry: Mapping[str, Any]) -> str:
    parts = [str(entry.get("species") or entry["name"])]
    if isinstance(entry.get("level"), int) and entry["level"] != 100:
        parts.append(f"L{entry['level']}")
    if entry.get("gender") in ("M", "F"):
        parts.append(str(entry["gender"]))
    return ", ".join(parts)

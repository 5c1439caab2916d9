"""Team texts as people have them: exported, packed or JSON, one team or a whole backup.

What a text means is the simulator's to say. Here it is only cut into its teams, and what is no team is refused.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gemma_metamon.battle.state import TEAM_SIZE
from gemma_metamon.errors import DataError, MissingDependencyError
from gemma_metamon.showdown.simulator.installation import import_teams

# A packed Pokémon: eleven fields that end with `|`, then one that ends with `]` or with the line.
_BARS = 11
# Showdown's backup: `=== [gen9ou] folder/name ===` before each team, without the brackets where it is for no format.
_HEADER = re.compile(r"===\s*(?:\[([^\]]*)\])?\s*(.*?)[\s=]*$")
# Showdown's own store of teams: `123[gen9ou]folder/name|` before the packed team; the number and the format may lack
_STORED = re.compile(r"(?:(?:\d+\[)?([^|\[\]]*)\])?([^|]*)\|")
# How JSON begins, and hardly a nickname
_JSON = re.compile(r"\[\s*[\[{\"]|\{\s*[\"}]")
_COMMAND = re.compile(r"/(?:utm|useteam)\b")
# `<3` is a nickname
_PAGE = re.compile(r"<(?:[!?]|(?:html|head|body|title|pre|div|p|script|meta)\b[^|]*>)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class TeamText:
    """One team, and what the backup that it comes from says of it.

    Attributes:
        text: exported, JSON, or the packed line.
        packed: whether it is the packed line.
        battle_format: what it is for, as an id; empty where nothing is said.
        title: what its owner calls it, or empty.
    """

    text: str
    packed: bool = False
    battle_format: str = ""
    title: str = ""

    def is_for(self, battle_format: str) -> bool:
        """Whether nothing says otherwise. `[gen9]` is what a backup says of a team for no format of generation 9."""
        generation = re.match(r"gen\d+", battle_format)
        return self.battle_format in ("", battle_format, generation and generation[0])


def split_teams(text: str) -> list[TeamText]:
    """The teams of a file's text, in their order; empty ones are left out.

    A text with fewer than two headers (`=== … ===`) is one team. One with more is cut at them if one of them names a
    format, if Pokémon follow each, or if it holds more Pokémon than a team: else (`=== end ===`) they are one team's
    remarks, which the simulator skips. Packed teams may stand one on a line, with headers or as Showdown stores them
    (`123[gen9ou]name|`, `gen9ou]name|` or `name|`, and the team).
    """
    text = text.removeprefix("\ufeff")
    lines = (text if "\n" in text else text.replace("\r", "\n")).split("\n")
    filled = [line.strip() for line in lines if line.strip()]
    if _is_list_of_sets(text):
        return [TeamText(text=text.strip())]
    teams = [line for line in filled if not _is_header(line)]
    packed = all(line.count("|") >= _BARS or _is_stored_empty(line) for line in teams)
    if teams and (packed or (len(filled) == 1 and "|" in filled[0])):
        return list(_packed_teams(filled))
    headers = [_header(line) for line in filled if _is_header(line)]
    if len(headers) > 1:
        cut = list(_exported_teams(lines))
        all_filled = len(cut) >= len(headers) + (not _is_header(filled[0]))
        if all_filled or any(of for of, _ in headers) or _count_pokemon(lines) > TEAM_SIZE:
            return cut
    if not teams:
        return []
    battle_format, title = headers[0] if len(headers) == 1 else ("", "")
    return [TeamText(text="\n".join(lines), battle_format=battle_format, title=title)]


def pack_teams(teams: Sequence[tuple[str, TeamText]]) -> list[str]:
    """The line to send for each team, named for messages by the text before it; a packed line as it is.

    Raises DataError, naming the first team that is none and how many others there are; MissingDependencyError where
    a team that is not packed meets a machine without Node.js.
    """
    try:
        answers = iter(import_teams([team.text for _, team in teams if not team.packed]))
    except MissingDependencyError as error:  # a ladder elsewhere needs no simulator here
        raise MissingDependencyError(f"{error}; teams that are packed already need none") from error
    packed, troubles = [], []
    for where, team in teams:
        line, trouble = _take(team.text) if team.packed else _judge(next(answers))
        packed.append(line)
        trouble = _name_other_kind(team.text.strip(), in_trouble=bool(trouble)) or trouble
        if trouble:
            troubles.append(f"{where}{f', team {team.title!r},' if team.title else ''} {trouble}")
    if troubles:
        others = f" (and {len(troubles) - 1} more that are no teams)" if troubles[1:] else ""
        raise DataError(f"{troubles[0]}{others}")
    return packed


def _name_other_kind(text: str, *, in_trouble: bool) -> str:
    """What a text is that only looks like a team; what may be a nickname counts where the team is refused anyway."""
    if text.startswith(('"', "'")) and text.rstrip(",;")[1:].endswith(text[0]):
        return f"is in quotation marks ({text[0]}); take them away"
    if _COMMAND.match(text):
        return f"begins with a command ({text.split(maxsplit=1)[0]}); leave the team alone in the file"
    if _PAGE.match(text):
        return "is a web page, no team; save the text of the team alone"
    if in_trouble and (_JSON.match(text) or _parse_json(text) is not None) and not _is_list_of_sets(text):
        return "is JSON, but no whole list of Pokémon; expected [{...}, ...], or a team as Showdown exports it"
    return ""


def _is_list_of_sets(text: str) -> bool:
    found = _parse_json(text)
    return isinstance(found, list) and all(isinstance(pokemon, dict) for pokemon in found)


def _parse_json(text: str) -> Any:
    """A list or an object; None where the text is neither."""
    try:
        return json.loads(text) if text.lstrip().startswith(("[", "{")) else None
    except (ValueError, RecursionError):
        return None


def _take(line: str) -> tuple[str, str]:
    """A packed line and what is wrong with it; legal or not is the server's to say."""
    count = _count_packed(line)
    return line, _judge_count(count) if count else "is no whole packed team: a Pokémon has 12 fields with `|` between"


def _count_packed(line: str) -> int:
    """How many Pokémon, as a server cuts them (a name may hold a `]`); 0 for a line that breaks off or runs over."""
    count, at = 0, 0
    while True:
        for _ in range(_BARS):
            at = line.find("|", at) + 1
            if not at:
                return 0
        count += 1
        last, end, _ = line[at:].partition("]")
        if "|" in last:
            return 0
        if not end:
            return count
        at += len(last) + 1


def _judge(answer: dict[str, Any]) -> tuple[str, str]:
    trouble = _judge_count(answer["pokemon"])
    if not trouble and answer["idle"]:
        trouble = (
            f"has {answer['pokemon']} Pokémon, {len(answer['idle'])} of them without moves ({answer['idle'][0]!r}); "
            f"give them moves, and take out what is no Pokémon"
        )
    elif not trouble and not answer["survives"]:
        trouble = "has a `|` in a name, or a `]` in a type, and cannot be sent: a server would read something else"
    return answer["packed"], trouble


def _judge_count(pokemon: int) -> str:
    if 1 <= pokemon <= TEAM_SIZE:
        return ""
    return f"has {pokemon} Pokémon; expected one to {TEAM_SIZE}, exported or packed by Showdown"


def _packed_teams(lines: Sequence[str]) -> Iterator[TeamText]:
    battle_format, title = "", ""
    for line in lines:
        stored = _STORED.match(line)
        rest = line[stored.end() :] if stored else ""
        if _is_header(line):
            battle_format, title = _header(line)
        elif _is_stored_empty(line):
            continue
        # a packed Pokémon has a name: a `|` there is of a line that runs over
        elif stored and not _count_packed(line) and _count_packed(rest) and not rest.startswith("|"):
            of = battle_format if stored[1] is None else _to_format(stored[1])
            yield TeamText(text=rest, packed=True, battle_format=of, title=stored[2])
        else:
            yield TeamText(text=line, packed=True, battle_format=battle_format, title=title)


def _exported_teams(lines: Sequence[str]) -> Iterator[TeamText]:
    starts = [i for i, line in enumerate(lines) if _is_header(line.strip())]
    for start, end in zip([-1, *starts], [*starts, len(lines)], strict=True):
        body = lines[start + 1 : end]
        if _count_pokemon(body):
            battle_format, title = _header(lines[start].strip()) if start >= 0 else ("", "")
            yield TeamText(text="\n".join(body), battle_format=battle_format, title=title)


def _count_pokemon(lines: Sequence[str]) -> int:
    """Blocks of lines, as the simulator counts them."""
    count, inside = 0, False
    for line in map(str.strip, lines):
        if line in ("", "---"):
            inside = False
        elif not _is_header(line):
            count, inside = count + (not inside), True
    return count


def _is_header(line: str) -> bool:
    return line.startswith("===") and line.count("|") < _BARS


def _is_stored_empty(line: str) -> bool:
    return line.endswith("|") and line.count("|") == 1


def _header(line: str) -> tuple[str, str]:
    found = _HEADER.match(line)
    return (_to_format(found[1] or ""), found[2]) if found else ("", "")


def _to_format(words: str) -> str:
    """An id; as in Showdown's own backups, a format without a generation is of the sixth."""
    name = re.sub(r"[^a-z0-9]", "", words.lower())
    return name if not name or name.startswith("gen") else f"gen6{name}"

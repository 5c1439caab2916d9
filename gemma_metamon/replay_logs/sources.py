"""The forms in which Showdown's battles are kept, read into one: the lines of a log and what is known beside them.

A log's text; the JSON of a replay page or of a server's logs folder; a replay page saved from the browser; any of them
gzipped. Which it is is told from the content. Anything may stand in these files: whatever does not fit is refused with
a DataError whose words name the kind of refusal, so that refusals can be counted.
"""

import hashlib
import html
import json
import re
import zlib
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from gemma_metamon.errors import DataError
from gemma_metamon.protocol import protocol_lines
from gemma_metamon.replay_logs.lines import SIDES, Line, read_line

LARGEST_BYTES = 20_000_000
_GZIP = b"\x1f\x8b"
_PERCENT_FROM_GEN = 8
_PAGE_LOG = re.compile(r'<script[^>]*class="battle-log-data"[^>]*>(.*?)</script', re.DOTALL)
_TIER_GEN = re.compile(r"\[gen ?(\d)\]", re.IGNORECASE)
_NAMED = re.compile(r"gen[1-9][a-z0-9]+")
# what everybody is told alike, whoever keeps the log: no HP, no requests, no chat
_TOLD_ALIKE = ("switch", "drag", "move", "cant", "faint", "turn", "win", "tie")
# of a log that does not tell its date: a file's own would change with each copy of it
_UNKNOWN_DATE = datetime(1970, 1, 1)


@dataclass(frozen=True)
class ReplayLog:
    """A finished battle between two players, one Pokémon a side.

    `text` and `lines` are the same messages, written and read. `winner` is "p1", "p2" or "" of a tie. `requests` says
    whose requests are among the messages: that player's own log.
    """

    text: tuple[str, ...]
    lines: tuple[Line, ...]
    battle_format: str
    battle_id: str
    gen: int
    players: dict[str, str]
    ratings: dict[str, int | None]
    played_at: datetime
    winner: str
    requests: str | None
    beside: dict[str, Any]

    @property
    def shared_hp(self) -> int:
        """In how many parts a side sees its opponent's HP: 100, or 48 in older formats without the rule; 0 is exactly.

        Everybody sees them exactly in custom games; a server's own log has them exactly of every format.
        """
        if self.battle_format.endswith("customgame"):
            return 0
        by_rule = any(line.kind == "rule" and line.arg(0).startswith("HP Percentage Mod") for line in self.lines)
        return 100 if self.gen >= _PERCENT_FROM_GEN or by_rule else 48


def read_replay(content: bytes, name: str) -> ReplayLog:
    """A log in any of the forms.

    Args:
        content: of the file.
        name: of the file; its format and number are taken where the content has none. A date that the content does
            not tell is 1970-01-01, so that a log always gives the same files.

    Raises:
        DataError: what it is that cannot be imported.
    """
    if content.startswith(_GZIP):
        content, name = _unzipped(content), name.removesuffix(".gz")
    if len(content) > LARGEST_BYTES:
        raise DataError(f"over {LARGEST_BYTES // 1_000_000} MB: no battle's log is so long")
    text = content.decode("utf-8", errors="replace").lstrip("\ufeff")
    beside: dict[str, Any] = {}
    if text.lstrip().startswith("{"):
        text, beside = _from_json(text)
    elif text.lstrip().startswith("<") and "battle-log-data" in text:  # somebody may say so in the chat of a log
        text = _from_page(text)
    kept = _requests_last(_battle_lines(protocol_lines(text)))
    return _finished_battle(kept, beside, name)


def _unzipped(content: bytes) -> bytes:
    """At most one byte more than is read of a log, whatever the file claims."""
    unzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # gzip's
    try:
        text = unzip.decompress(content, LARGEST_BYTES + 1)
    except zlib.error as error:
        raise DataError("gzip that cannot be read") from error
    if len(text) <= LARGEST_BYTES and not unzip.eof:
        raise DataError("gzip that is cut off")
    return text


def _from_json(text: str) -> tuple[str, dict[str, Any]]:
    try:
        data = json.loads(text)
        if "\\ud" in text.lower():  # half of a surrogate pair, as a cut chat line may end, is in no file's UTF-8
            data = json.loads(json.dumps(data, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise DataError("JSON that cannot be read") from error
    log = data.get("log")
    if isinstance(log, list) and all(isinstance(line, str) for line in log):
        return "\n".join(log), data
    if isinstance(log, str):
        return log, data
    raise DataError('JSON without a battle\'s "log"')


def _from_page(text: str) -> str:
    found = _PAGE_LOG.search(text)
    if found is None:
        raise DataError("a web page without a battle's log")
    log = found[1].replace("<\\/", "</")
    return log if "|move|" in log or "&" not in log else html.unescape(log)


def _battle_lines(texts: list[str]) -> list[str]:
    """The messages alone: no chat, no room's name; of what was split between the sides the secret half."""
    kept: list[str] = []
    public = -1  # the line that repeats a secret one for everybody else
    for at, text in enumerate(texts):
        if text.startswith("|split|"):
            public = at + 2
        elif at != public and text.startswith("|") and not text.startswith("||"):
            kept.append(text)
    return kept


def _requests_last(text: list[str]) -> list[str]:
    """Each request after the messages that led to it. Servers once sent it before them."""
    requests = [at for at, message in enumerate(text) if message.startswith("|request|{")]
    turns = [at for at, message in enumerate(text) if message.startswith("|turn|")]
    first_move = next((at for at in requests if '"active":[{' in text[at][:200]), -1)
    if first_move < 0 or not turns or first_move > turns[0]:
        return text
    ordered: list[str] = []
    waiting = ""
    for message in text:
        if message.startswith(("|request|{", "|win|", "|tie")):
            ordered += [waiting] if waiting else []
            waiting = message if message.startswith("|request|") else ""
        if not message.startswith("|request|{"):
            ordered.append(message)
    return ordered


def _finished_battle(text: list[str], beside: dict[str, Any], name: str) -> ReplayLog:
    lines = [read_line(message) for message in text]
    first: dict[str, Line] = {}
    players: dict[str, str] = {}
    names: dict[str, str] = {}  # whoever had one during the battle -> side: users change theirs
    ratings: dict[str, int | None] = {}
    for line in lines:
        first.setdefault(line.kind, line)
        if line.kind == "player" and line.arg(0) in SIDES and line.arg(1):
            names[_plain_name(line.arg(1))] = line.arg(0)
            if line.arg(0) not in players:
                players[line.arg(0)] = line.arg(1)
                ratings[line.arg(0)] = _whole_number(line.arg(3))
    if "switch" not in first or len(players) < 2:
        raise DataError("no Showdown battle log")
    game_type = first["gametype"].arg(0) if "gametype" in first else "singles"
    if game_type != "singles":
        raise DataError(f"a game type that is not imported: {_word(game_type)}")
    if "turn" not in first:
        raise DataError("ended before the first turn")
    if "win" not in first and "tie" not in first:
        raise DataError("the log ends before the battle does")
    battle_format, gen = _format(first, beside, name)
    given = _whole_number(str(beside.get("rating")))
    return ReplayLog(
        text=tuple(text),
        lines=tuple(lines),
        battle_format=battle_format,
        battle_id=_battle_id(battle_format, beside, name, [*players.values(), *_told_alike(lines)]),
        gen=gen,
        players=players,
        ratings={side: given if rating is None else rating for side, rating in ratings.items()},
        played_at=_date(first, beside),
        winner=_winner(first, names),
        requests=_requests_of(text),
        beside=beside,
    )


def _format(first: dict[str, Line], beside: dict[str, Any], name: str) -> tuple[str, int]:
    told = first["gen"].arg(0) if "gen" in first else ""
    tier = first["tier"].arg(0) if "tier" in first else ""
    found = _TIER_GEN.search(tier)
    gen = told if re.fullmatch(r"[1-9]", told) else found[1] if found else ""
    tier_id = _word(tier)
    of_tier = tier_id if tier_id.startswith("gen") else f"gen{gen}{tier_id}" if tier_id else ""
    names = [beside.get("formatid"), beside.get("id"), beside.get("roomid"), of_tier, name]  # a file may be renamed
    for candidate in names:
        match = _NAMED.match(candidate.removeprefix("battle-")) if isinstance(candidate, str) else None
        if match and (not gen or match[0].startswith(f"gen{gen}")):
            return match[0], int(match[0][3])
    raise DataError("a format that is not told, or of no generation from 1 to 9")


def _battle_id(battle_format: str, beside: dict[str, Any], name: str, told: list[str]) -> str:
    """The format, the replay's number where there is one, and a digest of what was told.

    Servers that start anew count from 1 again, so that a number alone is no battle's own. The same battle kept as a
    log, as a page or by its other player has the same digest.
    """
    digest = hashlib.sha256("\n".join(told).encode()).hexdigest()[:12]
    for candidate in (beside.get("id"), beside.get("roomid"), name):
        number = re.search(rf"\b{battle_format}-(\d{{1,18}})\b", candidate) if isinstance(candidate, str) else None
        if number:
            return f"{battle_format}-{number[1]}-{digest}"
    return f"{battle_format}-{digest}"


def _told_alike(lines: list[Line]) -> list[str]:
    return ["|".join((line.kind, *line.args[:2])) for line in lines if line.kind in _TOLD_ALIKE]


def _date(first: dict[str, Line], beside: dict[str, Any]) -> datetime:
    for seconds in (first["t:"].arg(0) if "t:" in first else "", beside.get("uploadtime")):
        try:
            return datetime.fromtimestamp(int(str(seconds)[:12].partition(".")[0]), timezone.utc).replace(tzinfo=None)
        except (ValueError, OverflowError, OSError):
            continue
    return _UNKNOWN_DATE


def _winner(first: dict[str, Line], names: dict[str, str]) -> str:
    if "win" not in first:
        return ""
    name = _plain_name(first["win"].arg(0))
    if name not in names:
        raise DataError("won by somebody who is none of its players")
    return names[name]


def _plain_name(name: str) -> str:
    return "".join(char for char in name if char.isalnum()).lower() or name


def _requests_of(text: list[str]) -> str | None:
    for message in text:
        if message.startswith("|request|{"):
            found = re.search(r'"id":"(p[12])"', message)
            if found:
                return found[1]
    return None


def _word(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())[:60]


def _whole_number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"\d{1,5}", text) else None

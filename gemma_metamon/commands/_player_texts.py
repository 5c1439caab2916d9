"""How players are written on the command line: the one place that takes their texts apart.

    SimpleHeuristicsPlayer          a scripted player
    runs/first                      a run's last checkpoint
    runs/first@7                    that of epoch 7
    runs/first@7@T0.8               that one at temperature 0.8
    ensemble(runs/first@5, runs/first@7@T0.8, runs/second*2)
                                    members that decide together; the last one counts twice
    ensemble(vote: runs/first@5, runs/second, runs/third)
    text:runs/words                 a chat model of `sft` or `grpo`, or a folder of one; @ and @T as above
    text:runs/words@2(reasoning=yes, reasoning_tokens=64)
                                    that thinks before each choice, in so many subwords at most
    vlm:runs/eyes                   a model of `vlm train` or `vlm merge`, or a folder of one; @ and @T as above
    registry:best@3@T0.8            version 3 of a registered model, at temperature 0.8; text:, vlm: as above
    registry:best@production        the version that is in production

Whatever is the name of a folder is that folder, with all that may be in it. In an ensemble, a folder whose name holds a
comma or begins with a quote is written between quotes: 'runs/a, b'@7. A quote inside them is written twice.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from gemma_metamon.errors import ConfigError
from gemma_metamon.registry.names import is_registered, leading
from gemma_metamon.registry.registry import local_folder
from gemma_metamon.strict_json import shown

EXAMPLE = "ensemble(RUN@5, RUN@7@T0.8)"
MAX_TEMPERATURE, MAX_WEIGHT = 1000.0, 1_000_000.0
_LEAST = 0.001
_ENSEMBLE = re.compile(r"\s*ensemble\s*\((?P<body>.*)\)(?P<rest>[^)]*)", re.DOTALL)
_OPENS_ENSEMBLE = re.compile(r"\s*ensemble\s*\(")
_LIKE_A_CALL = re.compile(r"\s*(?P<name>[A-Za-z]+)\s*\(")
_MODE = re.compile(r"\s*(?P<mode>[A-Za-z]{2,})\s*:")
# what may follow a name, up to its end
_KNOWN_MARKS = re.compile(r"(?:\s*(?:@[0-9]{1,9}|@T[^@*/]*|\*[^@*/]*))*$")
_MARK = re.compile(r"([@*])([^@*]*)")


@dataclass(frozen=True, kw_only=True)
class RunText:
    """A checkpoint as it is written. No epoch is the run's last, no temperature the command's."""

    text: str
    run_dir: Path
    epoch: int | None = None
    temperature: float | None = None
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class EnsembleText:
    """Several that decide together: by their mean, or by a vote."""

    text: str
    members: tuple[RunText, ...]
    vote: bool = False


def read_text(text: str) -> RunText | EnsembleText:
    """What the text of a player that is no scripted one says. Whether its folders are there is not looked at.

    Raises:
        ConfigError: a text that is not written as above. It names the member, what is wrong, and what to write.
    """
    if _existing(text) is None:
        if match := _ENSEMBLE.fullmatch(text):
            return _read_ensemble(text, match["body"], match["rest"].strip())
        if _OPENS_ENSEMBLE.match(text):
            raise ConfigError(f"{shown(text)} is not closed; write it as in {EXAMPLE}")
        called = _LIKE_A_CALL.match(text)
        if called is not None and get_close_matches(called["name"].lower(), ["ensemble"]):
            raise ConfigError(f"{shown(text)}: there is no such folder; did you mean {EXAMPLE}?")
    run = _read_run(text, shown(text))
    if run.weight != 1:
        raise ConfigError(f"{shown(text)}: a weight is for members of an ensemble, as in ensemble(RUN@5*2, RUN@7)")
    return run


def _read_ensemble(text: str, body: str, rest: str) -> EnsembleText:
    if rest:
        raise ConfigError(f"{shown(text)}: write {rest} behind each member instead, as in {EXAMPLE}")
    mode, written = "mean", _MODE.match(body)
    if written and _existing(next(_split(body, text)).strip()) is None:
        mode = written["mode"]
        if mode in ("user", "chat"):
            outside = f"{mode}:NAME"
            raise ConfigError(f"{shown(text)}: a member is a run, and nobody who plays from outside, as {outside} does")
        if mode not in ("mean", "vote"):
            raise ConfigError(f"{shown(text)}: {mode!r} is no way to decide together; there are mean and vote")
        body = body[written.end() :]
    members = []
    parts = list(_split(body, text))
    _require_quotes(parts, text)
    for part in parts:
        member = part.strip()
        if not member:
            raise ConfigError(f"{shown(text)} has a member without a name; write it as in {EXAMPLE}")
        where = f"member {shown(member)} of {shown(text)}"
        if _OPENS_ENSEMBLE.match(member) and _existing(member) is None:
            raise ConfigError(f"{where} is an ensemble, too; write all of the members side by side")
        members.append(_read_run(member, where))
    return EnsembleText(text=text, members=tuple(members), vote=mode == "vote")


def _require_quotes(parts: list[str], text: str) -> None:
    """Raises ConfigError where the commas belong to the name of a folder, and what they part is not there."""
    there = [part.strip()[:1] in ("'", '"') or _existing(part.strip()) is not None for part in parts]
    if all(there):
        return
    for begin in range(len(parts)):
        for end in range(begin + 2, len(parts) + 1):
            found = _existing(",".join(parts[begin:end]).strip())
            if found is not None and "," in found[0] and not all(there[begin:end]):
                raise ConfigError(
                    f"{shown(text)}: {shown(found[0])} is a folder with a comma in its name; "
                    f"write it between quotes, as in ensemble({as_member(found[0])}, ...)"
                )


def _split(body: str, text: str) -> Iterator[str]:
    """The parts between commas; a quoted name's commas are its own."""
    while True:
        part = body.lstrip()
        quoted = _unquote(part, shown(text))
        comma = body.find(",", 0 if quoted is None else len(body) - len(part) + quoted[1])
        if comma < 0:
            yield body
            return
        yield body[:comma]
        body = body[comma + 1 :]


def _read_run(text: str, where: str) -> RunText:
    """A checkpoint, alone or of an ensemble; `where` names it in errors."""
    name, marks = _name_and_marks(text, where)
    found: dict[str, str] = {}
    for mark, value in _MARK.findall(marks):
        said = value.strip()
        if mark == "*":
            kind = "weight"
        elif said.isascii() and said.isdigit() and len(said) < 10:
            kind = "epoch"
        elif said.startswith("T"):
            kind, said = "temperature", said[1:]
        else:
            raise ConfigError(f"{where}: @{said} is neither an epoch, as in RUN@7, nor a temperature, as in RUN@7@T0.8")
        if kind in found:
            raise ConfigError(f"{where} has more than one {kind}; leave one")
        found[kind] = said
    temperature = found.get("temperature")
    return RunText(
        text=text,
        run_dir=Path(name),
        epoch=int(found["epoch"]) if "epoch" in found else None,
        temperature=None if temperature is None else _read_temperature(temperature, where),
        weight=_read_weight(found.get("weight", "1"), where),
    )


def _name_and_marks(text: str, where: str) -> tuple[str, str]:
    """The folder's name, and what is written behind it."""
    existing = _existing(text)
    if existing is not None:
        return existing
    text = text.strip()
    quoted = _unquote(text, where)
    if quoted is None:
        end = _KNOWN_MARKS.search(text)
        return (text[: end.start()].strip(), text[end.start() :]) if end else (text, "")
    name, end_of_name = quoted
    rest = text[end_of_name:].strip()
    if rest[:1] not in ("", "@", "*"):
        raise ConfigError(f"{where}: behind a quoted name may stand @EPOCH, @T and *WEIGHT, and not {shown(rest)}")
    return name, rest


def _existing(text: str) -> tuple[str, str] | None:
    """The longest beginning of a text that is a folder there, up to a mark, and the rest; None where there is none.

    A registered model's is the folder that its files are fetched to.
    """
    registered = leading(text.strip())
    if registered is not None:
        return str(local_folder(registered[0])), registered[1]
    if is_registered(text.strip()):
        local_folder(re.split("[@*]", text.strip())[0])  # it says how a version is written
    begin = text.rfind("/") + 1
    ends = [len(text), *sorted((i for i, char in enumerate(text) if char in "@*" and i >= begin), reverse=True)]
    for end in ends:
        for name in (text[:end], text[:end].strip()):
            if name and Path(name).is_dir():
                return name, text[end:]
    return None


def _unquote(text: str, where: str) -> tuple[str, int] | None:
    """Of a text that begins with a quote: what is between it and the closing one, and where that ends. Else None."""
    quote = text[:1]
    if quote not in ("'", '"'):
        return None
    match = re.match(f"{quote}((?:[^{quote}]|{quote}{quote})*){quote}", text)
    if match is None:
        raise ConfigError(f"{where}: a quote is not closed ({quote}); inside a quoted name a quote is written twice")
    return match[1].replace(quote * 2, quote), match.end()


def as_member(name: str) -> str:
    """A folder's name as an ensemble's member is written: between quotes where it needs them."""
    if "," in name or name[:1] in ("'", '"'):
        return "'" + name.replace("'", "''") + "'"
    return name


def _read_temperature(text: str, where: str) -> float:
    value = _number(text)
    if not (value == 0 or _LEAST <= value <= MAX_TEMPERATURE):
        raise ConfigError(
            f"{where}: {shown(text)} is no temperature; give 0 (its most probable action) or {_LEAST:g} to "
            f"{MAX_TEMPERATURE:g}, as in RUN@7@T0.8"
        )
    return value


def _read_weight(text: str, where: str) -> float:
    value = _number(text)
    if not _LEAST <= value <= MAX_WEIGHT:
        raise ConfigError(
            f"{where}: {shown(text)} is no weight; give a number from {_LEAST:g} to {MAX_WEIGHT:g}, as in RUN@5*2"
        )
    return value


def _number(text: str) -> float:
    """NaN of what is none."""
    try:
        return float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        return math.nan

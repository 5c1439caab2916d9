"""How players that search are written on the command line.

    LookaheadTrainer                        DuelTrainer, looking ahead
    LookaheadTrainer(forks=96, turns=3)     the same, further
    search(runs/first, forks=48)            a run's agent, looking ahead where its policy says
    search(runs/first@7@T0.8)               that of epoch 7; its policy at temperature 0.8

Their settings are those of showdown/search/settings.py: forks, turns, temperature.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gemma_metamon.errors import ConfigError
from gemma_metamon.strict_json import shown

if TYPE_CHECKING:
    from gemma_metamon.showdown.search.settings import SearchSettings

LOOKAHEAD, SEARCH = "LookaheadTrainer", "search"
EXAMPLES = f"{LOOKAHEAD}(forks=96) or {SEARCH}(RUN, forks=48)"
_CALL = re.compile(rf"\s*(?P<name>{LOOKAHEAD}|{SEARCH})\s*\((?P<body>.*)\)\s*", re.DOTALL)
_SETTING = re.compile(r"\s*(?P<name>[A-Za-z_]+)\s*=\s*(?P<value>[^,]*?)\s*")
_KINDS = {"forks": int, "turns": int, "temperature": float}


@dataclass(frozen=True)
class SearchText:
    """A player that searches, as it is written: of `run` the text, None of LookaheadTrainer."""

    run: str | None
    settings: "SearchSettings"


def read_search(text: str) -> SearchText | None:
    """What the text of a player that searches says; None for the text of another player.

    Raises ConfigError for a setting that there is not, or a value that it cannot have.
    """
    if Path(text).is_dir():
        return None
    if text.strip() == LOOKAHEAD:
        return SearchText(None, _settings([], text))
    call = _CALL.fullmatch(text)
    if call is None:
        if re.match(rf"\s*({LOOKAHEAD}|{SEARCH})\s*\(", text):
            raise ConfigError(f"{shown(text)} is not closed; write it as in {EXAMPLES}")
        return None
    parts, written = call["body"].split(","), list[str]()
    while parts and (not parts[-1].strip() or _SETTING.fullmatch(parts[-1])) and not Path(parts[-1].strip()).is_dir():
        written.insert(0, parts.pop())
    run = ",".join(parts).strip()
    if call["name"] == LOOKAHEAD and run:
        raise ConfigError(f"{shown(text)}: {shown(run)} is no setting; write it as in {EXAMPLES}")
    if call["name"] == SEARCH and not run:
        raise ConfigError(f"{shown(text)} names no run to search with; write it as in {EXAMPLES}")
    return SearchText(run or None, _settings([part for part in written if part.strip()], text))


def _settings(written: list[str], text: str) -> "SearchSettings":
    from gemma_metamon.showdown.search.settings import SearchSettings

    values: dict[str, float] = {}
    for part in written:
        setting = _SETTING.fullmatch(part)
        name, value = (setting["name"], setting["value"]) if setting else (part.strip(), "")
        if name == "ms":
            raise ConfigError(f"{shown(text)}: a search by time could not be repeated; give forks=N instead of ms")
        if name not in _KINDS:
            raise ConfigError(f"{shown(text)}: a search has no {shown(name)}; there are {', '.join(_KINDS)}")
        if name in values:
            raise ConfigError(f"{shown(text)} has more than one {name}; leave one")
        try:
            values[name] = _KINDS[name](value)
        except ValueError:
            raise ConfigError(f"{shown(text)}: {name}={shown(value)} is no number; write it as in {EXAMPLES}") from None
    return SearchSettings(**values)  # type: ignore[arg-type]

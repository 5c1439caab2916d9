"""The body of `POST /act`, read: a battle at a request, or the states of one. What is wrong with it is a DataError."""

import re
from dataclasses import dataclass, field
from typing import Any, Final

from gemma_metamon.battle.replays import MAX_STATES, N_RECORDED_ACTIONS
from gemma_metamon.battle.state import BattleState
from gemma_metamon.errors import DataError
from gemma_metamon.serving.bounds import (
    MOST_LINES,
    NAME_CHARACTERS,
    lines_of,
    require_at_most,
    require_small_request,
)
from gemma_metamon.strict_json import parse_json_object, read_dataclass, shown

MAX_DECISIONS: Final = 1100
"""Of one battle. The simulator ends one at turn 1,000."""
_BATTLE: Final = re.compile(r"[a-z]+-(gen[1-9][a-z0-9]{1,40})-[A-Za-z0-9_.:-]{1,100}")
REQUEST: Final = "|request|"


@dataclass(frozen=True, kw_only=True)
class BattleAsked:
    """A choice in a battle.

    Attributes:
        battle: its name, "battle-gen1ou-12".
        battle_format: "gen1ou".
        user: the player's name in it.
        request: what the simulator asks.
        lines: the log so far, as the player received it, requests among them or not. A line that begins with "/" is
            what the player sent.
        is_in_log: whether the request is the last one among the lines.
    """

    battle: str
    battle_format: str
    user: str
    request: dict[str, Any]
    lines: list[str]
    is_in_log: bool


@dataclass(frozen=True, kw_only=True)
class StatesAsked:
    """A choice in the last of a battle's states, after these actions in those before.

    `legal` are the actions (0-12) to choose among; None leaves that to the state, which knows of no disabled moves.
    """

    states: list[BattleState]
    actions: list[int]
    legal: list[int] | None


@dataclass(frozen=True)
class _Observation:
    states: list[dict[str, Any]]
    actions: list[int] = field(default_factory=list)
    legal: list[int] | None = None


@dataclass(frozen=True)
class _Body:
    battle: str = ""
    request: dict[str, Any] | None = None
    log: str | list[str] = ""
    observation: _Observation | None = None


def read_asked(content: bytes) -> BattleAsked | StatesAsked:
    """What a body asks.

    Raises:
        DataError: one sentence with the field, its value and what was expected.
    """
    try:
        given = parse_json_object(content)
        _require_short(given)
        body = read_dataclass(_Body, given)
    except DataError as error:
        raise DataError(f"the body: {error}") from error
    if body.observation is not None:
        if body.battle or body.request is not None or body.log:
            raise DataError("the body holds an observation and a battle; give one of the two")
        return _states(body.observation)
    written = _BATTLE.fullmatch(body.battle)
    if written is None:
        raise DataError(f"battle is {shown(body.battle)}; give the battle's name, as battle-gen1ou-12")
    lines = lines_of(body.log)
    last = _last_request(lines)
    request = last if body.request is None else body.request
    if request is None:
        raise DataError("request is missing, and no line of the log begins with |request|; give one of the two")
    require_small_request(request)
    return BattleAsked(
        battle=body.battle,
        battle_format=written[1],
        user=_user(request),
        request=request,
        lines=lines,
        is_in_log=request == last,
    )


def _require_short(given: dict[str, Any]) -> None:
    observation, request = given.get("observation"), given.get("request")
    if isinstance(request, dict):
        require_small_request(request)
    lists = observation if isinstance(observation, dict) else {}
    require_at_most("log", given.get("log"), MOST_LINES, "the lines of one battle")
    require_at_most("observation.states", lists.get("states"), MAX_DECISIONS, "the last to act in")
    require_at_most("observation.actions", lists.get("actions"), MAX_DECISIONS, "one for each state but the last")
    require_at_most("observation.legal", lists.get("legal"), N_RECORDED_ACTIONS, "each action once")


def _last_request(lines: list[str]) -> dict[str, Any] | None:
    """In the log, where all that stand in it are looked at."""
    count, last = 0, None
    for i, line in enumerate(lines):
        text = line.removeprefix(REQUEST)
        if text is line or text in ("", "null"):
            continue
        count += 1
        if count > MAX_DECISIONS:
            raise DataError(f"log holds more than {MAX_DECISIONS} requests; give those of one battle")
        try:
            last = parse_json_object(text)
        except DataError as error:
            raise DataError(f"log, line {i + 1}: its request {error}") from error
    return last


def _user(request: dict[str, Any]) -> str:
    side = request.get("side")
    name = side.get("name") if isinstance(side, dict) else None
    if not isinstance(name, str) or not name or not isinstance(side, dict) or not isinstance(side.get("pokemon"), list):
        raise DataError(
            f"request.side is {shown(side)}; give the request as the simulator sends it, with name and team"
        )
    if len(name) > NAME_CHARACTERS:
        raise DataError(
            f"request.side.name is {shown(name)} of {len(name)} characters; give at most {NAME_CHARACTERS}, as the "
            "simulator does"
        )
    if request.get("wait"):
        raise DataError("request.wait is true, so that nothing is to be chosen; ask at the next request")
    return name


def _states(given: _Observation) -> StatesAsked:
    if not 1 <= len(given.states) <= min(MAX_STATES, MAX_DECISIONS):
        raise DataError(
            f"observation.states has {len(given.states)} of them; give 1 to {MAX_DECISIONS}, the last to act in"
        )
    if len(given.actions) != len(given.states) - 1:
        raise DataError(
            f"observation.actions has {len(given.actions)} of them; give one for each state but the last, "
            f"{len(given.states) - 1}"
        )
    for name, numbers in (("actions", given.actions), ("legal", given.legal or [])):
        wrong = [number for number in numbers if not 0 <= number < N_RECORDED_ACTIONS]
        if wrong:
            raise DataError(f"observation.{name} holds {shown(wrong[0])}; expected 0 to {N_RECORDED_ACTIONS - 1}")
    if given.legal == []:
        raise DataError("observation.legal is empty; leave it out, or give at least one action")
    states = []
    for i, state in enumerate(given.states):
        try:
            states.append(BattleState.from_dict(state))
        except DataError as error:
            raise DataError(f"observation.states[{i}]: {error}") from error
    return StatesAsked(states=states, actions=given.actions, legal=given.legal)

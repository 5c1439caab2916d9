"""A player's view from that player's own log, which holds the requests: as the recorder would have had it live.

The states come from the messages and requests alone. The choices are read from what followed; where the log says what
was sent, or only one thing was allowed, nothing need follow.
"""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from poke_env.battle import Battle

from gemma_metamon.battle.replays import MISSING_ACTION, RecordedBattle
from gemma_metamon.battle.state import BattleState
from gemma_metamon.errors import DataError
from gemma_metamon.replay_logs.asks import MOVE, REVIVE, SWITCH
from gemma_metamon.replay_logs.choices import Choice, read_choice
from gemma_metamon.replay_logs.feeding import end, feed, new_battle, state_now
from gemma_metamon.replay_logs.numbering import action_of
from gemma_metamon.replay_logs.sources import ReplayLog
from gemma_metamon.showdown.live.battle import LiveBattle
from gemma_metamon.showdown.live.orders import Options

_REQUEST = "|request|"


def own_view(log: ReplayLog, side: str, on_field: Sequence[str], missing: Counter[str]) -> RecordedBattle | None:
    """The view of the player whose requests are in the log; None where that player never had anything to decide.

    Args:
        log: with requests.
        side: whose.
        on_field: for each line of the log the key of the Pokémon that stands there (`Team.on_field`).
        missing: counts by kind the choices that the log does not tell.

    Raises:
        DataError: a request or a message cannot be read.
    """
    requests = {at: _read(text) for at, text in enumerate(log.text) if text.startswith(_REQUEST + "{")}
    asked = _decisions(log, requests)
    stops = dict(zip(asked, [*asked[1:], len(log.lines)], strict=True))
    battle = new_battle(log, side)
    live = LiveBattle(battle)
    states: list[BattleState] = []
    actions: list[int] = []
    for at, text in enumerate(log.text):
        if at not in requests:
            feed(battle, text)
            continue
        _apply(battle, requests[at])
        if at in stops:
            states.append(state_now(live))
            choice = read_choice(log.lines, at, stops[at], side, _what(requests[at]), log.gen)
            key = _brought_in(log, choice, side, on_field, requests)
            action, why = _allowed(*action_of(choice, battle, key=key), live.options)
            actions.append(action)
            if action == MISSING_ACTION:
                missing[why] += 1
    if not states:
        return None
    end(battle, log.winner)
    states.append(state_now(live))
    return RecordedBattle(tuple(states), (*actions, MISSING_ACTION))


def _read(text: str) -> dict[str, Any]:
    try:
        request = json.loads(text.removeprefix(_REQUEST))
        if isinstance(request["side"]["pokemon"], list):
            return dict(request)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise DataError("a request that cannot be read")


def _apply(battle: Battle, request: dict[str, Any]) -> None:
    try:
        battle.parse_request(request)
    except Exception as error:  # poke-env's reader fails in many ways on what it does not expect
        raise DataError(f"a request that poke-env cannot follow ({type(error).__name__})") from error


def _decisions(log: ReplayLog, requests: dict[int, dict[str, Any]]) -> list[int]:
    """Where something was put to the player. What was refused is put again before anything happens: the last counts."""
    found: list[int] = []
    happened = True
    for at, line in enumerate(log.lines):
        if at in requests:
            request = requests[at]
            if request.get("wait") or request.get("teamPreview"):
                continue
            if found and not happened:
                found.pop()
            found.append(at)
            happened = False
        elif line.kind in ("turn", "move", "switch", "drag", "cant", "faint", "upkeep", "-heal"):
            happened = True
    return found


def _what(request: dict[str, Any]) -> str:
    if not request.get("forceSwitch"):
        return MOVE
    return REVIVE if any(pokemon.get("reviving") for pokemon in request["side"]["pokemon"]) else SWITCH


def _brought_in(
    log: ReplayLog, choice: Choice, side: str, on_field: Sequence[str], requests: dict[int, dict[str, Any]]
) -> str:
    """poke-env's key of whom a switch brought in, or back: under an Illusion the next request knows better."""
    if choice.switch_at < 0:
        return ""
    line = log.lines[choice.switch_at]
    if line.kind == "-heal":
        return line.arg(0)
    for at in range(choice.switch_at + 1, len(log.lines)):
        if at in requests:
            active = [pokemon["ident"] for pokemon in requests[at]["side"]["pokemon"] if pokemon["active"]]
            return str(active[0]) if active else on_field[choice.switch_at]
        if log.lines[at].side == side and log.lines[at].kind in ("switch", "drag"):
            break
    return on_field[choice.switch_at]


def _allowed(action: int, why: str, options: Options) -> tuple[int, str]:
    """What the request allows: if that is one thing, it was chosen."""
    if len(options) == 1:
        return next(iter(options)), ""
    if action != MISSING_ACTION and action not in options:
        return MISSING_ACTION, "not among what the request allows"
    return action, why

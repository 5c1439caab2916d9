"""A decision in time, legal, by its place in the request, and never one that was refused before.

Whatever the player does: this is the one way from a player's choice to what is sent. `Door` goes it for players with a
connection of their own, `ArenaSeat` for those in an arena, `LadderBattle` for those of a ladder.
"""

import asyncio
import inspect
import logging
import re
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from poke_env.battle import Battle, Move
from poke_env.player import BattleOrder, Player, SingleBattleOrder

from gemma_metamon.errors import ServerError
from gemma_metamon.showdown.live.battle import LiveBattle
from gemma_metamon.showdown.live.orders import as_sent

logger = logging.getLogger(__name__)
MAX_REFUSED = 2
"""Choices that a player may have refused at one request; then the choice is made for it, without asking."""
_ORDER = re.compile(r"/choose (?:move|switch|default|pass)\b[^|\n]*|/forfeit")
_LEAD = re.compile(r"/(?:choose )?team [\d, ]+|/choose default")
_REFUSALS = ("[Invalid choice]", "[Unavailable choice]")
# refusals that say nothing about the choice itself: it came too late, or the server has one already
_NOT_ABOUT_THE_CHOICE = ("too late", "nothing to choose", "nothing to cancel", "Can't do anything", "Can't undo")


def is_refusal(error: str) -> bool:
    """Whether this text of an `|error|` message says no to a choice, and not only that it came too late."""
    return error.startswith(_REFUSALS) and not any(words in error for words in _NOT_ABOUT_THE_CHOICE)


@dataclass
class Decisions:
    """One battle's: how many, how many of them were not the player's own and why, and how often the server said no.

    `refused` are the orders that the server has said no to at the present request; `failure` is what the player raised
    instead of its last choice.
    """

    count: int = 0
    fallbacks: Counter[str] = field(default_factory=Counter)
    refusals: int = 0
    refused: set[str] = field(default_factory=set)
    failure: Exception | None = None

    def refuse(self, message: str) -> None:
        """The server says no to this order."""
        self.refusals += 1
        self.refused.add(message)

    def begin_request(self, answer_before: str | None) -> None:
        """Of a new request all may be sent, unless it is the old one, asked again because its answer was refused."""
        if answer_before not in self.refused:
            self.refused.clear()


class Answers:
    """What was answered to a battle's requests, by somebody whose every answer reaches the simulator."""

    def __init__(self, battle_tag: str) -> None:
        self.decisions = Decisions()
        self._battle_tag = battle_tag
        self._request: Any = None
        self._answer: str | None = None

    def begin(self, request: Any) -> None:
        """A request stands, named by its "rqid"; of one that is known already nothing changes."""
        if request != self._request:
            self.decisions.begin_request(self._answer)
            self._request = request

    def note(self, message: str) -> None:
        """This is sent. Raises ServerError for what has been refused: then there is nothing left to send."""
        if message in self.decisions.refused:
            refused = ", ".join(sorted(self.decisions.refused))
            raise ServerError(f"the server refuses every choice in {self._battle_tag}: {refused}")
        self._answer = message

    def refuse(self) -> bool:
        """The last answer is refused; False where there was none."""
        if self._answer is None:
            return False
        self.decisions.refuse(self._answer)
        return True


async def decide(
    choose: Callable[[Battle], Any], live: LiveBattle, decisions: Decisions, deadline_s: float | None
) -> BattleOrder:
    """The player's order as it is to be sent: by its place in the request.

    Another one is given where the player takes longer than deadline_s, fails, answers with what is no order, or wants
    what has been refused: the strongest legal move that has not, then a switch, at last the server's own choice. Who
    has been refused MAX_REFUSED times at this request is not asked any more.

    Args:
        choose: a player's `choose_move`.
        live: as it stands.
        decisions: the battle's; counts this one.
        deadline_s: None waits as long as it takes, and calls `choose` in this thread.
    """
    decisions.count += 1
    decisions.failure = None
    battle, why = live.battle, "refused"
    order: BattleOrder | None = None
    try:
        if len(decisions.refused) < MAX_REFUSED:
            answer = await asyncio.wait_for(_ask(choose, battle, deadline_s), deadline_s)
            order = as_sent(_require_order(answer), battle)
    except (TimeoutError, asyncio.TimeoutError):  # two classes until Python 3.11
        why = "late"
    except Exception as error:  # noqa: BLE001 whatever is wrong with the player, the battle must go on
        logger.warning("%s could not decide in %s: %s", battle.player_username, battle.battle_tag, _named(error))
        why = "failed"
        decisions.failure = error
    if order is None or order.message in decisions.refused:
        decisions.fallbacks[why] += 1
        order = fallback_order(live, decisions.refused)
    return order


async def decide_lead(
    choose: Callable[[Battle], Any], battle: Battle, decisions: Decisions, deadline_s: float | None
) -> str:
    """The team's order at team preview, by the same rules; `choose` is a player's `teampreview`."""
    decisions.count += 1
    decisions.failure = None
    try:
        message = _require_lead(await asyncio.wait_for(_ask(choose, battle, deadline_s), deadline_s))
    except (TimeoutError, asyncio.TimeoutError):
        logger.warning("%s chose no lead in time in %s", battle.player_username, battle.battle_tag)
    except Exception as error:  # noqa: BLE001 as above
        logger.warning("%s chose no lead in %s: %s", battle.player_username, battle.battle_tag, _named(error))
        decisions.failure = error
    else:
        if message not in decisions.refused:
            return message
    decisions.fallbacks["lead"] += 1
    return Player.choose_default_move().message


def fallback_order(live: LiveBattle, refused: set[str]) -> BattleOrder:
    """The strongest legal move, or else the first switch, whose message is not among the refused ones."""
    try:
        orders = list(live.options.values())
    except Exception as error:  # noqa: BLE001 a garbled message can have broken the battle that we hold
        logger.warning("leaving %s to the server's choice: %s", live.battle.battle_tag, _named(error))
        orders = []
    orders.sort(key=_power, reverse=True)
    return next((order for order in orders if order.message not in refused), Player.choose_default_move())


def _require_order(answer: object) -> BattleOrder:
    """Raises ValueError for what would be sent and be no choice."""
    if not isinstance(answer, BattleOrder):
        raise ValueError(f"it answered with {answer!r:.60}; expected poke-env's BattleOrder")
    if not _ORDER.fullmatch(answer.message):
        raise ValueError(f"{answer.message!r:.60} is no order; expected /choose move, /choose switch or /forfeit")
    return answer


def _require_lead(answer: object) -> str:
    if not isinstance(answer, str) or not _LEAD.fullmatch(answer):
        raise ValueError(f"{answer!r:.60} is no order of a team; expected as in /team 123456")
    return answer


def _power(order: BattleOrder) -> int:
    if isinstance(order, SingleBattleOrder) and isinstance(order.order, Move):
        return order.order.base_power
    return -1


async def _ask(choose: Callable[[Battle], Any], battle: Battle, deadline_s: float | None) -> Any:
    """With a deadline, in a thread of its own: a player that computes without end must not stop all other battles."""
    if deadline_s is None:
        try:
            result = choose(battle)
            return await result if inspect.isawaitable(result) else result
        except SystemExit as error:  # it would end the loop that all battles share, and nobody would be told
            raise RuntimeError("it wanted to end the program") from error
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Any] = loop.create_future()

    def tell(result: Any, error: Exception | None) -> None:
        if answer.done():  # nobody waits any more
            if inspect.iscoroutine(result):
                result.close()
        elif error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result)

    def work() -> None:
        result, failure = None, None
        try:
            result = choose(battle)
        except Exception as error:  # noqa: BLE001 it is the asker's
            failure = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, result, failure)

    threading.Thread(target=work, name="decision", daemon=True).start()
    result = await answer
    return await result if inspect.isawaitable(result) else result


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"

"""A decision in time, legal, and never one that was refused before, whatever the player does."""

import asyncio
import inspect
import logging
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from poke_env.battle import Battle, Move
from poke_env.player import BattleOrder, Player, SingleBattleOrder

from gemma_metamon.showdown.orders import action_to_order, as_sent, legal_actions

logger = logging.getLogger(__name__)


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


async def decide(player: Player, battle: Battle, decisions: Decisions, deadline_s: float) -> tuple[BattleOrder, bool]:
    """An order, and whether it is the player's own.

    Another one is given where the player takes longer than deadline_s, fails, or wants what has been refused: the
    strongest legal move that has not, then a switch, at last the server's own choice.
    """
    decisions.count += 1
    decisions.failure = None
    try:
        order = as_sent(await asyncio.wait_for(_ask(player.choose_move, battle), deadline_s), battle)
    except (TimeoutError, asyncio.TimeoutError):  # two classes until Python 3.11
        why = "late"
    except Exception as error:  # noqa: BLE001 whatever is wrong with the player, the battle must go on
        logger.warning("%s could not decide in %s: %s", type(player).__name__, battle.battle_tag, _named(error))
        why = "failed"
        decisions.failure = error
    else:
        if order.message not in decisions.refused:
            return order, True
        why = "refused"
    decisions.fallbacks[why] += 1
    return fallback_order(battle, decisions.refused), False


async def decide_lead(player: Player, battle: Battle, decisions: Decisions, deadline_s: float) -> str:
    """The team's order at team preview, by the same rules."""
    decisions.count += 1
    try:
        message: str = await asyncio.wait_for(_ask(player.teampreview, battle), deadline_s)
    except Exception as error:  # noqa: BLE001 as above; a timeout, too
        logger.warning("%s chose no lead in %s: %s", type(player).__name__, battle.battle_tag, _named(error))
    else:
        if message not in decisions.refused:
            return message
    decisions.fallbacks["lead"] += 1
    return Player.choose_default_move().message


def fallback_order(battle: Battle, refused: set[str]) -> BattleOrder:
    """The strongest legal move, or else the first switch, whose message is not among the refused ones."""
    try:
        orders = [action_to_order(int(action), battle) for action in np.flatnonzero(legal_actions(battle))]
    except Exception as error:  # noqa: BLE001 a garbled message can have broken the battle that we hold
        logger.warning("leaving %s to the server's choice: %s", battle.battle_tag, _named(error))
        orders = []
    orders.sort(key=_power, reverse=True)
    allowed = (order for order in (as_sent(order, battle) for order in orders) if order.message not in refused)
    return next(allowed, Player.choose_default_move())


def _power(order: BattleOrder) -> int:
    if isinstance(order, SingleBattleOrder) and isinstance(order.order, Move):
        return order.order.base_power
    return -1


async def _ask(choose: Callable[[Battle], Any], battle: Battle) -> Any:
    """Calls it in a thread of its own: a player that computes without end must not stop all other battles."""
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

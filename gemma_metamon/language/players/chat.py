"""A chat model as a player: it is told the battle as it stands, and its answer is read as a choice.

Never an illegal choice leaves: an answer that names none of the legal choices is sent back once, with the reason, and
then the choice is made for the model. So it is where no answer comes. That is counted, and told in the results.
"""

import asyncio
import logging
import re
import weakref
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final

from poke_env.battle import AbstractBattle
from poke_env.concurrency import POKE_LOOP
from poke_env.player import BattleOrder, Player

from gemma_metamon.errors import ServerError
from gemma_metamon.language.players.endpoint import Answer, Endpoint, NoAnswerError, NotAskedError
from gemma_metamon.language.players.settings import ChatSettings
from gemma_metamon.language.players.told import ToldBattles
from gemma_metamon.language.telling.answers import AnswerError, parse_answer, split_answer, write_answer
from gemma_metamon.language.telling.prompts import Decision, messages_of
from gemma_metamon.showdown.live.battle import LiveBattle, live_battle
from gemma_metamon.showdown.live.deciding import fallback_order
from gemma_metamon.showdown.live.orders import order_to_action
from gemma_metamon.showdown.live.poke_env_hooks import FinishBattle, intercept_battle_end
from gemma_metamon.showdown.players.contestants import Contestant

logger = logging.getLogger(__name__)
UNREADABLE: Final = "no legal answer"
NO_ANSWER: Final = "no answer"
NOT_ASKED: Final = "not asked any more"
_SHOWN_BACK: Final = 2000
"""Characters of an answer that cannot be read that the model is shown again."""
_THINKING: Final = re.compile(r"\s*<think(?:ing)?>(.*?)</think(?:ing)?>", re.DOTALL)
"""How many models write what they think where the server leaves it in the answer."""


class ChatPlayer(Player):
    """Plays battles with a chat model.

    Args:
        endpoint: which is asked.
        player_options: poke-env's.
    """

    def __init__(self, endpoint: Endpoint, **player_options: Any) -> None:
        super().__init__(**player_options)
        self._endpoint = endpoint
        self._told = ToldBattles(endpoint.settings.history)
        intercept_battle_end(self, self._forget)

    async def choose_move(self, battle: AbstractBattle) -> BattleOrder:
        """The model's choice, or one made for it.

        Raises:
            ServerError: a battle on a server begins, and the model is not asked any more; for a battle that is no
                singles battle. In an arena no such battle begins.
        """
        live = live_battle(battle)
        ended = self._endpoint.ended
        if ended is not None and live.arena is None and not self._told.knows(battle.battle_tag):
            raise ServerError(ended)
        decision, options = self._told.decide(live), live.options  # both as they are now: chat may come meanwhile
        chosen = await self._action_for(live, decision)
        order = options[chosen] if chosen is not None else fallback_order(live, set())
        action = order_to_action(order, options)
        if action in decision.choices:
            self._told.chose(live, action)
        return order

    async def _action_for(self, live: LiveBattle, decision: Decision) -> int | None:
        """The model's action, None where it names none. Notes its thought."""
        live.speaks, live.thought = True, None
        if len(decision.choices) == 1:  # nobody needs to be asked
            live.thought = ""
            return next(iter(decision.choices))
        usage = self._endpoint.usage
        usage.decisions += 1
        try:
            action, live.thought = await self._answer(decision)
        except AnswerError as error:
            logger.debug("%s: %s", self._endpoint.settings.name, error)
            usage.fallbacks[UNREADABLE] += 1
        except NotAskedError:
            usage.fallbacks[NOT_ASKED] += 1
        except NoAnswerError as error:
            logger.warning("%s", error)
            usage.fallbacks[NO_ANSWER] += 1
        else:
            return action
        return None

    async def _answer(self, decision: Decision) -> tuple[int, str]:
        """The action that the model names, if need be at the second time of asking, and its thought.

        Raises:
            AnswerError: it names none.
            NoAnswerError: as `Endpoint.ask`.
        """
        messages = messages_of(decision, reasoning=self._endpoint.settings.reasoning)
        answer = await self._ask(messages)
        try:
            return _read(answer, decision)
        except AnswerError as error:
            self._endpoint.usage.repairs += 1
            why = f"it was cut off, say less: {error}" if answer.cut else str(error)
        repair = [
            {"role": "assistant", "content": answer.text[:_SHOWN_BACK].strip() or "..."},
            {"role": "user", "content": f"This answer cannot be used: {why}. Answer again."},
        ]
        return _read(await self._ask([*messages, *repair]), decision)

    async def _ask(self, messages: Sequence[dict[str, str]]) -> Answer:
        # in poke-env's own loop, which runs on while an arena's waits for its simulators
        asking = asyncio.run_coroutine_threadsafe(self._endpoint.ask(messages), POKE_LOOP)
        return await asyncio.wrap_future(asking)

    def _forget(self, battle: AbstractBattle, finish: FinishBattle) -> None:
        finish(battle)
        self._told.forget(battle.battle_tag)


def _read(answer: Answer, decision: Decision) -> tuple[int, str]:
    """The action and the thought of an answer. Raises AnswerError."""
    apart = [answer.thought, *_THINKING.findall(answer.text)]
    text = _THINKING.sub("", answer.text)
    action = parse_answer(text, decision.choices)
    reasoning, solution = split_answer(text)
    thought = reasoning or "\n".join(part.strip() for part in apart if part.strip())
    try:
        split_answer(write_answer(solution, thought))
    except AnswerError:  # what it thought apart from its answer can be anything, and would break the form of a lesson
        thought = ""
    return action, thought


def chat_model(settings: ChatSettings) -> Contestant:
    """A chat model under a name for the tables. It is called once, to see that it is there.

    Raises:
        ConfigError: there is no key where one was named, or its tokens are bounded and it does not count them.
        ServerError: the endpoint gives no answer.
    """
    endpoint = Endpoint(settings)
    # when nobody plays with it any more; at the end of the program the system closes what is open
    weakref.finalize(endpoint, _close, endpoint.close).atexit = False
    asyncio.run_coroutine_threadsafe(endpoint.check(), POKE_LOOP).result()
    return Contestant(settings.name, partial(ChatPlayer, endpoint), chat=endpoint)


def _close(close: Callable[[], Coroutine[Any, Any, None]]) -> None:
    if not POKE_LOOP.is_closed():
        asyncio.run_coroutine_threadsafe(close(), POKE_LOOP)

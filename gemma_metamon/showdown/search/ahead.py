"""Looking ahead in an arena, for all battles that wait: what they ask for goes to the workers together."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from gemma_metamon.errors import ServerError
from gemma_metamon.showdown.arena.arena import Arena, News, World


@dataclass(frozen=True, kw_only=True)
class Question:
    """How a seat's choices would go in some worlds.

    Attributes:
        battle: in play in the arena.
        seat: "p1" or "p2".
        worlds: W of them.
        choices: C of them, as `Arena.look_ahead` has them.
        turns: that each is followed for.
        times: that each is played in each world, with other dice.
    """

    battle: str
    seat: str
    worlds: Sequence[World]
    choices: Sequence[str]
    turns: int
    times: int = 1


Answer = Sequence[Sequence[float]]
"""(W, C): about the chance to win, in 0..1; empty where the battle is lost with its worker, and so to begin again."""


@dataclass
class _Waiting:
    """What was asked of one arena, with who waits for it; it goes out when the event loop turns."""

    asked: list[tuple[Question, "asyncio.Future[Answer]"]] = field(default_factory=list)
    sending: "asyncio.Task[None] | None" = None


_of_arenas: "WeakKeyDictionary[Arena, _Waiting]" = WeakKeyDictionary()
"""Nothing in it may hold an arena: it would stay with all that it has played."""


async def ask(arena: Arena, question: Question) -> Answer:
    """How the choices stand. All that is asked of an arena before the event loop turns goes out together.

    Raises ServerError where the simulator fails, ConfigError for a battle not in play.
    """
    waiting = _of_arenas.setdefault(arena, _Waiting())
    answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    waiting.asked.append((question, answer))
    if waiting.sending is None or waiting.sending.done():
        waiting.sending = asyncio.create_task(_send(arena, waiting))
    return await answer


async def _send(arena: Arena, waiting: _Waiting) -> None:
    asked, waiting.asked = [each for each in waiting.asked if not each[1].done()], []
    try:
        answers = _answers(arena, [question for question, _ in asked])
    except Exception as error:  # noqa: BLE001 whatever it is, it belongs to those who wait
        answers = [error] * len(asked)
    for (_, future), answer in zip(asked, answers, strict=True):
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)


def _answers(arena: Arena, questions: Sequence[Question]) -> list[Answer | Exception]:
    # the seats of a battle that went with its worker think on until they hear of it
    asked = {_name(question): question for question in questions if not arena.has_lost(question.battle)}
    for name, question in asked.items():
        arena.look_ahead(
            question.battle,
            name,
            seat=question.seat,
            worlds=question.worlds,
            choices=question.choices,
            turns=question.turns,
            times=question.times,
        )
    news = {each.battle: each for each in arena.settle(asked)}
    return [_answer(news[name]) if (name := _name(question)) in news else [] for question in questions]


def _name(question: Question) -> str:
    return f"{question.battle} ahead of {question.seat}"


def _answer(news: News) -> Answer | Exception:
    if news.worker_lost:
        return []
    return ServerError(str(news.lost)) if news.ahead is None else news.ahead

"""Looking ahead in an arena, for all battles that wait: what they ask for goes to the workers together."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from gemma_metamon.errors import ServerError
from gemma_metamon.showdown.arena.arena import Arena, News, World

_of_arenas: "WeakKeyDictionary[Arena, Ahead]" = WeakKeyDictionary()


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


def ahead_in(arena: Arena) -> "Ahead":
    """The one `Ahead` of this arena."""
    return _of_arenas.setdefault(arena, Ahead(arena))


@dataclass
class Ahead:
    """Asks an arena, for whoever plays in it. All that is asked before the event loop turns goes out together."""

    arena: Arena
    _asked: list[tuple[Question, "asyncio.Future[Answer]"]] = field(default_factory=list)
    _sending: "asyncio.Task[None] | None" = None

    async def ask(self, question: Question) -> Answer:
        """How the choices stand. Raises ServerError where the simulator fails, ConfigError for a battle not in play."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asked.append((question, answer))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send())
        return await answer

    async def _send(self) -> None:
        asked, self._asked = [each for each in self._asked if not each[1].done()], []
        try:
            answers = self._ask_arena([question for question, _ in asked])
        except Exception as error:  # noqa: BLE001 whatever it is, it belongs to those who wait
            answers = [error] * len(asked)
        for (_, future), answer in zip(asked, answers, strict=True):
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    def _ask_arena(self, questions: Sequence[Question]) -> list[Answer | Exception]:
        # the seats of a battle that went with its worker think on until they hear of it
        asked = {_name(question): question for question in questions if not self.arena.has_lost(question.battle)}
        for name, question in asked.items():
            self.arena.look_ahead(
                question.battle,
                name,
                seat=question.seat,
                worlds=question.worlds,
                choices=question.choices,
                turns=question.turns,
                times=question.times,
            )
        news = {each.battle: each for each in self.arena.settle(asked)}
        return [_answer(news[name]) if (name := _name(question)) in news else [] for question in questions]


def _name(question: Question) -> str:
    return f"{question.battle} ahead of {question.seat}"


def _answer(news: News) -> Answer | Exception:
    if news.worker_lost:
        return []
    return ServerError(str(news.lost)) if news.ahead is None else news.ahead

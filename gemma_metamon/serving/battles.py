"""The battles that are remembered between requests, so many and no more: the one that was asked of longest ago goes.

Their logs, too, have a bound that they share, so that long battles take no more memory than many.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from gemma_metamon.battle.actions import get_action_space
from gemma_metamon.battle.replays import N_RECORDED_ACTIONS
from gemma_metamon.battle.state import BattleState
from gemma_metamon.errors import DataError
from gemma_metamon.language.telling.answers import TERASTALLIZE, choice_names
from gemma_metamon.serving.asked import BattleAsked, StatesAsked
from gemma_metamon.serving.refusals import RefusedError
from gemma_metamon.serving.seats import Judged, ServedPlayer, ServedSeat, numbers_of, served_player
from gemma_metamon.showdown.players.ensembles import BattleSession
from gemma_metamon.showdown.players.policies import Policy

SPARE: Final = 16
"""Rows of the policy's memory beside those of the battles: for observations, which are asked of once."""

_LINES_EACH: Final = 8000
"""Of the logs of the remembered battles, on the average: some hundreds of turns. A line can take 300 bytes."""
_FORGETTING: Final = 1000
"""After so many requests the words that nobody knew are forgotten: anybody can send ever more of them."""


class _Entry:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.seat: ServedSeat | None = None
        self.users = 0


class Battles:
    """Answers what is asked, and remembers the battles. All calls come from one event loop.

    Args:
        policy: which decides, with memory for `most` + SPARE battles.
        most: battles remembered at a time.
        seed: of what is drawn.

    Attributes:
        most_lines: of the logs of those battles together.
        on_reread: is called where a log is read anew though its battle was remembered.
    """

    def __init__(self, policy: Policy[Any, Any], most: int, seed: int = 0) -> None:
        self.policy = policy
        self.most = most
        self.most_lines = most * _LINES_EACH
        self.on_reread: Callable[[], None] = lambda: None
        self._seed = seed
        self._entries: OrderedDict[tuple[str, str], _Entry] = OrderedDict()
        self._players: dict[int, ServedPlayer] = {}
        self._begun = self._asked = 0
        self._spare = asyncio.Semaphore(SPARE)

    def __len__(self) -> int:
        return len(self._entries)

    async def answer(self, asked: BattleAsked | StatesAsked) -> dict[str, Any]:
        """The choice, and what is thought of each legal one.

        Raises:
            DataError: what is asked cannot be followed.
            RefusedError: there is no room for another battle, or everything that can be sent was refused.
        """
        self._asked += 1
        if self._asked % _FORGETTING == 0:
            self.policy.forget_unknown_words()
        if isinstance(asked, StatesAsked):
            async with self._spare:
                return await self._answer_states(asked)
        key = (asked.battle, asked.user)
        entry = self._entry(key)
        entry.users += 1
        try:
            async with entry.lock:
                return await self._answer_battle(entry, asked)
        except BaseException:
            if self._entries.get(key) is entry and entry.users == 1:  # what failed half-way is no memory
                self._drop(key)
            raise
        finally:
            entry.users -= 1
            self._drop_lines()

    def close(self) -> None:
        """Forgets all battles."""
        for key in [*self._entries]:
            self._drop(key)

    async def _answer_battle(self, entry: _Entry, asked: BattleAsked) -> dict[str, Any]:
        if entry.seat is not None:
            try:
                if entry.seat.continues(asked.lines) and await entry.seat.read(asked.lines):
                    return await entry.seat.answer(asked.request, is_read=asked.is_in_log)
            except BaseException:
                self._close(entry)
                raise
            self.on_reread()
            self._close(entry)
        self._begun += 1
        tag = f"battle-{asked.battle_format}-{self._begun}"
        seat = entry.seat = ServedSeat(self._player(asked.battle_format), tag, asked.user, self._seed, asked.battle)
        try:
            if not await seat.read(asked.lines):
                raise DataError("log holds two choices for one request; leave the one that the server took")
            return await seat.answer(asked.request, is_read=asked.is_in_log)
        except BaseException:
            self._close(entry)
            raise

    async def _answer_states(self, asked: StatesAsked) -> dict[str, Any]:
        session = self.policy.open_session()
        try:
            *before, last = asked.states
            for i, (state, action) in enumerate(zip(before, asked.actions, strict=True)):
                legal = _legal(state, None)
                if not legal[action]:
                    raise DataError(f"observation.actions[{i}] is {action}, which its state has no move or Pokémon for")
                await self.policy.consider(session, state, legal)
                session.note(state, action)
            legal = _legal(last, asked.legal)
            names = choice_names(last, np.flatnonzero(legal).tolist())
            action, probs = await self.policy.consider(session, last, legal)
        finally:
            self.policy.close_session(session)
        judged = Judged(probs, session.values if isinstance(session, BattleSession) else None)
        choices = [
            {"choice": _by_name(name), "name": name, "action": each, **numbers_of(each, judged)}
            for each, name in names.items()
        ]
        return {"choice": _by_name(names[action]), "choices": choices, "decisions": len(asked.states)}

    def _entry(self, key: tuple[str, str]) -> _Entry:
        entry = self._entries.get(key)
        if entry is None:
            if len(self._entries) >= self.most:
                idle = next((key for key, each in self._entries.items() if not each.users), None)
                if idle is None:
                    raise RefusedError(
                        503,
                        f"all {self.most} battles that are remembered are being decided; ask again",
                        retry_after_s=1,
                    )
                self._drop(idle)
            entry = self._entries[key] = _Entry()
        self._entries.move_to_end(key)
        return entry

    def _drop_lines(self) -> None:
        """Forgets the battles that were asked of longest ago, but for the last one, until the rest have few lines."""
        lines = {key: each.seat.n_lines for key, each in self._entries.items() if each.seat is not None}
        total = sum(lines.values())
        for key in [*self._entries][:-1]:
            if total <= self.most_lines:
                return
            if not self._entries[key].users:
                total -= lines.get(key, 0)
                self._drop(key)

    def _drop(self, key: tuple[str, str]) -> None:
        self._close(self._entries.pop(key))

    @staticmethod
    def _close(entry: _Entry) -> None:
        seat, entry.seat = entry.seat, None
        if seat is not None:
            seat.close()

    def _player(self, battle_format: str) -> ServedPlayer:
        gen = int(battle_format[3])
        if gen not in self._players:
            self._players[gen] = served_player(self.policy, gen)
        return self._players[gen]


def _legal(state: BattleState, actions: list[int] | None) -> Any:
    """(13,) bool, True where an action is legal: one of these, or what the state has a move or a Pokémon for."""
    if actions is not None:
        legal = np.zeros(N_RECORDED_ACTIONS, dtype=np.bool_)
        legal[actions] = True
        return legal
    legal = get_action_space("DefaultActionSpace").legal(state)
    if not legal.any():
        raise DataError("observation holds a state without a move or a Pokémon to switch to; give `legal`")
    return legal


def _by_name(name: str) -> str:
    """A choice as Showdown takes it: "move Body Slam, Terastallize" is "move bodyslam terastallize"."""
    verb, _, rest = name.partition(" ")
    named, tera = rest.removesuffix(TERASTALLIZE), rest.endswith(TERASTALLIZE)
    word = "".join(char for char in named.lower() if char.isalnum())
    return f"{verb} {word}{' terastallize' if tera else ''}"

"""A battle of somebody else's, followed as a seat of an arena follows one of ours, and answered as that seat answers.

So the state, the options and the choice are derived as in play. What is told besides, the probabilities and values, is
overheard where the player settles on its choice.
"""

import asyncio
import hashlib
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from poke_env.battle import Battle
from poke_env.player import SingleBattleOrder

from gemma_metamon.battle.state import BattleState
from gemma_metamon.errors import DataError, ServerError
from gemma_metamon.language.players.text import TextPlayer, TextPolicy
from gemma_metamon.language.players.told import live_choices
from gemma_metamon.serving.refusals import RefusedError
from gemma_metamon.showdown.arena.seeds import dice
from gemma_metamon.showdown.live.battle import LiveBattle, live_battle
from gemma_metamon.showdown.live.deciding import is_refusal
from gemma_metamon.showdown.live.orders import as_sent, order_to_action
from gemma_metamon.showdown.matches.arena_seats import ArenaSeat
from gemma_metamon.showdown.players.ensembles import BattleSession
from gemma_metamon.showdown.players.policies import Policy
from gemma_metamon.showdown.players.policy_player import PolicyPlayer
from gemma_metamon.showdown.players.registry import connection
from gemma_metamon.strict_json import on_one_line, shown

_SENT: Final = ("/choose ", "/team ", "/forfeit")
_FOR_A_MOVE: Final = re.compile(r'"active"\s*:\s*\[')
_ERROR: Final = "|error|"
_BETWEEN: Final = {
    "", "t:", "c", "c:", "chat", "j", "J", "l", "L", "n", "N", "join", "leave", "name", "inactive", "inactiveoff",
    "raw", "html", "uhtml", "uhtmlchange", "request", "bigerror", "expire", "title", "init", "deinit",
}  # fmt: skip
"""Kinds of lines that may come while a choice is awaited; with any other the battle goes on."""
_AT_A_TIME: Final = 200
"""So many lines are read before others have their turn, or lines of so many characters."""
_CHARACTERS_AT_A_TIME: Final = 64 * 1024
MOST_POKEMON: Final = 24
"""Of a player, as in Showdown's largest teams. poke-env has no bound of its own where a log has no |teamsize|."""
_silent = logging.getLogger("gemma_metamon.serving.poke_env")
_silent.setLevel(logging.CRITICAL + 1)


@dataclass(frozen=True)
class Judged:
    """What a policy thought of all actions (13,) at a decision: probabilities, and values where it has critics."""

    probs: npt.NDArray[np.float32]
    values: npt.NDArray[np.float32] | None


class ServedPlayer(PolicyPlayer):
    """A policy's player, whose thoughts are overheard, and who can be told what it chose when it was somebody else."""

    def __init__(self, policy: Policy[Any, Any], **player_options: Any) -> None:
        super().__init__(policy, **player_options)
        self.judged: dict[str, Judged] = {}
        self.taken: dict[str, int] = {}

    async def settle_on(self, live: LiveBattle, action: int, probs: npt.NDArray[np.float32]) -> int:
        """The policy's action, or the one that is known to have been taken."""
        settled = await super().settle_on(live, action, probs)
        tag = live.battle.battle_tag
        session = self._sessions[tag]
        self.judged[tag] = Judged(probs, session.values if isinstance(session, BattleSession) else None)
        return self.taken.pop(tag, settled)

    def forget(self, tag: str) -> None:
        """Nothing more of this battle will be asked."""
        self.judged.pop(tag, None)
        self.taken.pop(tag, None)


class ServedTextPlayer(ServedPlayer, TextPlayer):
    """The same of a model that answers in words."""


def served_player(policy: Policy[Any, Any], gen: int) -> ServedPlayer:
    """The player of all battles of a generation that are served."""
    kind = ServedTextPlayer if isinstance(policy, TextPolicy) else ServedPlayer
    connected = connection("served", battle_format=f"gen{gen}ou", websocket_url="ws://nowhere", team=None)
    return kind(policy, **connected, start_listening=False)


class ServedSeat:
    """One player's side of a battle that is told by its log.

    Args:
        player: who chooses.
        tag: the battle's name here, "battle-gen1ou-12", which no other one has.
        user: the name of the player in the battle.
        seed: of what is drawn in it.
        name: the battle's own name, which what is drawn follows from.
    """

    def __init__(self, player: ServedPlayer, tag: str, user: str, seed: int, name: str) -> None:
        gen = int(tag.split("-")[1][3])
        battle = Battle(battle_tag=tag, username=user, logger=_silent, gen=gen)
        self._player, self._tag = player, tag
        self._seat = ArenaSeat(tag, player, dice(seed, "served", name, user), battle=battle)
        self._live = live_battle(battle)
        self._digest = hashlib.blake2b()
        self.n_lines = 0
        """How many of its log it has read."""
        self._request: Any = None
        self._request_line = ""
        self._message = ""
        self._choices: list[dict[str, Any]] = []
        self.decisions = 0
        """How many it has made, or was told of."""

    def continues(self, lines: Sequence[str]) -> bool:
        """Whether a log begins with all that has been read."""
        if len(lines) < self.n_lines:
            return False
        return bool(_digest(lines[: self.n_lines]).digest() == self._digest.digest())

    async def read(self, lines: Sequence[str]) -> bool:
        """Reads a log that continues what has been read, deciding anew where something had to be decided.

        Returns:
            False where the log says that something else was sent than was answered here: then it must be read anew, by
            another seat.

        Raises:
            DataError: the battle cannot be followed.
        """
        leads, read = _requests_lead(lines), 0
        for line in lines[self.n_lines :]:
            if line.startswith(_SENT):
                if not await self._note_sent(line):
                    return False
            elif line.startswith("|"):
                if self._seat.is_asked and self._is_answered_before(line, leads):
                    await self._decide()
                self._read_line(line)
            self._digest.update(_marked(line))
            self.n_lines += 1
            read += len(line)
            if self.n_lines % _AT_A_TIME == 0 or read > _CHARACTERS_AT_A_TIME:
                read = 0
                self._live.forget_messages()
                await asyncio.sleep(0)
        return True

    async def answer(self, request: dict[str, Any], *, is_read: bool) -> dict[str, Any]:
        """The answer to a request, which stands at the end of what was read.

        Args:
            request: as the simulator sends it.
            is_read: whether the log held it.

        Raises:
            DataError: request and log do not fit together, or the battle is over.
            RefusedError: everything that can be sent has been refused.
        """
        if not is_read and request != self._request:
            self._follow([f"|request|{json.dumps(request)}"])
        is_same, self._request = request == self._request, request
        if self._seat.battle.finished:
            raise DataError("log tells how the battle ended; ask only while it is played")
        if self._seat.is_asked:
            await self._decide()
        elif not (is_same and self._message):
            raise DataError("request was answered before, as the log says; ask at the next one")
        choice = self._message.removeprefix("/choose ").removeprefix("/")
        named = next((each["choice"] for each in self._choices if each["order"] == self._message), choice)
        return {"choice": named, "order": self._message, "choices": self._choices, "decisions": self.decisions}

    def close(self) -> None:
        """Nothing more will be asked of it."""
        self._seat.abandon()
        self._player.forget(self._tag)

    async def _note_sent(self, line: str) -> bool:
        message = line.partition("|")[0].strip()
        if not self._seat.is_asked:
            return self._message in ("", message)
        if message.startswith("/choose ") and not self._seat.battle.teampreview:
            self._look()
            order = as_sent(SingleBattleOrder(message), self._seat.battle)
            action = order_to_action(order, self._live.options)
            if action >= 0:
                self._player.taken[self._tag] = action
        await self._decide()
        self._message = message
        return True

    def _is_answered_before(self, line: str, leads: bool) -> bool:
        if line.startswith(_ERROR):
            return is_refusal(line.removeprefix(_ERROR))
        if leads:
            return line.startswith("|request|{") and line != self._request_line
        return line[1:].partition("|")[0] not in _BETWEEN

    async def _decide(self) -> None:
        if not self._seat.battle.teampreview:
            self._look()
        try:
            self._message = await self._seat.answer()
        except ServerError as error:
            if error.__cause__ is None:
                raise RefusedError(409, on_one_line(error)) from error
            if self._seat.battle.teampreview:
                raise DataError(
                    f"request names no team to choose a lead from ({type(error.__cause__).__name__})"
                ) from error
            raise
        finally:
            self._player.taken.pop(self._tag, None)
        self.decisions += 1
        self._choices = [] if self._seat.battle.teampreview else self._judged_choices()
        self._live.forget_messages()

    def _judged_choices(self) -> list[dict[str, Any]]:
        judged, names = self._player.judged.get(self._tag), live_choices(self._live)
        return [
            {
                "choice": _written(order.message, action, self._seat.battle),
                "order": order.message,
                "name": names[action],
                "action": action,
                **numbers_of(action, judged),
            }
            for action, order in self._live.options.items()
        ]

    def _look(self) -> None:
        """Raises DataError where log and request give no state of a battle."""
        try:
            state = self._live.state
            live_choices(self._live)
            BattleState.from_dict(state.to_dict())  # which looks at the range of every number
        except Exception as error:
            raise DataError(
                f"request and log give no state of a battle ({on_one_line(f'{type(error).__name__}: {error}')}); give "
                "the whole log up to the request"
            ) from error

    def _read_line(self, line: str) -> None:
        if line.startswith("|gametype|") and line != "|gametype|singles":
            raise DataError(f"log tells of {shown(line)}; only singles can be played")
        self._follow([line])

    def _follow(self, messages: Sequence[str]) -> None:
        if messages[-1].startswith("|request|{"):
            self._request_line = messages[-1]
        try:
            self._seat.read(messages)
        except Exception as error:
            raise DataError(f"log cannot be followed at {shown(messages[-1])} ({type(error).__name__})") from error
        if self._seat.given_up is not None:
            raise DataError(f"log cannot be followed at {shown(messages[-1])} ({self._seat.given_up})")
        battle = self._seat.battle
        if max(map(len, (battle.team, battle.opponent_team, battle.teampreview_opponent_team))) > MOST_POKEMON:
            raise DataError(f"log has more than {MOST_POKEMON} Pokémon of one player, up to {shown(messages[-1])}")


def numbers_of(action: int, judged: Judged | None) -> dict[str, float | None]:
    """The probability and the value of an action; None of what nobody thought of.

    Raises FloatingPointError where one is no number.
    """
    found: dict[str, float | None] = {"probability": None, "value": None}
    if judged is not None:
        for name, numbers in (("probability", judged.probs), ("value", judged.values)):
            if numbers is not None and action < len(numbers):
                found[name] = float(numbers[action])
                if not np.isfinite(numbers[action]):
                    raise FloatingPointError(f"the agent's {name} of action {action} is no number")
    return found


def _written(message: str, action: int, battle: Battle) -> str:
    """An order as a choice of Showdown's that a reader knows: the move by its id, the Pokémon by its place."""
    words = message.removeprefix("/choose ").split(" ")
    active = battle.last_request.get("active")
    if words[0] == "move" and active and words[1].isdigit():
        words[1] = str(active[0]["moves"][int(words[1]) - 1]["id"])
    return " ".join(words)


def _requests_lead(lines: Sequence[str]) -> bool:
    """Whether the requests stand before the turns that they are of, as a server sends them, or behind."""
    for line in lines:
        if line.startswith("|turn|"):
            return False
        if line.startswith("|request|{") and _FOR_A_MOVE.search(line):
            return True
    return False


def _marked(line: str) -> bytes:
    return line.encode("utf-8", "replace") + b"\n"


def _digest(lines: Sequence[str]) -> Any:
    digest = hashlib.blake2b()
    for line in lines:
        digest.update(_marked(line))
    return digest

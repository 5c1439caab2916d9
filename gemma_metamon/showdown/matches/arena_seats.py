"""One player's side of a battle in an arena: it is told what a player on a server is told, and answers as one does.

poke-env's battle reads the messages, as it does behind a connection; the player is asked for its choices, and has none.
"""

import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from poke_env.battle import Battle
from poke_env.data import GenData
from poke_env.player import BattleOrder, ForfeitBattleOrder, Player

from gemma_metamon.errors import GemmaMetamonError, ServerError
from gemma_metamon.showdown.arena.arena import Arena
from gemma_metamon.showdown.live.battle import NOT_FED, live_battle
from gemma_metamon.showdown.live.deciding import Answers, decide, decide_lead, is_refusal
from gemma_metamon.showdown.live.door import give_up
from gemma_metamon.showdown.live.poke_env_hooks import end_battle
from gemma_metamon.showdown.live.recording import Recorder
from gemma_metamon.showdown.matches.tallies import Choices
from gemma_metamon.strict_json import on_one_line

FORFEIT = ForfeitBattleOrder().message


class ArenaSeat:
    """A seat of one battle, from its first message to its end.

    Args:
        tag: "battle-gen1ou-12".
        player: makes the choices; made with `start_listening=False`.
        dice: what the player draws in this battle; for poke-env's own players the global generator is put into its
            place while they choose.
        recorder: is told of every request, of what is sent for it, and of the end; None records nothing.
        arena: for players that look ahead in it.
        battle: poke-env's, which has read the messages so far; None of a battle that begins.
    """

    def __init__(
        self,
        tag: str,
        player: Player,
        dice: random.Random,
        recorder: Recorder | None = None,
        arena: Arena | None = None,
        *,
        battle: Battle | None = None,
    ) -> None:
        gen = GenData.from_format(player.format).gen
        self.player = player
        self.battle = battle or Battle(battle_tag=tag, username=player.username, logger=player.logger, gen=gen)
        self.choices = Choices()
        self.is_asked = False
        """Whether an answer is awaited."""
        self.given_up: str | None = None
        """Why poke-env cannot follow the battle."""
        self._live = live_battle(self.battle)
        self._live.dice = self._dice = dice
        self._live.arena = arena
        self._answers = Answers(tag)
        self._recorder = recorder

    def read(self, messages: Sequence[str]) -> None:
        """Reads what the seat was told. After something that poke-env cannot follow, the end alone is read."""
        for message in messages:
            kind, _, rest = message[1:].partition("|")
            if kind == "request":
                self._read_request(rest)
            elif kind == "error":
                self._read_error(rest)
            else:
                for line in message.split("\n"):
                    self._read_line(line)

    async def answer(self) -> str:
        """What the seat sends: "/choose move 2", "/team 213456" or "/forfeit".

        Raises ServerError where the player fails, or all that it can send has been refused.
        """
        self.is_asked = False
        if self.given_up is not None:
            return FORFEIT
        if self.battle.teampreview:
            lead = self._with_dice(self.player.teampreview)
            message = await decide_lead(lead, self.battle, self._answers.decisions, None)
            self._take(message)
            return message
        if self._recorder is None:
            return (await self._decide()).message
        return (await self._recorder.follow(self._live, self._decide)).message

    def end(self) -> None:
        """The battle is over: tells the recorder, and the player, which forgets it."""
        if self.given_up is not None:
            give_up(self.player, self.battle.battle_tag, self.given_up)
        if self._recorder is not None:
            self._recorder.note_end(self._live, followed=self.given_up is None)
        end_battle(self.player, self.battle)

    def abandon(self) -> None:
        """The battle is lost, and another seat will play it from its beginning."""
        if self._recorder is not None:
            self._recorder.forget(self.battle)
        end_battle(self.player, self.battle)

    async def _decide(self) -> BattleOrder:
        began = time.perf_counter()
        order = await decide(self._with_dice(self.player.choose_move), self._live, self._answers.decisions, None)
        self.choices.sent += 1
        self.choices.latencies_ms.append(1000 * (time.perf_counter() - began))
        self._take(order.message)
        return order

    def _take(self, message: str) -> None:
        failure = self._answers.decisions.failure
        if failure is not None:
            who = f"{self.battle.player_username} failed on {self.battle.battle_tag}"
            raise ServerError(f"{who}: {type(failure).__name__}: {failure}") from failure
        self._answers.note(message)

    def _with_dice(self, choose: Callable[[Battle], Any]) -> Callable[[Battle], Any]:
        def chosen(battle: Battle) -> Any:
            with drawing_with(self._dice):
                return choose(battle)

        return chosen

    def _read_request(self, text: str) -> None:
        if not text or text == "null":
            return
        request = json.loads(text)
        self.is_asked = not request.get("wait")
        self._follow(lambda: self.battle.parse_request(request))
        self._answers.begin(request.get("rqid"))

    def _read_error(self, text: str) -> None:
        if is_refusal(text) and self._answers.refuse():
            self.choices.refused += 1
            self.is_asked = True  # after an unavailable choice a new request comes besides

    def _read_line(self, line: str) -> None:
        kind, _, rest = line[1:].partition("|")
        if kind == "win":
            self._follow(lambda: self.battle.won_by(rest), ends=True)
        elif kind == "tie":
            self._follow(self.battle.tied, ends=True)
        elif line.startswith("|") and kind not in NOT_FED:
            self._follow(lambda: self.battle.parse_message(line.split("|")))

    def _follow(self, read: Callable[[], Any], *, ends: bool = False) -> None:
        if self.given_up is not None and not ends:
            return
        try:
            read()
        except (GemmaMetamonError, OSError):
            raise
        except Exception as error:  # noqa: BLE001 poke-env fails in many ways on what it does not know
            self.given_up = self.given_up or on_one_line(f"{type(error).__name__}: {error}")[:100]
            self.is_asked = True  # to give up


@contextmanager
def drawing_with(dice: random.Random) -> Iterator[None]:
    """What draws from Python's global generator draws from these dice meanwhile."""
    before = random.getstate()
    random.seed(dice.getrandbits(64))
    try:
        yield
    finally:
        random.setstate(before)

"""Plays battles on a server; a refused team, format or name, a lost connection or silence is an error.

poke-env alone waits for ever for a battle that cannot start: the server says why in a popup message, which poke-env
only logs. A battle that poke-env cannot follow, because of a Pokémon or a move that it does not know, is given up and
noted as `given_up`; the others go on.
"""

import asyncio
import re
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from poke_env.player import Player

from gemma_metamon.errors import GemmaMetamonError, ServerError
from gemma_metamon.showdown.live.battle_progress import count_progress
from gemma_metamon.showdown.live.door import give_up, given_up, open_door
from gemma_metamon.showdown.live.poke_env_hooks import (
    ReceiveMessage,
    close_connection,
    intercept_messages,
    is_listening,
    start_listening,
)
from gemma_metamon.strict_json import on_one_line

SILENCE_TIMEOUT_S = 60.0
LOGIN_TIMEOUT_S = 90.0
_POLL_S = 0.1
_LOGIN_AND_CHALLENGES = ("|challstr|", "|updateuser|", "|updatechallenges|")


class _Watch:
    """What a player's connection received: the time of the last message that shows progress, refusals, failures."""

    def __init__(self, player: Player) -> None:
        self.door = open_door(player)
        self.player = player
        self.began_at = self.heard_at = time.monotonic()
        self.popups: list[str] = []
        self.failure: tuple[str, Exception] | None = None
        self.stop = intercept_messages(player, self._on_message)

    async def _on_message(self, message: str, receive: ReceiveMessage) -> None:
        progress = _shows_progress(message)
        if progress:
            self.heard_at = time.monotonic()
        if message.startswith("|popup|"):
            self.popups.append(plain(message.removeprefix("|popup|")))
        if message.startswith("|nametaken|"):
            self.popups.append(message.split("|", 3)[3])
            return
        try:
            await receive(message)
        except Exception as error:  # noqa: BLE001 whatever it is, `check` raises it where the battles are awaited
            # a slow login has a deadline of its own
            if not message.startswith("|challstr|") and not await self._give_up(message, error, receive):
                self.failure = (message.split("\n")[0].removeprefix(">"), error)
        if progress:  # the decision may have taken a long time
            self.heard_at = time.monotonic()

    async def _give_up(self, message: str, error: Exception, receive: ReceiveMessage) -> bool:
        """Ends the battle of a message that poke-env cannot follow. False where something else has failed."""
        tag, *lines = message.removeprefix(">").split("\n")
        battle = self.player.battles.get(tag)
        begins = given_up(self.player, tag) is None
        own = error is self.door.failure or isinstance(error, (GemmaMetamonError, OSError))
        if battle is None or (begins and (own or battle.finished)):
            return False
        ends = [line for line in lines if line == "|tie" or line.startswith(("|win|", "|tie|"))]
        try:
            if begins:
                give_up(self.player, tag, on_one_line(f"{type(error).__name__}: {error}")[:100])
                await self.player.ps_client.send_message("/forfeit", tag)
            if ends and not battle.finished:  # it stood behind what could not be followed
                await receive(f">{tag}\n{ends[0]}")
        except Exception:  # noqa: BLE001 whatever it is, the first error is told
            return False
        return True

    def check_failure(self) -> None:
        """Raises ServerError where a message could not be dealt with: by the player, the disk, or poke-env."""
        if self.failure is None:
            return
        where, error = self.failure
        words = f"{where}: {type(error).__name__}: {error}"
        if isinstance(error, OSError) and error.filename is not None:
            raise ServerError(
                f"{where} could not be written down ({error.filename}: {error.strerror}); make room there, or name "
                f"another folder"
            ) from error
        if error is self.door.failure or isinstance(error, GemmaMetamonError):
            raise ServerError(f"{self.player.username} failed on {words}") from error
        raise ServerError(f"poke-env cannot follow {words}; play another format than {self.player.format}") from error

    def check(self) -> None:
        """Raises ServerError for whatever will not get better by waiting."""
        name, client = self.player.username, self.player.ps_client
        for popup in self.popups:
            if "rejected" in popup:
                raise ServerError(f"the server refused {name}'s team for {self.player.format}: {popup}")
            if re.search("format is invalid|was not found|not accepting challenges|already using the name", popup):
                raise ServerError(f"the server refused {name}: {popup}")
        self.check_failure()
        if not is_listening(self.player):
            if client.logged_in.is_set():
                raise ServerError(f"{name} lost the connection to {client.websocket_url}")
            raise ServerError(f"{name} cannot connect to {client.websocket_url}; is a Showdown server running there?")
        if not client.logged_in.is_set() and time.monotonic() - self.began_at > LOGIN_TIMEOUT_S:
            raise ServerError(
                f"{client.websocket_url} did not let {name} in within {LOGIN_TIMEOUT_S:g} s; the name may be taken"
            )


def _shows_progress(message: str) -> bool:
    """Whether a login, a challenge or a battle goes on with it. Refusals and chat may come for ever."""
    if not message.startswith(">battle-"):
        return message.startswith(_LOGIN_AND_CHALLENGES) or (message.startswith("|pm|") and "/challenge" in message)
    lines = message.split("\n")[1:]
    return count_progress(lines) > 0 or any(line.startswith(("|init|", "|request|{")) for line in lines)


async def play_pair(player: Player, opponent: Player, n_battles: int, *, timeout_s: float = SILENCE_TIMEOUT_S) -> None:
    """Plays n_battles between two players of one server, as many at a time as they were made for.

    The first player challenges: it is the simulator's p1. The results are in the players' own counts
    (`n_won_battles`, ...), which include battles from before an error and those that were given up.

    Raises ServerError where a name, a format or a team is refused (with the server's words), a player fails or loses
    its connection, or the server is silent for timeout_s; the battles still going on are then given up.
    """
    both = f"{player.username} and {opponent.username}"
    await _watched(
        player.battle_against(opponent, n_battles=n_battles),
        [player, opponent],
        timeout_s,
        lambda: f"{both} heard nothing from the server for {timeout_s:g} s",
    )


async def play_outside(
    player: Player, username: str, n_battles: int, *, accept: bool = False, timeout_s: float = SILENCE_TIMEOUT_S
) -> None:
    """Plays n_battles against whoever has that name on the player's server. Results and errors are as of `play_pair`.

    Args:
        player: ours.
        username: of somebody that another program connects.
        n_battles: how many.
        accept: whether to wait for the other's challenges; otherwise we challenge.
        timeout_s: how long to wait for an answer to a challenge, or for a move.
    """

    def silence() -> str:
        if player.n_finished_battles < len(player.battles):
            return f"{username} made no move for {timeout_s:g} s"
        missing = f"did not challenge {player.username}" if accept else f"did not take up {player.username}'s challenge"
        return f"{username} {missing} to {player.format} within {timeout_s:g} s"

    play = player.accept_challenges if accept else player.send_challenges
    await _watched(play(username, n_battles), [player], timeout_s, silence)


async def _watched(
    battles: Coroutine[Any, Any, None], players: Sequence[Player], timeout_s: float, silence: Callable[[], str]
) -> None:
    """Awaits these players' battles. Raises ServerError for what _Watch finds, and for silence with these words."""
    watches = [_Watch(player) for player in players]
    for player in players:
        start_listening(player)
    running = asyncio.ensure_future(battles)
    try:
        while not (await asyncio.wait({running}, timeout=_POLL_S))[0]:
            for watch in watches:
                watch.check()
            if time.monotonic() - max(watch.heard_at for watch in watches) > timeout_s:
                popups = " / ".join(popup for watch in watches for popup in watch.popups) or "nothing"
                raise ServerError(f"{silence()}; popups before: {popups}")
        await running
        for watch in watches:
            watch.check_failure()  # of the last battle's end
        # not after a failure: asyncio would print the errors of battles that were given up
        for watch in watches:
            watch.stop()
    finally:
        running.cancel()
        await asyncio.wait({running})


async def disconnect(*players: Player) -> None:
    """Closes the players' connections. Without it the server goes on to treat their names as taken."""
    for player in players:
        await close_connection(player)


def plain(popup: str) -> str:
    """A popup's text in one line: in the message, "||" is a line break, and "- " begins a list item."""
    parts = [part.strip().removeprefix("- ") for part in re.split(r"\|\||\n", popup)]
    return "; ".join(part for part in parts if part).replace(":;", ":")

"""Battles between two connected players, watched: a refused team, a lost connection or silence is an error.

poke-env alone waits for ever for a battle that cannot start: the server refuses a team by a popup and says no more.
"""

import asyncio
import re
import time
from typing import Any

from poke_env.player import Player

from gemma_metamon.errors import ServerError

SILENCE_TIMEOUT_S = 60.0
_POLL_S = 0.1


class _Watch:
    """What a player's connection received besides battles: the time of the last message, popups, failures."""

    def __init__(self, player: Player) -> None:
        self.player = player
        self.heard_at = time.monotonic()
        self.popups: list[str] = []
        self.failure: tuple[str, Exception] | None = None
        self._receive: Any = player.ps_client._handle_message
        player.ps_client._handle_message = self._handle_message  # type: ignore[method-assign]

    async def _handle_message(self, message: str) -> None:
        self.heard_at = time.monotonic()
        if message.startswith("|popup|"):
            self.popups.append(_plain(message.removeprefix("|popup|")))
        try:
            await self._receive(message)
        except Exception as error:
            self.failure = (message.split("\n")[0].removeprefix(">"), error)
            raise
        self.heard_at = time.monotonic()

    def stop(self) -> None:
        self.player.ps_client._handle_message = self._receive  # type: ignore[method-assign]

    def check(self) -> None:
        """Raises ServerError for what no amount of waiting mends."""
        for popup in self.popups:
            if "rejected" in popup:
                raise ServerError(f"the server refused {self.player.username}'s team for {self.player.format}: {popup}")
        if self.failure is not None:
            where, error = self.failure
            raise ServerError(f"{self.player.username} failed on {where}: {type(error).__name__}: {error}") from error
        if self.player.ps_client._listening_coroutine.done():
            raise ServerError(f"{self.player.username} lost the connection to {self.player.ps_client.websocket_url}")


async def play_pair(player: Player, opponent: Player, n_battles: int, *, timeout_s: float = SILENCE_TIMEOUT_S) -> None:
    """Plays n_battles between two players of one server, as many at a time as they were made for.

    Results are in the players' own counts (`n_won_battles`, ...). Raises ServerError where a team is refused (with the
    server's words), a player fails or loses its connection, or nothing is heard for timeout_s; the battles still going
    on are then given up.
    """
    watches = [_Watch(player), _Watch(opponent)]
    battles = asyncio.ensure_future(player.battle_against(opponent, n_battles=n_battles))
    try:
        while not (await asyncio.wait({battles}, timeout=_POLL_S))[0]:
            for watch in watches:
                watch.check()
            if time.monotonic() - max(watch.heard_at for watch in watches) > timeout_s:
                popups = " / ".join(popup for watch in watches for popup in watch.popups) or "nothing"
                raise ServerError(
                    f"{player.username} and {opponent.username} heard nothing from the server for {timeout_s:g} s; "
                    f"popups before: {popups}"
                )
        await battles
    finally:
        battles.cancel()
        await asyncio.wait({battles})
        for watch in watches:
            watch.stop()


async def disconnect(*players: Player) -> None:
    """Closes the players' connections; call it when they are done, or the server keeps their names."""
    for player in players:
        if not player.ps_client._listening_coroutine.done():
            await player.ps_client.stop_listening()  # type: ignore[no-untyped-call]


def _plain(popup: str) -> str:
    """A popup's text in one line: "||" are its line breaks, "- " its bullets."""
    parts = [part.strip().removeprefix("- ") for part in re.split(r"\|\||\n", popup)]
    return "; ".join(part for part in parts if part).replace(":;", ":")

"""A ladder player's search for its next battle: when to search, with which team, and what the server answers."""

import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence

from gemma_metamon.errors import ServerError
from gemma_metamon.showdown.ladder.timeouts import LadderTimeouts

logger = logging.getLogger(__name__)
SETTLE_S = 1.0


class Search:
    """One search at a time, each with a random team.

    Args:
        battle_format: e.g. "gen1ou".
        teams: packed teams to choose from; none for formats that give out teams.
        server_name: for errors.
        timeouts: of which `search_s` counts here.
        seed: of the choice of teams.
        send: queues a message to the server.
    """

    def __init__(
        self,
        battle_format: str,
        *,
        teams: Sequence[str],
        server_name: str,
        timeouts: LadderTimeouts,
        seed: int,
        send: Callable[[str], None],
    ) -> None:
        self.open = False  # a search was sent and may still lead to a battle, even while we are disconnected
        self.teams_refused: list[str] = []  # the server's reason for each
        self._format = battle_format
        self._teams = list(teams)
        self._server_name = server_name
        self._timeouts = timeouts
        self._rng = random.Random(seed)
        self._send = send
        self._confirmed = False  # whether the server says that we search
        self._due_at = 0.0
        self._changed_at = 0.0
        self._team: str | None = None  # that of the search under way
        self._refusals: Counter[str] = Counter()
        self._popups = 0

    def on_login(self) -> None:
        """We are logged in: the server will say whether it still searches for us."""
        self._confirmed, self._due_at, self._changed_at = False, 0.0, time.monotonic()

    def on_cut(self) -> None:
        """The connection is lost."""
        self._confirmed = False

    def on_update(self, formats: Sequence[str]) -> None:
        """The server says in which formats we search."""
        known = self._format in formats
        if known != self._confirmed:
            self._changed_at = time.monotonic()
        self._confirmed = known
        self.open |= known

    def on_battle(self) -> None:
        """A battle has begun: the search is over."""
        self._due_at, self.open, self._popups = 0.0, False, 0

    def tick(self, *, wanted: bool) -> None:
        """Begins or cancels a search, as `wanted` says. To be called often while we are logged in."""
        now = time.monotonic()
        settled = now - self._changed_at > SETTLE_S
        if not self._confirmed and settled:
            self.open = False
        if wanted and not self._confirmed and now >= self._due_at:
            self._due_at, self._changed_at, self.open = now + self._timeouts.search_s, now, True
            self._team = self._rng.choice(self._teams) if self._teams else None
            self._send(f"/utm {self._team or 'null'}")
            self._send(f"/search {self._format}")
        elif self._confirmed and not wanted and settled:
            self._changed_at = now
            self._send("/cancelsearch")

    def on_popup(self, words: str) -> None:
        """Handles the server's words to us: it may refuse the team.

        Raises ServerError where nobody can search in the format, or every team has been refused.
        """
        if "rejected" in words and self._team is not None:
            self._on_refused(self._team, words)
        elif self._format in words and ("not ladderable" in words or "format is invalid" in words):
            raise ServerError(f"{self._server_name} does not let us search: {words}")
        elif not words.startswith(("The room ", "You tried to send ")):  # of a room that is closed or not yet entered
            logger.warning("the server says: %s", words)
            self._popups += 1
            self._due_at = time.monotonic() + min(self._timeouts.search_s * 2**self._popups, 300)

    def _on_refused(self, team: str, words: str) -> None:
        self._refusals[team] += 1
        self._due_at = 0.0
        if self._refusals[team] < 2 or team not in self._teams:  # it may have been damaged on its way
            return
        self._teams.remove(team)
        self.teams_refused.append(words)
        logger.warning("a team is refused, and set aside: %s", words)
        if not self._teams:
            raise ServerError(f"{self._server_name} refused every team for {self._format}: {words}")

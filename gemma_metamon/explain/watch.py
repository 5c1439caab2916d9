"""The page of a battle while it is played, written anew after each decision."""

import logging
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from gemma_metamon.atomic_files import written_whole
from gemma_metamon.battle.state import BattleState
from gemma_metamon.explain.follow import Decision, Follower
from gemma_metamon.explain.page import Explanation, render_page, render_section, result_of

logger = logging.getLogger(__name__)

NOW = "now.html"
REFRESH_S = 2.0


class Watcher:
    """Observes players of agents (it is a `policy_player.Observer`) and keeps a page of the battle in play.

    One battle is watched at a time: the first to begin, and after its end the next to begin. `<folder>/now.html` loads
    itself again every two seconds; a battle that is over has a page of its own, `<folder>/<battle>.html`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()  # each policy tells of its decisions from a thread of its own
        self._begun: set[tuple[str, str]] = set()
        self._watched: tuple[str, str] | None = None
        self._follower: Follower | None = None
        self._decisions: list[Decision] = []
        self._sections: list[Markup] = []

    def on_decision(
        self, player: Any, battle: Any, state: BattleState, legal: npt.NDArray[np.bool_], action: int
    ) -> None:
        """An action has been chosen: if this battle is the watched one, its page gets the decision.

        Args:
            player: who chose; has a `username` and a `policy`.
            battle: poke-env's.
            state: before the decision.
            legal: (A,), which actions were.
            action: the chosen one.
        """
        key = (player.username, battle.battle_tag)
        with self._lock:
            if self._watched is None and key not in self._begun:
                policy = player.policy
                self._watched, self._decisions, self._sections = key, [], []
                self._follower = Follower(policy.agent, policy.view, temperature=policy.temperature or 1.0)
            self._begun.add(key)
            if key == self._watched and self._follower is not None:
                self._decisions.append(self._follower.follow(state, legal, action))
                self._sections.append(render_section(self._decisions[-1], self._follower.setting()))
                self._write(NOW, battle, None, refresh_s=REFRESH_S)

    def on_end(self, player: Any, battle: Any, state: BattleState) -> None:
        """A battle is over, with its last state: the watched one gets its own page, and another may be watched."""
        key = (player.username, battle.battle_tag)
        with self._lock:
            self._begun.discard(key)
            if key != self._watched:
                return
            result = result_of(state)
            self._write(f"{re.sub(r'[^A-Za-z0-9-]', '_', battle.battle_tag)}.html", battle, result)
            self._write(NOW, battle, result, refresh_s=REFRESH_S)
            self._watched = None

    def _write(self, name: str, battle: Any, result: str | None, *, refresh_s: float | None = None) -> None:
        if self._follower is None:
            return
        explanation = Explanation(
            battle=battle.battle_tag,
            battle_format=battle.battle_tag.split("-")[1],
            player=battle.player_username,
            opponent=battle.opponent_username or "unknown",
            agent=battle.player_username,
            result=result,
            setting=self._follower.setting(),
            decisions=self._decisions,
        )
        page = render_page(explanation, sections=self._sections, refresh_s=refresh_s)
        try:
            with written_whole(self.folder / name) as staged:
                staged.write_text(page, encoding="utf-8")
        except OSError as error:  # play goes on
            logger.warning("%s could not be written: %s", self.folder / name, error)

"""Both sides of a battle as a parallel environment of PettingZoo."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from pettingzoo import ParallelEnv

from gemma_metamon.envs.battle_env import require_render_mode
from gemma_metamon.envs.battles import EnvBattle, EnvBattles, Rules
from gemma_metamon.envs.sides import Side, Taken
from gemma_metamon.envs.spaces import masked_observation_space, numbered_actions
from gemma_metamon.envs.steps import as_action, as_line, info_of
from gemma_metamon.errors import ConfigError
from gemma_metamon.showdown.arena.arena import SEATS
from gemma_metamon.showdown.live.recording import MAX_TURNS
from gemma_metamon.view import BattleView

MaskedObservation = dict[str, Any]
"""{"observation": {"text_tokens", "numbers"}, "action_mask": (A + 1,) int8}."""
_WAITED = Taken(action=-1, was_illegal=False)


class ParallelBattleEnv(ParallelEnv[str, MaskedObservation, int]):  # type: ignore[misc]
    """A battle whose two sides, "p1" and "p2", are both decided for from outside.

    Each step goes on until at least one side is to decide again. The actions are the view's A, and one more, A, which
    is to wait. A side that is not to decide, because only the other has to replace a Pokémon, is shown what it was
    shown at its last decision, with reward 0 and with waiting as its one legal action; what it is given there is
    ignored. So the steps in which a side does not wait are its battle as `BattleEnv` and the recorded battles have it.

    The rest is as in `BattleEnv`: seeds, rewards, ends, illegal actions, `info` (where "action" is -1 for a side that
    waited). Both sides end at once.

    Args:
        battle_format: a singles format, by its id or name.
        view: of both sides; None is `BattleView.default()`.
        team_dir: of the teams that both sides draw from; None takes the packaged ones.
        max_turns: a battle that gets past this turn is truncated.
        illegal_action: "replace" or "raise", see `BattleEnv`.
        workers: Node processes.
        render_mode: "ansi" lets `render` give the battle in a line, as p1 sees it.

    Raises as `BattleEnv`.
    """

    metadata: ClassVar[dict[str, Any]] = {
        "name": "gemma_metamon_battle_v0",
        "render_modes": ["ansi"],
        "render_fps": 1,
        "is_parallelizable": True,
    }

    def __init__(
        self,
        battle_format: str = "gen1ou",
        *,
        view: BattleView | None = None,
        team_dir: Path | str | None = None,
        max_turns: int = MAX_TURNS,
        illegal_action: str = "replace",
        workers: int = 1,
        render_mode: str | None = None,
    ) -> None:
        require_render_mode(render_mode)
        self._rules = Rules.find(
            battle_format,
            team_dir=team_dir,
            view=view,
            max_turns=max_turns,
            workers=workers,
            illegal_action=illegal_action,
        )
        self.render_mode = render_mode
        self.possible_agents = list(SEATS)
        self.agents: list[str] = []
        self.wait = self._rules.view.action_space.n
        """The action that stands for waiting."""
        self._observation_spaces = {seat: masked_observation_space(self._rules.view) for seat in SEATS}
        self._action_spaces = {seat: numbered_actions(self.wait + 1) for seat in SEATS}
        self._battles = EnvBattles(1, self._rules, None)
        self._battle: EnvBattle | None = None
        self._seed: int | None = None
        self._number = -1

    def observation_space(self, agent: str) -> spaces.Dict:
        """See `spaces.masked_observation_space`."""
        return self._observation_spaces[agent]

    def action_space(self, agent: str) -> "spaces.Discrete[Any]":
        """The view's actions, and to wait."""
        return self._action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, MaskedObservation], dict[str, dict[str, Any]]]:
        """A new battle, at its first decision; one that is in play is dropped.

        Args:
            seed: of this battle and those of the resets after it; None goes on with the seed before, or begins with
                one that nobody knows.
            options: none are known.

        Returns:
            Observations and infos, by side.
        """
        self._number = 0 if seed is not None else self._number + 1
        if seed is not None:
            self._seed = seed
        elif self._seed is None:
            self._seed = seeding.np_random()[1]
        self._battle = self._battles.begin(0, self._seed, self._number)
        self._battles.advance()
        self.agents = list(SEATS)
        for side in self._battle.sides.values():
            side.look()
        return self._shown(), {name: info_of(self._battle, side, None) for name, side in self._battle.sides.items()}

    def step(
        self, actions: Mapping[str, int]
    ) -> tuple[
        dict[str, MaskedObservation], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]
    ]:
        """Takes the actions of the sides that are to decide; the battle goes on to the next decision, or to its end.

        Args:
            actions: by side; of a side that waits none is needed.

        Returns:
            Observations, rewards, terminations, truncations and infos, by side.

        Raises:
            ResetNeeded: before the first reset, and after an end.
            ConfigError: a side that is to decide has no action, or what is none; with illegal_action="raise", an
                illegal one. Then the battle has not gone on.
        """
        battle = self._battle
        if battle is None or battle.is_over:
            raise ResetNeeded("the battle is over, or none has begun: call `reset` first")
        taken = self._take(battle.sides, actions)
        self._battles.advance()
        rewards = {name: side.look() if battle.is_over or side.is_asked else 0.0 for name, side in battle.sides.items()}
        shown = self._shown()
        infos = {name: info_of(battle, side, taken[name]) for name, side in battle.sides.items()}
        if battle.is_over:
            self.agents = []
        terminations = dict.fromkeys(SEATS, battle.is_terminated)
        return shown, rewards, terminations, dict.fromkeys(SEATS, battle.is_truncated), infos

    def render(self) -> str | None:
        """The battle as p1 sees it, in a line; None without a render mode."""
        if self.render_mode is None or self._battle is None:
            return None
        return as_line(self._battle.sides[SEATS[0]])

    def close(self) -> None:
        """Ends the battle and the simulator's process. Another reset starts them again."""
        self._battles.close()
        self._battle = None
        self.agents = []

    def _take(self, sides: Mapping[str, Side], actions: Mapping[str, int]) -> dict[str, Taken]:
        """What is taken for each side, of those that wait nothing."""
        asked = {name: side for name, side in sides.items() if side.is_asked}
        for name in asked:
            if name not in actions:
                raise ConfigError(f"no action for {name}, which is to decide; give one")
        taken = self._battles.take({side: as_action(actions[name], self.wait + 1) for name, side in asked.items()})
        return {name: taken.get(side, _WAITED) for name, side in sides.items()}

    def _shown(self) -> dict[str, MaskedObservation]:
        if self._battle is None:
            return {}
        return {
            name: {"observation": side.observation(), "action_mask": self._mask(side)}
            for name, side in self._battle.sides.items()
        }

    def _mask(self, side: Side) -> npt.NDArray[np.int8]:
        """(A + 1,), 1 where an action is legal; all 0 at the end."""
        mask = np.zeros(self.wait + 1, dtype=np.int8)
        if side.is_asked:
            mask[: self.wait] = side.legal
        elif self._battle is not None and not self._battle.is_over:
            mask[self.wait] = 1
        return mask

"""Many battles of one side at once, in one arena, as a vectorised environment of Gymnasium."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from gemma_metamon.envs.battle_env import SEAT, masked_info, require_render_mode, with_legal_actions
from gemma_metamon.envs.battles import EnvBattle, EnvBattles, Rules
from gemma_metamon.envs.opponents import find_opponent
from gemma_metamon.envs.sides import Side, Taken
from gemma_metamon.envs.spaces import Observation, numbered_actions, observation_space
from gemma_metamon.envs.steps import as_action, as_line
from gemma_metamon.errors import ConfigError
from gemma_metamon.showdown.live.recording import MAX_TURNS
from gemma_metamon.showdown.players.contestants import Contestant
from gemma_metamon.view import BattleView

Flags = npt.NDArray[np.bool_]
Steps = tuple[Observation, npt.NDArray[np.float64], Flags, Flags, dict[str, Any]]
"""Observations, rewards (n,), terminations (n,), truncations (n,) and infos of n battles."""


class VectorBattleEnv(VectorEnv[Observation, npt.NDArray[np.int64], npt.NDArray[Any]]):
    """As many `BattleEnv`s, each with seeds and battles of its own, but in one arena; agents decide in one batch.

    A battle that is over is followed by the next of its place's seed. In the mode NEXT_STEP, Gymnasium's own, the step
    after the end begins it, whatever its action, with reward 0; in SAME_STEP the last step gives the first observation
    of the next battle, and what ended is in `infos["final_obs"]` and `infos["final_info"]`.

    Args:
        num_envs: n, how many battles.
        battle_format: see `BattleEnv`, as for the others.
        opponent: a contestant's policy must have memory for n battles.
        view: of all battles.
        team_dir: of the teams to draw from.
        max_turns: past which a battle is truncated.
        illegal_action: "replace" or "raise".
        workers: Node processes. The battles are the same for any number of them.
        autoreset_mode: AutoresetMode.NEXT_STEP or AutoresetMode.SAME_STEP, or their values.
        render_mode: "ansi" or None.

    Raises as `BattleEnv`.
    """

    def __init__(
        self,
        num_envs: int = 1,
        battle_format: str = "gen1ou",
        opponent: str | Contestant = "RandomPlayer",
        *,
        view: BattleView | None = None,
        team_dir: Path | str | None = None,
        max_turns: int = MAX_TURNS,
        illegal_action: str = "replace",
        workers: int = 1,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
    ) -> None:
        if num_envs < 1:
            raise ConfigError(f"num_envs is {num_envs}; give 1 or more")
        require_render_mode(render_mode)
        mode = _known_mode(autoreset_mode)
        found = find_opponent(opponent)
        self._rules = Rules.find(
            battle_format,
            team_dir=team_dir,
            view=view,
            max_turns=max_turns,
            workers=workers,
            illegal_action=illegal_action,
        )
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.metadata = {"render_modes": ["ansi"], "render_fps": 1, "autoreset_mode": mode}
        self.single_observation_space = observation_space(self._rules.view)
        self.single_action_space = numbered_actions(self._rules.view.action_space.n)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._same_step = mode is AutoresetMode.SAME_STEP
        self._battles = EnvBattles(num_envs, self._rules, found)
        self._slots: list[EnvBattle] = []

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """A new battle in every place.

        Args:
            seed: s gives the places the seeds s, s + 1, ..., s + n - 1; or n seeds. A place whose seed is None goes on
                with the seed before, and at first begins with one that nobody knows.
            options: none are known.

        Returns:
            Observations and infos.

        Raises ConfigError for another number of seeds than n.
        """
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else seed
        seeds = [None] * self.num_envs if seeds is None else list(seeds)
        if len(seeds) != self.num_envs:
            raise ConfigError(f"{len(seeds)} seeds for {self.num_envs} battles; give one number, or one for each")
        if isinstance(seed, int):
            super().reset(seed=seed)
        before = dict(enumerate(self._slots))
        self._slots = [self._begin(slot, seeds[slot], before.get(slot)) for slot in range(self.num_envs)]
        self.closed = False
        self._battles.advance()
        infos: dict[str, Any] = {}
        for slot, battle in enumerate(self._slots):
            battle.sides[SEAT].look()
            self._note(infos, slot, None)
        return self._observations(), infos

    def step(self, actions: npt.NDArray[np.int64]) -> Steps:
        """Takes n actions; each battle goes on to its side's next decision, to its end, or to the next battle.

        Raises:
            ResetNeeded: before the first reset.
            ConfigError: another number of actions, or as `BattleEnv.step`; then no battle has gone on.
        """
        if not self._slots:
            raise ResetNeeded("no battle has begun: call `reset` first")
        if len(actions) != self.num_envs:
            raise ConfigError(f"{len(actions)} actions for {self.num_envs} battles; give one for each")
        n_actions = self._rules.view.action_space.n
        going_on = [slot for slot, battle in enumerate(self._slots) if not battle.is_over]
        sides = self._sides()
        taken = self._battles.take({sides[slot]: as_action(actions[slot], n_actions) for slot in going_on})
        for slot in set(range(self.num_envs)).difference(going_on):
            self._slots[slot] = self._begin(slot, None, self._slots[slot])
        self._battles.advance()
        rewards = np.zeros(self.num_envs)
        for slot, side in enumerate(self._sides()):
            rewards[slot] = side.look()
        terminations = np.array([battle.is_terminated for battle in self._slots])
        truncations = np.array([battle.is_truncated for battle in self._slots])
        infos: dict[str, Any] = {}
        if self._same_step:
            self._follow(np.flatnonzero(terminations | truncations).tolist(), taken, infos)
        for slot, side in enumerate(self._sides()):
            self._note(infos, slot, taken.get(side))
        return self._observations(), rewards, terminations, truncations, infos

    def action_masks(self) -> Flags:
        """(n, A), True where an action is legal now; all False where a battle is over."""
        if not self._slots:
            raise ResetNeeded("no battle has begun: call `reset` first")
        return np.stack([side.legal for side in self._sides()])

    def render(self) -> tuple[str, ...] | None:
        """Each battle in a line; None without a render mode."""
        return None if self.render_mode is None else tuple(map(as_line, self._sides()))

    def close_extras(self, **kwargs: Any) -> None:
        """Ends the battles and the simulator's processes; called by `close`."""
        self._battles.close()
        self._slots = []

    def _sides(self) -> list[Side]:
        return [battle.sides[SEAT] for battle in self._slots]

    def _begin(self, slot: int, seed: int | None, before: EnvBattle | None) -> EnvBattle:
        if seed is not None:
            return self._battles.begin(slot, seed, 0)
        if before is not None:
            return self._battles.begin(slot, before.seed, before.number + 1)
        return self._battles.begin(slot, int(self.np_random.integers(2**63)), 0)

    def _follow(self, ended: Sequence[int], taken: Mapping[Side, Taken], infos: dict[str, Any]) -> None:
        """Notes what these battles ended with, and begins those that follow them."""
        for slot in ended:
            battle = self._slots[slot]
            side = battle.sides[SEAT]
            final = {"final_obs": with_legal_actions(side), "final_info": masked_info(battle, side, taken[side])}
            self._add_info(infos, final, slot)
            self._slots[slot] = self._begin(slot, None, battle)
        if ended:
            self._battles.advance()
            for slot in ended:
                self._slots[slot].sides[SEAT].look()

    def _note(self, infos: dict[str, Any], slot: int, taken: Taken | None) -> None:
        battle = self._slots[slot]
        self._add_info(infos, masked_info(battle, battle.sides[SEAT], taken), slot)

    def _observations(self) -> Observation:
        shown = [with_legal_actions(side) for side in self._sides()]
        return {key: np.stack([each[key] for each in shown]) for key in shown[0]}


def _known_mode(mode: AutoresetMode | str) -> AutoresetMode:
    known = {AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP}
    if mode in known or mode in {each.value for each in known}:
        return AutoresetMode(mode)
    raise ConfigError(f"autoreset_mode is {mode!r}; choose {' or '.join(sorted(each.value for each in known))}")

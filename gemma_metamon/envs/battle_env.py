"""One side of a battle as an environment of Gymnasium."""

from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.error import ResetNeeded

from gemma_metamon.envs.battles import EnvBattle, EnvBattles, Rules
from gemma_metamon.envs.opponents import find_opponent
from gemma_metamon.envs.sides import Side, Taken
from gemma_metamon.envs.spaces import Observation, numbered_actions, observation_space
from gemma_metamon.envs.steps import as_action, as_line, info_of
from gemma_metamon.errors import ConfigError
from gemma_metamon.showdown.live.recording import MAX_TURNS
from gemma_metamon.showdown.players.contestants import Contestant
from gemma_metamon.view import BattleView

SEAT = "p1"
"""Of the environment's side, against an opponent."""


def with_legal_actions(side: Side) -> Observation:
    """What Gymnasium's environments show: an array under each key of `spaces.observation_space`."""
    return {**side.observation(), "illegal_actions": ~side.legal}


def masked_info(battle: EnvBattle, side: Side, taken: Taken | None) -> dict[str, Any]:
    """`steps.info_of`, and "action_mask", (A,) int8: what `action_space.sample` takes; all 0 at the end."""
    return {**info_of(battle, side, taken), "action_mask": side.legal.astype(np.int8)}


def require_render_mode(render_mode: str | None) -> None:
    """Raises ConfigError for what is neither None nor "ansi"."""
    if render_mode not in (None, "ansi"):
        raise ConfigError(f"render_mode is {render_mode!r}; choose 'ansi', or None")


class BattleEnv(gymnasium.Env[Observation, int]):
    """A battle against a player. An episode is a battle, a step a decision of this side; who leads is drawn.

    Observations are those of `spaces.observation_space`; the actions are the view's, 0 to 12 or 0 to 8, of which those
    are legal that the simulator accepts (`action_masks`, `info["action_mask"]`). The reward is the view's, of the
    decision. A battle that was won, lost or tied is terminated; one that is cut short, by max_turns or because it was
    lost with its process, is truncated. `steps.info_of` lists what `info` has.

    `reset(seed=7)` begins battle 0 of seed 7, and `reset()` the next of that seed: teams, dice and all that the
    opponent draws follow from these two numbers.

    Args:
        battle_format: a singles format, by its id or name.
        opponent: a scripted player ("SimpleHeuristicsPlayer"), a run ("runs/first@3"), or a `Contestant`.
        view: what is shown, may be done and is paid; None is `BattleView.default()`.
        team_dir: of the teams that both sides draw from; None takes the packaged ones. Not for formats that give out
            teams.
        max_turns: a battle that gets past this turn is truncated. The simulator itself ends one, as a tie, at turn
            1000.
        illegal_action: "replace" draws a legal action in place of an illegal one, and says so in `info`; "raise" is
            a ConfigError, which is a ValueError, and the battle stays as it is.
        workers: Node processes.
        render_mode: "ansi" lets `render` give the battle in a line.

    Raises:
        ConfigError: a format, an opponent or another argument that cannot be.
        DataError, MissingFileError: teams that cannot be read, or a run without checkpoints.
        MissingDependencyError: without Node.js.
        ServerError: where the simulator cannot be installed; in `reset` and `step`, where it refuses a team, in its
            words, or a player fails.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi"], "render_fps": 1}  # type: ignore[misc]

    def __init__(
        self,
        battle_format: str = "gen1ou",
        opponent: str | Contestant = "RandomPlayer",
        *,
        view: BattleView | None = None,
        team_dir: Path | str | None = None,
        max_turns: int = MAX_TURNS,
        illegal_action: str = "replace",
        workers: int = 1,
        render_mode: str | None = None,
    ) -> None:
        require_render_mode(render_mode)
        found = find_opponent(opponent)
        rules = Rules.find(
            battle_format,
            team_dir=team_dir,
            view=view,
            max_turns=max_turns,
            workers=workers,
            illegal_action=illegal_action,
        )
        self.render_mode = render_mode
        self.observation_space = observation_space(rules.view)
        self.action_space = numbered_actions(rules.view.action_space.n)
        self._battles = EnvBattles(1, rules, found)
        self._battle: EnvBattle | None = None
        self._number = -1

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """A new battle, at its first decision; one that is in play is dropped.

        Args:
            seed: of this battle and those of the resets after it; None goes on with the seed before, or begins with
                one that nobody knows.
            options: none are known.

        Returns:
            The observation, and `info`.
        """
        super().reset(seed=seed)
        self._number = 0 if seed is not None else self._number + 1
        self._battle = self._battles.begin(0, self.np_random_seed, self._number)
        self._battles.advance()
        side = self._battle.sides[SEAT]
        side.look()
        return with_legal_actions(side), masked_info(self._battle, side, None)

    def step(self, action: int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Takes an action; the battle goes on to this side's next decision, or to its end.

        Returns:
            Observation, reward, terminated, truncated, `info`.

        Raises:
            ResetNeeded: before the first reset, and after an end.
            ConfigError: what is no action; with illegal_action="raise", one that is illegal.
        """
        if self._battle is None or self._battle.is_over:
            raise ResetNeeded("the battle is over, or none has begun: call `reset` first")
        battle, side = self._battle, self._battle.sides[SEAT]
        taken = self._battles.take({side: as_action(action, len(side.legal))})[side]
        self._battles.advance()
        reward = side.look()
        info = masked_info(battle, side, taken)
        return with_legal_actions(side), reward, battle.is_terminated, battle.is_truncated, info

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """(A,), True where an action is legal now, as sb3-contrib asks for it; all False at the end."""
        if self._battle is None:
            raise ResetNeeded("no battle has begun: call `reset` first")
        return np.array(self._battle.sides[SEAT].legal)

    def render(self) -> str | None:
        """The battle as this side sees it, in a line; None without a render mode."""
        if self.render_mode is None or self._battle is None:
            return None
        return as_line(self._battle.sides[SEAT])

    def close(self) -> None:
        """Ends the battle and the simulator's process. Another reset starts them again."""
        self._battles.close()
        self._battle = None

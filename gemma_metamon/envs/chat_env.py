"""One side of a battle told in chats: an environment for language models, whose actions are answers in words."""

import secrets
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gymnasium.error import ResetNeeded

from gemma_metamon.envs.battle_env import SEAT
from gemma_metamon.envs.battles import EnvBattle, EnvBattles, Rules
from gemma_metamon.envs.opponents import find_opponent
from gemma_metamon.envs.sides import Taken
from gemma_metamon.envs.steps import info_of
from gemma_metamon.language.players.told import Telling, offered_moves
from gemma_metamon.language.telling.answers import AnswerError, choice_names, parse_answer
from gemma_metamon.language.telling.prompts import HISTORY, BattleSoFar, messages_of
from gemma_metamon.showdown.live.recording import MAX_TURNS
from gemma_metamon.showdown.players.contestants import Contestant
from gemma_metamon.view import BattleView

NO_ACTION = -1
"""Is never legal, so that a legal action is drawn in its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A battle as it stands before an answer, or at its end.

    Attributes:
        messages: the system's and the user's, as `gemma-metamon chat export` writes them; none at the end.
        legal: the choices that an answer may name, as the user's message names them; none at the end.
        turn: of the battle.
        reward: of the decision before, by the view's reward function; 0 before the first.
        problem: why the answer before named no legal choice, so that one was drawn in its place; "" if it named one.
        result: at the end "won", "lost" or "tied", or why the battle was cut short; "" before.
        is_truncated: whether it was cut short.
    """

    messages: list[dict[str, str]]
    legal: list[str]
    turn: int
    reward: float
    problem: str
    result: str
    is_truncated: bool


class ChatBattleEnv:
    """A battle against a player, as `BattleEnv`, shown and answered in the words of `gemma_metamon.language`.

    An episode is a battle, a step an answer to one decision: `<SOLUTION>move Earthquake</SOLUTION>`, with a
    `<REASONING>` block before it where it is asked for. The same seed gives the same battles as a `BattleEnv`.

    Args:
        battle_format: see `BattleEnv`, as all that is not below.
        opponent: see there.
        view: whose reward function pays; None is `BattleView.default()`.
        team_dir: see there.
        max_turns: see there.
        reasoning: whether the system's message asks for a reasoning.
        history: how many decisions before are told with each.

    Raises:
        ConfigError, DataError, MissingFileError, MissingDependencyError, ServerError: as `BattleEnv`.
    """

    def __init__(
        self,
        battle_format: str = "gen1ou",
        opponent: str | Contestant = "RandomPlayer",
        *,
        view: BattleView | None = None,
        team_dir: Path | str | None = None,
        max_turns: int = MAX_TURNS,
        reasoning: bool = False,
        history: int = HISTORY,
    ) -> None:
        found = find_opponent(opponent)
        rules = Rules.find(battle_format, team_dir=team_dir, view=view, max_turns=max_turns)
        self._battles = EnvBattles(1, rules, found)
        self._battle: EnvBattle | None = None
        self._telling = Telling(BattleSoFar(history))
        self._reasoning, self._history = reasoning, history
        self._seed = secrets.randbelow(2**31)
        self._number = -1

    def reset(self, seed: int | None = None) -> Asked:
        """A new battle, at its first decision; one that is in play is dropped.

        Args:
            seed: this is its battle 0, and the resets after it are the next ones; None goes on with the seed before, or
                begins with one that nobody knows.
        """
        self._seed, self._number = (self._seed, self._number + 1) if seed is None else (seed, 0)
        self._battle = self._battles.begin(0, self._seed, self._number)
        self._telling = Telling(BattleSoFar(self._history))
        self._battles.advance()
        return self._asked(self._battle, None, "")

    def step(self, answer: str) -> Asked:
        """Takes an answer; the battle goes on to this side's next decision, or to its end.

        Raises:
            ResetNeeded: before the first reset, and after an end.
        """
        battle, decision = self._battle, self._telling.decision
        if battle is None or battle.is_over or decision is None:
            raise ResetNeeded("the battle is over, or none has begun: call `reset` first")
        action, problem = NO_ACTION, ""
        try:
            action = parse_answer(answer, decision.choices)
        except AnswerError as error:
            problem = str(error)
        side = battle.sides[SEAT]
        taken = self._battles.take({side: action})[side]
        self._telling.chose(taken.action)
        self._battles.advance()
        return self._asked(battle, taken, problem)

    def close(self) -> None:
        """Ends the battle and the simulator's process. Another reset starts them again."""
        self._battles.close()
        self._battle = None

    def _asked(self, battle: EnvBattle, taken: Taken | None, problem: str) -> Asked:
        side = battle.sides[SEAT]
        reward, info = side.look(), info_of(battle, side, taken)
        messages: list[dict[str, str]] = []
        legal: list[str] = []
        if not battle.is_over and side.state is not None:
            live = side.live
            choices = choice_names(side.state, np.flatnonzero(side.legal).tolist(), offered_moves(live))
            legal = list(choices.values())
            messages = messages_of(
                self._telling.decide(side.state, choices, live.n_messages), reasoning=self._reasoning
            )
        return Asked(
            messages=messages,
            legal=legal,
            turn=info["turn"],
            reward=reward,
            problem=problem,
            result=info.get("cut_short") or info.get("result", ""),
            is_truncated=battle.is_truncated,
        )

"""Do the critics know anything yet, and how far has the policy moved? Measured on battles that were not trained on.

Imitation can be judged by what it imitates. Reinforcement learning is only as good as the critics that say what to
imitate, and a falling loss does not tell whether they say anything; these numbers do.
"""

import math
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gemma_metamon.battle.replays import BattleFileName
from gemma_metamon.data.dataset import Battles, Window, collate, load_encoded, path_of, take_window
from gemma_metamon.errors import DataError
from gemma_metamon.view import BattleView

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

POINTS: Final = {"turn_1": 0.0, "1_4": 0.25, "1_2": 0.5, "3_4": 0.75}
"""Where in a battle its result is predicted: after which share of its decisions."""
LEAST_BATTLES: Final = 10
"""With fewer won or lost battles an AUC, and with fewer at all a ranking of actions, says too little to warn of it."""
LEAST_AUC: Final = 0.6
"""Half-way through a battle. Below it critics hardly know who is ahead: trained ones have 0.8, and chance has 0.5."""
SURE: Final = 2.0
"""By so many standard errors something has to be above chance."""
MOST_PLAYERS: Final = 8
"""With more of them, as among people, none is told apart."""
_OF_ONE_USER: Final = re.compile(r"-(?:[0-9a-f]{8}|p[12])$")


@dataclass(frozen=True, eq=False, kw_only=True)
class HeldOutBattle:
    """The beginning of a battle that is not trained on.

    Attributes:
        window: its first decisions, as many as the agent's memory holds.
        player: who decided, by the file's name, see `player_of`.
        won: the result; None where the window does not reach the battle's end.
    """

    window: Window
    player: str | None
    won: bool | None


def read_held_out(battles: Battles, view: BattleView, max_seq_len: int) -> list[HeldOutBattle]:
    """The beginning of each battle; damaged ones are left out.

    Args:
        battles: battle files, or battles of a store.
        view: what the agent is shown.
        max_seq_len: the agent's memory, in decisions.
    """
    middle = (view.reward_function.win_reward + view.reward_function.loss_reward) / 2
    read = []
    for battle in battles:
        with suppress(DataError):
            window = take_window(load_encoded(battle, view), 0, max_seq_len)
            won = bool(window.rewards[-1, 0] > middle) if window.dones[-1, 0] else None
            read.append(HeldOutBattle(window=window, player=player_of(path_of(battle).name), won=won))
    return read


def player_of(file_name: str) -> str | None:
    """Who decided in a battle file: "Duel" for the user "Duel-0a1b2c3d"; None for a file that is named otherwise."""
    try:
        return _OF_ONE_USER.sub("", BattleFileName.parse(file_name).player)
    except DataError:
        return None


@dataclass(frozen=True, eq=False, kw_only=True)
class Judged:
    """What policy and critics say of the L decisions of a battle; A actions. Returns are in multiplied reward.

    Attributes:
        battle: which one.
        probs: (L, A), the policy.
        values: (L, A), the return that the critics expect of each action.
        legal: (L, A).
        chosen: (L,), the recorded action; -1 where it is not known.
        returns: (L,), the discounted rewards from each decision on; without meaning where the end is unknown.
        advantage: (L,), of the recorded action, as the filter sees it; None where the actor has no filter.
        weight: (L,), that the filter gives it; None where the actor has no filter.
    """

    battle: HeldOutBattle
    probs: Floats
    values: Floats
    legal: Flags
    chosen: npt.NDArray[np.int64]
    returns: Floats
    advantage: Floats | None = None
    weight: Floats | None = None

    @property
    def value(self) -> Floats:
        """(L,), what the critics expect of the policy."""
        return np.asarray((self.probs * self.values).sum(1))

    @property
    def real_choice(self) -> Flags:
        """(L,), True where it is known what was chosen, and something else could have been."""
        return np.asarray((self.chosen >= 0) & (self.legal.sum(1) > 1))


class Diagnostics:
    """The diagnostics of one training.

    Args:
        battles: that are not trained on.
        view: what the agent is shown.
        max_seq_len: the agent's memory, in decisions.
    """

    def __init__(self, battles: Battles, view: BattleView, max_seq_len: int) -> None:
        self.battles = read_held_out(battles, view, max_seq_len)
        self._start: list[Floats] | None = None
        self._warned = False

    def remember_start(self, agent: Any) -> None:
        """Take the agent's policy, as it is now, for the one that the training starts from."""
        self._start = [judged.probs for judged in judge(agent, self.battles)]

    def measure(self, agent: Any, *, is_start: bool = False) -> dict[str, float]:
        """Numbers to log by their names, those that these battles allow (docs/reference/metrics.md has them all).

        Args:
            agent: as it is now.
            is_start: whether the training starts from it, so that its policy is remembered, too.
        """
        judged = judge(agent, self.battles)
        if is_start:
            self._start = [one.probs for one in judged]
        if not judged:
            return {}
        measured = measure_values(judged) | measure_ranking(judged) | measure_filter(judged)
        # illegal actions keep a probability of a thousandth, which is nobody's decision
        policies = [_legal_policy(one.probs, one.legal) for one in judged]
        measured["policy_entropy"] = _mean_of_rows([-p * _log(p) for p in policies])
        if self._start is not None:
            start = [_legal_policy(probs, one.legal) for probs, one in zip(self._start, judged, strict=True)]
            measured["policy_kl"] = _mean_of_rows(
                [p * (_log(p) - _log(q)) for p, q in zip(policies, start, strict=True)]
            )
        return {f"held_out/{name}": value for name, value in measured.items()}

    def warning(self, agent: Any, measured: dict[str, float]) -> str | None:
        """What to say, once in a training, where critics decide what the actor learns and know nothing yet."""
        options = agent.options
        if self._warned or not agent.uses_critics or agent.trains_critics_alone:
            return None
        if options.critic_warmup_updates and int(agent.updates_made) < options.critic_warmup_updates:
            return None
        reasons = _reasons(measured, ranking=options.advantage == "critic" or options.online_coeff > 0)
        if not reasons:
            return None
        self._warned = True
        return (
            f"the actor learns by critics that know too little yet ({'; '.join(reasons)}), which can undo what it has "
            "learnt: let critics learn first, with binary_rl_critic_warmup.gin or "
            f'{options.owner}.critic_warmup_updates, and see "Are the critics worth listening to?" in '
            "docs/guides/rl_recipes.md"
        )


def judge(agent: Any, battles: Sequence[HeldOutBattle], batch_size: int = 16) -> list[Judged]:
    """What an agent's policy and critics say of each battle. The agent is left in the mode it was in.

    Args:
        agent: a MultiTaskAgent or Agent.
        battles: of each its beginning.
        batch_size: battles that are read at once.
    """
    was_training = agent.training
    agent.eval()
    device = next(agent.parameters()).device
    judged: list[Judged] = []
    for first in range(0, len(battles), batch_size):
        part = battles[first : first + batch_size]
        batch = collate([battle.window for battle in part]).to(device)
        probs, values = (x.cpu().double().numpy() for x in agent.judge_actions(batch))  # (B, T, A) each
        filtered: list[Floats] | None = None
        if not agent.options.fake_filter:
            recorded = agent.judge_recorded(batch)
            filtered = [x.cpu().double().numpy() for x in (recorded.advantage, recorded.weight)]  # (B, L) each
        for row, battle in enumerate(part):
            window, n = battle.window, len(battle.window.actions)
            missing = window.obs["missing_action_mask"][:n, 0]
            rewards = agent.options.reward_multiplier * window.rewards[:, 0].astype(np.float64)
            judged.append(
                Judged(
                    battle=battle,
                    probs=probs[row, :n],
                    values=values[row, :n],
                    legal=~window.obs["illegal_actions"][:n].astype(bool),
                    chosen=np.where(missing, -1, window.actions.argmax(1)),
                    returns=_discounted(rewards, agent.discounts[-1]),
                    advantage=None if filtered is None else filtered[0][row, :n],
                    weight=None if filtered is None else filtered[1][row, :n],
                )
            )
    agent.train(was_training)
    return judged


def measure_values(judged: Sequence[Judged]) -> dict[str, float]:
    """How well the critics' value of a state tells the result at four points, and whether its size is right."""
    ended = [one for one in judged if one.battle.won is not None]
    won = np.array([one.battle.won for one in ended], dtype=bool)
    measured: dict[str, float] = {}
    values, returns = [], []
    for name, share in POINTS.items():
        at = [int(share * len(one.value)) for one in ended]
        values.append(np.array([one.value[t] for one, t in zip(ended, at, strict=True)]))
        returns.append(np.array([one.returns[t] for one, t in zip(ended, at, strict=True)]))
        if 0 < won.sum() < len(won):
            measured[f"value_auc_{name}"] = auc(values[-1], won)
    measured["battles_won"], measured["battles_lost"] = float(won.sum()), float((~won).sum())
    value, followed = np.concatenate(values), np.concatenate(returns)
    spread = ((value - value.mean()) ** 2).sum() if len(value) else 0.0
    if spread > 0:
        measured["value_slope"] = float(((value - value.mean()) * (followed - followed.mean())).sum() / spread)
    return measured


def measure_ranking(judged: Sequence[Judged]) -> dict[str, float]:
    """Whether the critics tell a state's actions apart: by what was chosen, and by what followed."""
    counted = [(one, one.real_choice) for one in judged if one.real_choice.any()]
    if not counted:
        return {}
    agrees, chance = [], []
    for one, where in counted:
        chosen, legal = one.chosen[where], one.legal[where]
        agrees.append(np.where(legal, one.values[where], -np.inf).argmax(1) == chosen)
        recorded_is_legal = np.take_along_axis(legal, chosen[:, None], 1)[:, 0]
        chance.append(recorded_is_legal / legal.sum(1))
    measured = {
        "battles_ranked": float(len(counted)),
        "critic_agreement": float(np.concatenate(agrees).mean()),
        "critic_agreement_by_chance": float(np.concatenate(chance).mean()),
        "critic_agreement_sigmas": _sigmas([float((a - c).sum()) for a, c in zip(agrees, chance, strict=True)]),
    }
    measured |= _by_player("critic_agreement_of", [one for one, _ in counted], agrees)
    return measured | _measure_advantages([(one, where) for one, where in counted if one.battle.won is not None])


def measure_filter(judged: Sequence[Judged]) -> dict[str, float]:
    """Whose actions the filter lets through: a positive advantage, and the weight beside the mean weight."""
    counted = [one for one in judged if one.real_choice.any() and one.advantage is not None and one.weight is not None]
    if not counted:
        return {}
    passed = [np.asarray(one.advantage)[one.real_choice] > 0 for one in counted]
    weights = [np.asarray(one.weight)[one.real_choice] for one in counted]
    mean = np.concatenate(weights).mean()
    measured = {"filter_share": float(np.concatenate(passed).mean())} | _by_player("filter_share_of", counted, passed)
    return measured | (_by_player("filter_weight_of", counted, [w / mean for w in weights]) if mean > 0 else {})


def _by_player(name: str, judged: Sequence[Judged], of_battles: Sequence[npt.NDArray[Any]]) -> dict[str, float]:
    """The mean over each player's decisions as `name`/PLAYER; nothing where there are many players."""
    of_players: dict[str, list[npt.NDArray[Any]]] = {}
    for one, own in zip(judged, of_battles, strict=True):
        if one.battle.player is not None:
            of_players.setdefault(one.battle.player, []).append(own)
    if len(of_players) > MOST_PLAYERS:
        return {}
    return {f"{name}/{who}": float(np.concatenate(own).mean()) for who, own in of_players.items()}


def _measure_advantages(counted: Sequence[tuple[Judged, Flags]]) -> dict[str, float]:
    """The correlation of the critics' advantage of what was chosen with what followed, less what was expected."""
    if not counted:
        return {}
    advantages, surprises = [], []
    for one, where in counted:
        rows = np.flatnonzero(where)
        advantages.append(one.values[rows, one.chosen[rows]] - one.value[rows])
        surprises.append(one.returns[rows] - one.value[rows])
    mean_a, mean_s = np.concatenate(advantages).mean(), np.concatenate(surprises).mean()
    products = [float(((a - mean_a) * (s - mean_s)).sum()) for a, s in zip(advantages, surprises, strict=True)]
    size = math.sqrt(
        sum(((a - mean_a) ** 2).sum() for a in advantages) * sum(((s - mean_s) ** 2).sum() for s in surprises)
    )
    if size == 0:
        return {}
    return {"advantage_correlation": sum(products) / size, "advantage_correlation_sigmas": _sigmas(products)}


def auc(scores: Floats, positive: Flags) -> float:
    """How often a positive one has the higher score than a negative one, a tie counting half."""
    negative = np.sort(scores[~positive])
    below = np.searchsorted(negative, scores[positive], side="left")
    not_above = np.searchsorted(negative, scores[positive], side="right")
    return float((below + not_above).mean() / (2 * len(negative)))


def _reasons(measured: dict[str, float], *, ranking: bool) -> list[str]:
    """Why these critics are not worth listening to: they rank no states, or no actions where that is asked for."""

    def of(name: str) -> float:
        return measured.get(f"held_out/{name}", math.nan)

    reasons = []
    half = of("value_auc_1_2")
    if half < LEAST_AUC and min(of("battles_won"), of("battles_lost")) >= LEAST_BATTLES:
        reasons.append(f"half-way through a battle their value tells the result with an AUC of {half:.2f}, chance 0.50")
    sigmas = [of("critic_agreement_sigmas"), of("advantage_correlation_sigmas")]
    if ranking and of("battles_ranked") >= LEAST_BATTLES and not any(sigma > SURE for sigma in sigmas):
        reasons.append(
            f"their best legal action is the recorded one in {of('critic_agreement'):.0%} of held-out decisions, by "
            f"chance it would be in {of('critic_agreement_by_chance'):.0%}"
        )
    return reasons


def _sigmas(sums: Sequence[float]) -> float:
    """How many standard errors a sum over battles is above 0; decisions of one battle are no independent ones."""
    error = math.sqrt(sum(x * x for x in sums))
    return sum(sums) / error if error > 0 else 0.0


def _discounted(rewards: Floats, gamma: float) -> Floats:
    """(L,) -> (L,), the discounted sum from each decision on."""
    returns = np.zeros_like(rewards)
    following = 0.0
    for t in reversed(range(len(rewards))):
        following = returns[t] = rewards[t] + gamma * following
    return returns


def _legal_policy(probs: Floats, legal: Flags) -> Floats:
    """(L, A) -> (L, A), without what is illegal, unless everything is."""
    kept = np.where(legal | ~legal.any(1, keepdims=True), probs, 0.0)
    return np.asarray(kept / kept.sum(1, keepdims=True))


def _log(probs: Floats) -> Floats:
    return np.asarray(np.log(np.maximum(probs, 1e-12)))


def _mean_of_rows(parts: Sequence[Floats]) -> float:
    """Of (L, A) each: the sum over actions, its mean over all decisions."""
    return float(np.concatenate([part.sum(1) for part in parts]).mean())

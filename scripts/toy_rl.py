"""Which recipes of reinforcement learning find the better action in a toy whose values are known, and which do not.

    python scripts/toy_rl.py                                # the whole table: about ten minutes of one CPU core
    python scripts/toy_rl.py --recipes imitation binary_rl --seeds 0 1 2

A battle of the toy has ten decisions. At each of them one of five contexts is seen, and one of five actions is right in
it (lead + 1), one wrong (lead - 1), three idle. Whoever leads at the end wins (+100), whoever is behind loses (-100),
and a tie is decided by a coin. The recorded player takes the wrong action most often (45 %), the right one in 35 %:
whoever imitates it most faithfully always loses. How often a policy wins is summed up exactly (see `Values`).

Prints, for each recipe (their mean over seeds, and the range): how often the greedy policy wins; in which share of the
states where it matters the greedy action is the right one, and the critics' best action is; then one line of JSON.
"""

import argparse
import functools
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gemma_metamon.nets.agents.amago2 import MultiTaskAgent
from gemma_metamon.nets.batch import Batch
from gemma_metamon.nets.heads.actors import Actor
from gemma_metamon.nets.heads.batch_filters import BatchNormalizedExpFilter, ISAdvantageFilter
from gemma_metamon.nets.heads.critics import NCriticsTwoHot

DECISIONS, CONTEXTS, ACTIONS = 10, 5, 5
WRONG, RIGHT = 0, 1
"""The action of kind k in context c is (c + k) modulo 5; the kinds from 2 on are idle."""
RECORDED = (0.45, 0.35, 0.1, 0.05, 0.05)
"""How often the recorded player takes an action of each kind."""
MOVES = torch.tensor([-1, 1, 0, 0, 0])
"""What an action of each kind does to the lead."""
MATTERS = 0.05
"""The right action matters where it wins so much more often than the wrong one, the recorded player going on."""


class Values:
    """How often a policy wins, exactly: the probability of a win from each timestep and lead, by dynamic programming.

    Args:
        kinds: (10, 21, 5, 5), the policy: probabilities of the kinds of action at timestep, lead + 10, context.

    Attributes:
        win: (11, 21), from each timestep and lead + 10; contexts are equally likely.
    """

    def __init__(self, kinds: Tensor) -> None:
        leads = torch.arange(-DECISIONS, DECISIONS + 1)
        self.win = torch.zeros(DECISIONS + 1, len(leads))
        self.win[-1] = (leads > 0) + 0.5 * (leads == 0)
        for t in reversed(range(DECISIONS)):
            self.win[t] = (kinds[t].mean(1) * self.of_kinds(t)).sum(-1)

    def of_kinds(self, t: int) -> Tensor:
        """(21, 5), the probability of a win after an action of each kind, from each lead + 10."""
        after = (torch.arange(2 * DECISIONS + 1)[:, None] + MOVES).clamp(0, 2 * DECISIONS)
        return self.win[t + 1][after]

    @classmethod
    def of_recorded(cls) -> "Values":
        """Those of the recorded player."""
        return cls(torch.tensor(RECORDED).expand(DECISIONS, 2 * DECISIONS + 1, CONTEXTS, -1))


def record_battles(n: int, seed: int) -> Batch:
    """Battles of the recorded player, whose states tell context, timestep and lead."""
    generator = torch.Generator().manual_seed(seed)
    contexts = torch.randint(CONTEXTS, (n, DECISIONS + 1), generator=generator)
    kinds = torch.multinomial(torch.tensor(RECORDED), n * DECISIONS, replacement=True, generator=generator)
    kinds = kinds.view(n, DECISIONS)
    leads = F.pad(MOVES[kinds].cumsum(1), (1, 0))
    ends, coins = leads[:, -1], torch.rand(n, generator=generator) < 0.5
    rewards = torch.zeros(n, DECISIONS, 1)
    rewards[:, -1, 0] = torch.where((ends > 0) | ((ends == 0) & coins), 100.0, -100.0)
    dones = torch.zeros(n, DECISIONS, 1, dtype=torch.bool)
    dones[:, -1] = True
    timesteps = torch.arange(DECISIONS + 1).expand(n, -1)
    return Batch(
        {"numbers": see(contexts, timesteps, leads)},
        torch.zeros(n, DECISIONS + 1, 1 + ACTIONS),  # the lead tells all that was done
        rewards,
        dones,
        F.one_hot((contexts[:, :-1] + kinds) % ACTIONS, ACTIONS).float(),
        timesteps[..., None],
    )


def see(contexts: Tensor, timesteps: Tensor, leads: Tensor) -> Tensor:
    """What a state shows, (..., 7): the context, how far the battle is, the lead."""
    ahead = torch.stack((timesteps, leads), dim=-1) / DECISIONS
    return torch.cat((F.one_hot(contexts, CONTEXTS).float(), ahead), dim=-1)


def every_state() -> Tensor:
    """(10, 21, 5, 7), what all of them show, also those that no battle comes to."""
    grid = torch.meshgrid(
        torch.arange(DECISIONS), torch.arange(-DECISIONS, DECISIONS + 1), torch.arange(CONTEXTS), indexing="ij"
    )
    timesteps, leads, contexts = grid
    return see(contexts, timesteps, leads)


class NumbersEncoder(nn.Module):
    """The trunk: an MLP of one state."""

    emb_dim = 32

    def __init__(self, obs_space: Any, rl2_space: Any) -> None:
        super().__init__()
        layers = nn.Linear(CONTEXTS + 2, self.emb_dim), nn.LeakyReLU(), nn.Linear(self.emb_dim, self.emb_dim)
        self.layers = nn.Sequential(*layers, nn.LeakyReLU())

    def forward(self, obs: dict[str, Tensor], rl2s: Tensor) -> Tensor:
        out: Tensor = self.layers(obs["numbers"])
        return out


class NoMemory(nn.Module):
    """In place of the trajectory transformer: a state tells all."""

    def __init__(self, tstep_dim: int, max_seq_len: int) -> None:
        super().__init__()
        self.emb_dim = tstep_dim

    def forward(self, tsteps: Tensor, time_idxs: Tensor) -> Tensor:
        return tsteps


def build(**options: Any) -> Any:
    """A small MultiTaskAgent for the toy, by default with the numbers of binary_rl.gin."""
    defaults = {
        "num_critics": 2,
        "online_coeff": 0.0,
        "reward_multiplier": 10.0,
        "tau": 0.004,
        "num_actions_for_value_in_critic_loss": 3,
        "critic_type": functools.partial(
            NCriticsTwoHot, d_hidden=32, min_return=-1100, max_return=1100, output_bins=24, use_symlog=False
        ),
        "actor_type": functools.partial(Actor, n_layers=1, d_hidden=32),
    }
    return MultiTaskAgent(
        obs_space={"numbers": SimpleNamespace(shape=(CONTEXTS + 2,))},
        rl2_space=SimpleNamespace(shape=(1 + ACTIONS,)),
        action_space=SimpleNamespace(n=ACTIONS),
        tstep_encoder_type=NumbersEncoder,
        traj_encoder_type=NoMemory,
        max_seq_len=DECISIONS,
        **(defaults | options),
    )


@dataclass(frozen=True)
class Recipe:
    """What distinguishes a training: the agent's options. `filter_type` makes the filter, one for each training."""

    options: dict[str, Any] = field(default_factory=dict)
    filter_type: Any = None

    def but(self, **options: Any) -> "Recipe":
        """The same with other options."""
        return Recipe(self.options | options, self.filter_type)


ONE = Recipe({"use_multigamma": False})
MONTE_CARLO = ONE.but(n_step=DECISIONS)
WARM = {"critic_warmup_updates": 250}
RECIPES: dict[str, Recipe] = {
    "imitation": ONE.but(fake_filter=True),
    "binary_rl": Recipe(),
    "binary_rl, one discount": ONE,
    "binary_rl, one discount, warm-up": ONE.but(**WARM),
    "binary_rl, seven discounts, Monte Carlo, warm-up": Recipe({"n_step": DECISIONS, **WARM}),
    "binary_rl, Monte Carlo": MONTE_CARLO,
    "binary_rl, Monte Carlo, warm-up": MONTE_CARLO.but(**WARM),
    "the same, critics read alone": MONTE_CARLO.but(**WARM, critics_train_trunk=False),
    "the same, actor waits": MONTE_CARLO.but(**WARM, critic_warmup="wait"),
    "three steps, warm-up": ONE.but(**WARM, n_step=3),
    "lambda 0.9, warm-up": ONE.but(**WARM, lambda_return=0.9),
    "lambda 0.5, warm-up": ONE.but(**WARM, lambda_return=0.5),
    "Monte Carlo, warm-up, exp of z": Recipe(
        MONTE_CARLO.options | WARM, functools.partial(BatchNormalizedExpFilter, 3.0)
    ),
    "target, one step": ONE.but(advantage="target"),
    "target, Monte Carlo": MONTE_CARLO.but(advantage="target"),
    "target, Monte Carlo, warm-up": MONTE_CARLO.but(**WARM, advantage="target"),
    "target, lambda 0.9, warm-up": ONE.but(**WARM, advantage="target", lambda_return=0.9),
    "target, seven discounts, Monte Carlo, warm-up": Recipe({"n_step": DECISIONS, "advantage": "target", **WARM}),
    "target, Monte Carlo, warm-up, exp of z": Recipe(
        MONTE_CARLO.options | WARM | {"advantage": "target"}, functools.partial(BatchNormalizedExpFilter, 1.0)
    ),
    "above the state, Monte Carlo, warm-up": MONTE_CARLO.but(**WARM, baseline="state"),
    "above the state, Monte Carlo, warm-up, exp of z": Recipe(
        MONTE_CARLO.options | WARM | {"baseline": "state"}, functools.partial(BatchNormalizedExpFilter, 3.0)
    ),
    "above the state, Monte Carlo, battle weights": Recipe(
        MONTE_CARLO.options | WARM | {"baseline": "state", "critics_train_trunk": False},
        functools.partial(ISAdvantageFilter, beta=1.0, seq_p_low=0.5, seq_p_full=0.9, seq_floor_warmup_steps=100),
    ),
    "battle weights (ISAdvantageFilter), Monte Carlo": Recipe(
        MONTE_CARLO.options | WARM,
        functools.partial(ISAdvantageFilter, beta=3.0, seq_p_low=0.2, seq_p_full=0.7, seq_floor_warmup_steps=100),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a training has come to.

    Attributes:
        wins: how often the greedy policy wins, exactly.
        right: the share of recorded states where it matters in which the greedy action is the right one.
        critics_right: the same of the critics' best action.
        cpu_s: seconds of processor time.
    """

    wins: float
    right: float
    critics_right: float
    cpu_s: float


def train(recipe: Recipe, *, seed: int = 0, updates: int = 800, battles: int = 8000, batch_size: int = 32) -> Any:
    """An agent trained on recorded battles."""
    torch.manual_seed(seed)
    own = {} if recipe.filter_type is None else {"fbc_filter_func": recipe.filter_type()}
    agent = build(**recipe.options, **own)
    recorded = record_battles(battles, seed=1000 + seed)
    rate = 2e-3
    optimizer = torch.optim.AdamW(agent.trainable_parameters(), lr=rate, weight_decay=1e-4)
    for update in range(updates):
        rows = torch.randint(battles, (batch_size,))
        numbers = {"numbers": recorded.obs["numbers"][rows]}
        losses = agent(Batch(numbers, *(array[rows] for array in recorded[1:] if array is not None)))
        optimizer.zero_grad()
        (losses.actor_loss + 10.0 * losses.critic_loss).backward()
        nn.utils.clip_grad_norm_(agent.trainable_parameters(), 1.5)
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, update / 40)
        agent.update_targets()
        optimizer.step()
    return agent.eval()


@torch.no_grad()
def judge(agent: Any) -> tuple[float, float, float]:
    """How often the greedy policy wins; how often it and the critics' best are right where it matters."""
    numbers = every_state()  # (10, 21, 5, 7)
    state = agent.tstep_encoder({"numbers": numbers.flatten(1, 2)}, None)  # (10, 105, D)
    policy = agent.actor(state).probs[:, :, -1].view(*numbers.shape[:3], ACTIONS)
    q = agent.values_of_actions(state).view(*numbers.shape[:3], ACTIONS)
    contexts = torch.arange(CONTEXTS)

    def kinds(scores: Tensor) -> Tensor:
        """The kind of the best action, (10, 21, 5)."""
        return (scores.argmax(-1) - contexts) % ACTIONS

    greedy = kinds(policy)
    wins = float(Values(F.one_hot(greedy, ACTIONS).float()).win[0, DECISIONS])
    recorded = Values.of_recorded()
    share = reached()  # (10, 21), how often a recorded battle is there
    gap = torch.stack([recorded.of_kinds(t)[:, RIGHT] - recorded.of_kinds(t)[:, WRONG] for t in range(DECISIONS)])
    weight = (share * (gap >= MATTERS))[..., None].expand_as(greedy)

    def right(best: Tensor) -> float:
        return float((weight * (best == RIGHT)).sum() / weight.sum())

    return wins, right(greedy), right(kinds(q))


def reached() -> Tensor:
    """(10, 21), how often a recorded battle has a lead + 10 at a timestep."""
    share = torch.zeros(DECISIONS, 2 * DECISIONS + 1)
    share[0, DECISIONS] = 1.0
    for t in range(DECISIONS - 1):
        for kind, often in enumerate(RECORDED):
            share[t + 1] += often * share[t].roll(int(MOVES[kind]))
    return share


def run(recipe: Recipe, **how: Any) -> Result:
    """Train and judge."""
    began = time.process_time()
    wins, right, critics_right = judge(train(recipe, **how))
    return Result(wins=wins, right=right, critics_right=critics_right, cpu_s=time.process_time() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES), metavar="RECIPE")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1], help="(default: 0 1)")
    parser.add_argument("--updates", type=int, default=800, help="(default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    of_recorded = float(Values.of_recorded().win[0, DECISIONS])
    print(f"the recorded player wins {of_recorded:.2f}; whoever is always right 1.00, always wrong 0.00")
    print(f"{'':48}{'greedy wins':>20}{'greedy right':>20}{'critics right':>20}{'CPU s':>8}", flush=True)
    table: dict[str, dict[str, list[float]]] = {}
    for name in args.recipes:
        results = [run(RECIPES[name], seed=seed, updates=args.updates) for seed in args.seeds]
        columns = {key: [getattr(result, key) for result in results] for key in Result.__dataclass_fields__}
        shown = "".join(f"{spread(columns[key]):>20}" for key in ("wins", "right", "critics_right"))
        print(f"{name:48}{shown}{sum(columns['cpu_s']) / len(results):8.1f}", flush=True)
        table[name] = columns
    print(json.dumps({"updates": args.updates, "seeds": args.seeds, "recorded_wins": of_recorded, "recipes": table}))


def spread(values: Sequence[float]) -> str:
    """Mean and range."""
    return f"{sum(values) / len(values):.2f} ({min(values):.2f}-{max(values):.2f})"


if __name__ == "__main__":
    main()

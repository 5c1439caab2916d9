"""How much noise the sampled value estimate adds to learning, and what value_estimate = "exact" leaves of it.

    python scripts/measure_value_estimate.py                    # trains a small agent first: minutes on a CPU
    python scripts/measure_value_estimate.py --run_dir runs/first    # or takes the latest checkpoint of a run

On fixed batches of held-out battles, without dropout, the losses and the heads' gradients are computed again and again
with new draws: of the policy's actions alone (the critics of each TD target stay the same), or of the critics, too, as
in training. Gradient noise is E|g - mean g|^2 / |mean g|^2, over draws on the same battles and over other battles.
Prints a table for people, then one line of JSON.
"""

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gemma_metamon import sample_battles
from gemma_metamon.battle.replays import find_battles
from gemma_metamon.commands import main as gemma_metamon
from gemma_metamon.data.dataset import collate, take_window
from gemma_metamon.data.encoding import encode_battle, is_held_out
from gemma_metamon.nets.agents.amago2 import MultiTaskAgent
from gemma_metamon.nets.agents.draws import Draws
from gemma_metamon.nets.batch import Batch, countable_actions
from gemma_metamon.runs.checkpoints import Checkpoint
from gemma_metamon.runs.loading import load_agent
from gemma_metamon.view import BattleView

BATTLE_FORMAT, HOLDOUT_SHARE = "gen1ou", 0.1
MODEL, TRAINING = "gemma_tiny_multitaskagent.gin", "binary_rl.gin"
# the config's warm-up is longer than this run
SHORT_RUN = ("MetamonAMAGOExperiment.learning_rate = 1e-3", "MetamonAMAGOExperiment.lr_warmup_steps = 40")
PARTS = ("actor", "critics")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run_dir", type=Path, help="a run of a MultiTaskAgent on gen1ou (default: train one)")
    parser.add_argument("--updates", type=int, default=300, help="of the agent trained here (default: %(default)s)")
    parser.add_argument("--batches", type=int, default=24, help="(default: %(default)s)")
    parser.add_argument("--batch_size", type=int, default=8, help="battles in a batch (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=16, help="draws per batch (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="(default: %(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run_dir = args.run_dir or train(Path(folder), args.updates)
        agent, meta = load_agent(Checkpoint.find(run_dir), "cpu")
    torch.set_num_threads(args.threads)
    batches = list(held_out_batches(agent, meta.view(), args.batches, args.batch_size))
    agent.tstep_encoder, agent.traj_encoder = Given("state"), Given(None)
    result = {
        "updates": meta.updates,
        "K": agent.options.num_actions_for_value_in_critic_loss,
        "decisions": sum(int(countable_actions(batch).sum()) for batch in batches),
        **{name: getattr(args, name) for name in ("batches", "batch_size", "repeats")},
    }
    for drawn, fixed_critics in (("actions", True), ("actions_and_critics", False)):
        for estimate in ("sampled", "exact"):
            agent.value_estimate = estimate
            result[f"{estimate}, {drawn} drawn"] = measure(agent, batches, args.repeats, fixed_critics=fixed_critics)
    print_table(result)
    print(json.dumps(result))


def train(save_dir: Path, updates: int) -> Path:
    command = ["train", "--run_name", "run", "--save_dir", str(save_dir), "--formats", BATTLE_FORMAT]
    command += ["--model_gin_config", MODEL, "--train_gin_config", TRAINING, "--holdout_share", str(HOLDOUT_SHARE)]
    command += ["--epochs", "1", "--steps_per_epoch", str(updates), "--batch_size_per_gpu", "8"]
    for override in SHORT_RUN:
        command += ["--gin_override", override]
    if gemma_metamon(command) != 0:
        raise SystemExit("measure_value_estimate: training failed, see above")
    return save_dir / "run"


@torch.no_grad()
def held_out_batches(agent: MultiTaskAgent, view: BattleView, batches: int, batch_size: int) -> Iterator[Batch]:
    """Battles that `train` left out, with the states that the encoders make of them as the observation `state`."""
    files = find_battles(sample_battles.extract(BATTLE_FORMAT), [BATTLE_FORMAT])
    held_out = [path for path in files if is_held_out(path, HOLDOUT_SHARE)]
    if len(held_out) < batches * batch_size:
        raise SystemExit(f"measure_value_estimate: {batches * batch_size} battles wanted, {len(held_out)} are held out")
    for i in range(batches):
        chosen = held_out[i * batch_size : (i + 1) * batch_size]
        batch = collate([take_window(encode_battle(path, view), 0, agent.options.max_seq_len) for path in chosen])
        state = agent.traj_encoder(agent.tstep_encoder(batch.obs, batch.rl2s), batch.time_idxs)
        yield batch._replace(obs={**batch.obs, "state": state})


class Given(nn.Module):
    """In place of an encoder: hands on what was computed before."""

    def __init__(self, key: str | None) -> None:
        super().__init__()
        self.key = key

    def forward(self, given: Any, _: Tensor) -> Tensor:
        return given if self.key is None else given[self.key]


class SameCritics(Draws):
    """Actions are drawn anew, the critics of the TD targets are the same each time."""

    def critic_subset(self, num_critics: int, shape: tuple[int, ...], device: torch.device) -> Tensor:
        return torch.randint(num_critics, shape, generator=torch.Generator(device).manual_seed(0), device=device)


def measure(agent: MultiTaskAgent, batches: list[Batch], repeats: int, *, fixed_critics: bool) -> dict[str, float]:
    """The means over the batches of what `spreads` gives for each, and how much the batches' gradients differ."""
    draws = (SameCritics if fixed_critics else Draws)(torch.Generator().manual_seed(1))
    found: dict[str, list[float]] = defaultdict(list)
    of_batches = {part: Gradients() for part in PARTS}
    for batch in batches:
        spread, gradients = spreads(agent, batch, draws, repeats)
        for name, value in spread.items():
            found[name].append(value)
        for part in PARTS:
            found[f"gradient noise, {part}"].append(gradients[part].noise())
            of_batches[part].add(gradients[part].total / repeats)
    means = {name: sum(values) / len(values) for name, values in found.items()}
    means |= {f"gradient noise of other battles, {part}": of_batches[part].noise() for part in PARTS}
    return {name: float(f"{round(value, 7):.3g}") for name, value in means.items()}


def spreads(
    agent: MultiTaskAgent, batch: Batch, draws: Draws, repeats: int
) -> tuple[dict[str, float], dict[str, "Gradients"]]:
    """How far repeated draws on one batch lie apart; over counted decisions, of the discount that acts."""
    counted = countable_actions(batch)
    seen: dict[str, list[Tensor]] = defaultdict(list)
    gradients = {part: Gradients() for part in PARTS}
    label, weigh = agent.critics.labels, agent.fbc_filter_func

    def labels(td_target: Tensor) -> Tensor:  # (B, L, 1, G, 1)
        seen["TD target"].append(td_target[:, :, 0, -1, 0][counted])
        return label(td_target)

    def weights(advantage: Tensor) -> Tensor:  # (B, L, G, 1)
        found = weigh(advantage)
        seen["advantage"].append(advantage[:, :, -1, 0][counted])
        seen["weight"].append(found[:, :, -1, 0][counted])
        return found

    agent.critics.labels, agent.fbc_filter_func = labels, weights
    for _ in range(repeats):
        agent.zero_grad()
        losses = agent(batch, draws)
        (losses.actor_loss + agent.options.critic_loss_weight * losses.critic_loss).backward()
        for part in PARTS:
            gradients[part].add(torch.cat([p.grad.flatten() for p in getattr(agent, part).parameters()]))
    agent.critics.labels, agent.fbc_filter_func = label, weigh

    found = {f"{name}, deviation / spread": deviation(torch.stack(seen[name])) for name in ("TD target", "advantage")}
    likely = torch.stack(seen["weight"]).mean(0)
    found["filter weights, mean"] = float(likely.mean())
    found["filter weights that change"] = float((2 * likely * (1 - likely)).mean() * repeats / (repeats - 1))
    return found, gradients


def deviation(values: Tensor) -> float:
    """(repeats, decisions): the standard deviation over repeats, relative to that of the means over decisions."""
    return float(values.var(0).mean().sqrt() / values.mean(0).std())


class Gradients:
    """Sums over repeated gradients g, for E|g - mean g|^2 / |mean g|^2."""

    def __init__(self) -> None:
        self.count, self.squares, self.total = 0, 0.0, torch.zeros(())

    def add(self, gradient: Tensor) -> None:
        flat = gradient.double()
        self.count, self.squares, self.total = self.count + 1, self.squares + float(flat @ flat), self.total + flat

    def noise(self) -> float:
        square_of_mean = float(self.total @ self.total) / self.count**2
        variance = (self.squares - self.count * square_of_mean) / (self.count - 1)
        # the mean of finitely many has noise in its length, too
        return max(variance, 0.0) / (square_of_mean - variance / self.count)


def print_table(result: Mapping[str, Any]) -> None:
    cases = {name: found for name, found in result.items() if isinstance(found, dict)}
    print(f"| | {' | '.join(cases)} |\n|---|{'---|' * len(cases)}")
    for row in next(iter(cases.values())):
        print(f"| {row} | {' | '.join(str(found[row]) for found in cases.values())} |")


if __name__ == "__main__":
    main()

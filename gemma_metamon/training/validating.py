"""A training tried out before it begins: a few real batches through all that a long run does, a row for each thing.

What is looked at is what `Trainer` itself does: its batches, its updates, its checkpoints. Nothing of it is kept.
"""

import math
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from gemma_metamon.checklist import Row
from gemma_metamon.data.dataset import BattleDataset, collate, load_encoded, path_of
from gemma_metamon.data.encoding import EncodedBattle
from gemma_metamon.errors import DataError, GemmaMetamonError
from gemma_metamon.nets.batch import Batch, countable_actions, padded_timesteps
from gemma_metamon.nets.heads.critics import NCriticsTwoHot
from gemma_metamon.runs.checkpoints import Checkpoint
from gemma_metamon.runs.experiment import Experiment, obs_spaces
from gemma_metamon.runs.loading import load_for_play, load_weights
from gemma_metamon.strict_json import shown
from gemma_metamon.text.vocabulary import UNKNOWN_ID
from gemma_metamon.training.meter import Meter
from gemma_metamon.training.saving import SaveEvery, Saver
from gemma_metamon.training.schedule import Schedule
from gemma_metamon.training.tracking import Tracker
from gemma_metamon.training.trainer import Trainer
from gemma_metamon.view import BattleView

SAMPLED_BATTLES: Final = 64
UPDATES: Final = 3
"""The first has learning rate 0 in a warm-up, and half of an adapter gets no gradient before the other has moved."""
MOST_UNKNOWN: Final = 0.02
"""The largest share of words that no vocabulary has. A list that fits its battles has all. A species that is newer than
the list is one of a state's 106 words, in the battles that show it; two of 106 in each state are a kind of word that is
lacking, or another game's list, and the agent would learn from gaps."""
ACTED_DECISIONS: Final = 40
PROBABILITY_TOLERANCE: Final = 0.02
"""How far probabilities of acting may be from those of training, which keep off 0 and 1 by a hundredth or less."""


def sample_battles(dataset: BattleDataset) -> tuple[list[EncodedBattle], Row]:
    """Some battles, spread evenly over all, and the row that says how they could be read."""
    places = [(source, place) for source in dataset.sources for place in range(len(source))]
    chosen = [places[i] for i in np.linspace(0, len(places) - 1, min(SAMPLED_BATTLES, len(places))).astype(int)]
    battles: list[EncodedBattle] = []
    refused: list[str] = []
    for source, place in chosen:
        battle = source[place]
        try:
            battles.append(load_encoded(battle, dataset.view))
        except (DataError, OSError) as error:
            refused.append(str(error) or str(path_of(battle)))
    found = f"{len(places)} to train on; {len(battles)} of {len(chosen)} were read"
    if not battles or len(refused) > dataset.set_aside.max_share * len(chosen):
        mend = f"{len(refused)} were refused, more than --max_set_aside; the first: {refused[0]}"
        return battles, Row(name="battles", state="wrong", found=found, mend=mend)
    unknown = _unknown_share(battles)
    if unknown:
        found += f"; {unknown:.2%} of their words are in no vocabulary"
        if met := dataset.view.vocabulary.unknown_counts.most_common(3):  # a store has no more than their number
            found += f" ({', '.join(shown(word) for word, _ in met)})"
    if unknown > MOST_UNKNOWN:
        mend = (
            f"more than {MOST_UNKNOWN:.0%} are more than some new names: give the word list of these battles by "
            "--tokenizer, or leave that out; a store is made by `prepare` with the same"
        )
        return battles, Row(name="battles", state="wrong", found=found, mend=mend)
    mend = f"{len(refused)} would be set aside: {refused[0]}" if refused else ""
    return battles, Row(name="battles", state="ok", found=found, mend=mend)


def _unknown_share(battles: Sequence[EncodedBattle]) -> float:
    """Of all words of all states, those that the vocabulary does not have."""
    return sum(int((one.word_ids == UNKNOWN_ID).sum()) for one in battles) / sum(one.word_ids.size for one in battles)


def look_at_rewards(battles: Sequence[EncodedBattle], view: BattleView, agent: Any) -> Row:
    """Whether what a battle pays is finite, and stays within the critics' bins.

    Args:
        battles: some of those to train on.
        view: has the reward function.
        agent: of the configuration; it may be on the meta device.
    """
    name, function = "rewards", view.reward_function.name
    if not all(np.isfinite(battle.rewards).all() for battle in battles):
        return Row(name=name, state="wrong", found=f"{function} is not finite", mend="choose another --reward_function")
    returns = np.concatenate([_returns(battle.rewards, max(agent.discounts)) for battle in battles])
    returns = returns * agent.options.reward_multiplier
    found = f"{function}, multiplied: returns of {returns.min():.5g} to {returns.max():.5g}"
    if not returns.any():
        return Row(name=name, state="wrong", found=f"{found}: nothing is paid", mend="choose another --reward_function")
    if not (isinstance(agent.critics, NCriticsTwoHot) and agent.uses_critics):
        return Row(name=name, state="ok", found=f"{found}; no critic learns them in bins")
    bins = agent.critics.bins
    beyond = np.mean((returns < bins.min_return) | (returns > bins.max_return))
    found += f"; bins of {bins.min_return:g} to {bins.max_return:g}"
    if not beyond:
        return Row(name=name, state="ok", found=found)
    mend = "widen actor_critic.NCriticsTwoHot.min_return and max_return, or lower the agent's reward_multiplier"
    return Row(name=name, state="wrong", found=f"{found}, which {beyond:.1%} of them leave", mend=mend)


def _returns(rewards: np.ndarray[Any, Any], gamma: float) -> np.ndarray[Any, Any]:
    """(T,) -> (T - 1,): the discounted return from each decision on."""
    returns, after = np.zeros(len(rewards) - 1), 0.0
    for i in range(len(returns) - 1, -1, -1):
        after = float(rewards[i]) + gamma * after
        returns[i] = after
    return returns


def try_out(
    run_dir: Path, experiment: Experiment, dataset: BattleDataset, schedule: Schedule, config: str, *, checkpoints: int
) -> Iterator[Row]:
    """Trains a few batches in this folder, saves, loads and lets act: a row for each step. What was made is removed.

    Ends with the first step after which the next would tell nothing.

    Args:
        run_dir: a folder of its own, on the disk that the run is to be on.
        experiment: what gin set.
        dataset: the battles.
        schedule: of the run: its batch size and seed are taken, its length tells what the run will need.
        config: the resolved configuration as text.
        checkpoints: of the run that are on the disk at once.
    """
    trainer = Trainer(run_dir=run_dir, experiment=experiment, dataset=dataset, schedule=schedule, config=config)
    B = schedule.batch_size
    drawn = (collate([dataset[i * B + j] for j in range(B)]) for i in range(UPDATES * schedule.grad_accum))
    batches = list(islice(drawn, UPDATES))  # the others are many where grad_accum is large, and need not be kept
    row = _look_at_batches(batches, dataset.view)
    yield row
    if row.state == "wrong":
        return
    learning = _Learning(trainer)
    for row in learning.rows(chain(batches, drawn)):
        yield row
        if row.state == "wrong":
            return
    yield from _save_load_act(trainer, batches[0], checkpoints)


def _look_at_batches(batches: Sequence[Batch], view: BattleView) -> Row:
    wanted = {key: space.shape for key, space in obs_spaces(view).items()}
    for batch in batches:
        B, T = batch.rl2s.shape[:2]
        other = [
            f"{key} is {tuple(batch.obs[key].shape)}, not {(B, T, *shape)}"
            for key, shape in wanted.items()
            if tuple(batch.obs[key].shape) != (B, T, *shape)
        ]
        if batch.rl2s.shape[2] != 1 + view.action_space.n:
            other.append(f"rl2s are {batch.rl2s.shape[2]} wide, not {1 + view.action_space.n}")
        if other:
            mend = "give all folders of battles one --obs_space and --action_space; prepare their stores anew"
            return Row(name="batches", state="wrong", found="; ".join(other), mend=mend)
    counted = torch.cat([countable_actions(batch).flatten() for batch in batches])
    padding = torch.cat([padded_timesteps(batch.rl2s).flatten() for batch in batches]).float().mean()
    shapes = ", ".join(f"{batch.rl2s.shape[0]} x {batch.rl2s.shape[1]}" for batch in batches)
    found = f"{len(batches)} of battles x timesteps {shapes}; {padding:.0%} padding, {int(counted.sum())} actions"
    if not counted.any():
        return Row(name="batches", state="wrong", found=found, mend="no action was recorded; choose other battles")
    return Row(name="batches", state="ok", found=found)


class _Learning:
    """A few updates of a trainer, and what they say."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        agent = trainer.bare_agent
        learning = {id(parameter) for parameter in agent.trainable_parameters()}
        self.named = {name: p for name, p in agent.named_parameters() if id(p) in learning}
        self.largest: dict[str, float] = {}

    def rows(self, batches: Iterable[Batch]) -> Iterator[Row]:
        """Learns from grad_accum batches for each update, as training does."""
        trainer = self.trainer
        grad_accum = trainer.schedule.grad_accum
        # the optimizer's step sets gradients to zero; before it each is seen here
        hooks = [p.register_post_accumulate_grad_hook(self._seen(name)) for name, p in self.named.items()]
        trainer.agent.train()
        losses, seconds = [], [0.0]
        made = 0
        try:
            for number, batch in enumerate(batches):
                if number % grad_accum == 0:
                    trainer._begin_update()
                started = time.perf_counter()
                trainer._learn(batch.to(trainer.accelerator.device), Meter())
                seconds[-1] += time.perf_counter() - started
                if trainer.accelerator.sync_gradients:
                    trainer.updates += 1
                    made += not trainer.guard.left_out_in_a_row
                    losses.append(fmean(trainer.guard.losses()))
                    seconds.append(0.0)
        finally:
            for hook in hooks:
                hook.remove()
        yield self._losses(losses, seconds[:-1], made)
        yield self._gradients()

    def _seen(self, name: str) -> Any:
        def note(parameter: Tensor) -> None:
            if parameter.grad is not None:
                # of numpy: NaN stays NaN
                self.largest[name] = float(np.maximum(self.largest.get(name, 0.0), float(parameter.grad.abs().max())))

        return note

    def _losses(self, losses: list[float], seconds: list[float], made: int) -> Row:
        """Of each update its loss and its seconds; `made` of them were not left out."""
        schedule = self.trainer.schedule
        found = f"losses {', '.join(f'{loss:.4g}' for loss in losses)}"
        if not all(map(math.isfinite, losses)) or not self.trainer.guard.weights_are_sound():
            mend = "lower MetamonAMAGOExperiment.learning_rate; look at the battles with gemma-metamon inspect"
            return Row(name="updates", state="wrong", found=f"{found}: not finite", mend=mend)
        if made < UPDATES:
            found += f": {UPDATES - made} of {UPDATES} updates would be left out"
            if broken := [name for name, largest in self.largest.items() if not math.isfinite(largest)]:
                found += f"; {len(broken)} tensors have a gradient that is not finite ({', '.join(broken[:3])})"
            return Row(name="updates", state="wrong", found=found, mend="freeze them, or see what it comes from")
        total = min(seconds) * schedule.epochs * schedule.steps_per_epoch
        found += f"; {min(seconds) / schedule.grad_accum:.2g} s a batch: "
        found += f"{schedule.epochs} x {schedule.steps_per_epoch} updates"
        return Row(name="updates", state="ok", found=f"{found} take about {_duration(total)}")

    def _gradients(self) -> Row:
        agent = self.trainer.bare_agent
        count = sum(parameter.numel() for parameter in self.named.values())
        found = f"{len(self.named)} tensors of {count:,} weights learn"
        expected = {name for name in self.named if agent.uses_critics or not name.startswith("critics.")}
        waits = bool(agent.options.critic_warmup_updates)  # the actor does, so what is zero now may move later
        silent = [n for n in self.named if n in expected and not self.largest.get(n, 0.0) and not waits]
        if silent:
            found += f"; {len(silent)} get no gradient ({', '.join(silent[:3])})"
            return Row(
                name="gradients", state="wrong", found=found, mend="freeze them, or see what they are cut off by"
            )
        if len(expected) < len(self.named):
            found += "; the critics learn nothing here, as this training config wants"
        return Row(name="gradients", state="ok", found=found)


def _save_load_act(trainer: Trainer, batch: Batch, checkpoints: int) -> Iterator[Row]:
    agent, run_dir = trainer.bare_agent, trainer.run_dir
    with Tracker(run_dir, run_dir.name, {}, wandb=False) as tracker:
        trainer.save(Saver(run_dir, trainer.accelerator, SaveEvery(), metrics=tracker.path))
    checkpoint = Checkpoint.find(run_dir)
    size = sum(file.stat().st_size for file in checkpoint.folder.iterdir())
    fresh: Any = trainer.experiment.build_agent(trainer.dataset.view).to(trainer.accelerator.device)
    load_weights(fresh, checkpoint)
    saved, loaded = agent.state_dict(), fresh.state_dict()
    other = [name for name in saved if not torch.equal(saved[name], loaded[name])]
    found = f"a checkpoint of {size / 1e6:,.1f} MB with {len(saved)} tensors"
    if other:
        found += f"; {len(other)} are others once loaded ({', '.join(other[:3])})"
        yield Row(name="save and load", state="wrong", found=found, mend="a fault of this package; report it")
        return
    yield Row(name="save and load", state="ok", found=f"{found}; loaded, they are the same")
    yield _room(run_dir, size, checkpoints)
    del fresh, loaded
    yield _act(trainer, checkpoint, batch)


def _room(run_dir: Path, size: int, checkpoints: int) -> Row:
    """Whether all checkpoints that are there at once fit."""
    needed, free = size * checkpoints, shutil.disk_usage(run_dir).free
    found = f"{needed / 1e9:,.2f} GB for {checkpoints} checkpoints, {free / 1e9:,.1f} GB free"
    if needed <= free:
        return Row(name="room", state="ok", found=found)
    mend = "keep fewer checkpoints (--keep_last), make room, or choose another --save_dir"
    return Row(name="room", state="wrong", found=found, mend=mend)


@torch.no_grad()
def _act(trainer: Trainer, checkpoint: Checkpoint, batch: Batch) -> Row:
    """The loaded agent decides along recorded battles, one decision at a time, as in play."""
    trained = trainer.bare_agent.eval()
    device = trainer.accelerator.device
    batch = batch.to(device)
    wanted = trained.action_probs(batch)  # (B, T, A)
    agent = load_for_play(checkpoint, str(device)).agent
    B, T = batch.rl2s.shape[:2]
    T = min(T - 1, ACTED_DECISIONS)  # at the last timestep nothing is decided
    cache, rows = agent.traj_encoder.init_cache(B, device=device), torch.arange(B, device=device)
    real = ~padded_timesteps(batch.rl2s)[:, 1:]  # a decision counts where the state after it is real
    decided = illegal = 0
    furthest = 0.0
    for t in range(T):
        going = rows[real[:, t]]
        if not len(going):
            break
        obs = {key: value[going, t : t + 1] for key, value in batch.obs.items()}
        actions, probs = agent.act(obs, batch.rl2s[going, t : t + 1], batch.time_idxs[going, t : t + 1], cache, going)
        forbidden = obs["illegal_actions"][:, 0]
        some_legal = ~forbidden.all(-1)
        decided += len(going)
        illegal += int((forbidden.gather(1, actions[:, None])[:, 0] & some_legal).sum())
        if not probs.isfinite().all():
            found = f"decision {t + 1} has probabilities that are not finite"
            return Row(name="act", state="wrong", found=found, mend="lower MetamonAMAGOExperiment.learning_rate")
        furthest = max(furthest, float((probs - wanted[going, t])[some_legal].abs().max()) if some_legal.any() else 0.0)
    found = (
        f"{decided} decisions of the loaded agent, {illegal} illegal; probabilities within {furthest:.1g} of training's"
    )
    if illegal:
        mend = "let the actor mask illegal actions (MetamonMaskedActor, pass_obs_keys_to_actor = ['illegal_actions'])"
        return Row(name="act", state="wrong", found=found, mend=mend)
    if furthest > PROBABILITY_TOLERANCE:
        return Row(name="act", state="wrong", found=found, mend="it plays otherwise than it was trained; report it")
    return Row(name="act", state="ok", found=found)


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def as_row(name: str, error: GemmaMetamonError) -> Row:
    """What is wrong, said by an error, whose sentence has the mend."""
    found, _, mend = str(error).split("\n  In call to configurable", 1)[0].partition("; ")
    return Row(name=name, state="wrong", found=found, mend=mend)

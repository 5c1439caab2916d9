"""`Trainer` as a Python program uses it: no flags, no settings; and what an update of several batches is."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from support.small_agent import BATTLES, SMALL, TINY

from gemma_metamon.battle.replays import find_battles
from gemma_metamon.configs.names import EXPERIMENT, configurable
from gemma_metamon.data.dataset import BattleDataset, collate
from gemma_metamon.runs import resolve
from gemma_metamon.runs.checkpoints import Checkpoint, list_checkpoints
from gemma_metamon.runs.experiment import Experiment
from gemma_metamon.training.schedule import Schedule
from gemma_metamon.training.tracking import Tracker
from gemma_metamon.training.trainer import Trainer
from gemma_metamon.view import BattleView


def trainer(run_dir: Path, *overrides: str, training: str = "binary_rl.gin", **schedule: int) -> Trainer:
    resolved = resolve.load(TINY, training, [*SMALL, *overrides])
    view = BattleView.default()
    experiment: Experiment = configurable(EXPERIMENT)()
    battles = find_battles(BATTLES, ["gen1ou", "gen9ou"])
    return Trainer(
        run_dir=run_dir,
        experiment=experiment,
        dataset=BattleDataset([battles], [1.0], view, max_seq_len=experiment.max_seq_len),
        schedule=Schedule(**{"epochs": 1, "steps_per_epoch": 1, "batch_size": 2, **schedule}),
        config=resolved.text,
    )


def test_it_trains_saves_and_resumes_without_settings(tmp_path: Path) -> None:
    with Tracker(tmp_path, "run", {}, wandb=False) as tracker:
        trainer(tmp_path).train(tracker)
        resumed = trainer(tmp_path, epochs=2)
        resumed.resume(Checkpoint(tmp_path, 1))
        resumed.train(tracker)
    assert list_checkpoints(tmp_path) == [0, 1, 2]
    meta = Checkpoint(tmp_path, 2).read_meta()
    assert (meta.settings, meta.vocabulary, meta.updates) == ({}, None, 2)
    assert meta.view().obs_space.name == "TeamPreviewObservationSpace"


def test_a_run_goes_on_anew_with_its_weights_alone(tmp_path: Path) -> None:
    with Tracker(tmp_path, "run", {}, wandb=False) as tracker:
        first = trainer(tmp_path)
        first.train(tracker)
        going_on, anew = trainer(tmp_path, epochs=2), trainer(tmp_path, epochs=2)
        going_on.resume(Checkpoint(tmp_path, 1))
        anew.resume(Checkpoint(tmp_path, 1), anew=True)
        assert going_on.optimizer.state
        assert not anew.optimizer.state
        for ours, before in zip(anew.bare_agent.parameters(), first.bare_agent.parameters(), strict=True):
            assert torch.equal(ours, before)
        assert (anew.updates, anew.windows) == (going_on.updates, going_on.windows)
        assert (going_on._learning_rate > 0, anew._learning_rate) == (True, 0.0)  # it warms up
        anew.train(tracker)
    assert [Checkpoint(tmp_path, epoch).read_meta().anew_at for epoch in (0, 1, 2)] == [0, 0, 1]
    after = trainer(tmp_path, epochs=3)
    after.resume(Checkpoint(tmp_path, 2))  # and from there it goes on as it began there
    assert after.anew_at == 1


def test_an_update_of_two_batches_has_the_mean_of_their_gradients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = trainer(tmp_path, grad_accum=2)
    alone = copy.deepcopy(ours.bare_agent).train()
    noted: list[dict[str, torch.Tensor]] = []
    random_state = torch.empty(0)

    def note(parameters: Any, max_norm: float) -> torch.Tensor:
        named = ours.bare_agent.named_parameters()
        noted.append({name: weight.grad.clone() for name, weight in named if weight.grad is not None})
        return torch.tensor(1.0)

    monkeypatch.setattr(ours.accelerator, "clip_grad_norm_", note)
    begin = ours.guard.begin

    def note_random_state() -> None:
        nonlocal random_state
        random_state = torch.get_rng_state()
        begin()

    monkeypatch.setattr(ours.guard, "begin", note_random_state)
    with Tracker(tmp_path, "run", {}, wandb=False) as tracker:
        ours.train(tracker)
    (accumulated,) = noted

    torch.set_rng_state(random_state)  # the same actions are drawn again
    mean: dict[str, torch.Tensor] = {}
    for draws in ((0, 1), (2, 3)):
        losses = alone(collate([ours.dataset[draw] for draw in draws]))
        alone.zero_grad()
        ours.experiment.total_loss(alone, losses.actor_loss, losses.critic_loss).backward()
        for name, weight in alone.named_parameters():
            if weight.grad is not None:
                mean[name] = mean.get(name, torch.zeros(())) + weight.grad / 2
    assert accumulated.keys() == mean.keys()
    assert sum(float(gradient.norm()) > 0 for gradient in mean.values()) > 40
    for name, gradient in mean.items():
        torch.testing.assert_close(accumulated[name], gradient, rtol=1e-4, atol=1e-6, msg=name)

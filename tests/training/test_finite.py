"""NaN and infinity: never an update, never a checkpoint; the battles are named, and a run that cannot go on ends."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from support.small_agent import SMALL, TINY, train_command

from gemma_metamon.commands import build_parser, main
from gemma_metamon.commands._training_plan import open_battles
from gemma_metamon.configs.names import EXPERIMENT, configurable
from gemma_metamon.data.dataset import BattleDataset, Window, collate
from gemma_metamon.runs import resolve
from gemma_metamon.runs.checkpoints import TRAINING, WEIGHTS, Checkpoint, list_checkpoints
from gemma_metamon.runs.experiment import Experiment
from gemma_metamon.training import finite
from gemma_metamon.training.finite import FiniteGuard
from gemma_metamon.view import BattleView


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def poison(monkeypatch: pytest.MonkeyPatch, *numbers: int) -> None:
    """These draws hold a NaN, as a damaged file's numbers that no reader has noticed."""
    sound = BattleDataset.__getitem__

    def drawn(self: BattleDataset, number: int) -> Window:
        window = sound(self, number)
        if number in numbers:
            window.obs["numbers"] = window.obs["numbers"].copy()
            window.obs["numbers"][0, 0] = float("nan")
        return window

    monkeypatch.setattr(BattleDataset, "__getitem__", drawn)


def at_once(monkeypatch: pytest.MonkeyPatch, update: int) -> None:
    """That update, from 0, has a learning rate as of a slip of the keyboard."""
    monkeypatch.setattr(Experiment, "learning_rate_factor", lambda _, n: 1e34 if n == update else 1.0)


@pytest.fixture(params=["Agent", "MultiTaskAgent"])
def dataset(request: pytest.FixtureRequest, tmp_path: Path) -> BattleDataset:
    agent = [f"MetamonAMAGOExperiment.agent_type = @agent.{request.param}"]
    if request.param == "Agent":
        agent += ["Agent.actor_type = @MetamonMaskedActor", "Agent.pass_obs_keys_to_actor = ['illegal_actions']"]
        agent += ["Agent.critic_type = @actor_critic.NCritics", "NCritics.d_hidden = 16"]
    resolve.load(TINY, "binary_rl.gin", [*SMALL, *agent])
    args = build_parser().parse_args(train_command(tmp_path))
    spaces = {name: getattr(args, name) for name in ("obs_space", "action_space", "reward_function")}
    return open_battles(args, BattleView.from_names(**spaces), tmp_path, 12)[0]


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_bad_update_leaves_no_trace(dataset: BattleDataset, what: str) -> None:
    experiment: Experiment = configurable(EXPERIMENT)()
    agent = experiment.build_agent(dataset.view).train()
    guard = FiniteGuard(Accelerator(cpu=True), agent, experiment)
    before = {name: value.clone() for name, value in agent.state_dict().items()}
    guard.begin()
    batch = collate([dataset[0], dataset[1]])
    losses = agent(batch)
    assert any(not torch.equal(value, before[name]) for name, value in agent.state_dict().items())
    nan = torch.tensor(float("nan"))
    guard.add(nan if what == "loss" else losses.actor_loss)
    assert not guard.accept(torch.tensor(1.0) if what == "loss" else nan, batch)
    for name, value in agent.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert guard.left_out_in_a_row == 1
    assert guard.weights_are_sound()


def test_a_bad_update_leaves_a_filters_memory_as_it_was(dataset: BattleDataset) -> None:
    resolve.load(TINY, "alakazam3_isfilter.gin", SMALL)
    experiment: Experiment = configurable(EXPERIMENT)()
    agent = experiment.build_agent(dataset.view).train()
    guard = FiniteGuard(Accelerator(cpu=True), agent, experiment)
    batch = collate([dataset[0], dataset[1]])
    for gradient, seen in ((1.0, 2), (float("nan"), 2), (1.0, 4)):
        guard.begin()
        guard.add(agent(batch).actor_loss)
        before = {name: value.clone() for name, value in agent.filter_memory().items()}
        guard.accept(torch.tensor(gradient), batch)
        assert int(agent.filter_memory()["seen"]) == seen
        assert int(before["seen"]) == (4 if gradient != gradient else seen)
    assert guard.weights_are_sound()  # which looks at a batch, and counts none
    assert int(agent.filter_memory()["seen"]) == 4


def test_the_battles_of_a_bad_update_are_named_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    poison(monkeypatch, 5)
    command = train_command(tmp_path, "--grad_accum", "2", "--log_interval", "1", "--steps_per_epoch", "3")
    assert main(command) == 0
    run_dir = tmp_path / "run"
    (left_out,) = lines(run_dir / "not_finite.jsonl")
    assert left_out["update"] == 2  # of draws 4 to 7, its first batch
    (batch,) = left_out["batches"]
    assert batch["loss"] == "nan"
    assert [battle["draw"] for battle in batch["battles"]] == [4, 5]
    assert all(Path(battle["file"]).is_file() for battle in batch["battles"])
    metrics = [line for line in lines(run_dir / "metrics.jsonl") if "updates_left_out" in line]
    assert [line["updates_left_out"] for line in metrics] == [0, 1, 0]
    assert ["loss/total" in line for line in metrics] == [True, False, True]
    assert "NaN" not in (run_dir / "metrics.jsonl").read_text()
    assert "update 2 is left out: its loss or gradient is not finite" in caplog.text
    checkpoint = Checkpoint(run_dir, 1)
    for name in (WEIGHTS, TRAINING):
        assert all(
            value.isfinite().all()
            for value in load_file(checkpoint.folder / name).values()
            if value.is_floating_point()
        )
    assert checkpoint.read_meta().updates == 3


def test_an_endless_gradient_of_a_finite_loss_never_reaches_the_optimizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    total_loss, made = Experiment.total_loss, iter(range(100))

    def with_a_root(self: Experiment, agent: Any, *losses: torch.Tensor) -> torch.Tensor:
        weight = next(parameter for parameter in agent.parameters() if parameter.requires_grad)
        root = (weight - weight.detach()).abs().sum().sqrt()  # 0, and infinitely steep there
        total = total_loss(self, agent, *losses)
        return total + root if next(made) == 1 else total

    monkeypatch.setattr(Experiment, "total_loss", with_a_root)
    assert main(train_command(tmp_path, "--steps_per_epoch", "3", "--log_interval", "1")) == 0
    (left_out,) = lines(tmp_path / "run" / "not_finite.jsonl")
    assert (left_out["update"], left_out["grad_norm"]) == (2, "nan")
    assert all(batch["loss"] not in ("nan", "inf") for batch in left_out["batches"])
    moments = load_file(Checkpoint(tmp_path / "run", 1).folder / TRAINING)
    steps = {int(value) for name, value in moments.items() if name.endswith("/step")}
    assert steps == {2}  # of three updates


def test_too_many_bad_updates_in_a_row_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("gemma_metamon.training.trainer.MAX_LEFT_OUT", 3)
    poison(monkeypatch, *range(4, 100))
    assert main(train_command(tmp_path, "--steps_per_epoch", "9")) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "3 updates in a row had no finite loss or gradient" in said
    assert said.endswith("the run is saved up to epoch 0: the same command with --resume auto goes on")
    assert [line["update"] for line in lines(tmp_path / "run" / "not_finite.jsonl")] == [3, 4, 5]
    assert list_checkpoints(tmp_path / "run") == [0]


@pytest.mark.parametrize("spoiling_update", [0, 1, 2])  # the last of three: no update after it would show it
def test_spoiled_weights_are_never_saved(
    spoiling_update: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    at_once(monkeypatch, spoiling_update)
    assert main(train_command(tmp_path, "--steps_per_epoch", "3")) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("gemma-metamon train: by update")
    assert "give no finite loss any more, and are not saved; lower MetamonAMAGOExperiment.learning_rate" in said
    assert "agrees with" not in caplog.text
    assert list_checkpoints(tmp_path / "run") == [0]


def test_looking_at_the_weights_changes_nothing_of_what_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropout = ["--gin_override", "TformerTrajEncoder.dropout_ff = 0.5", "--epochs", "2"]
    assert main(train_command(tmp_path / "looked", *dropout)) == 0
    monkeypatch.setattr(finite.FiniteGuard, "weights_are_sound", lambda _: True)
    assert main(train_command(tmp_path / "blind", *dropout)) == 0
    looked, blind = (load_file(Checkpoint(tmp_path / name / "run", 2).folder / WEIGHTS) for name in ("looked", "blind"))
    assert all(torch.equal(looked[name], value) for name, value in blind.items())

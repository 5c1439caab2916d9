"""A training that is saved between epochs, ended and gone on with is the one it would have been; which saves stay."""

import json
import random
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.small_agent import BATTLES, SMALL, TINY, train_command

from gemma_metamon.battle.replays import find_battles
from gemma_metamon.commands import main
from gemma_metamon.configs.names import EXPERIMENT, configurable
from gemma_metamon.data.dataset import BattleDataset
from gemma_metamon.errors import ConfigError, DataError
from gemma_metamon.runs import resolve, resuming, run_folder
from gemma_metamon.runs.checkpoints import META, TRAINING, WEIGHTS, Checkpoint, list_all, list_checkpoints
from gemma_metamon.runs.experiment import Experiment
from gemma_metamon.runs.keeping import Keeping, keep
from gemma_metamon.training.meter import Meter
from gemma_metamon.training.random_states import random_states, restore_random_states, seed_by_name
from gemma_metamon.training.saving import SaveEvery
from gemma_metamon.training.schedule import Schedule
from gemma_metamon.training.tracking import Tracker
from gemma_metamon.training.trainer import Trainer
from gemma_metamon.view import BattleView

DROPOUT = "TformerTrajEncoder.dropout_ff = 0.5"
FROZEN = "GemmaTstepEncoder.freeze_base_model = True"


def trainer(run_dir: Path, *overrides: str, every: str | None = None, **schedule: int) -> Trainer:
    resolved = resolve.load(TINY, "binary_rl.gin", [*SMALL, DROPOUT, *overrides])
    view = BattleView.default()
    experiment: Experiment = configurable(EXPERIMENT)()
    battles = find_battles(BATTLES, ["gen1ou", "gen9ou"])
    return Trainer(
        run_dir=run_dir,
        experiment=experiment,
        dataset=BattleDataset([battles[2:]], [1.0], view, max_seq_len=experiment.max_seq_len),
        schedule=Schedule(**{"epochs": 2, "steps_per_epoch": 5, "batch_size": 2, "log_interval": 2, **schedule}),
        config=resolved.text,
        held_out=battles[:2],
        save_every=SaveEvery() if every is None else SaveEvery.read(every),
    )


def train(run: Trainer, *, end_after: int | None = None) -> None:
    """To its end, or as if SIGTERM came in the update after so many of this call."""
    asked = iter(range(10**6))
    with Tracker(run.run_dir, "run", {}, wandb=False) as tracker:
        run.train(tracker, end_asked=lambda: 15 if next(asked) == end_after else 0)


def newest(run_dir: Path) -> Checkpoint:
    return list_all(run_dir)[-1]


def metrics(run_dir: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "timesteps_per_s"} for line in lines]


def go_on(run: Trainer, start: Checkpoint) -> Trainer:
    """As the command does: what came later is moved aside."""
    run_folder.move_later_aside(run.run_dir, start.epoch, start.read_meta().updates)
    run.resume(start)
    return run


def differing(ours: Path, theirs: Path, epochs: Iterable[int]) -> list[str]:
    return [
        f"{name} of {epoch}"
        for epoch in epochs
        for name in (WEIGHTS, TRAINING)
        if (Checkpoint(ours, epoch).folder / name).read_bytes()
        != (Checkpoint(theirs, epoch).folder / name).read_bytes()
    ]


# --- the same run --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end_after", [0, 2, 4, 6])
def test_a_run_ended_in_an_epoch_and_gone_on_with_is_bit_for_bit_the_one_left_alone(
    end_after: int, tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(trainer(whole, grad_accum=2))
    first = trainer(parts, grad_accum=2)
    train(first, end_after=end_after)
    assert first.ended_by == 15
    start = newest(parts)
    meta = start.read_meta()
    assert (meta.updates, meta.draws) == (end_after + 1, 4 * (end_after + 1))
    assert start.update == end_after + 1
    assert start.place == f"update {start.update} (in epoch {1 if end_after < 5 else 2})"
    random.random()  # the process goes on with other numbers than it would have
    np.random.random()
    torch.rand(1)
    train(go_on(trainer(parts, grad_accum=2), start))
    assert differing(whole, parts, (0, 1, 2)) == []
    assert metrics(parts) == metrics(whole)
    assert [line["update"] for line in metrics(parts)] == [0, 2, 4, 5, 5, 6, 8, 10, 10]
    assert [checkpoint.folder.name for checkpoint in list_all(parts)] == ["epoch_0", "epoch_1", "epoch_2"]


def test_with_frozen_texts_in_memory_a_run_saved_by_updates_is_the_same_wherever_it_was_killed(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train(trainer(whole, FROZEN, every="2"))

    class KilledError(Exception):
        pass

    def kill() -> int:
        if updates.pop() == "killed":
            raise KilledError
        return 0

    updates = ["killed", "3", "2", "1"]  # update 2 is saved, 4 is not yet
    with pytest.raises(KilledError), Tracker(killed, "run", {}, wandb=False) as tracker:
        trainer(killed, FROZEN, every="2").train(tracker, end_asked=kill)
    assert newest(killed).folder.name == "epoch_0_update_2"
    assert metrics(killed)[-1]["update"] == 4
    train(go_on(trainer(killed, FROZEN, every="2"), newest(killed)))
    assert differing(whole, killed, (0, 1, 2)) == []
    assert metrics(killed) == metrics(whole)


def test_updates_left_out_in_a_row_are_counted_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = BattleDataset.__getitem__

    def poisoned(self: BattleDataset, number: int) -> Any:
        window = sound(self, number)
        window.obs["numbers"] = window.obs["numbers"] * (float("nan") if number >= 2 else 1.0)
        return window

    monkeypatch.setattr(BattleDataset, "__getitem__", poisoned)
    first = trainer(tmp_path)
    train(first, end_after=2)
    assert newest(tmp_path).read_meta().left_out_in_a_row == 2
    resumed = go_on(trainer(tmp_path), newest(tmp_path))
    assert resumed.guard.left_out_in_a_row == 2
    assert [json.loads(line)["update"] for line in (tmp_path / "not_finite.jsonl").read_text().splitlines()] == [2, 3]


@pytest.mark.parametrize("kind", ["python", "numpy", "cpu"])
def test_every_random_generator_goes_on_where_it_was(kind: str) -> None:
    draw = {
        "python": lambda: [random.gauss(0, 1), random.random()],
        "numpy": lambda: [*np.random.normal(size=3), np.random.random()],
        "cpu": lambda: torch.rand(3).tolist(),
    }[kind]
    seed_by_name("a")
    draw()  # of a pair of normal numbers one is left over
    states = random_states(torch.device("cpu"))
    expected = draw()
    seed_by_name("b")
    assert draw() != expected
    restore_random_states(states, 0, torch.device("cpu"))
    assert draw() == expected


def test_a_meter_gives_the_means_it_would_have_given() -> None:
    class Alone:
        num_processes = 1

    meters = [Meter(), Meter()]
    for value in (0.1, 0.2, float("nan")):
        meters[0].add("a", torch.tensor(value))
        meters[0].end_update(accepted=value == value)
    meters[0].timesteps = 7
    meters[1].restore(meters[0].state())
    ours, theirs = (meter.means(Alone()) for meter in meters)  # type: ignore[arg-type]  # it reads this alone
    assert ours.pop("timesteps_per_s") > 0
    assert theirs.pop("timesteps_per_s") > 0
    assert ours == theirs == {"a": ours["a"], "updates_left_out": 1.0}


def test_what_a_harmed_file_says_of_generators_and_means_is_refused(tmp_path: Path) -> None:
    train(trainer(tmp_path), end_after=2)
    path = newest(tmp_path).folder / TRAINING
    whole = load_file(path)
    harms = {
        "random/python": [torch.zeros(3, dtype=torch.float64), whole["random/python"] + 2.0**33, torch.zeros(627)],
        "random/numpy": [whole["random/numpy"] * 0.3, -whole["random/numpy"]],
        "meter/0/counts": [torch.zeros(2, dtype=torch.int64), torch.full((3,), -1), torch.zeros(3)],
        "meter/0/loss/total": [torch.zeros(2), torch.zeros((2, 2), dtype=torch.int64)],
    }
    run = trainer(tmp_path)
    for name, values in harms.items():
        assert name in whole
        for value in values:
            save_file(whole | {name: value}, path)
            with pytest.raises(DataError, match="is damaged"):
                run.resume(newest(tmp_path))
    save_file(whole, path)
    run.resume(newest(tmp_path))


# --- another number of processes -----------------------------------------------------------------------------------


def test_another_number_of_processes_keeps_the_place_in_the_data_and_seeds_anew_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(trainer(tmp_path), end_after=2)
    start = newest(tmp_path)
    held = load_file(start.folder / TRAINING)
    save_file(
        held | {"random/cpu_of_process_1": held["random/cpu"].clone()}, start.folder / TRAINING
    )  # as two would save
    states = []
    for _ in range(2):
        resumed = trainer(tmp_path)
        resumed.resume(start)
        assert (resumed.updates, resumed.windows, resumed.updates_in_epoch) == (3, 6, 3)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)
    assert not torch.equal(states[0], held["random/cpu"])
    said = [record.message for record in caplog.records if "2 processes" in record.message]
    assert len(said) == 2  # a line each time
    assert (
        "was saved by 2 processes, and 1 goes on: the battles go on with window 6, random numbers are seeded "
        in said[0]
    )
    assert "'seed 0, update 3, process 0 of 1'" in said[0]


# --- when it is saved, and what stays ------------------------------------------------------------------------------


def test_last_names_a_whole_checkpoint_after_every_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named: list[str] = []

    def noted(run_dir: Path, *others: Any) -> None:
        keep(run_dir, *others)
        named.append((run_dir / "ckpts" / "last").read_text().strip())
        there = [checkpoint.folder.name for checkpoint in list_all(run_dir)]
        assert named[-1] == there[-1]
        assert (run_dir / "ckpts" / named[-1] / "checkpoint.json").is_file()
        assert sum("update" in name for name in there) <= 1

    monkeypatch.setattr("gemma_metamon.training.saving.keep", noted)
    train(trainer(tmp_path, every="2"))
    between = ["epoch_0_update_2", "epoch_0_update_4", "epoch_1_update_6", "epoch_1_update_8"]
    assert named == ["epoch_0", *between[:2], "epoch_1", *between[2:], "epoch_2"]
    assert list_checkpoints(tmp_path) == [0, 1, 2]


def test_minutes_are_counted_by_a_clock_that_nobody_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jumps = iter(range(10**6))
    # a stand-in: this machine's clock is not ours to set
    monkeypatch.setattr(time, "time", lambda: 1e9 - 3600.0 * next(jumps))
    run = trainer(tmp_path, every="0.000001m", epochs=1)
    train(run, end_after=3)
    assert newest(tmp_path).update == 4
    hours = trainer(tmp_path / "hours", every="600m", epochs=1)
    train(hours)
    assert list_checkpoints(tmp_path / "hours") == [0, 1]
    lines = [json.loads(line) for line in (tmp_path / "hours" / "metrics.jsonl").read_text().splitlines()]
    rates = [line["timesteps_per_s"] for line in lines if "timesteps_per_s" in line]
    assert len(rates) == 3
    assert min(rates) > 0


@pytest.mark.parametrize("text", ["", "m", "0", "-3", "1.5", "nanm", "infm", "0m", "30s", "ten"])
def test_no_other_time_to_save_is_taken(text: str) -> None:
    with pytest.raises(ConfigError, match="is neither updates, as in 500, nor minutes, as in 30m"):
        SaveEvery.read(text)
    assert (SaveEvery.read("500"), SaveEvery.read("30m")) == (SaveEvery(updates=500), SaveEvery(minutes=30.0))


def checkpoint_of(run_dir: Path, epoch: int, measured: float | None, update: int | None = None) -> None:
    """With as much of it as tells which stay."""
    meta: dict[str, Any] = {
        "identity": dict.fromkeys(
            ("obs_space", "action_space", "reward_function", "phrasing", "granularity", "subword_hash"), "a"
        )
    }
    meta |= {"config": "", "epoch": epoch, "updates": 0, "draws": 0, "settings": {}}
    meta["measured"] = {} if measured is None else {"held_out/agreement": measured}
    folder = Checkpoint(run_dir, epoch, update).folder
    folder.mkdir(parents=True)
    (folder / "checkpoint.json").write_text(json.dumps(meta))


@pytest.mark.parametrize(
    ("keeping", "in_use", "stays"),
    [
        (Keeping(), [], ["0", "1", "2", "3", "4", "4_update_50"]),
        (Keeping(last=1), [], ["0", "4", "4_update_50"]),
        (Keeping(last=2), [], ["0", "3", "4", "4_update_45", "4_update_50"]),
        (Keeping(last=1), [2], ["0", "2", "4", "4_update_50"]),
        (Keeping(last=1, best="agreement"), [], ["0", "1", "4", "4_update_50"]),
        (Keeping(last=1, always=frozenset({3})), [], ["3", "4", "4_update_50"]),
    ],
)
def test_the_newest_the_best_and_what_is_in_use_stay(
    keeping: Keeping, in_use: list[int], stays: list[str], tmp_path: Path
) -> None:
    for epoch, measured in enumerate([None, 0.9, 0.5, 0.9, 0.1]):
        checkpoint_of(tmp_path, epoch, measured)
    for update in (35, 45, 50):
        checkpoint_of(tmp_path, 3 if update < 40 else 4, None, update)
    keep(tmp_path, keeping, in_use)
    assert [one.folder.name for one in list_all(tmp_path)] == [f"epoch_{name}" for name in stays]
    assert (tmp_path / "ckpts" / "last").read_text() == "epoch_4_update_50\n"
    best = tmp_path / "ckpts" / "best"
    assert (best.read_text() if best.exists() else "") == ("" if keeping.best is None else "epoch_1\n")
    assert not list((tmp_path / "ckpts").glob(".*"))
    keep(tmp_path, Keeping(last=1))  # another start, without --keep_best
    assert not best.exists()


# --- the command ---------------------------------------------------------------------------------------------------


def flipped(content: bytes) -> bytes:
    """With one bit of its middle byte another."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def test_the_same_command_goes_on_passes_over_what_is_damaged_and_ends_where_all_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    command = train_command(tmp_path, "--resume", "auto", "--keep_best", "agreement", "--keep_last", "1")
    assert main([*command, "--epochs", "2"]) == 0
    run_dir = tmp_path / "run"
    newest_one = Checkpoint(run_dir, 2)
    before = {name: (newest_one.folder / name).read_bytes() for name in (WEIGHTS, TRAINING)}
    best = int((run_dir / "ckpts" / "best").read_text().removeprefix("epoch_"))
    assert list_checkpoints(run_dir) == sorted({0, best, 2})
    assert main([*command, "--epochs", "2"]) == 0
    assert f"trained to epoch 2 already; checkpoints in {run_dir / 'ckpts'}" in capsys.readouterr().out
    for name, harm, reason in (
        (WEIGHTS, lambda content: content[:-100], ""),
        (WEIGHTS, flipped, f"{newest_one.folder / WEIGHTS} is damaged (its bytes are not those that were written: "),
        (TRAINING, flipped, f"{newest_one.folder / TRAINING} is damaged (its bytes are not those that were written: "),
    ):
        (newest_one.folder / name).write_bytes(harm(before[name]))
        caplog.clear()
        assert main([*command, "--epochs", "2"]) == 0
        assert f"{newest_one.folder} is passed over: {reason}" in caplog.text
        assert f"going on after epoch {0 if best == 2 else 1}" in caplog.text
        assert {name: (newest_one.folder / name).read_bytes() for name in before} == before
    (newest_one.folder / WEIGHTS).write_bytes(flipped(before[WEIGHTS]))
    replace(newest_one.read_meta(), checksums={}).write(newest_one.folder / META)
    assert resuming.find_newest_whole(run_dir) == newest_one  # an earlier version wrote it, and nobody can tell
    assert main(command[: command.index("--resume")]) == 1
    assert "go on with --resume auto, or choose another --run_name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--save_every", "soon"], "--save_every 'soon' is neither updates, as in 500, nor minutes, as in 30m"),
        (["--keep_best", "policy_kl"], "--keep_best 'policy_kl' is none of agreement, value_auc_turn_1"),
        (["--keep_best", "agreement", "--holdout_share", "0"], "is measured on held-out battles; --holdout_share 0"),
        (["--resume", "auto", "--ckpt", "1"], "--resume auto finds the checkpoint itself, and --ckpt names one"),
    ],
)
def test_flags_that_cannot_mean_anything_are_refused(
    flags: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(train_command(tmp_path, *flags)) == 1
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "run").exists()

"""Two processes train one agent: each its own half of the battles, one set of weights, one checkpoint, one verdict."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file
from support.small_agent import train_command

from gemma_metamon.commands import main
from gemma_metamon.runs.checkpoints import WEIGHTS, Checkpoint
from gemma_metamon.training.processes import LONGEST_WAIT

# writes down each process's losses and last weights, and lets one draw hold a NaN
WATCHED = """
import json, os, sys
from pathlib import Path
import torch
from gemma_metamon.commands import main
from gemma_metamon.training import meter
from safetensors.torch import save_file
from gemma_metamon.data.dataset import BattleDataset
from gemma_metamon.training.trainer import Trainer
add, drawn, train = meter.Meter.add, BattleDataset.__getitem__, Trainer.train
folder, poisoned = Path(sys.argv.pop(1)), int(sys.argv.pop(1))
def note(self, name, value):
    if name == "loss/total":
        with (folder / f"losses_{os.environ['RANK']}.jsonl").open("a") as file:
            file.write(f"{float(value)}\\n")
    add(self, name, value)
def poison(self, number):
    window = drawn(self, number)
    if number == poisoned:
        window.obs["numbers"] = window.obs["numbers"] * float("nan")
    return window
def keep(self, *args, **options):
    train(self, *args, **options)
    last = {name: value.contiguous() for name, value in self.bare_agent.state_dict().items()}
    save_file(last, folder / f"weights_{os.environ['RANK']}.safetensors")
    waits = torch.distributed.group.WORLD._get_backend(torch.device("cpu")).options._timeout
    (folder / f"waits_{os.environ['RANK']}").write_text(str(waits.total_seconds()))
meter.Meter.add, BattleDataset.__getitem__, Trainer.train = note, poison, keep
sys.exit(main(sys.argv[1:]))
"""

# the second process is sent SIGTERM in its third update
ASKED = """
import os, signal, sys
from gemma_metamon.commands import main
from gemma_metamon.training import trainer
learn, made = trainer.Trainer._learn, []
def asked(self, batch, meter):
    made.append(1)
    if len(made) == 3 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGTERM)
    learn(self, batch, meter)
trainer.Trainer._learn = asked
sys.exit(main(sys.argv[1:]))
"""


def launch(*command: str) -> "subprocess.CompletedProcess[str]":
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if torch.accelerator.is_available():  # it is one, and not two
        environment["ACCELERATE_USE_CPU"] = "true"
    return subprocess.run([*torchrun, *command], env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize("training", ["binary_rl.gin", "il.gin"])
def test_two_processes_share_an_update(tmp_path: Path, training: str) -> None:
    recompute = ["--gin_override", "GemmaTstepEncoder.encoder_chunk_tokens = 600"]
    done = launch("-m", "gemma_metamon", *train_command(tmp_path, *recompute, training=training))
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("trained to epoch 1 (2 updates)") == 1
    said = "training in 2 processes on cpu: 2 battles x 1 batches x 2 processes = 4 battles an update"
    assert done.stderr.count(said) == 1
    meta = Checkpoint(tmp_path / "run", 1).read_meta()
    assert (meta.updates, meta.draws) == (2, 8)  # 2 updates of 2 battles in each of 2 processes


WITHOUT_DRAWS = [
    "TformerTrajEncoder.dropout_ff = 0.0",
    "TformerTrajEncoder.dropout_emb = 0.0",
    "MultiTaskAgent.num_critics = 1",  # of several, those of a target are drawn
    "MultiTaskAgent.num_critics_td = 1",
    "MultiTaskAgent.value_estimate = 'exact'",  # otherwise by actions that are drawn
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "max_seq_len", "within"),
    [("no", 60, 1e-5), ("bf16", 12, 4e-3)],  # a last bit of bfloat16 is a 256th
    ids=["whole battles", "bf16"],
)
def test_two_processes_have_the_losses_of_one_with_the_same_battles_in_an_update(
    tmp_path: Path, precision: str, max_seq_len: int, within: float
) -> None:
    """One process of four battles as two processes of two battles each; whole battles are of different lengths."""
    overrides = [*WITHOUT_DRAWS, f"MetamonAMAGOExperiment.mixed_precision = '{precision}'"]
    overrides.append(f"MetamonAMAGOExperiment.max_seq_len = {max_seq_len}")
    flags = [flag for override in overrides for flag in ("--gin_override", override)]
    flags += ["--steps_per_epoch", "3", "--log_interval", "1"]
    done = launch("-m", "gemma_metamon", *train_command(tmp_path, *flags, run_name="two"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert main(train_command(tmp_path, *flags, "--batch_size_per_gpu", "4", run_name="at once")) == 0

    def told(name: str, *of: str) -> list[float]:
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        return [line[value] for line in lines for value in of if value in line]

    def losses(name: str) -> list[float]:
        return told(name, "loss/total", "loss/actor", "loss/critic")

    assert len(losses("two")) == 9
    assert (max(told("at once", "share_padding")) > 0) == (max_seq_len > 12)
    assert losses("two") == pytest.approx(losses("at once"), rel=within)
    assert len(set(losses("two"))) == 9


@pytest.mark.slow
def test_two_processes_leave_out_the_same_updates_log_means_of_both_and_keep_the_same_weights(tmp_path: Path) -> None:
    """And each waits for the other for as long as that may work alone."""
    script = tmp_path / "watched.py"
    script.write_text(WATCHED)
    poisoned = 6  # in the second update: the first battle of the second process
    command = train_command(tmp_path, "--steps_per_epoch", "3", "--log_interval", "1")
    done = launch(str(script), str(tmp_path), str(poisoned), *command)
    assert done.returncode == 0, done.stderr[-3000:]
    (left_out,) = map(json.loads, (tmp_path / "run" / "not_finite.jsonl").read_text().splitlines())
    assert left_out["update"] == 2
    assert [[battle["draw"] for battle in batch["battles"]] for batch in left_out["batches"]] == [[6, 7]]
    of_process = [
        [float(loss) for loss in (tmp_path / f"losses_{rank}.jsonl").read_text().splitlines()] for rank in (0, 1)
    ]
    metrics = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    logged = {line["update"]: line["loss/total"] for line in metrics if "loss/total" in line}
    assert logged.keys() == {1, 3}
    for update, loss in logged.items():
        assert loss == pytest.approx(sum(losses[update - 1] for losses in of_process) / 2)
    assert of_process[0] != of_process[1]
    weights = load_file(Checkpoint(tmp_path / "run", 1).folder / WEIGHTS)
    assert all(value.isfinite().all() for value in weights.values())
    for rank in (0, 1):  # each process ends with the weights that were saved
        of_rank = load_file(tmp_path / f"weights_{rank}.safetensors")
        assert of_rank.keys() == weights.keys()
        assert [name for name, value in weights.items() if not torch.equal(of_rank[name], value)] == []
        assert float((tmp_path / f"waits_{rank}").read_text()) == LONGEST_WAIT.total_seconds() == 24 * 3600


@pytest.mark.slow
@pytest.mark.parametrize("training", ["alakazam3_isfilter.gin", pytest.param("binary_rl.gin", marks=pytest.mark.long)])
def test_a_resumed_run_of_two_processes_equals_one_that_never_stopped(
    tmp_path: Path, training: str, caplog: pytest.LogCaptureFixture
) -> None:
    dropout = ["--gin_override", "TformerTrajEncoder.dropout_ff = 0.5"]
    if "isfilter" in training:
        for name, value in {"seq_warmup": 0, "seq_buffer_size": 5, "seq_floor_warmup_steps": 9}.items():
            dropout += ["--gin_override", f"ISAdvantageFilter.{name} = {value}"]
    for name, *flags in (
        ("whole", "--epochs", "2"),
        ("parts", "--epochs", "1"),
        ("parts", "--epochs", "2", "--ckpt", "1"),
    ):
        command = train_command(tmp_path / name, *dropout, *flags, training=training)
        done = launch("-m", "gemma_metamon", *command)
        assert done.returncode == 0, done.stderr[-3000:]
    whole, parts = (load_file(Checkpoint(tmp_path / name / "run", 2).folder / WEIGHTS) for name in ("whole", "parts"))
    assert [name for name, value in whole.items() if not torch.equal(parts[name], value)] == []
    resumed = train_command(tmp_path / "parts", *dropout, "--epochs", "3", "--resume", "auto", training=training)
    assert main(resumed) == 0  # one process goes on for two
    said = caplog.text
    assert said.count("was saved by 2 processes, and 1 goes on: the battles go on with window 16, random") == 1
    assert "'seed 0, update 4, process 0 of 1'" in said
    meta = Checkpoint(tmp_path / "parts" / "run", 3).read_meta()
    assert (meta.updates, meta.draws) == (6, 20)  # 2 battles an update from there on, which are those that come next


@pytest.mark.slow
def test_two_processes_of_which_one_is_asked_to_end_save_together(tmp_path: Path) -> None:
    script = tmp_path / "asked.py"
    script.write_text(ASKED)
    done = launch(str(script), *train_command(tmp_path, "--steps_per_epoch", "9"))
    assert done.returncode != 0
    assert done.stderr.count("the run is saved up to update 3 (in epoch 1): the same command with --resume auto") == 1
    assert Checkpoint(tmp_path / "run", 0, 3).read_meta().draws == 12


@pytest.mark.slow
def test_a_run_that_cannot_begin_ends_in_every_process(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with FileLock(tmp_path / "run" / ".lock"):
        done = launch("-m", "gemma_metamon", *train_command(tmp_path))
    assert done.returncode == 1
    assert done.stderr.count("gemma-metamon train: another process trains in") == 2


@pytest.mark.slow
def test_accelerates_launcher_that_starts_one_process_for_two_is_refused(tmp_path: Path) -> None:
    accelerate = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    done = subprocess.run(
        [*accelerate, "-m", "gemma_metamon", *train_command(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode != 0
    assert "accelerate launch was asked for several processes and started one, as it does on a CPU" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        (
            {"ACCELERATE_MIXED_PRECISION": "no", "MASTER_ADDR": "127.0.0.1"},
            "asked for several processes and started one",
        ),
        ({"WORLD_SIZE": "2"}, "2 processes were asked for, and 1 would train (on cpu)"),
    ],
)
def test_fewer_processes_than_asked_for_are_refused(
    environment: dict[str, str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    main(train_command(tmp_path, "--steps_per_epoch", "1"))  # this process trains alone from now on
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(train_command(tmp_path / "other")) == 1
    assert complaint in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "other").exists()

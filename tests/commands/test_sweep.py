"""`gemma-metamon sweep`: real trainings, one for each trial; what is wrong is refused before the first."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes import descendants, eventually, is_running
from support.small_agent import train_command

from gemma_metamon.commands import main
from gemma_metamon.sweeps.objective import require_metric

pytest.importorskip("optuna", reason="needs optuna: pip install 'gemma-metamon[sweep]'")

LINES = """
MetamonAMAGOExperiment.learning_rate = log(1e-5, 1e-3)
--batch_size_per_gpu = choice(1, 2)
"""
linux = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")


def command(tmp_path: Path, *extra: str, lines: str = LINES) -> list[str]:
    (tmp_path / "x.sweep").write_text(lines)
    flags = train_command(tmp_path)[5:]  # without names and folders
    at = flags.index("--batch_size_per_gpu")
    own = ["--out", str(tmp_path / "out"), *extra]
    return ["sweep", str(tmp_path / "x.sweep"), *own, *flags[:at], *flags[at + 2 :]]


@pytest.mark.slow
def test_a_sweep_goes_on_and_its_best_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(command(tmp_path, "--trials", "1")) == 0
    assert main(command(tmp_path, "--trials", "2", "--json")) == 0
    results = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [trial["state"] for trial in results["trials"]] == ["complete", "complete"]
    best = results["trials"][results["best"]]
    assert best["value"] == max(trial["value"] for trial in results["trials"])
    assert json.loads((out / "results.json").read_text()) == results
    assert (out / "parallel.png").is_file()
    for trial in results["trials"]:
        meta = json.loads((out / f"trial_000{trial['number']}/ckpts/epoch_1/checkpoint.json").read_text())
        assert str(meta["settings"]["batch_size_per_gpu"]) == trial["values"]["--batch_size_per_gpu"]
        rate = trial["values"]["MetamonAMAGOExperiment.learning_rate"]
        assert f"learning_rate = {rate}" in meta["config"]
        for line in (out / f"trial_000{trial['number']}" / "metrics.jsonl").read_text().splitlines():
            for name in json.loads(line):
                require_metric(name, holds_out=True, uses_critics=True, evaluates=False)  # all that it has is taken
    said = (out / "best.gin").read_text().splitlines()[1]
    flags = [
        {"NAME": "best", "DIR": str(tmp_path)}.get(word, word) for word in said.removeprefix("# gemma-metamon ").split()
    ]
    assert main(flags) == 0
    trained = (tmp_path / "best" / "config.gin").read_text()
    assert trained == (out / f"trial_000{results['best']}" / "config.gin").read_text()


@pytest.mark.slow
@linux
def test_a_killed_sweep_leaves_no_training_and_tries_its_values_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    long = command(tmp_path, "--trials", "1", "--steps_per_epoch", "1000")
    process = subprocess.Popen([sys.executable, "-m", "gemma_metamon", *long], stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: (out / "trial_0000" / "ckpts" / "epoch_0").is_dir())
        helpers = descendants(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        eventually(lambda: not any(map(is_running, helpers)))
    finally:
        process.kill()
    again = subprocess.Popen([sys.executable, "-m", "gemma_metamon", *long], stderr=subprocess.PIPE, text=True)
    try:
        eventually(lambda: (out / "trial_0001" / "config.gin").is_file())
        again.terminate()
        _, said = again.communicate(timeout=120)
    finally:
        again.kill()
    assert again.returncode == 128 + signal.SIGTERM, said
    assert "1 trial was left half done, and its values come again" in said
    assert said.strip().splitlines()[-1] == "gemma-metamon sweep: ended by SIGTERM"
    assert (out / "trial_0001" / "config.gin").read_text() == (out / "trial_0000" / "config.gin").read_text()


@pytest.mark.parametrize(
    ("lines", "extra", "complaint"),
    [
        ("A.b = integer(1, 2)", (), "No configurable matching 'A'"),
        ("MetamonAMAGOExperiment.learning_rate = uniform(0.5, 2.0)", (), "learning_rate"),
        ("MultiTaskAgent.fbc_filter_func = choice('@exp_filter', '@no_filter')", (), "no_filter"),
        ("--batch_size_per_gpu = integer(0, 4)", (), "it must be at least 1"),
        (LINES, ("--run_name", "x"), "--run_name is the sweep's to give"),
        (LINES, ("--formats", "gen5ou"), "gen5ou"),
        (LINES, ("--batch-size-per-gpu=2",), "--batch_size_per_gpu is in "),
        (LINES, ("--metric", "held_out/agrement"), "--metric 'held_out/agrement' is none of held_out/agreement, "),
        (LINES, ("--metric", "agreement"), "--metric 'agreement' is no metric; did you mean held_out/agreement?"),
        (LINES, ("--metric", "win_rate"), "without --eval_gens none does"),
        (LINES, ("--holdout_share", "0"), "'held_out/agreement' is measured on held-out battles, and there are none"),
        (LINES, ("--metric", "held_out/policy_kl", "--train_gin_config", "quick.gin"), "is of critics, and these"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_the_first_trial(
    lines: str, extra: tuple[str, ...], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = command(tmp_path, lines=lines)
    assert main([*arguments, *extra]) == 1
    assert complaint in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()

"""`gemma-metamon train` end to end on recorded battles: it learns, it resumes exactly, it leaves whole checkpoints."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.small_agent import BATTLES, train_command

from gemma_metamon.commands import build_parser, main
from gemma_metamon.commands._training_plan import open_battles
from gemma_metamon.runs.checkpoints import TRAINING, WEIGHTS, Checkpoint, list_checkpoints
from gemma_metamon.view import BattleView

SPACES = {
    "obs_space": "TeamPreviewObservationSpace",
    "action_space": "DefaultActionSpace",
    "reward_function": "DefaultShapedReward",
}


def weights(save_dir: Path, epoch: int) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = load_file(Checkpoint(save_dir / "run", epoch).folder / WEIGHTS)
    return loaded


TRAININGS = ["il.gin", "quick.gin", "binary_rl.gin", "exp_rl.gin", "binary_maxq_rl.gin", "kakuna.gin"]
TRAININGS += ["alakazam_bnorm_beta3_hlgauss_vanilla.gin", "grouped_v2_large_isfilter.gin"]
"""One of each kind; the others differ from these in numbers."""


@pytest.mark.parametrize("training", TRAININGS)
def test_every_training_config_changes_what_it_should(tmp_path: Path, training: str) -> None:
    # the first update has learning rate 0, and the targets follow an update later
    assert main(train_command(tmp_path, "--steps_per_epoch", "3", training=training)) == 0
    before, after = weights(tmp_path, 0), weights(tmp_path, 1)
    changed = {key.split(".")[0] for key in after if not torch.equal(before[key], after[key])}
    assert {"tstep_encoder", "traj_encoder", "actor", "target_actor"} <= changed
    assert ("critics" in changed) == (training not in ("il.gin", "quick.gin"))


def test_a_run_writes_its_config_its_metrics_and_whole_checkpoints(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(train_command(tmp_path, "--log_interval", "1", "--epochs", "2")) == 0
    run_dir = tmp_path / "run"
    assert "trained to epoch 2 (4 updates)" in capsys.readouterr().out
    assert list_checkpoints(run_dir) == [0, 1, 2]
    assert not [path for path in (run_dir / "ckpts").iterdir() if path.name.startswith(".")]
    meta = Checkpoint(run_dir, 2).read_meta()
    assert (meta.epoch, meta.updates, meta.draws) == (2, 4, 8)
    assert meta.identity.obs_space == "TeamPreviewObservationSpace"
    assert meta.config == (run_dir / "config.gin").read_text()
    metrics = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    trained = [line for line in metrics if "loss/total" in line]
    assert [line["update"] for line in trained] == [1, 2, 3, 4]
    assert {"loss/actor", "loss/critic", "grad_norm", "learning_rate", "filter_share"} <= trained[0].keys()
    assert [line["learning_rate"] for line in trained] == [0.0, 7.5e-5, 1.5e-4, 1.5e-4]
    assert sum("held_out/agreement" in line for line in metrics) == 2


# so that battles have weights of their own from the first update on
WEIGH_BATTLES = [
    word
    for line in ("seq_warmup = 0", "seq_buffer_size = 5", "seq_floor_warmup_steps = 9")
    for word in ("--gin_override", f"ISAdvantageFilter.{line}")
]


@pytest.mark.parametrize("training", ["binary_rl.gin", "alakazam3_isfilter.gin"])
def test_a_resumed_run_equals_one_that_never_stopped(tmp_path: Path, training: str) -> None:
    dropout = ["--gin_override", "TformerTrajEncoder.dropout_ff = 0.5"]
    dropout += WEIGH_BATTLES if "isfilter" in training else []
    for folder, *flags in (("whole", "3"), ("parts", "1"), ("parts", "3", "--ckpt", "1")):
        assert main(train_command(tmp_path / folder, *dropout, "--epochs", *flags, training=training)) == 0
    whole, parts = weights(tmp_path / "whole", 3), weights(tmp_path / "parts", 3)
    assert whole.keys() == parts.keys()
    for key, value in whole.items():
        torch.testing.assert_close(parts[key], value, rtol=0, atol=0, msg=key)


def test_a_run_logs_what_its_filter_does_and_forgets_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    command = train_command(tmp_path, "--log_interval", "1", *WEIGH_BATTLES, training="alakazam3_isfilter.gin")
    assert main(command) == 0
    metrics = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    logged = [line for line in metrics if "loss/total" in line]
    assert [line["battles_remembered"] for line in logged] == [2, 4]
    assert [line["battle_weight_floor"] for line in logged] == pytest.approx([0.9, 0.8])
    for line in logged:
        assert line["battle_weight_floor"] <= line["battle_weight_min"] <= line["battle_weight_mean"] <= 1
        assert 0 <= line["battle_percentile_mean"] <= 1
    memory = load_file(Checkpoint(tmp_path / "run", 1).folder / TRAINING)
    assert (int(memory["filter/seen"]), int(memory["filter/calls"])) == (4, 2)
    assert memory["filter/recent"].count_nonzero() == 4

    assert main([*command, "--epochs", "2", "--ckpt", "1"]) == 0
    assert "has no memory" not in caplog.text
    memory = load_file(Checkpoint(tmp_path / "run", 2).folder / TRAINING)
    assert (int(memory["filter/seen"]), int(memory["filter/calls"])) == (8, 4)

    # it travels without its memory, which upstream's files do not hold, and comes back
    export, run = ["export", "--to", "amago", "--out", str(tmp_path / "amago")], ["--run_dir", str(tmp_path / "run")]
    assert main([*export, *run]) == 0
    (file,) = (tmp_path / "amago").rglob("policy_epoch_2.pt")
    back = ["--save_dir", str(tmp_path), "--run_name", "back"]
    assert main(["import", "--from", "amago", str(file), *back]) == 0
    ours, theirs = (Checkpoint.find(tmp_path / name, 2) for name in ("run", "back"))
    assert ours.read_meta().config == theirs.read_meta().config
    loaded = theirs.read_weights()
    assert all(torch.equal(loaded[key], value) for key, value in ours.read_weights().items())

    larger = ["--epochs", "3", "--ckpt", "2", "--gin_override", "ISAdvantageFilter.seq_buffer_size = 7"]
    assert main([*command, *larger]) == 0
    assert "has no memory that fits this run's filter, which begins without one" in caplog.text
    memory = load_file(Checkpoint(tmp_path / "run", 3).folder / TRAINING)
    assert (int(memory["filter/seen"]), int(memory["filter/calls"])) == (4, 2)


def test_loader_processes_change_nothing(tmp_path: Path) -> None:
    assert main(train_command(tmp_path / "here")) == 0
    assert main(train_command(tmp_path / "workers", "--dloader_workers", "2")) == 0
    here, workers = weights(tmp_path / "here", 1), weights(tmp_path / "workers", 1)
    for key, value in here.items():
        torch.testing.assert_close(workers[key], value, rtol=0, atol=0, msg=key)


def test_accumulated_batches_are_counted_as_one_update(tmp_path: Path) -> None:
    assert main(train_command(tmp_path, "--grad_accum", "3")) == 0
    meta = Checkpoint(tmp_path / "run", 1).read_meta()
    assert (meta.updates, meta.draws) == (2, 12)


@pytest.mark.slow
def test_training_learns_what_was_recorded(tmp_path: Path) -> None:
    command = train_command(tmp_path, training="quick.gin")
    command += ["--epochs", "1", "--steps_per_epoch", "60", "--batch_size_per_gpu", "8", "--log_interval", "10"]
    assert main(command) == 0
    metrics = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    accuracy = [line["action_accuracy"] for line in metrics if "action_accuracy" in line]
    assert accuracy[-1] > accuracy[0] + 0.1


def test_wandb_logs_offline_without_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="pip install 'gemma-metamon[wandb]'")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(train_command(tmp_path, "--log", "--log_interval", "1")) == 0
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))


REFUSALS = {
    "unknown gin parameter": (
        ["--gin_override", "GemmaTstepEncoder.rank = 3"],
        "doesn't have a parameter named 'rank'",
    ),
    "wrong type": (["--gin_override", "GemmaTstepEncoder.lora_r = 'abc'"], "GemmaTstepEncoder.lora_r = 'abc' is not"),
    "bad value": (
        ["--gin_override", "MetamonAMAGOExperiment.grad_clip = -1.0"],
        "grad_clip = -1.0; it must be a number above 0 and at most 1e+06",
    ),
    "no folder": (["--parsed_replay_dir", "nowhere"], "no such folder: nowhere"),
    "no such format": (["--formats", "gen3ou"], "no battle of format 'gen3ou'"),
    "no such config": (["--model_gin_config", "gemma_tinny.gin"], "no model config 'gemma_tinny.gin'; did you mean"),
    "obs space": (["--obs_space", "Nope"], "unknown observation space 'Nope'"),
    "share": (["--holdout_share", "1.5"], "--holdout_share 1.5; it is a share"),
    "nothing left": (["--holdout_share", "1.0"], "leaves none of"),
    "no batches": (["--batch_size_per_gpu", "0"], "--batch_size_per_gpu 0; it must be at least 1"),
    "another agent's critics": (
        ["--gin_override", "MultiTaskAgent.critic_type = @actor_critic.NCritics"],
        "critic_type is NCritics, but MultiTaskAgent learns with NCriticsTwoHot",
    ),
    "a seed": (["--seed", "-1"], "--seed -1; it must be within 0 to 4294967295"),
    "no folder to save in": (["--save_dir", __file__], "run cannot be made (Not a directory); name another folder"),
    "a word list": (["--tokenizer", "words.json"], "no word list words.json"),
    "no word list of metamon's": (
        ["--tokenizer", "MyOwn-v2"],
        "unknown word list MyOwn-v2; give a JSON file of words, or leave --tokenizer out: the packaged words then "
        "stand in for metamon's (allreplays-v1, allreplays-v2, allreplays-v3, DefaultObservationSpace-v0, Default",
    ),
    "a class of metamon's": (
        ["--obs_space", "PACExpandedObservationSpace"],
        "unknown observation space 'PACExpandedObservationSpace'; did you mean PAC-ExpandedObservationSpace?",
    ),
    "no weights": (
        [
            "--gin_override",
            "GemmaTstepEncoder.backbone_config = None\n"
            "GemmaTstepEncoder.pretrained = True\nGemmaTstepEncoder.model_name = '/no'",
        ],
        "hf auth login",
    ),
}


def test_a_word_list_that_is_no_json_gets_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = tmp_path / "words.json"
    words.write_text("tauros, chansey")
    assert main(train_command(tmp_path, "--tokenizer", str(words))) == 1
    assert "words.json is not JSON" in capsys.readouterr().err


@pytest.mark.parametrize("name", REFUSALS)
def test_bad_input_gets_one_sentence_and_no_run_folder(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    arguments, complaint = REFUSALS[name]
    assert main(train_command(tmp_path, *arguments)) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert complaint in said[-1]
    assert said[-1].startswith("gemma-metamon train: ")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            ["--obs_space", "DefaultObservationSpace"],
            "obs_space 'TeamPreviewObservationSpace', but this run uses 'Default",
        ),
        (["--gin_override", "GemmaTstepEncoder.phrasing = 'raw'"], "phrasing 'natural', but this run uses 'raw'"),
        (["--action_space", "MinimalActionSpace"], "action_space 'DefaultActionSpace'"),
        (["--ckpt", "7"], "has no checkpoint 7; it has 0, 1"),
        (["--ckpt", "1", "--epochs", "1"], "--epochs 1 is not beyond --ckpt 1"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(
    arguments: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(train_command(tmp_path)) == 0
    assert main(train_command(tmp_path, "--ckpt", "1", "--epochs", "2", *arguments)) == 1
    assert complaint in capsys.readouterr().err


def test_a_run_begins_with_the_weights_of_another(tmp_path: Path) -> None:
    assert main(train_command(tmp_path)) == 0
    begin = ["--init_from", str(tmp_path / "run") + "@1"]
    assert main(train_command(tmp_path / "next", *begin, training="exp_rl.gin")) == 0
    given, begun, trained = weights(tmp_path, 1), weights(tmp_path / "next", 0), weights(tmp_path / "next", 1)
    assert all(torch.equal(begun[key], value) for key, value in given.items())
    assert any(not torch.equal(trained[key], value) for key, value in given.items())


def test_a_run_goes_on_anew_with_another_training(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """One that could not use the optimizer's moments: the critics learn alone."""
    stage = {"training": "binary_rl_critic_warmup.gin"}
    assert main(train_command(tmp_path)) == 0
    assert main(train_command(tmp_path, "--ckpt", "1", "--epochs", "2", **stage)) == 1
    assert "was saved by another training" in capsys.readouterr().err
    assert main(train_command(tmp_path, "--ckpt", "1", "--epochs", "2", "--anew", **stage)) == 0
    before, after = weights(tmp_path, 1), weights(tmp_path, 2)
    changed = {key.partition(".")[0] for key, value in before.items() if not torch.equal(after[key], value)}
    assert changed <= {"critics", "target_critics", "maximized_critics", "target_actor", "popart"}
    assert "critics" in changed


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--ckpt", "1"], "--init_from begins a run and --ckpt goes on with one"),
        (["--gin_override", "GemmaTstepEncoder.phrasing = 'raw'"], "phrasing 'natural', but this run uses 'raw'"),
        (["--gin_override", "MultiTaskAgent.use_multigamma = False"], "popart._t is [7, 1], not [1, 1]"),
        (["--init_from", "nowhere@2"], "nowhere: no such folder"),
        (["--anew"], "--anew is of a run that goes on; give it with --ckpt"),
    ],
)
def test_a_run_does_not_begin_with_weights_that_do_not_fit(
    arguments: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(train_command(tmp_path)) == 0
    assert main(train_command(tmp_path / "next", "--init_from", str(tmp_path / "run"), *arguments)) == 1
    assert complaint in capsys.readouterr().err


def test_several_more_folders_are_drawn_from_as_if_they_were_one(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two", tmp_path / "three"]
    for path in sorted((BATTLES / "gen1ou").glob("*.lz4")):
        for folder in folders[:2] if path == min((BATTLES / "gen1ou").glob("*.lz4")) else folders:
            (folder / "gen1ou").mkdir(parents=True, exist_ok=True)
            (folder / "gen1ou" / path.name).write_bytes(path.read_bytes())
    more = ["--formats", "gen1ou", "--custom_replay_dir", *map(str, folders)]
    args = build_parser().parse_args(train_command(tmp_path, *more, "--custom_replay_sample_weight", "0.5"))
    dataset, _ = open_battles(args, BattleView.from_names(**SPACES), tmp_path, 12)
    own, *added = map(len, dataset.sources)
    assert own > 0
    assert added == [added[0], added[0], added[0] - 1]
    assert dataset.weights.tolist() == pytest.approx([0.5, *(0.5 * n / sum(added) for n in added)])


def test_a_run_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(train_command(tmp_path)) == 0
    assert main(train_command(tmp_path)) == 1
    assert "already holds checkpoints (0, 1); go on with --resume auto" in capsys.readouterr().err


def test_damaged_files_are_reported_and_training_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "battles" / "gen9ou"
    folder.mkdir(parents=True)
    source = next((BATTLES / "gen9ou").glob("*.lz4"))
    for i in range(24):
        (folder / f"{i}.json.lz4").write_bytes(source.read_bytes()[: 900 if i == 0 else None])
    command = train_command(tmp_path, "--parsed_replay_dir", str(folder.parent), "--formats", "gen9ou")
    assert main([*command, "--holdout_share", "0", "--max_set_aside", "0.1"]) == 0
    assert "1 damaged battle files were set aside" in caplog.text
    record = json.loads((tmp_path / "run" / "set_aside.jsonl").read_text())
    assert record["file"].endswith("0.json.lz4")

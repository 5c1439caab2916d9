"""Inside metamon and amago as they are installed: training, resuming, evaluation, the same numbers as here.

Everything of theirs runs in processes of its own (tests/support/metamon_process.py). CONTRIBUTING.md says how to
install them.
"""

import contextlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import metamon_runs
from support.metamon_process import gradient_norm
from support.metamon_runs import (
    SHOWDOWN_PORT,
    TIMEOUT_S,
    TREE,
    derive,
    make_five_updates,
    policy_file,
    printed_object,
    run_here,
    run_program,
    start_training,
    tiny_path,
    train_flags,
)
from support.paths import ROOT
from support.run_files import identity_of
from support.small_agent import BATTLES, SMALL, TINY
from support.tensors import assert_same_bits

from gemma_metamon import sample_battles
from gemma_metamon.commands import main
from gemma_metamon.configs.files import find_config, list_configs
from gemma_metamon.configs.names import EXPERIMENT, bound_value, configurable
from gemma_metamon.data.dataset import collate, take_window
from gemma_metamon.data.encoding import encode_battle
from gemma_metamon.runs import resolve
from gemma_metamon.runs.architecture import PARTS, describe_architecture
from gemma_metamon.runs.identity import RunDescription
from gemma_metamon.upstream import installed_configs, interchange
from gemma_metamon.upstream.evaluation import config_for_metamon
from gemma_metamon.view import BattleView

pytestmark, env, showdown = metamon_runs.pytestmark, metamon_runs.env, metamon_runs.showdown
save_dir, trained = metamon_runs.save_dir, metamon_runs.trained
AMAGO_33 = "GEMMA_METAMON_AMAGO_33"
AGENT = [  # gemma_tiny with the other agent
    "MetamonAMAGOExperiment.agent_type = @agent.Agent",
    "Agent.actor_type = @MetamonMaskedActor",
    "Agent.pass_obs_keys_to_actor = ['illegal_actions']",
    "Agent.critic_type = @actor_critic.NCritics",
    "NCritics.d_hidden = 64",
]


@pytest.mark.server
@pytest.mark.usefixtures("showdown")
def test_the_check_trains_and_plays_on_what_is_installed(env: dict[str, str]) -> None:
    command = [sys.executable, "-m", "gemma_metamon", "upstream", "check", "--json", "--timeout_s", str(TIMEOUT_S)]
    done = subprocess.run(command, env=env, cwd="/", capture_output=True, text=True, timeout=3 * TIMEOUT_S, check=False)
    said = json.loads(done.stdout)
    assert [row for row in said["rows"] if row["state"] == "wrong"] == []
    assert [row["found"] for row in said["rows"][-2:]] == ["done", "done"]
    assert said["commands"] == TREE.train_commands()


def test_metamons_command_line_trains_and_describes_its_run(save_dir: Path) -> None:
    description = RunDescription.read(save_dir / "run" / "ckpts" / interchange.DESCRIPTION)
    resolve.load_text(description.config)
    expected = replace(BattleView.default(), vocabulary=description.view().vocabulary)
    assert description.identity == identity_of(expected)
    assert bound_value("GemmaTstepEncoder", "summary_tokens") == 12
    assert bound_value("MultiTaskAgent", "num_actions_for_value_in_actor_loss") == 3  # of binary_rl.gin
    n_words = len(description.view().vocabulary.words)
    assert n_words == 2541  # metamon's DefaultObservationSpace-v1


@contextlib.contextmanager
def metamons_folder_as_it_was() -> Iterator[None]:
    """After the block the folder of metamon's model configs holds what it held before."""
    folder = installed_configs.metamon_model_folder()
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    try:
        yield
    finally:
        installed_configs.uninstall(folder)
        for path in before.keys() - set(folder.iterdir()):  # installed before this test, then
            path.write_bytes(before[path])
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_metamon_knows_installed_configs_by_name(env: dict[str, str], tmp_path: Path) -> None:
    with metamons_folder_as_it_was():
        assert main(["configs", "install"]) == 0
        spaces = ["--obs_space", "OpponentMoveObservationSpace", "--reward_function", "BinaryReward"]
        start_training(train_flags(tmp_path, TINY, *spaces), env, tmp_path / "output.txt")
    identity = RunDescription.read(tmp_path / "run" / "ckpts" / interchange.DESCRIPTION).identity
    assert (identity.obs_space, identity.reward_function) == ("OpponentMoveObservationSpace", "BinaryReward")


# ---- what the documentation shows


DOCS_RUN = "metamon_checkpoints/gemma_synthetic_gen9ou_v1"


def docs_block(after: str) -> list[str]:
    """The commands of the first block after these words, each on one line."""
    text = (ROOT / "docs" / "tutorials" / "inside_metamon.md").read_text(encoding="utf-8")
    block = text.split(after, 1)[1].split("```bash\n", 1)[1].split("\n```", 1)[0]
    return re.sub(r"\s*\\\n\s*", " ", block).splitlines()


@pytest.fixture
def home_env(env: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """A home of its own with the data where the docs have it, and the commands of this environment."""
    home = tmp_path / "home"
    shutil.copytree(BATTLES / "gen9ou", home / "metamon_data" / "parsed-replays" / "gen9ou")
    cache = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**env, "HOME": str(home), "XDG_CACHE_HOME": cache, "PATH": path}


def test_the_docs_own_block_trains(home_env: dict[str, str], tmp_path: Path) -> None:
    """All of it that comes after the installation, with the tiny config in the flagship's place."""
    block = docs_block(f"**metamon {TREE.metamon} (")
    assert block[: len(TREE.install_commands())] == TREE.install_commands()
    first = next(i for i, line in enumerate(block) if line.startswith("gemma-metamon configs install"))
    script = "\n".join(["set -eu", *block[first:]])
    assert script.count("gemma_synthetic_multitaskagent.gin") == 1
    script = script.replace("gemma_synthetic_multitaskagent.gin", TINY)
    (tmp_path / "metamon").mkdir()
    with metamons_folder_as_it_was():
        make_five_updates(["bash", "-c", script], home_env, tmp_path / "output.txt", cwd=tmp_path / "metamon")
    run = Path(home_env["HOME"]) / DOCS_RUN
    description = RunDescription.read(run / "ckpts" / interchange.DESCRIPTION)
    resolve.load_text(description.config)
    assert description.identity == identity_of(replace(BattleView.default(), vocabulary=description.view().vocabulary))
    assert bound_value("GemmaTstepEncoder", "summary_tokens") == 12


@pytest.mark.server
@pytest.mark.usefixtures("showdown", "trained")
def test_the_docs_own_block_evaluates(home_env: dict[str, str], save_dir: Path, tmp_path: Path) -> None:
    """With the checkpoint of a short run, and few battles."""
    start, evaluate = docs_block("metamon's own evaluation plays on port")
    assert start == f"gemma-metamon showdown start --port {SHOWDOWN_PORT}"  # as the fixture has done
    shutil.copytree(save_dir / "run", Path(home_env["HOME"]) / DOCS_RUN)
    for word, other in (("--ckpt 40", "--ckpt 2"), ("--total_battles 100", "--total_battles 6")):
        assert evaluate.count(word) == 1
        evaluate = evaluate.replace(word, other)
    with (tmp_path / "output.txt").open("wb") as output:
        done = subprocess.run(
            ["bash", "-c", evaluate],
            env=home_env,
            cwd=tmp_path,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=2 * TIMEOUT_S,
            check=False,
        )
    printed = (tmp_path / "output.txt").read_text()
    assert done.returncode == 0, printed[-3000:]
    results = printed_object(printed)
    assert any(name.startswith("Average Win Rate in gen9ou_vs_") for name in results)


def test_three_epochs_have_finite_losses_and_save_every_second(trained: dict[str, Any]) -> None:
    assert len(trained["losses"]) == 12
    assert all(math.isfinite(loss) for pair in trained["losses"] for loss in pair)
    assert trained["steps"] == [0, 12]
    saved = policy_file(trained["save_dir"], 0).parent
    assert {path.name for path in saved.iterdir()} == {"policy_epoch_0.pt", "policy_epoch_2.pt"}


@pytest.mark.parametrize("training", ["kakuna.gin", "alakazam3_isfilter.gin"])
def test_a_packaged_training_config_is_taken_by_its_path(training: str, env: dict[str, str], tmp_path: Path) -> None:
    if "isfilter" in training and TREE.metamon < "1.6":
        pytest.skip("metamon has this filter since 1.6.0")
    (tmp_path / "save").mkdir()
    flags = train_flags(tmp_path / "save", tiny_path())
    flags[flags.index("--train_gin_config") + 1] = str(find_config(training, "training").resolve())
    seen = run_program("train", tmp_path, env, flags=flags, steps_per_epoch=2)
    assert len(seen["losses"]) == 2
    assert all(math.isfinite(loss) for losses in seen["losses"] for loss in losses)


def test_a_run_resumes_with_its_optimizer(trained: dict[str, Any], env: dict[str, str], tmp_path: Path) -> None:
    save_dir = shutil.copytree(trained["save_dir"], tmp_path / "saved")
    flags = train_flags(save_dir, tiny_path(), epochs=5)
    resumed = run_program("train", tmp_path, env, flags=flags, steps_per_epoch=4, ckpt=2)
    assert resumed["steps"] == [12, 24]  # metamon makes the epoch of the checkpoint again: 2, 3, 4
    assert all(math.isfinite(loss) for pair in resumed["losses"] for loss in pair)
    assert policy_file(save_dir, 4).is_file()


def test_a_frozen_base_is_in_no_file_and_the_run_resumes(env: dict[str, str], tmp_path: Path) -> None:
    from transformers import Gemma3TextConfig, Gemma3TextModel

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "head_dim": 16}
    base = Gemma3TextConfig(**sizes, num_attention_heads=1, num_key_value_heads=1, layer_types=["full_attention"])
    Gemma3TextModel(base).save_pretrained(tmp_path / "gemma")
    base_lines = [f"GemmaTstepEncoder.model_name = '{tmp_path / 'gemma'}'", *without(SMALL, "backbone_config")]
    model = derive("gemma_synthetic_multitaskagent.gin", base_lines, tmp_path / "pretrained.gin")
    first = run_program("train", tmp_path / "first", env, flags=train_flags(tmp_path, model), steps_per_epoch=2)
    flags = train_flags(tmp_path, model, epochs=3)
    again = run_program("train", tmp_path / "again", env, flags=flags, steps_per_epoch=2, ckpt=0)
    assert (first["steps"], again["steps"]) == ([0, 2], [2, 8])
    state = tmp_path / "run" / "ckpts" / "training_states" / "run_epoch_2" / "model.safetensors"
    for entries in (interchange.read_policy(policy_file(tmp_path, 2)), load_file(state)):
        backbone = [key for key in entries if key.startswith("tstep_encoder.backbone.")]
        assert backbone
        assert all("lora_" in key for key in backbone)


def without(lines: list[str], word: str) -> list[str]:
    return [line for line in lines if word not in line]


@pytest.mark.parametrize("bits", [16, 4])
def test_every_model_config_builds_the_same_agent_there_and_learns(
    bits: int, save_dir: Path, env: dict[str, str], tmp_path: Path
) -> None:
    if bits == 4:
        pytest.importorskip("bitsandbytes", reason="pip install 'gemma-metamon[4bit]'")
    names = [name for name in list_configs("models") if name.endswith("_4bit.gin") == (bits == 4)]
    # which of the spaces with 106 words it is: only metamon's own train script says so by itself
    space = "GemmaTstepEncoder.observation_space = 'TeamPreviewObservationSpace'"
    small = [*without(SMALL, "lr_warmup_steps"), "GemmaTstepEncoder.pretrained = False", space]
    found = run_program(
        "configs",
        tmp_path,
        env,
        files={
            name: {
                "whole": derive(name, [space], tmp_path / f"whole_{name}"),
                "small": derive(name, small, tmp_path / name),
            }
            for name in names
        },
        flags=train_flags(tmp_path, None),
    )
    view = RunDescription.read(save_dir / "run" / "ckpts" / interchange.DESCRIPTION).view()
    for name in names:
        resolve.load(name, "binary_rl.gin")
        ours = describe_architecture(view)["parameters"]
        assert found[name]["parameters"] == {part: ours[part]["total"] for part in (*PARTS, "whole") if part in ours}
        assert found[name]["steps"] == [0, 1]
        assert all(math.isfinite(loss) for pair in found[name]["losses"] for loss in pair)


@pytest.mark.usefixtures("trained")
def test_a_metamon_run_imports_here_and_exports_back_bit_for_bit(save_dir: Path, tmp_path: Path) -> None:
    theirs = policy_file(save_dir, 2)
    command = ["--from", "amago", str(theirs), "--save_dir", str(tmp_path), "--run_name", "run"]
    run_here("import", *command)
    run_here("export", "--run_dir", str(tmp_path / "run"), "--to", "amago", "--out", str(tmp_path / "out"))
    ours, original = (interchange.read_policy(path) for path in (policy_file(tmp_path / "out", 2), theirs))
    assert [*ours] == [*original]
    assert_same_bits(ours, original)


@pytest.mark.parametrize("amago", ["installed", "3.3"])
def test_both_runtimes_compute_the_same_losses(amago: str, env: dict[str, str], tmp_path: Path) -> None:
    """Both draw from torch's generator in the same order, so one seed gives both the same draws."""
    if amago == "3.3":
        if AMAGO_33 not in os.environ:
            pytest.skip(f"set {AMAGO_33} to a clone of amago 3.3.0: see CONTRIBUTING.md")
        env = {**env, "PYTHONPATH": os.environ[AMAGO_33]}
    view = BattleView.default()
    files = [
        path for name in ("gen1ou", "gen9ou") for path in sorted((sample_battles.extract(name) / name).iterdir())[:2]
    ]
    starts = (0, 0, 5, 9)
    batch = collate(
        [take_window(encode_battle(path, view), start, 32) for path, start in zip(files, starts, strict=True)]
    )
    arrays = {**{f"obs/{name}": value for name, value in batch.obs.items()}, **batch._asdict()}
    arrays["rews"] = arrays.pop("rewards")
    del arrays["obs"], arrays["labels"]  # metamon knows none
    save_file({name: value.contiguous() for name, value in arrays.items()}, tmp_path / "batch.safetensors")

    cases = {f"{agent} {name}": (agent, name) for agent in ("MultiTaskAgent", "Agent") for name in TRAINING}
    for name, (agent, training) in cases.items():
        text = config_for_metamon(load_case(agent, training, "3.1"))
        (tmp_path / f"{name}.gin").write_text(text)
        torch.save(interchange.to_amago(build_case(view).state_dict()), tmp_path / f"{name}.pt")
    theirs = run_program(
        "losses",
        tmp_path,
        env,
        cases={
            name: {"config": str(tmp_path / f"{name}.gin"), "policy": str(tmp_path / f"{name}.pt")} for name in cases
        },
        batch=str(tmp_path / "batch.safetensors"),
        seed=0,
        words=view.vocabulary.words,
        obs_space=view.obs_space.name,
        action_space=view.action_space.name,
    )
    version = "3.1" if theirs["amago"].startswith("3.1") else "3.3"
    for name, (agent, training) in cases.items():
        load_case(agent, training, version)
        ours: Any = build_case(view).train()
        torch.manual_seed(0)
        losses = ours(batch)
        (losses.actor_loss + 10 * losses.critic_loss).backward()
        expected = theirs["cases"][name]
        values = {"actor_loss": losses.actor_loss.item(), "critic_loss": losses.critic_loss.item()}
        for part in ("tstep_encoder", "traj_encoder", "actor", "critics"):
            values[f"gradient of {part}"] = gradient_norm(getattr(ours, part))
        assert values == pytest.approx(expected, rel=1e-4, abs=1e-6), name
        assert values["actor_loss"] > 0
        assert (values["critic_loss"] > 0) == (training != "il")


TRAINING = ("il", "binary_rl", "exp_rl", "binary_maxq_rl")


def load_case(agent: str, training: str, amago_version: str) -> str:
    # Where all samples are the recorded action, the advantage is 0 but for AMAGO 3.1's rounding, and a filter at 0
    # would turn that into 0 or 1. The values are some tens: 0.01 is far above rounding.
    overrides = [f"{agent}.amago_version = '{amago_version}'", "agent.binary_filter.threshold = 0.01"]
    return resolve.load(TINY, f"{training}.gin", [*overrides, *(AGENT if agent == "Agent" else [])]).text


def build_case(view: Any) -> torch.nn.Module:
    """The agent of the loaded configuration with the same weights each time, its targets unlike what they follow."""
    torch.manual_seed(3)
    agent: torch.nn.Module = configurable(EXPERIMENT)().build_agent(view)
    with torch.no_grad():
        for parameter in agent.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return agent

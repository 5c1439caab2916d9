"""`gemma-metamon train --init_from RUN --train_gin_config finetune.gin`: begins, resumes, acts, travels."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.run_files import changed, metrics, moments, weights
from support.small_agent import SMALL, TINY, train_command

from gemma_metamon.commands import main
from gemma_metamon.configs.names import EXPERIMENT, bindings_of, configurable
from gemma_metamon.nets.agents.copies import COPIES, SLOW, plain_state, state_with_copies
from gemma_metamon.nets.agents.finetune import MetamonFinetuneAgent
from gemma_metamon.runs import resolve
from gemma_metamon.runs.checkpoints import WEIGHTS, Checkpoint
from gemma_metamon.runs.loading import load_agent, load_weights
from gemma_metamon.upstream import interchange
from gemma_metamon.view import BattleView

FINETUNE = "finetune.gin"
CORRECTED = ["--gin_override", "MetamonFinetuneAgent.use_is_correction = True"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run `rl`, and `tuned` of two epochs that began with it."""
    save_dir = tmp_path_factory.mktemp("runs")
    assert main(train_command(save_dir, "--steps_per_epoch", "4", run_name="rl")) == 0
    assert main(tune(save_dir, "rl", "tuned", "--epochs", "2", "--log_interval", "1")) == 0
    return save_dir


def tune(save_dir: Path, start: str, run_name: str, *extra: str) -> list[str]:
    begin = ["--init_from", str(save_dir / start), "--steps_per_epoch", "4", *CORRECTED]
    return train_command(save_dir, *begin, *extra, run_name=run_name, training=FINETUNE)


def test_the_values_are_upstreams() -> None:
    resolve.load(TINY, FINETUNE)
    bound = bindings_of
    assert bound("MetamonFinetuneAgent") == {
        "bc_coeff": 1.0,
        "tortoise_tau": 0.005,
        "use_tortoise_for_inference": True,  # upstream's file says False
        "use_is_correction": False,
    }
    assert bound("ISAdvantageFilter") == {
        "beta": 3.0,
        "clip_weights_low": 1e-6,
        "clip_weights_high": 100.0,
        "seq_p_low": 0.4,
        "seq_p_full": 0.8,
        "seq_floor": 0.05,
        "seq_floor_warmup_steps": 4000,
        "seq_buffer_size": 10_000,
        "seq_warmup": 200,
    }
    agent, experiment = bound("MultiTaskAgent"), bound("MetamonAMAGOExperiment")
    assert (agent["tau"], agent["reward_multiplier"], agent["online_coeff"], agent["offline_coeff"]) == (
        0.008,
        10,
        0,
        1,
    )
    assert agent["num_actions_for_value_in_critic_loss"] == agent["num_actions_for_value_in_actor_loss"] == 4
    assert (experiment["learning_rate"], experiment["lr_warmup_steps"], experiment["grad_clip"]) == (8e-5, 5000, 1.5)
    assert (experiment["l2_coeff"], experiment["critic_loss_weight"]) == (1e-4, 13.5)


def test_the_agent_takes_what_is_bound_for_a_multitask_agent() -> None:
    resolve.load(TINY, FINETUNE, ["MultiTaskAgent.num_critics = 3", "MultiTaskAgent.tau = 0.5"])
    experiment = configurable(EXPERIMENT)()
    with torch.device("meta"):
        agent = experiment.build_agent(BattleView.default())
    assert isinstance(agent, MetamonFinetuneAgent)
    assert (agent.options.num_critics, agent.options.tau, agent.tortoise_tau) == (3, 0.5, 0.005)
    assert agent.pass_obs_keys_to_actor == ("illegal_actions",)
    assert agent.fbc_filter_func.seq_floor == 0.05


def test_it_begins_with_the_runs_weights_in_every_copy_and_with_a_new_optimizer(runs: Path) -> None:
    assert not changed(state_with_copies(weights(runs / "rl", 1)), weights(runs / "tuned", 0))
    assert not moments(runs / "tuned", 0)


def test_it_moves_what_it_should(runs: Path) -> None:
    moved = changed(weights(runs / "tuned", 0), weights(runs / "tuned", 2))
    assert moved >= {*SLOW, *SLOW.values(), "data_actor", "target_critics"}
    assert not {part for part in moved if part.startswith("frozen_")}
    shown = {"data_policy_loss", "log_ratio_mean", "log_ratio_clipped_share", "battle_weight_mean"}
    assert all(len(metrics(runs / "tuned", name)) == 8 for name in shown)


@pytest.mark.slow
def test_a_resumed_fine_tuning_equals_one_that_never_stopped(runs: Path, tmp_path: Path) -> None:
    dropout = ["--gin_override", "TformerTrajEncoder.dropout_ff = 0.5"]
    # battles are weighed from the first on, so that what the filter remembers counts
    dropout += ["--gin_override", "ISAdvantageFilter.seq_warmup = 1"]
    dropout += ["--gin_override", "ISAdvantageFilter.seq_floor_warmup_steps = 2"]
    whole = [*tune(runs, "rl", "whole", "--epochs", "3", *dropout), "--save_dir", str(tmp_path)]
    parts = [*tune(runs, "rl", "parts", "--epochs", "2", *dropout), "--save_dir", str(tmp_path)]
    assert main(whole) == main(parts) == 0
    start = parts.index("--init_from")
    assert main([*parts[:start], *parts[start + 2 :], "--epochs", "3", "--ckpt", "2"]) == 0
    assert not changed(weights(tmp_path / "whole", 3), weights(tmp_path / "parts", 3))
    assert metrics(tmp_path / "whole", "battle_weight_min")[-1] < 1


def test_the_next_round_begins_with_the_slow_copy(runs: Path) -> None:
    assert main(tune(runs, "tuned", "again")) == 0
    assert not changed(state_with_copies(weights(runs / "tuned", 2)), weights(runs / "again", 0))
    assert main(train_command(runs, "--init_from", str(runs / "tuned"), run_name="plain")) == 0
    assert not changed(plain_state(weights(runs / "tuned", 2)), weights(runs / "plain", 0))
    assert not changed(plain_state(weights(runs / "again", 0)), weights(runs / "plain", 0))


def test_the_slow_copy_acts_and_the_rest_is_given_up(runs: Path) -> None:
    agent: Any = load_agent(Checkpoint(runs / "tuned", 2), "cpu")[0]
    saved, loaded = weights(runs / "tuned", 2), agent.state_dict()
    for slow, original in SLOW.items():
        mine = {key: value for key, value in loaded.items() if key.startswith(f"{original}.")}
        assert mine
        assert all(torch.equal(value, saved[slow + key[len(original) :]]) for key, value in mine.items())
    assert not any(hasattr(agent, name) for name in COPIES)


def test_nothing_to_begin_with_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert main(train_command(tmp_path, training=FINETUNE)) == 0
    assert "nothing was learnt before that this fine-tuning could keep; --init_from RUN" in caplog.text


def test_a_checkpoint_travels_to_metamons_layout_and_back_bit_for_bit(runs: Path, tmp_path: Path) -> None:
    assert main(["export", "--run_dir", str(runs / "tuned"), "--to", "amago", "--out", str(tmp_path)]) == 0
    path = interchange.policy_path(tmp_path, "tuned", 2)
    theirs = interchange.read_policy(path)
    assert {key.split(".")[0] for key in theirs if key.startswith("_")} == {
        "_tortoise_tstep_encoder",
        "_tortoise_traj_encoder",
        "_tortoise_actor",
        "_tortoise_critics",
        "_base_tstep_encoder",
        "_base_traj_encoder",
        "_base_actor",
        "_bc_actor",
    }
    assert main(["import", "--from", "amago", str(path), "--save_dir", str(tmp_path), "--run_name", "back"]) == 0
    assert not changed(weights(runs / "tuned", 2), weights(tmp_path / "back", 2))


@pytest.mark.parametrize("pretrained", [True, False])
def test_a_frozen_base_is_held_once_and_saved_as_often_as_it_must(tmp_path: Path, pretrained: bool) -> None:
    """A pretrained one is in no file; a random one cannot be made again, so every copy of upstream's layout has it."""
    lora = [*SMALL, "GemmaTstepEncoder.use_lora = True", "GemmaTstepEncoder.lora_r = 2"]
    if pretrained:
        from transformers import Gemma3TextConfig, Gemma3TextModel

        sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "head_dim": 16}
        base = Gemma3TextConfig(**sizes, num_attention_heads=1, num_key_value_heads=1, layer_types=["full_attention"])
        Gemma3TextModel(base).save_pretrained(tmp_path / "gemma")
        lora = [line for line in lora if "backbone_config" not in line]
        lora += ["GemmaTstepEncoder.backbone_config = None", "GemmaTstepEncoder.pretrained = True"]
        lora += [f"GemmaTstepEncoder.model_name = '{tmp_path / 'gemma'}'"]
    overrides = [word for line in lora for word in ("--gin_override", line)]
    assert main(train_command(tmp_path, *overrides, run_name="rl")) == 0
    assert main(tune(tmp_path, "rl", "tuned", *overrides)) == 0
    saved = weights(tmp_path / "tuned", 1)
    base_keys = {key for key in saved if ".backbone." in key and ".lora_" not in key}
    assert bool(base_keys) == (not pretrained)

    agent = built(TINY, [*lora, "MultiTaskAgent.num_critics = 4"])
    load_weights(agent, Checkpoint(tmp_path / "tuned", 1))
    copies = [agent.tstep_encoder, agent.slow_tstep_encoder, agent.frozen_tstep_encoder]
    frozen = [{name: p for name, p in encoder.named_parameters() if not p.requires_grad} for encoder in copies]
    shared = {name for name in frozen[0] if ".lora_" not in name}
    assert shared
    assert all(other[name] is frozen[0][name] for other in frozen[1:] for name in shared)
    adapters = [name for name, p in agent.tstep_encoder.named_parameters() if ".lora_" in name]
    own = {id(encoder.get_parameter(name)) for encoder in copies for name in adapters}
    assert len(own) == 3 * len(adapters)

    acting, _ = load_agent(Checkpoint(tmp_path / "tuned", 1), "cpu")
    for name in adapters:
        assert torch.equal(acting.get_parameter(f"tstep_encoder.{name}"), saved[f"slow_tstep_encoder.{name}"])


def built(model: str, overrides: list[str]) -> Any:
    resolve.load(model, FINETUNE, overrides)
    view = BattleView.default()
    return configurable(EXPERIMENT)().build_agent(view)


def test_every_moment_of_the_optimizer_belongs_to_what_learns(runs: Path) -> None:
    saved = load_file(Checkpoint(runs / "tuned", 2).folder / WEIGHTS)
    learning = [key for key in saved if key.split(".")[0] in {*SLOW.values(), "data_actor"}]
    buffers = [key for key in learning if key.endswith((".u", ".v"))]
    assert len(moments(runs / "tuned", 2)) == 3 * (len(learning) - len(buffers))

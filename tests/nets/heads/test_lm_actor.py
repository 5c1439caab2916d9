"""The language-model head as the actor: the first policy is Gemma's, acting equals training, half is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support.paths import BATTLE_FILES
from support.small_agent import SMALL, train_command
from torch import Tensor

from gemma_metamon.commands import main
from gemma_metamon.configs.names import EXPERIMENT, configurable
from gemma_metamon.data.dataset import collate, take_window
from gemma_metamon.data.encoding import encode_battle
from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.batch import Batch
from gemma_metamon.nets.heads.actors import avoidable_actions
from gemma_metamon.nets.heads.lm_actor import LMActor, LMTrajEncoder
from gemma_metamon.nets.reader.action_scores import N_SCORES
from gemma_metamon.runs import resolve
from gemma_metamon.runs.architecture import describe_architecture
from gemma_metamon.runs.checkpoints import Checkpoint
from gemma_metamon.runs.loading import load_agent
from gemma_metamon.view import BattleView

TINY_LM = "gemma_tiny_lm_actor.gin"
SMALL_LM = {"model": TINY_LM, "lacks": ("MetamonMaskedActor",)}
SMALL_ACTOR = "LMActor.d_hidden = 16"


def view_of(action_space: str = "DefaultActionSpace") -> BattleView:
    return BattleView.from_names(
        obs_space="TeamPreviewObservationSpace", action_space=action_space, reward_function="DefaultShapedReward"
    )


def build(*overrides: str, view: BattleView | None = None, training: str = "binary_rl.gin") -> Any:
    resolve.load(TINY_LM, training, [*SMALL, SMALL_ACTOR, *overrides])
    torch.manual_seed(0)
    return configurable(EXPERIMENT)().build_agent(view or view_of())


def batch_of(view: BattleView, length: int = 8) -> Batch:
    battles = [encode_battle(file, view) for file in (BATTLE_FILES[0], BATTLE_FILES[3])]
    return collate([take_window(battle, 0, length) for battle in battles])


@torch.no_grad()
@pytest.mark.parametrize("action_space", ["DefaultActionSpace", "MinimalActionSpace"])
def test_the_first_policy_is_what_gemma_would_say(action_space: str) -> None:
    view = view_of(action_space)
    agent, batch = build("LMActor.temperature = 2.0", view=view).eval(), batch_of(view)
    scores = agent.tstep_encoder(batch.obs, batch.rl2s)[..., -N_SCORES:][..., : view.action_space.n]
    illegal = avoidable_actions(batch.obs["illegal_actions"])
    expected = agent.actor.policy_dist((scores / 2.0).masked_fill(illegal, -torch.inf)).probs
    torch.testing.assert_close(agent.action_probs(batch), expected, rtol=0, atol=1e-6)


@torch.no_grad()
def test_a_step_decides_as_the_whole_battle_does() -> None:
    agent, view = build().eval(), view_of()
    torch.nn.init.normal_(agent.actor.base.out_layer.weight)  # so that the past counts
    batch = batch_of(view)
    whole = agent.action_probs(batch)
    cache = agent.traj_encoder.init_cache(2)
    for place in range(batch.rl2s.shape[1] - 1):
        now: dict[str, Tensor] = {key: value[:, place : place + 1] for key, value in batch.obs.items()}
        _, probs = agent.act(
            now, batch.rl2s[:, place : place + 1], batch.time_idxs[:, place : place + 1], cache, torch.arange(2)
        )
        legal = ~avoidable_actions(now["illegal_actions"][:, 0])
        expected = torch.where(legal, whole[:, place], 0.0)
        torch.testing.assert_close(probs, expected / expected.sum(-1, keepdim=True), rtol=0, atol=1e-5)


def test_what_is_learned_reaches_gemma_from_the_first_update_and_the_memory_too() -> None:
    agent = build(training="il.gin").train()
    losses = agent(batch_of(view_of()))
    losses.actor_loss.backward()
    assert agent.tstep_encoder.backbone.embed_tokens.weight.grad.abs().sum() > 0
    assert agent.actor.base.out_layer.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("training", ["il.gin", "binary_rl.gin", "binary_maxq_rl.gin"])
def test_it_trains_saves_loads_and_resumes(training: str, tmp_path: Path) -> None:
    command = train_command(tmp_path, "--gin_override", SMALL_ACTOR, training=training, **SMALL_LM)
    assert main(command) == 0
    assert main([*command, "--ckpt", "1", "--epochs", "2"]) == 0
    assert main([*command, "--run_name", "whole", "--epochs", "2"]) == 0
    (agent, meta), (whole, _) = (load_agent(Checkpoint(tmp_path / run, 2), "cpu") for run in ("run", "whole"))
    assert meta.updates == 4
    assert isinstance(agent.traj_encoder, LMTrajEncoder)
    assert isinstance(agent.actor, LMActor)
    for name, weight in whole.state_dict().items():
        assert torch.equal(agent.state_dict()[name], weight), name


def test_it_travels_to_amago_and_back_and_is_explained(tmp_path: Path, battle_file: Path) -> None:
    command = train_command(tmp_path, "--gin_override", SMALL_ACTOR, **SMALL_LM)
    assert main(command) == 0
    run, page = tmp_path / "run", tmp_path / "page.html"
    assert main(["explain", str(battle_file), "--run_dir", str(run), "--out", str(page)]) == 0
    assert page.stat().st_size > 1000
    assert main(["export", "--run_dir", str(run), "--to", "amago", "--out", str(tmp_path / "out")]) == 0
    (policy,) = (tmp_path / "out").rglob("policy_epoch_1.pt")
    back = ["import", "--from", "amago", str(policy), "--save_dir", str(tmp_path), "--run_name", "back"]
    assert main(back) == 0
    (ours, _), (theirs, _) = (load_agent(Checkpoint(tmp_path / name, 1), "cpu") for name in ("run", "back"))
    for name, weight in ours.state_dict().items():
        assert torch.equal(theirs.state_dict()[name], weight), name


def test_the_flagships_transformer_is_as_wide_as_without_it() -> None:
    resolve.load("gemma_lm_actor.gin", "binary_rl.gin")
    lm = describe_architecture(view_of())
    resolve.load("gemma_synthetic_multitaskagent.gin", "binary_rl.gin")
    plain = describe_architecture(view_of())
    assert lm["parameters"]["traj_encoder"] == plain["parameters"]["traj_encoder"]
    assert lm["parameters"]["tstep_encoder"] == plain["parameters"]["tstep_encoder"]
    assert lm["parameters"]["actor"] == plain["parameters"]["actor"]
    assert lm["timestep_dim"] == plain["timestep_dim"] + N_SCORES
    assert lm["trajectory_dim"] == plain["trajectory_dim"] + N_SCORES


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("GemmaTstepEncoder.action_scores = False", r"action_scores is False, .*@LMTrajEncoder and .*@LMActor"),
        (
            "MetamonAMAGOExperiment.traj_encoder_type = @traj_encoders.TformerTrajEncoder",
            r"traj_encoder_type is another and MultiTaskAgent.actor_type is @LMActor",
        ),
        (
            "MultiTaskAgent.actor_type = @MetamonMaskedActor",
            r"actor_type is another; the language-model actor",
        ),
        ("LMActor.temperature = 0.0", r"LMActor.temperature = 0.0; it must be a number of at least 0.001"),
        ("GemmaTstepEncoder.granularity = 'entity'", r"granularity 'entity' reads its parts one by one"),
        ("LMTrajEncoder.traj_encoder_type = None", r"LMTrajEncoder.traj_encoder_type = None; it must be a reference"),
    ],
)
def test_half_of_it_is_refused_by_name(override: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        build(override)

"""The packaged configs resolve and bind only what upstream has; a wrong name or value is refused in one sentence."""

import json
import re
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from support.packaged_configs import SINCE_160
from support.paths import GOLDENS

from gemma_metamon.configs.files import KINDS, config_folder, list_configs
from gemma_metamon.configs.names import EXPERIMENT, bound_value, configurable
from gemma_metamon.configs.types import fits
from gemma_metamon.errors import ConfigError, MissingFileError
from gemma_metamon.runs import resolve
from gemma_metamon.view import BattleView

MODELS, TRAININGS = list_configs("models"), list_configs("training")
TINY = "gemma_tiny_multitaskagent.gin"
PAIRS = [
    *((TINY, training) for training in TRAININGS),
    *((model, "binary_rl.gin") for model in MODELS if model != TINY),
]
OURS = {"GemmaTstepEncoder", "WordTstepEncoder", "LMTrajEncoder", "LMActor", "best_attention"}


def test_the_promised_configs_are_packaged() -> None:
    assert set(MODELS) >= {
        "gemma_agent.gin",
        "gemma_agent_4bit.gin",
        "gemma_synthetic_multitaskagent.gin",
        "gemma_synthetic_multitaskagent_4bit.gin",
        "gemma_synthetic_multitaskagent_entity.gin",
        "gemma_tiny_entity.gin",
        "gemma_tiny_multitaskagent.gin",
    }
    assert set(TRAININGS) >= {"il.gin", "binary_rl.gin", "exp_rl.gin", "binary_maxq_rl.gin", "quick.gin"}
    assert "binary_rl_critic_warmup.gin" in TRAININGS
    assert set(TRAININGS) >= {"kakuna.gin", "alakazam3.gin", "grouped_v2_large_isfilter.gin", *SINCE_160}


@pytest.mark.parametrize(("model", "training"), PAIRS)
def test_every_pair_resolves_and_its_text_resolves_to_the_same(model: str, training: str) -> None:
    resolved = resolve.load(model, training)
    assert resolve.load_text(resolved.text) == resolved


USED = {
    "an agent that ours extends": ("finetune.gin", "MultiTaskAgent.tau = 0.01"),
    "a part of an agent that ours extends": ("finetune.gin", "ISAdvantageFilter.clip_delta = 0.1"),
    "what every agent makes": ("binary_rl.gin", "PopArtLayer.beta = 1e-3"),
    "a function that is called in training": ("exp_rl.gin", "exp_filter.beta = 2.0"),
    "the last override's part": ("binary_rl.gin", "MetamonMaskedResidualActor.feature_dim = 8"),
}
UNUSED = {
    "an agent that extends ours": ("binary_rl.gin", "MetamonFinetuneAgent.use_is_correction = True"),
    "a class that a part extends": ("binary_rl.gin", "Actor.d_hidden = 8"),
    "other critics": ("binary_rl.gin", "NCritics.d_hidden = 8"),
    "a filter of another training": ("il.gin", "agent.exp_filter.beta = 2.0"),
}
VOID = {
    "GemmaTstepEncoder.lora_r = 8": ("binary_rl.gin", "GemmaTstepEncoder.use_lora = False"),
    "GemmaTstepEncoder.lora_alpha = 64": ("binary_rl.gin", "GemmaTstepEncoder.use_lora = False"),
    "GemmaTstepEncoder.lora_dropout = 0.5": ("binary_rl.gin", "GemmaTstepEncoder.use_lora = False"),
    "GemmaTstepEncoder.model_name = 'google/gemma-3-1b-pt'": ("binary_rl.gin", "GemmaTstepEncoder.pretrained = False"),
    "GemmaTstepEncoder.fusion_layers = 2": ("binary_rl.gin", "GemmaTstepEncoder.granularity = 'turn'"),
    "GemmaTstepEncoder.token_mask_share = 0.3": ("binary_rl.gin", "GemmaTstepEncoder.token_mask_aug = False"),
    "MetamonAMAGOExperiment.best_after_epoch = 2": ("binary_rl.gin", "MetamonAMAGOExperiment.best_share = None"),
    "MultiTaskAgent.critic_warmup = 'wait'": ("binary_rl.gin", "MultiTaskAgent.critic_warmup_updates = 0"),
    "MultiTaskAgent.fbc_filter_func = @exp_filter": ("il.gin", "MultiTaskAgent.fake_filter = True"),
    "PopArtLayer.beta = 1e-3": ("binary_rl.gin", "MultiTaskAgent.popart = False"),
    "Multigammas.discrete = [0.9]": ("il.gin", "MultiTaskAgent.use_multigamma = False"),
}
RESIDUAL = "MultiTaskAgent.actor_type = @MetamonMaskedResidualActor"


@pytest.mark.parametrize("what", USED)
def test_an_override_of_what_the_agent_is_made_of_is_used(what: str) -> None:
    training, override = USED[what]
    overrides = [override, RESIDUAL] if "Residual" in override else [override]
    resolve.load(TINY, training, overrides).require_used()


@pytest.mark.parametrize("override", VOID)
def test_an_override_that_another_setting_makes_void_is_refused_with_that_setting(override: str) -> None:
    training, decider = VOID[override]
    name, _, value = decider.partition(" = ")
    resolved = resolve.load(TINY, training, [decider, override])
    with pytest.raises(ConfigError, match=f" would change nothing: {re.escape(decider)} makes it void; leave it out"):
        resolved.require_used()
    other = {"False": "True", "True": "False", "None": "0.5", "0": "10", "'turn'": "'entity'"}[value]
    resolve.load(TINY, training, [f"{name} = {other}", override]).require_used()


@pytest.mark.parametrize(
    ("override", "decider"),
    [
        ("PopArtLayer.enabled = False", "MultiTaskAgent.popart = True"),
        ("NCriticsTwoHot.amago_version = '3.1'", "MultiTaskAgent.amago_version = '3.3'"),
    ],
)
def test_an_override_of_what_the_agent_tells_its_parts_is_refused_with_the_agents_own(
    override: str, decider: str
) -> None:
    with pytest.raises(ConfigError, match=f" would change nothing: {re.escape(decider)} makes it void; leave it out"):
        resolve.load(TINY, "binary_rl.gin", [override]).require_used()


@pytest.mark.parametrize(
    ("override", "source"),
    [
        ("MultiTaskAgent.popart_type = @PopArtLayer", "PopArtLayer"),
        ("MultiTaskAgent.multigammas_type = @Multigammas", "Multigammas"),
        ("GemmaTstepEncoder.vocabulary = ('mew',)", "--tokenizer"),
        ("GemmaTstepEncoder.observation_space = 'DefaultObservationSpace'", "--obs_space"),
    ],
)
def test_an_override_of_what_the_experiment_gives_is_refused_with_where_it_is_taken_from(
    override: str, source: str
) -> None:
    with pytest.raises(ConfigError, match=f" would change nothing: it is taken from {source}; leave it out"):
        resolve.load(TINY, "binary_rl.gin", [override]).require_used()


@pytest.mark.parametrize(
    ("override", "decider"),
    [
        ("PopArtLayer.beta = 1e-3", "MultiTaskAgent.popart = False"),
        ("MultiTaskAgent.critic_warmup = 'wait'", "MultiTaskAgent.critic_warmup_updates = 0"),
        ("NCriticsTwoHot.amago_version = '3.1'", "MultiTaskAgent.amago_version = '3.3'"),
    ],
)
def test_of_an_agent_that_extends_another_the_others_settings_decide(override: str, decider: str) -> None:
    with pytest.raises(ConfigError, match=f" would change nothing: {re.escape(decider)} makes it void; leave it out"):
        resolve.load(TINY, "finetune.gin", [decider, override]).require_used()


def test_of_an_agent_that_extends_another_what_is_used_is_taken() -> None:
    resolve.load(TINY, "finetune.gin", ["PopArtLayer.beta = 1e-3"]).require_used()


def test_what_a_config_sets_beside_an_override_that_makes_it_void_is_nobodys_mistake() -> None:
    resolve.load("gemma_agent.gin", None, ["GemmaTstepEncoder.use_lora = False"]).require_used()


@pytest.mark.parametrize("what", UNUSED)
def test_an_override_that_would_change_nothing_is_refused_by_name(what: str) -> None:
    training, override = UNUSED[what]
    resolved = resolve.load(TINY, training, ["MultiTaskAgent.tau = 0.01", override])
    name = override.split(" ")[0].split(".")[-2]
    with pytest.raises(
        ConfigError, match=f"{re.escape(override)}' would change nothing: these configs make no {name};"
    ):
        resolved.require_used()


@pytest.mark.parametrize("path", sorted((config_folder("models").parent).rglob("*.gin")), ids=lambda p: p.name)
def test_a_config_says_what_it_is_and_imports_the_plugin_alone(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert re.fullmatch(r"# .{20,}", lines[0])
    whole = path.parent.name in KINDS  # the others are parts of these
    assert lines[1].startswith("# gemma-metamon train --model_gin_config " if whole else "# ")
    assert [line for line in lines if line.startswith("import ")] == ["import gemma_metamon.upstream.plugin"]


@pytest.mark.parametrize("upstream", sorted((GOLDENS / "signatures").glob("*.json")), ids=lambda p: p.stem)
@pytest.mark.parametrize(("model", "training"), PAIRS)
def test_a_config_binds_only_what_upstream_has(model: str, training: str, upstream: Path) -> None:
    signatures = json.loads(upstream.read_text())
    if training in SINCE_160 and signatures["metamon"] != "1.6.0":
        return
    if training == "recommended_rl.gin":
        pytest.skip("it binds what upstream has not: the embedded runtime alone takes it")
    parameters = {selector.split(".")[-1]: names for selector, names in signatures["parameters"].items()}
    # amago 3.3.0 moved this one to the agent; see parts/loss_of_agent
    moved = {"MetamonAMAGOExperiment.critic_loss_weight"} if signatures["amago"] == "3.3.0" else set()
    for binding in resolve.load(model, training).bindings.keys() - moved:
        name, parameter = binding.split(".")
        assert name in OURS or parameter in parameters[name], binding


def test_the_flagship_has_the_promised_size() -> None:
    bindings = resolve.load("gemma_synthetic_multitaskagent.gin", "binary_rl.gin").bindings
    expected = {
        "GemmaTstepEncoder.text_emb_dim": "2688",
        "GemmaTstepEncoder.lora_r": "16",
        "GemmaTstepEncoder.lora_alpha": "32",
        "GemmaTstepEncoder.lora_dropout": "0.05",
        "TformerTrajEncoder.d_model": "1280",
        "TformerTrajEncoder.n_layers": "9",
        "TformerTrajEncoder.n_heads": "20",
        "TformerTrajEncoder.d_ff": "5120",
        "NCriticsTwoHot.output_bins": "96",
        "NCriticsTwoHot.min_return": "-1100",
        "NCriticsTwoHot.max_return": "1100",
        "NCriticsTwoHot.use_symlog": "False",
        "MultiTaskAgent.num_critics": "6",
        "MultiTaskAgent.popart": "True",
        "MetamonMaskedActor.d_hidden": "512",
        "MetamonAMAGOExperiment.max_seq_len": "128",
        "MultiTaskAgent.reward_multiplier": "10.0",
        "MultiTaskAgent.tau": "0.004",
    }
    assert {name: bindings[name] for name in expected} == expected


@pytest.mark.parametrize("model", ["gemma_synthetic_multitaskagent.gin", TINY])
def test_an_entity_config_differs_in_granularity_alone(model: str) -> None:
    turn = resolve.load(model).bindings
    entity = resolve.load("gemma_tiny_entity.gin" if model == TINY else model.replace(".gin", "_entity.gin")).bindings
    assert dict(entity.items() - turn.items()) == {"GemmaTstepEncoder.granularity": "'entity'"}
    assert turn.items() < entity.items()


def test_overrides_come_last_and_a_macro_is_followed() -> None:
    resolved = resolve.load(
        TINY, "il.gin", ["GemmaTstepEncoder.phrasing = 'raw'", "width = 64", "TformerTrajEncoder.d_model = %width"]
    )
    assert resolved.bindings["GemmaTstepEncoder.phrasing"] == "'raw'"
    assert bound_value("TformerTrajEncoder", "d_model") == 64
    assert bound_value("GemmaTstepEncoder", "granularity") == "turn"


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("GemmaTstepEncoder.lora_r = 'abc'", r"GemmaTstepEncoder\.lora_r = 'abc' is not of its type; expected int"),
        ("GemmaTstepEncoder.lora_r = 4.5", r"GemmaTstepEncoder\.lora_r = 4\.5"),
        ("GemmaTstepEncoder.use_lora = 1", r"GemmaTstepEncoder\.use_lora = 1 .* expected bool"),
        ("MultiTaskAgent.tau = None", r"MultiTaskAgent\.tau = None .* expected float"),
        ("MetamonAMAGOExperiment.mixed_precision = 'fp16'", r"mixed_precision = 'fp16'"),
        ("GemmaTstepEncoder.backbone_config = [1]", r"backbone_config = \[1\]"),
        ("rank = 'x'\nGemmaTstepEncoder.lora_r = %rank", r"lora_r = 'x'"),
        ("GemmaTstepEncoder.lora_rank = 4", r"doesn't have a parameter named 'lora_rank'; did you mean lora_r"),
        ("MultiTaskAgent.zzz = 4", r"doesn't have a parameter named 'zzz'$"),
        ("GemmaEncoder.lora_r = 4", r"No configurable matching 'GemmaEncoder'; did you mean GemmaTstepEncoder\?"),
        ("MetamonAMAGOExperiment.agent_type = @agent.PPO", r"No configurable matching reference '@agent.PPO'"),
        ("GemmaTstepEncoder.lora_r = ", r"Unable to parse value"),
        ("GemmaTstepEncoder.backbone_config = {", r"gin cannot read 'GemmaTstepEncoder\.backbone_config = \{'"),
    ],
)
def test_a_wrong_override_is_refused_and_quoted(override: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as error:
        resolve.load(TINY, overrides=[override])
    assert "\n" not in str(error.value)


def test_an_unknown_config_names_the_nearest() -> None:
    with pytest.raises(
        MissingFileError, match=r"no model config 'gemma_tiny.gin'; did you mean .*gemma_tiny_multitask"
    ):
        resolve.load("gemma_tiny.gin")
    with pytest.raises(MissingFileError, match=r"no training config 'binaryrl.gin'; did you mean binary_rl.gin"):
        resolve.load(TINY, "binaryrl.gin")


def test_an_upstream_config_is_refused_with_ours_named(tmp_path: Path) -> None:
    theirs = tmp_path / "binary_rl.gin"
    theirs.write_text("import amago.agent\nagent.Agent.tau = .004\n")
    with pytest.raises(ConfigError, match=r"upstream config \('import amago.agent'\).* use the packaged binary_rl.gin"):
        resolve.load(TINY, str(theirs))


def test_bindings_reach_the_parts_that_agents_make_themselves() -> None:
    resolve.load(TINY, "binary_rl.gin", ["Multigammas.discrete = [0.5, 0.9]", "PopArtLayer.beta = 0.25"])
    view = BattleView.from_names(
        obs_space="DefaultObservationSpace", action_space="MinimalActionSpace", reward_function="BinaryReward"
    )
    agent = configurable(EXPERIMENT)().build_agent(view)
    assert agent.discounts == [0.5, 0.9, 0.999]
    assert agent.popart.beta == 0.25


def test_two_critic_loss_weights_that_differ_are_refused_and_one_alone_counts() -> None:
    view = BattleView.from_names(
        obs_space="DefaultObservationSpace", action_space="MinimalActionSpace", reward_function="BinaryReward"
    )
    resolve.load(TINY, "binary_rl.gin", ["MultiTaskAgent.critic_loss_weight = 5.0"])
    with pytest.raises(
        ConfigError, match=r"Experiment.critic_loss_weight is 10.0, but MultiTaskAgent.* is 5.0; set one"
    ):
        configurable(EXPERIMENT)().build_agent(view)
    resolve.load(TINY, None, ["MultiTaskAgent.critic_loss_weight = 5.0"])
    experiment = configurable(EXPERIMENT)()
    one = torch.tensor(1.0)
    assert experiment.total_loss(experiment.build_agent(view), one, one) == 6.0


def test_a_users_own_file_may_include_a_packaged_one(tmp_path: Path) -> None:
    mine = tmp_path / "mine.gin"
    mine.write_text(f"import gemma_metamon.upstream.plugin\ninclude '{TINY}'\nGemmaTstepEncoder.summary_tokens = 6\n")
    assert resolve.load(str(mine)).bindings["GemmaTstepEncoder.summary_tokens"] == "6"


def test_loading_again_forgets_the_run_before() -> None:
    resolve.load(TINY, overrides=["GemmaTstepEncoder.phrasing = 'raw'"])
    assert "GemmaTstepEncoder.phrasing" not in resolve.load(TINY).bindings


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (1, float, True),
        (True, int, False),
        (True, float, False),
        (None, int | None, True),
        ("a", Literal["a", "b"], True),
        ("c", Literal["a", "b"], False),
        ([1, 2], list[int], True),
        ((1, "x"), tuple[int, ...], False),
        ("abc", list[str], False),
        ({"a": 1}, dict[str, Any], True),
        (3, str, False),
        ("anything", Any, True),
    ],
)
def test_fits_knows_what_may_be_passed(value: Any, hint: Any, expected: bool) -> None:
    assert fits(value, hint) is expected

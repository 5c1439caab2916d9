"""The plugin among stand-ins of amago and metamon: its names in gin, its attention, what it refuses and what it saves.

Each test asks a function of this file that runs in a process of its own, see upstream_stand_ins.
"""

import logging
import os
import sys
from pathlib import Path

import pytest
import torch
from support import upstream_stand_ins as upstream
from support.packaged_configs import SINCE_160
from support.run_files import identity_of
from support.small_agent import TINY
from support.upstream_stand_ins import build_encoder, complaint_of, model_file, training_file

from gemma_metamon.configs.files import list_configs
from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.reader.action_scores import N_SCORES
from gemma_metamon.nets.reader.tstep_encoder import GemmaTstepEncoder
from gemma_metamon.runs import resolve
from gemma_metamon.runs.architecture import describe_architecture
from gemma_metamon.runs.identity import RunDescription
from gemma_metamon.text.action_words import WORDS_NEEDED
from gemma_metamon.text.vocabulary import Vocabulary
from gemma_metamon.upstream import metamon_process

LM_WORDS = [word for word in dict.fromkeys(WORDS_NEEDED) if word not in upstream.DEFAULT_WORDS]
MODELS, TRAININGS = list_configs("models"), list_configs("training")


# ---- names and parameters


TREES = {"1.4.0": ("3.1.1", "experiment"), "1.5.1": ("3.1.2", "experiment"), "1.6.0": ("3.3.0", "agent")}
"""Version of metamon -> that of amago, and what has critic_loss_weight and masks missing actions."""


def install_tree(metamon: str) -> str:
    amago, place = TREES[metamon]
    upstream.install(amago, metamon, masked_in=place)
    # 3.3.0 with 1.6.0 is refused: it must call itself 3.4.0
    sys.modules["amago"].__version__ = "3.4.0" if metamon == "1.6.0" else amago
    return place


def parse_packaged_configs(metamon: str) -> None:
    import gin

    place = install_tree(metamon)
    tokenizer = upstream.Tokenizer(upstream.word_ids((*upstream.DEFAULT_WORDS, *LM_WORDS)))
    trainings = TRAININGS if metamon == "1.6.0" else sorted({*TRAININGS} - SINCE_160)
    # recommended_rl.gin is for the embedded runtime alone
    pairs = [(TINY, training) for training in trainings if training != "recommended_rl.gin"] + [
        (model, "binary_rl.gin") for model in MODELS
    ]
    for model, training in pairs:
        gin.clear_config()
        upstream.parse_as_metamon_does(model_file(model), training_file(training), tokenizer=tokenizer)
        given = sys.modules[upstream.METAMON_TO_AMAGO].MetamonAMAGOExperiment().given
        # upstream's agent of finetune.gin calls this one, which a stand-in does not
        parent = sys.modules["amago.agent"].MultiTaskAgent if training == "finetune.gin" else None
        agent = (parent or given["agent_type"])().given
        assert (agent if place == "agent" else given)["critic_loss_weight"] in (10.0, 12.5, 13.5)
        if "lm_actor" in model:
            trajectory = given["traj_encoder_type"](tstep_dim=64, max_seq_len=8).inner.given
            assert trajectory["tstep_dim"] == 64 - N_SCORES
            assert agent["actor_type"].__name__ == "LMActor"
        else:
            trajectory = given["traj_encoder_type"]().given
            assert agent["actor_type"].__name__ == "MetamonMaskedActor"
        assert trajectory["attention_type"] is sys.modules["amago.nets.transformer"].VanillaAttention
        if training == "binary_rl.gin":
            with torch.device("meta"):
                assert isinstance(build_encoder(words=87), GemmaTstepEncoder)


@pytest.mark.parametrize("metamon", TREES)
def test_every_packaged_config_parses_in_every_tree(metamon: str) -> None:
    """By their paths, each as it is; the weight of the critics' loss arrives where that tree has it."""
    upstream.run(parse_packaged_configs, metamon)


def complaint_of_half_an_lm_actor(tmp_path: Path) -> tuple[list[str], str]:
    upstream.install()
    half = tmp_path / "half.gin"
    half.write_text("include 'gemma_tiny_lm_actor.gin'\nMultiTaskAgent.actor_type = @MetamonMaskedActor\n")
    tokenizer = upstream.Tokenizer(upstream.word_ids((*upstream.DEFAULT_WORDS, *LM_WORDS)))
    upstream.parse_as_metamon_does(model_file("gemma_tiny_multitaskagent.gin"), tokenizer=tokenizer, finalize=False)
    upstream.parse_as_metamon_does(str(half), tokenizer=tokenizer)
    return complaint_of(lambda: build_encoder(words=87))


def test_half_a_language_model_actor_is_refused_there_too(tmp_path: Path) -> None:
    kinds, complaint = upstream.run(complaint_of_half_an_lm_actor, tmp_path)
    assert "ConfigError" in kinds
    assert "MultiTaskAgent.actor_type is another" in complaint


def build_late_parts(metamon: str) -> list[tuple[list[str], str]]:
    import gin

    install_tree(metamon)
    complaints = []
    for training in ("alakazam_bnorm_beta3.gin", "alakazam3_isfilter.gin", "finetune.gin"):
        gin.clear_config()
        upstream.parse_as_metamon_does(model_file(), training_file(training))
        given = sys.modules[upstream.METAMON_TO_AMAGO].MetamonAMAGOExperiment().given
        complaints.append(complaint_of(given["agent_type"]))
    return complaints


def test_parts_that_an_older_metamon_has_not_are_refused_and_a_newer_ones_own_are_taken() -> None:
    (kinds, said), (other_kinds, other), (agent_kinds, agent) = upstream.run(build_late_parts, "1.5.1")
    assert all("ConfigError" in found for found in (kinds, other_kinds, agent_kinds))
    assert "metamon 1.5.1 has no BatchNormalizedExpFilter; use metamon 1.6.0, another training config, or" in said
    assert "metamon 1.5.1 has no ISAdvantageFilter" in other
    assert "metamon 1.5.1 has no MetamonFinetuneAgent" in agent
    assert upstream.run(build_late_parts, "1.6.0") == [([], "")] * 3


def parse_in_turn(*files: str) -> list[tuple[list[str], str]]:
    import gin

    upstream.install()
    complaints = []
    for file in files:
        gin.clear_config()
        complaints.append(complaint_of(upstream.parse_as_metamon_does, file))
    return complaints


def test_gin_refuses_a_parameter_or_a_name_that_is_not_there(tmp_path: Path) -> None:
    """Also those that only our own agents have, so that a packaged config cannot come to need one."""
    wrong = ["GemmaTstepEncoder.lora_rank = 8", "Agent.value_estimate = 'exact'", "GemmaEncoder.lora_r = 8"]
    for index, line in enumerate(wrong):
        (tmp_path / f"{index}.gin").write_text(f"import gemma_metamon.upstream.plugin\n{line}\n")
    files = [str(tmp_path / f"{index}.gin") for index in range(len(wrong))]
    for (kinds, said), wanted in zip(
        upstream.run(parse_in_turn, *files),
        ["doesn't have a parameter named 'lora_rank'", "named 'value_estimate'", "No configurable matching"],
        strict=True,
    ):
        assert "ValueError" in kinds
        assert wanted in said


def build_from(file: str) -> tuple[int, str, list[str]]:
    import gin

    os.chdir("/")
    logged = messages_of("")
    upstream.install()
    upstream.parse_as_metamon_does(file, training_file("quick.gin"))
    return build_encoder().emb_dim, gin.config_str(), logged


def messages_of(logger: str) -> list[str]:
    """Fills with what is logged from now on."""
    logged: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: logged.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger(logger).addHandler(handler)
    return logged


def test_a_derived_config_includes_ours_from_any_folder(tmp_path: Path) -> None:
    mine = tmp_path / "mine.gin"
    mine.write_text(
        f'import gemma_metamon.upstream.plugin\n\ninclude "{TINY}"\n\nGemmaTstepEncoder.numerical_emb_dim = 32\n'
    )
    emb_dim, text, logged = upstream.run(build_from, str(mine))
    assert emb_dim == 192 + 32
    assert "TformerTrajEncoder.d_model = 128" in text
    assert not [message for message in logged if "not found" in message]


# ---- attention


def chosen_attention(flash_attn: bool, cuda: bool) -> str:
    upstream.install()
    transformer = sys.modules["amago.nets.transformer"]
    transformer.flash_attn = object() if flash_attn else None
    torch.cuda.is_available = lambda: cuda
    upstream.parse_as_metamon_does(model_file(), training_file())
    chosen = sys.modules["amago.nets.traj_encoders"].TformerTrajEncoder().given["attention_type"]
    return next(name for name in ("FlashAttention", "VanillaAttention") if getattr(transformer, name) is chosen)


@pytest.mark.parametrize("flash_attn", [True, False])
@pytest.mark.parametrize("cuda", [True, False])
def test_attention_is_flash_where_it_runs_and_always_amagos_own_class(flash_attn: bool, cuda: bool) -> None:
    expected = "FlashAttention" if flash_attn and cuda else "VanillaAttention"
    assert upstream.run(chosen_attention, flash_attn, cuda) == expected


# ---- versions, and what is not installed


def import_plugin(amago: str, metamon: str, masked_in: str) -> tuple[list[str], str, list[str]]:
    logged = messages_of("gemma_metamon")
    upstream.install(amago, metamon, masked_in=masked_in)
    kinds, said = complaint_of(upstream.parse_as_metamon_does, model_file(), model_file("gemma_agent.gin"))
    return kinds, said, logged


@pytest.mark.parametrize(("amago", "metamon"), [("3.1.1", "1.4.0"), ("3.1.2", "1.4.0"), ("3.1.2", "1.5.1")])
def test_versions_that_were_tried_pass_silently(amago: str, metamon: str) -> None:
    assert upstream.run(import_plugin, amago, metamon, "experiment") == ([], "", [])


@pytest.mark.parametrize(
    ("amago", "metamon", "masked_in", "mend"),
    [
        ("3.3.0", "1.4.0", "experiment", "metamon 1.4.0 wants amago 3.1.1 or 3.1.2; .*/amago.git@1e3bfed"),
        ("3.1.1", "1.5.1", "experiment", "metamon 1.5.1 wants amago 3.1.2; .*/amago.git@1e3bfed"),
        ("3.3.0", "1.6.0", "agent", "metamon 1.6.0 wants amago 3.4.0 or later; .*/amago.git@v3.4.0"),
        ("3.1.1", "1.5.0", "agent", "masks missing actions in the agent, .*; what was tried: metamon 1.6.0 on"),
        ("3.3.0", "1.7.0", "experiment", "masks missing actions in the experiment, .*; what was tried: metamon"),
    ],
)
def test_versions_that_would_mask_nothing_are_refused_with_the_pair_that_works(
    amago: str, metamon: str, masked_in: str, mend: str
) -> None:
    kinds, said, logged = upstream.run(import_plugin, amago, metamon, masked_in)
    assert "ConfigError" in kinds
    assert not logged
    with pytest.raises(ConfigError, match=f"amago {amago} and metamon {metamon} do not fit: .*{mend}"):
        raise ConfigError(said)


@pytest.mark.parametrize(
    ("amago", "metamon", "warning"),
    [
        (
            "3.3.0",
            "1.5.0",
            "gemma_metamon has not been tried with amago 3.3.0 and metamon 1.5.0; what was tried: metamon",
        ),
        (
            "3.4.0",
            "1.6.0",
            "amago 3.4.0 and metamon 1.6.0 should fit; tried was amago 3.3.0 (48eea05) that was made to",
        ),
    ],
)
def test_versions_that_were_not_tried_get_one_warning(amago: str, metamon: str, warning: str) -> None:
    kinds, _, (logged,) = upstream.run(import_plugin, amago, metamon, "agent")
    assert kinds == []
    assert logged.startswith(warning)


# ---- what is not installed


def import_without(missing: str, folder: Path) -> tuple[list[str], str]:
    """`missing` is a package; with a folder, the package of that name which lies in it is found in its place."""
    upstream.install()
    for name in [name for name in sys.modules if name.split(".")[0] == missing]:
        del sys.modules[name]
    if any(folder.iterdir()):
        upstream.find_packages_in(folder)
    else:
        sys.modules[missing] = None  # type: ignore[assignment]  # Python's own way to say: not there
    return complaint_of(upstream.parse_as_metamon_does, model_file(), bound=())


@pytest.mark.parametrize("missing", ["amago", "metamon"])
def test_without_upstream_the_install_commands_are_given(missing: str, tmp_path: Path) -> None:
    kinds, said = upstream.run(import_without, missing, tmp_path)
    assert "MissingDependencyError" in kinds
    assert f"this config needs amago and metamon: {missing} is not installed here; install it from its clone" in said
    assert f"https://github.com/UT-Austin-RPL/{missing}.git" in said


def test_another_package_called_metamon_is_named(tmp_path: Path) -> None:
    """PyPI has one."""
    (tmp_path / "metamon").mkdir()
    (tmp_path / "metamon" / "__init__.py").touch()
    kinds, said = upstream.run(import_without, "metamon", tmp_path)
    assert "MissingDependencyError" in kinds
    assert f"{tmp_path}/metamon has no metamon.rl, so it is not UT-Austin-RPL's; uninstall it" in said


def test_a_clone_that_hides_its_package_is_named(tmp_path: Path) -> None:
    """In the folder that the clone lies in, Python takes the clone for a package without a file of its own."""
    (tmp_path / "metamon" / "metamon").mkdir(parents=True)
    (tmp_path / "metamon" / "metamon" / "__init__.py").touch()
    kinds, said = upstream.run(import_without, "metamon", tmp_path)
    assert "MissingDependencyError" in kinds
    assert f"{tmp_path}/metamon is the clone of metamon and stands before the package in it" in said
    assert f"run it from another one (cd {tmp_path}/metamon)" in said


def build_in_4bit() -> tuple[list[str], str]:
    sys.modules["bitsandbytes"] = None  # type: ignore[assignment]
    upstream.install()
    upstream.parse_as_metamon_does(model_file("gemma_synthetic_multitaskagent_4bit.gin"), training_file())
    return complaint_of(build_encoder)


def test_4_bits_without_bitsandbytes_are_refused_before_anything_is_loaded() -> None:
    kinds, said = upstream.run(build_in_4bit)
    assert "MissingDependencyError" in kinds
    assert "pip install 'gemma-metamon[4bit]'" in said


# ---- what the plugin says and writes of a run


def said_while_built(model: str) -> list[str]:
    upstream.install()
    upstream.parse_as_metamon_does(model_file(model), training_file())
    logged = messages_of("gemma_metamon.upstream")
    with torch.device("meta"):
        build_encoder(words=87)
    return logged


def test_amagos_silent_minutes_at_full_size_are_explained_before_they_begin() -> None:
    (said,) = upstream.run(said_while_built, "gemma_synthetic_multitaskagent.gin")
    assert said.startswith("amago now builds a trajectory transformer of 9 layers, 1280 wide, and decomposes (SVD)")
    assert upstream.run(said_while_built, TINY) == []


def train(folder: Path, words: list[str] | None, rank: str, program: str) -> None:
    os.environ["RANK"] = rank
    upstream.install()
    argv = ["--run_name", "mine", "--save_dir", str(folder), "--model_gin_config", TINY, "--log", "--epochs", "3"]
    argv += ["--train_gin_config", "binary_rl.gin", "--action_space", "MinimalActionSpace"]
    upstream.install_train_script(program, argv)
    tokenizer = upstream.Tokenizer(upstream.word_ids(words or Vocabulary.default().words))
    upstream.parse_as_metamon_does(model_file(), training_file(), tokenizer=tokenizer)
    build_encoder(words=106, numbers=55)


@pytest.mark.parametrize("words", [None, ["surf", "<move>", "greattusk"]], ids=["packaged words", "other words"])
def test_a_run_of_metamons_is_described_so_that_an_embedded_process_builds_it(
    words: list[str] | None, tmp_path: Path
) -> None:
    upstream.run(train, tmp_path, words, "0", "metamon.rl.train")
    description = RunDescription.read(tmp_path / "mine/ckpts/gemma_metamon.json")
    view = description.view()
    expected = resolve.load(TINY, "binary_rl.gin")
    wanted = describe_architecture(view)
    assert resolve.load_text(description.config) == expected
    assert describe_architecture(view) == wanted
    assert description.identity == identity_of(view)
    assert description.identity.obs_space == "TeamPreviewObservationSpace"
    assert description.identity.action_space == "MinimalActionSpace"
    assert description.vocabulary == words


@pytest.mark.parametrize(
    ("rank", "program"), [("1", "metamon.rl.train"), ("0", "metamon.rl.evaluate"), ("0", "__main__")]
)
def test_no_other_process_writes_a_description(rank: str, program: str, tmp_path: Path) -> None:
    upstream.run(train, tmp_path, None, rank, program)
    assert not [*tmp_path.iterdir()]


def test_imports_of_upstream_leave_the_portable_config() -> None:
    text = "import amago\nfrom metamon.rl import train\nimport gemma_metamon.upstream.plugin\nimport amagoplus\n"
    kept = "import gemma_metamon.upstream.plugin\nimport amagoplus\n"
    assert metamon_process.portable_config(text) == kept

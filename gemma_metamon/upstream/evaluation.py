"""metamon's own evaluation of a run: registered as one of its pretrained models, and handed over.

Needs metamon and amago; the run may be metamon's, trained with the plugin, or one of ours, exported with `--to amago`.
"""

import argparse
import importlib
import os
import re
import tempfile
from pathlib import Path
from typing import Any, Final

from gemma_metamon.errors import CheckpointMismatchError, ConfigError, MissingDependencyError, MissingFileError
from gemma_metamon.gin_statements import require_saved_imports
from gemma_metamon.text.vocabulary import Vocabulary
from gemma_metamon.training.checkpoints import RunDescription
from gemma_metamon.upstream.installed_configs import INSTALL_UPSTREAM, explain_missing
from gemma_metamon.upstream.interchange import DESCRIPTION, epoch_of

# metamon's flags that say which model and checkpoint, which is what this is about
OURS: Final = ("--agent", "--checkpoints")
PLUGIN: Final = "import gemma_metamon.upstream.plugin\n"
# parameters of our agents that upstream's do not have; they concern learning alone (gin may put a value on a new line)
_NOT_UPSTREAM: Final = re.compile(r"^\S*\.(?:value_estimate|amago_version) = (?:\\\n)?.*\n?", re.MULTILINE)


def choose_epoch(run_dir: Path, epoch: int | None) -> int:
    """The epoch to evaluate: the one asked for, or the last.

    Raises:
        ConfigError: checkpoint 0, which metamon never loads.
        MissingFileError: no such checkpoint.
    """
    files = (run_dir / "ckpts" / "policy_weights").glob("policy_epoch_*.pt")
    there = sorted(found for path in files if (found := epoch_of(path)) is not None)
    if not there:
        raise MissingFileError(
            f"{run_dir} holds no ckpts/policy_weights/policy_epoch_<N>.pt; give a run of metamon's "
            "(save_dir/run_name), or export one of yours with `gemma-metamon export --to amago`"
        )
    chosen = there[-1] if epoch is None else epoch
    if chosen == 0:
        raise ConfigError("metamon loads no checkpoint 0: it would silently play random weights; choose a later one")
    if chosen not in there:
        raise MissingFileError(f"{run_dir} has no checkpoint {chosen}; it has {', '.join(map(str, there))}")
    return chosen


def read_run(run_dir: Path) -> RunDescription:
    """What the plugin or `export` wrote of the run.

    Raises MissingFileError where neither wrote anything, DataError where it is damaged.
    """
    path = run_dir / "ckpts" / DESCRIPTION
    if not path.is_file():
        raise MissingFileError(
            f"{path} does not exist, so nothing says what the run sees and may do; "
            "`python -m metamon.rl.train` writes it when it trains a config of this package"
        )
    return RunDescription.read(path)


def evaluate(run_dir: Path, epoch: int, passed: list[str]) -> None:
    """Lets metamon evaluate a checkpoint.

    Args:
        run_dir: save_dir/run_name, with ckpts/policy_weights.
        epoch: of `choose_epoch`.
        passed: metamon's own flags (--eval_type, --gens, --formats, --total_battles, ...).

    Raises:
        ConfigError: a flag that this command sets itself, a configuration that would import other modules than the
            plugin, or an environment that metamon does not start in.
        MissingDependencyError: no metamon here.
        MissingFileError, DataError: see `read_run`.
        CheckpointMismatchError: weights of another configuration than the run's description.
    """
    for argument in passed:
        flag = argument.partition("=")[0]
        # metamon would take an abbreviation, too
        if len(flag) > len("--a") and any(ours.startswith(flag) for ours in OURS):
            raise ConfigError(f"{flag} is set by --run_dir and --ckpt; leave it out")
    description = read_run(run_dir)
    require_saved_imports(description.config, f"the configuration in {DESCRIPTION}")
    metamon_evaluate = _import_metamon()
    with tempfile.TemporaryDirectory() as folder:
        config, nothing = Path(folder) / "run.gin", Path(folder) / "nothing.gin"
        # first, so that a binding of the run's own comes later and wins
        space = f"{PLUGIN}GemmaTstepEncoder.observation_space = {description.identity.obs_space!r}\n"
        config.write_text(space + config_for_metamon(description.config), encoding="utf-8")
        nothing.touch()
        name = _register(run_dir, epoch, description, config, nothing)
        parser = argparse.ArgumentParser(prog="gemma-metamon metamon-evaluate --run_dir ... --ckpt ...")
        metamon_evaluate.add_cli(parser)
        args = parser.parse_args(["--agent", name, "--checkpoints", str(epoch), *passed])
        try:
            metamon_evaluate._run_default_evaluation(args)
        except RuntimeError as error:
            if "loading state_dict" not in str(error):
                raise
            differences = " ".join(str(error).split())
            raise CheckpointMismatchError(
                f"checkpoint {epoch} of {run_dir} was not made by the configuration in its {DESCRIPTION} "
                f"({differences[:300]}...); was the folder used by two runs?"
            ) from error


def config_for_metamon(config: str) -> str:
    """A resolved configuration as a config that metamon parses, without what only our own agents have."""
    text = _NOT_UPSTREAM.sub("", config)
    return text if PLUGIN in text else PLUGIN + text


def _import_metamon() -> Any:
    if "METAMON_CACHE_DIR" not in os.environ:
        raise ConfigError(
            "metamon needs the environment variable METAMON_CACHE_DIR: a folder for its teams and battles"
        )
    try:
        module = importlib.import_module("metamon.rl.evaluate")
    except ImportError as error:
        if (error.name or "").split(".")[0] in ("metamon", "amago"):
            raise explain_missing(error.name or "") from error
        reason = " ".join(str(error).split())
        raise MissingDependencyError(
            f"metamon does not start here: {reason}; it installs by: {INSTALL_UPSTREAM}"
        ) from error
    for name in ("add_cli", "_run_default_evaluation"):
        if not hasattr(module, name):
            raise ConfigError(
                f"this version of metamon has no metamon.rl.evaluate.{name}; evaluate with metamon 1.4.0, or play the "
                "checkpoint with `gemma-metamon import` and `gemma-metamon evaluate`"
            )
    return module


def _register(run_dir: Path, epoch: int, description: RunDescription, config: Path, nothing: Path) -> str:
    """Makes the run one of metamon's pretrained models; returns its name there."""
    from metamon.interface import get_action_space, get_observation_space, get_reward_function
    from metamon.rl import pretrained
    from metamon.tokenizer import PokemonTokenizer

    # without `description.view()`: metamon may know spaces that we do not
    identity, words = description.identity, description.vocabulary or Vocabulary.default().words
    run_dir = run_dir.absolute()
    name = f"gemma_metamon:{run_dir.name}"

    @pretrained.pretrained_model(name)  # type: ignore[untyped-decorator, unused-ignore]
    class Run(pretrained.LocalPretrainedModel):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__(
                amago_ckpt_dir=str(run_dir.parent),
                model_name=run_dir.name,
                model_gin_config=str(config),
                train_gin_config=str(nothing),
                default_checkpoint=epoch,
                observation_space=get_observation_space(identity.obs_space),
                action_space=get_action_space(identity.action_space),
                reward_function=get_reward_function(identity.reward_function),
                tokenizer=PokemonTokenizer().load_tokens({word: i for i, word in enumerate(words)}),
            )

    return name

"""metamon's own evaluation of a run: registered as one of its pretrained models, and handed over.

Needs metamon and amago; the run may be metamon's, trained with the plugin, or one of ours, exported with `--to amago`.
"""

import argparse
import importlib
import logging
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from gemma_metamon.configs.statements import require_saved_imports
from gemma_metamon.errors import CheckpointMismatchError, ConfigError, MissingDependencyError, MissingFileError
from gemma_metamon.runs.identity import RunDescription
from gemma_metamon.text.vocabulary import Vocabulary
from gemma_metamon.upstream import versions
from gemma_metamon.upstream.interchange import DESCRIPTION, epoch_of, policy_path

logger = logging.getLogger(__name__)

EVALUATIONS: Final = ("metamon.rl.evaluate", "metamon.rl.evaluate.__main__")
"""Where metamon's flags and its default run are: a module until 1.5, in a package since 1.6."""
# metamon's flags that say which model and checkpoint, which is what this is about
OURS: Final = ("--agent", "--checkpoints")
# of torch's error for weights that do not fit, and of metamon 1.6.0's
_DO_NOT_FIT: Final = ("loading state_dict", "Checkpoint is missing", "Checkpoint has", "Shape mismatch for")
PLUGIN: Final = "import gemma_metamon.upstream.plugin\n"
# parameters that not all of upstream's versions have, or not in this place; they concern learning alone, as
# the adapter that it began with does (gin may put a value on a new line)
_NOT_UPSTREAM: Final = re.compile(
    r"^\S*(?:(?:BatchNormalizedExpFilter|ISAdvantageFilter)\.\w+ = (?:\\\n)?"
    r"|\.(?:value_estimate|baseline|lambda_return|advantage|critics_train_trunk"
    r"|critic_warmup(?:_updates)?|lr_decay_updates|best_share|best_after_epoch|amago_version|critic_loss_weight|label_type|sigma|init_value"
    r"|init_adapter)"
    r" = (?:\\\n)?"
    r"|\.fbc_filter_func = (?:\\\n)?\s*@\S+\(\)).*\n?",
    re.MULTILINE,
)


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
    with registered(run_dir, epoch) as (metamon_evaluate, name):
        parser = argparse.ArgumentParser(prog="gemma-metamon metamon-evaluate --run_dir ... --ckpt ...")
        metamon_evaluate.add_cli(parser)
        args = parser.parse_args(["--agent", name, "--checkpoints", str(epoch), *passed])
        require_backend(getattr(args, "battle_backend", None))
        warn_of_fight(args.gens)
        metamon_evaluate._run_default_evaluation(args)


@contextmanager
def registered(run_dir: Path, epoch: int, *, also: str = "") -> Iterator[tuple[Any, str]]:
    """The evaluation module of metamon, and the name under which it knows the run for the length of the block.

    `also` is bound besides what the run's configuration binds, or in its place.

    Raises as `evaluate`.
    """
    description = read_run(run_dir)
    require_saved_imports(description.config, f"the configuration in {DESCRIPTION}")
    metamon_evaluate = import_evaluation()
    with tempfile.TemporaryDirectory() as folder:
        config, nothing = Path(folder) / "run.gin", Path(folder) / "nothing.gin"
        # first, so that a binding of the run's own comes later and wins
        space = f"{PLUGIN}GemmaTstepEncoder.observation_space = {description.identity.obs_space!r}\n"
        config.write_text(f"{space}{config_for_metamon(description.config)}\n{also}", encoding="utf-8")
        nothing.touch()
        try:
            yield metamon_evaluate, _register(run_dir, epoch, description, config, nothing)
        except RuntimeError as error:
            if not any(words in str(error) for words in _DO_NOT_FIT):
                raise
            differences = " ".join(str(error).split())
            raise CheckpointMismatchError(
                f"checkpoint {epoch} of {run_dir} was not made by the configuration in its {DESCRIPTION} "
                f"({differences[:300]}...); was the folder used by two runs?"
            ) from error


def model_name(run_dir: Path) -> str:
    """By which metamon knows a registered run, as one of its models."""
    return f"gemma_metamon:{run_dir.absolute().name}"


def config_for_metamon(config: str) -> str:
    """A resolved configuration as a config that metamon parses, without what some amagos do not have."""
    text = _NOT_UPSTREAM.sub("", config)
    return text if PLUGIN in text else PLUGIN + text


def warn_of_fight(gens: Sequence[int]) -> None:
    """A metamon that does not know gen 1's "Fight" button ends in the middle of a battle, when a Pokémon sleeps."""
    tree = versions.find_tree(versions.find_installed("metamon").version)
    if 1 in gens and tree is not None and not tree.knows_fight:
        logger.warning(
            "metamon %s does not know the Fight button that Showdown has in gen 1 since 2026, and fails where a "
            "Pokémon is asleep, frozen or trapped; let it play on the simulator that its clone names: %s",
            tree.metamon,
            versions.OLDER_SHOWDOWN,
        )


def require_backend(name: str | None) -> None:
    """Raises ConfigError for metamon's "pokeagent" where its environments ask for a class that they do not import."""
    if name == "pokeagent" and not hasattr(importlib.import_module("metamon.env.wrappers"), "PokeAgentPlayer"):
        raise ConfigError(
            f"{versions.find_installed('metamon')} offers --battle_backend pokeagent, but its environments end with "
            "NameError: 'PokeAgentPlayer' is not imported in metamon/env/wrappers.py; leave the flag out, or use "
            "--battle_backend metamon"
        )


def import_evaluation() -> Any:
    """The module of metamon's evaluation that has its flags and its default run.

    Raises ConfigError for an environment that metamon does not start in, MissingDependencyError without metamon.
    """
    if versions.CACHE_DIR not in os.environ:
        raise ConfigError(
            f"metamon needs the environment variable {versions.CACHE_DIR}: a folder for its teams and battles"
        )
    module = None
    try:
        for name in EVALUATIONS:
            module = importlib.import_module(name)
            if all(hasattr(module, function) for function in ("add_cli", "_run_default_evaluation")):
                return module
    except ModuleNotFoundError as error:
        if error.name == EVALUATIONS[-1]:  # a module of functions alone
            pass
        elif (error.name or "").split(".")[0] in ("metamon", "amago"):
            raise versions.explain_missing(error.name or "") from error
        else:
            raise _does_not_start(error) from error
    except (ImportError, AssertionError) as error:  # how metamon asks for other versions of amago and poke-env
        raise _does_not_start(error) from error
    raise ConfigError(
        f"this version of metamon has no _run_default_evaluation in {' or '.join(EVALUATIONS)}; what was tried: "
        f"{versions.tried_words()}. Or play the checkpoint with `gemma-metamon import` and "
        "`gemma-metamon evaluate`"
    )


def _does_not_start(error: Exception) -> MissingDependencyError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return MissingDependencyError(
        f"metamon does not start here: {reason}; `gemma-metamon upstream check` says what is wrong, and it installs "
        f"by: {versions.INSTALL}"
    )


def _register(run_dir: Path, epoch: int, description: RunDescription, config: Path, nothing: Path) -> str:
    """Makes the run one of metamon's pretrained models; returns its name there."""
    from metamon.interface import get_action_space, get_observation_space, get_reward_function
    from metamon.rl import pretrained
    from metamon.tokenizer import PokemonTokenizer

    # without `description.view()`: metamon may know spaces that we do not
    identity, words = description.identity, description.vocabulary or Vocabulary.default().words
    try:
        spaces = {
            "observation_space": get_observation_space(identity.obs_space),
            "action_space": get_action_space(identity.action_space),
            "reward_function": get_reward_function(identity.reward_function),
        }
    except ValueError as error:  # says which, and those that there are
        raise ConfigError(
            f"the metamon that is installed cannot show this run what it was trained on: {error}; evaluate it on the "
            "metamon that trained it, or here with `gemma-metamon import` and `gemma-metamon evaluate`"
        ) from error
    run_dir = run_dir.absolute()
    name = model_name(run_dir)

    @pretrained.pretrained_model(name)  # type: ignore[untyped-decorator, unused-ignore]
    class Run(pretrained.LocalPretrainedModel):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__(
                amago_ckpt_dir=str(run_dir.parent),
                model_name=run_dir.name,
                model_gin_config=str(config),
                train_gin_config=str(nothing),
                default_checkpoint=epoch,
                **spaces,
                tokenizer=PokemonTokenizer().load_tokens({word: i for i, word in enumerate(words)}),
            )

        def get_path_to_checkpoint(self, checkpoint: int) -> str:
            """Raises as `choose_epoch` does."""
            # a launcher's config may name any; of one that is not there, metamon would say less, and nothing of 0
            return str(policy_path(run_dir.parent, run_dir.name, choose_epoch(run_dir, checkpoint)))

    return name

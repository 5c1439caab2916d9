"""Our names inside a process of upstream's: the encoder, its attention, the word list, which versions fit.

Importing amago and metamon registers their own classes with gin; ours join them. Nothing of theirs is changed.
"""

import argparse
import functools
import importlib.util
import inspect
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_buffer_registration_hook

from gemma_metamon.configs.files import add_search_paths
from gemma_metamon.errors import ConfigError, MissingDependencyError
from gemma_metamon.nets.heads.lm_actor import require_together
from gemma_metamon.nets.reader.tstep_encoder import GemmaTstepEncoder
from gemma_metamon.nets.reader.word_encoder import build_word_encoder
from gemma_metamon.runs.identity import RunDescription, RunIdentity, own_words
from gemma_metamon.text.vocabulary import Vocabulary
from gemma_metamon.upstream import critic_warmup, versions
from gemma_metamon.upstream.interchange import DESCRIPTION

logger = logging.getLogger(__name__)

_UPSTREAM_IMPORTS: Final = re.compile(r"^(?:import|from) (?:amago|metamon)\b.*\n", re.MULTILINE)

# metamon's train script binds its tokenizer to its own encoders, to one or more of these
TOKENIZER_BINDINGS: Final = (
    "MetamonTstepEncoder.tokenizer",
    "MetamonPerceiverTstepEncoder.tokenizer",
    "MetamonGroupedTstepEncoderV2.tokenizer",
)
LATE_PARTS: Final = {
    "BatchNormalizedExpFilter": "metamon.rl.metamon_to_amago",
    "ISAdvantageFilter": "metamon.rl.custom_agent",
    "MetamonFinetuneAgent": "metamon.rl.custom_agent",
}
"""Filters and agents that metamon has since 1.6.0, and where; importing the module makes gin know them."""
SLOW_WIDTH: Final = 512
"""Of a trajectory transformer that amago is silent over for long."""
DEFAULT_TOKENIZER: Final = "DefaultObservationSpace-v1"


class UpstreamGemmaTstepEncoder(GemmaTstepEncoder):
    """GemmaTstepEncoder that reads the words of metamon's tokenizer; gin knows it as GemmaTstepEncoder."""

    def __init__(self, *args: Any, **options: Any) -> None:
        vocabulary, train_args = read_vocabulary(), read_train_args()
        read = {"vocabulary": vocabulary.words, "observation_space": getattr(train_args, "obs_space", None)}
        super().__init__(*args, **{**read, **options})
        require_lm_parts(self)
        if train_args is not None:
            describe_run(self, vocabulary, train_args)
        explain_silence()


# from there gin takes the parameters that can be bound
functools.update_wrapper(UpstreamGemmaTstepEncoder.__init__, GemmaTstepEncoder.__init__)


def register() -> None:
    """Imports amago and metamon and adds our names to gin.

    Raises:
        MissingDependencyError: one of them is not installed.
        ConfigError: versions of them that are known to fail together.
    """
    import gin

    try:
        import amago.agent
        import amago.nets.actor_critic
        import amago.nets.traj_encoders
        import metamon
        from metamon.rl import metamon_to_amago
    except ModuleNotFoundError as error:
        module = error.name or ""
        if module.split(".")[0] not in ("amago", "metamon"):
            raise
        raise MissingDependencyError(
            f"outside of `gemma-metamon train` this config needs amago and metamon: {versions.explain_missing(module)}"
        ) from error
    check_versions(amago, metamon, metamon_to_amago)
    gin.external_configurable(
        UpstreamGemmaTstepEncoder, name="GemmaTstepEncoder", module="gemma_metamon.nets.tstep_encoder"
    )
    gin.external_configurable(build_word_encoder, name="WordTstepEncoder", module="gemma_metamon.nets.word_encoder")
    from gemma_metamon.upstream import lm_actor

    gin.external_configurable(lm_actor.LMTrajEncoder, name="LMTrajEncoder", module="gemma_metamon.nets.lm_actor")
    gin.external_configurable(lm_actor.LMActor, name="LMActor", module="gemma_metamon.nets.lm_actor")
    gin.external_configurable(best_attention, name="best_attention", module="gemma_metamon.configs")
    add_search_paths("agent" if "critic_loss_weight" in gin_parameters(amago.agent.Agent) else "experiment")
    for name, module in LATE_PARTS.items():
        if importlib.util.find_spec(module) is None or not hasattr(importlib.import_module(module), name):
            gin.external_configurable(_refused(name, metamon.__version__), name=name, module=module)
    critic_warmup.freeze_policies()
    if not torch.cuda.is_available():
        # amago's compiled functions fail on some CPU builds of torch, and are no faster there
        torch.compiler.set_stance("force_eager")
        register_module_buffer_registration_hook(_own_memory)  # type: ignore[arg-type]  # torch's lacks the result


def gin_parameters(configurable: Any) -> Mapping[str, inspect.Parameter]:
    """Of a class of upstream's that gin knows, whatever gin has made of it."""
    return inspect.signature(configurable.__init__).parameters


def _refused(name: str, version: str) -> Callable[..., Any]:
    def refuse(**options: Any) -> None:
        raise ConfigError(
            f"metamon {version} has no {name}; use metamon 1.6.0, another training config, or `gemma-metamon train`"
        )

    return refuse


def _own_memory(module: nn.Module, name: str, buffer: Tensor | None) -> Tensor | None:
    """A copy of a buffer of amago's without the larger tensor that it is a row of.

    safetensors loads no module with such a row in it, so that on a CPU, to which no copy is made, `--ckpt` would fail.
    """
    if buffer is None or not type(module).__module__.startswith("amago."):
        return buffer
    return buffer.clone(memory_format=torch.contiguous_format)


def require_lm_parts(encoder: GemmaTstepEncoder) -> None:
    """Raises ConfigError where some of the language-model actor's parts are bound without the others."""
    agent = _bound_name("MetamonAMAGOExperiment.agent_type")
    require_together(
        agent,
        encoder=encoder.action_texts is not None,
        traj_encoder=_bound_name("MetamonAMAGOExperiment.traj_encoder_type") == "LMTrajEncoder",
        actor=_bound_name(f"{agent}.actor_type") == "LMActor",
    )


def _bound_name(parameter: str) -> str:
    """The class that is bound to a parameter, without its module; "Agent" where none is."""
    import gin

    try:
        return str(gin.query_parameter(parameter).selector).rpartition(".")[2]
    except (ValueError, AttributeError):  # not bound, or to something else than a reference
        return "Agent"


def describe_runs_by(args: argparse.Namespace) -> None:
    """Has the run of this process described (see `describe_run`) where it is no `python -m metamon.rl.train`."""
    _announced.append(args)


_announced: list[argparse.Namespace] = []


def read_train_args() -> argparse.Namespace | None:
    """The arguments of `python -m metamon.rl.train`, or those announced; None in another program."""
    if _announced:
        return _announced[-1]
    main = sys.modules["__main__"]
    if getattr(getattr(main, "__spec__", None), "name", None) != "metamon.rl.train":
        return None
    parser = argparse.ArgumentParser()
    cast("Any", main).add_cli(parser)
    return parser.parse_known_args()[0]


def describe_run(encoder: GemmaTstepEncoder, vocabulary: Vocabulary, args: argparse.Namespace) -> None:
    """Writes into a run of `python -m metamon.rl.train` what its checkpoints do not say, for evaluation and import."""
    import gin

    if os.environ.get("RANK", "0") != "0":
        return
    description = RunDescription(
        identity=RunIdentity(
            obs_space=args.obs_space,
            action_space=args.action_space,
            reward_function=args.reward_function,
            phrasing=encoder.phrasing,
            granularity=encoder.granularity,
            subword_hash=encoder.subword_hash,
        ),
        config=portable_config(gin.config_str()),
        vocabulary=own_words(vocabulary),
    )
    folder = Path(args.save_dir) / args.run_name / "ckpts"
    folder.mkdir(parents=True, exist_ok=True)
    description.write(folder / DESCRIPTION)


def explain_silence() -> None:
    """Says what amago does next, after our encoder, where that takes minutes: it says nothing itself."""
    import gin

    try:
        width, layers = (int(gin.query_parameter(f"TformerTrajEncoder.{name}")) for name in ("d_model", "n_layers"))
    except ValueError:  # not bound, or another trajectory encoder
        return
    if width >= SLOW_WIDTH:
        # not info: metamon's scripts set up no logging, which leaves warnings alone
        logger.warning(
            "amago now builds a trajectory transformer of %d layers, %d wide, and decomposes (SVD) each of its "
            "matrices on the CPU, silently: minutes, a quarter of an hour on two busy cores; training comes after.",
            layers,
            width,
        )


def portable_config(config: str) -> str:
    """The text of what gin has bound here, without the imports of modules that an embedded process does not have."""
    return _UPSTREAM_IMPORTS.sub("", config)


def best_attention() -> Any:
    """Flash attention where it runs, plain attention elsewhere: the class itself, which amago compares by identity."""
    from amago.nets import transformer

    flash_runs = transformer.flash_attn is not None and torch.cuda.is_available()
    return transformer.FlashAttention if flash_runs else transformer.VanillaAttention


def read_vocabulary() -> Vocabulary:
    """The words of the PokemonTokenizer that metamon has bound; where it bound none, of `--tokenizer` or its default.

    Raises ConfigError for encoders bound to different words, of which only one can be meant, and as
    `Vocabulary.from_tokenizer` does.
    """
    import gin

    bound: dict[str, Vocabulary] = {}
    for binding in TOKENIZER_BINDINGS:
        try:
            tokenizer = gin.query_parameter(binding)
        except ValueError:  # not bound, or no such class in this version of metamon
            continue
        bound[binding] = Vocabulary.from_tokenizer(tokenizer)
    if len({vocabulary.words for vocabulary in bound.values()}) > 1:
        listed = ", ".join(f"{binding} ({len(vocabulary)} words)" for binding, vocabulary in bound.items())
        raise ConfigError(f"{listed} are different word lists, and the observations come in one; bind the same to each")
    if bound:
        return next(iter(bound.values()))
    from metamon.tokenizer import get_tokenizer

    name = getattr(read_train_args(), "tokenizer", DEFAULT_TOKENIZER)
    return Vocabulary.from_tokenizer(get_tokenizer(name))


def check_versions(amago: Any, metamon: Any, metamon_to_amago: Any) -> None:
    """Once per process; takes the imported modules.

    A pair of the table is judged by it. Any other is looked at: they fail together, and nothing says so, when one of
    them masks missing actions in the experiment (until 2025) and the other in the agent (since).

    Raises ConfigError for a pair that fails; warns of one that has not been tried.
    """
    pair = f"amago {amago.__version__} and metamon {metamon.__version__}"
    verdict = versions.judge(str(metamon.__version__), str(amago.__version__))
    if verdict.fits == "no":
        raise ConfigError(f"{verdict.reason}; install it: {verdict.mend}")
    asked_there = hasattr(amago.Experiment, "edit_actor_mask")
    done_there = "edit_actor_mask" in vars(metamon_to_amago.MetamonAMAGOExperiment)
    if asked_there != done_there:
        raise ConfigError(
            f"{pair} do not fit: metamon masks missing actions in the {'experiment' if done_there else 'agent'}, "
            f"where this amago never asks, so they would be learned from; what was tried: {versions.tried_words()}"
        )
    if verdict.fits == "untried":
        logger.warning("%s", verdict.reason)

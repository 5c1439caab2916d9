"""gin: the packaged configs, the names they bind, overrides, and the resolved configuration of a run.

Configs use upstream's names to the letter, so that one file serves both runtimes. `register` puts the embedded classes
under those names; it runs when a config is loaded, never on import, because a process that imports amago has the same
names from there.
"""

import difflib
import inspect
import logging
import pprint
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gemma_metamon.errors import MissingFileError
from gemma_metamon.gin_statements import Reader, Source, is_file
from gemma_metamon.gin_values import macro_name
from gemma_metamon.strict_json import shown

Kind = Literal["models", "training"]
KINDS: tuple[Kind, ...] = ("models", "training")
EXPERIMENT = "MetamonAMAGOExperiment"
Owner = Literal["agent", "experiment"]


@dataclass(frozen=True, kw_only=True)
class ResolvedConfig:
    """What gin holds after the files and the overrides.

    Attributes:
        text: all bindings as a .gin text that loads again, sorted by name; references by name.
        bindings: "Name.parameter" -> value as gin would print it, what a macro stands for in its place.
    """

    text: str
    bindings: dict[str, str]


def config_folder(kind: Kind) -> Path:
    return _packaged() / kind


def include_folders(loss_of: Owner) -> list[Path]:
    """Where `include` finds the packaged configs, and the parts that several have in common.

    Args:
        loss_of: what has the parameter critic_loss_weight; it moved from AMAGO's experiment to its agent.
    """
    parts = _packaged() / "parts"
    return [*map(config_folder, KINDS), parts, parts / f"loss_of_{loss_of}"]


def _packaged() -> Path:
    """Inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).parent
    inside = package / "gin_configs"
    return inside if inside.is_dir() else package.parent / "gin_configs"


def list_configs(kind: Kind) -> list[str]:
    return sorted(path.name for path in config_folder(kind).glob("*.gin"))


def find_config(name: str, kind: Kind) -> Path:
    """A packaged config's path by its name, or a user's own file by its path.

    Raises MissingFileError naming the nearest packaged configs where there is neither.
    """
    for path in (Path(name), config_folder(kind) / name):
        if is_file(path):
            return path
    known = list_configs(kind)
    near = [other for other in known if other.startswith(Path(name).stem)]
    near = near or difflib.get_close_matches(name[:100], known, n=2, cutoff=0.5) or known
    raise MissingFileError(f"no {kind.removesuffix('s')} config {shown(name)}; did you mean {' or '.join(near)}?")


def describe(path: Path) -> str:
    """The first line of a config, which says what it is."""
    return path.read_text(encoding="utf-8").split("\n", 1)[0].lstrip("# ").strip()


def load(model_gin_config: str, train_gin_config: str | None = None, overrides: Sequence[str] = ()) -> ResolvedConfig:
    """Fills gin from a model config, a training config and overrides, in that order, and checks every value's type.

    Raises MissingFileError for an unknown config; ConfigError for an unknown name or parameter, a value of the wrong
    type, a syntax error, or an import that a .gin file may not make.
    """
    files = [find_config(model_gin_config, "models")]
    if train_gin_config is not None:
        files.append(find_config(train_gin_config, "training"))
    reader = _begin()
    for file in files:
        reader.read_file(file)
    return _finish(reader, overrides)


def load_text(text: str, overrides: Sequence[str] = ()) -> ResolvedConfig:
    """The same for a resolved configuration that a run saved; nothing that it imports but the plugin is run.

    Raises ConfigError as `load` does.
    """
    reader = _begin()
    reader.read_text(text, Source("saved", "the configuration that was saved with the run"))
    return _finish(reader, overrides)


def _begin() -> Reader:
    import gin

    register()
    gin.clear_config()
    return Reader(_registered, include_folders("experiment"))


def _finish(reader: Reader, overrides: Sequence[str]) -> ResolvedConfig:
    import gin

    for override in overrides:
        reader.read_text(override, Source("override", shown(override)))
    reader.check()
    bindings = {
        # sorted as in gin's own text, so that a text and what it loads to have the same bindings
        f"{name}.{parameter}": pprint.pformat(_followed(value), width=sys.maxsize)
        for name, (selector, _) in sorted(_registered.items())
        for parameter, value in sorted(gin.get_bindings(selector, resolve_references=False).items())
    }
    return ResolvedConfig(text=gin.config_str(), bindings=bindings)


def register() -> None:
    """Puts the embedded classes under upstream's gin names. Safe to call again."""
    import gin

    for name, module, target in _embedded_configurables():
        if name in _registered:
            continue
        gin.external_configurable(target, name=name, module=module)
        _registered[name] = (f"{module}.{name}", target)


def add_search_paths(loss_of: Owner) -> None:
    """Lets gin itself find the packaged configs for `include 'gemma_….gin'`, from anywhere. Safe to call again.

    For a metamon process; here `Reader` looks for them.
    """
    import gin

    logging.getLogger().addFilter(_is_no_search)
    for folder in map(str, include_folders(loss_of)):
        if folder not in _search_paths:
            gin.add_config_file_search_path(folder)
            _search_paths.add(folder)


def _is_no_search(record: logging.LogRecord) -> bool:
    """False for gin's errors that an included file is not in a folder, said even when it is in the next."""
    return record.module != "resource_reader"


def best_attention() -> None:
    """Nothing to choose here: the embedded trajectory encoder has one attention, torch's own."""


def is_embedded() -> bool:
    """Whether this process has the embedded classes under upstream's names."""
    return bool(_registered)


def configurable(name: str) -> Callable[..., Any]:
    """The class or function registered under a gin name, with the loaded bindings applied when called."""
    import gin

    found: Callable[..., Any] = gin.get_configurable(name)
    return found


def bindings_of(name: str) -> dict[str, Any]:
    """The parameters that gin has bound for a name, macros followed; references stay references."""
    import gin

    bindings = gin.get_bindings(_registered[name][0], resolve_references=False)
    return {parameter: _followed(value) for parameter, value in bindings.items()}


def inherited_bindings(made: Any) -> dict[str, Any]:
    """What gin has bound for the configurable classes that this one extends, with references made.

    Upstream's classes call their parents, to whom gin gives what is bound; to ours it is given by whoever makes them.
    """
    import gin

    if not inspect.isclass(made):
        return {}
    found: dict[str, Any] = {}
    for name, (selector, target) in _registered.items():
        if name != made.__name__ and inspect.isclass(target) and issubclass(made, target):
            found |= gin.get_bindings(selector)
    return found


def _followed(value: Any) -> Any:
    """What a macro stands for; loading has seen to it that this ends."""
    import gin

    while (name := macro_name(value)) is not None:
        value = gin.query_parameter(f"{name}/gin.macro.value")
    return value


def bound_value(name: str, parameter: str) -> Any:
    """What gin has bound to a parameter, or the parameter's default."""
    bindings = bindings_of(name)
    return bindings.get(parameter, inspect.signature(_registered[name][1]).parameters[parameter].default)


_registered: dict[str, tuple[str, Callable[..., Any]]] = {}
_search_paths: set[str] = set()


def _embedded_configurables() -> list[tuple[str, str, Callable[..., Any]]]:
    from gemma_metamon.nets import (
        actors,
        agent_interface,
        agents,
        batch_filters,
        critics,
        filters,
        finetune_agent,
        lm_actor,
        popart,
        traj_encoder,
        tstep_encoder,
        word_encoder,
    )
    from gemma_metamon.training import experiment

    agent, actor_critic, metamon = "amago.agent", "amago.nets.actor_critic", "metamon.rl.metamon_to_amago"
    return [
        ("MultiTaskAgent", agent, agents.MultiTaskAgent),
        ("Agent", agent, agents.Agent),
        ("MetamonFinetuneAgent", "metamon.rl.custom_agent", finetune_agent.MetamonFinetuneAgent),
        ("Multigammas", agent, agent_interface.Multigammas),
        ("binary_filter", agent, filters.binary_filter),
        ("exp_filter", agent, filters.exp_filter),
        ("leaky_relu_filter", agent, filters.leaky_relu_filter),
        ("BatchNormalizedExpFilter", metamon, batch_filters.BatchNormalizedExpFilter),
        ("ISAdvantageFilter", "metamon.rl.custom_agent", batch_filters.ISAdvantageFilter),
        ("NCriticsTwoHot", actor_critic, critics.NCriticsTwoHot),
        ("NCritics", actor_critic, critics.NCritics),
        ("PopArtLayer", actor_critic, popart.PopArtLayer),
        ("Actor", actor_critic, actors.Actor),
        ("ResidualActor", actor_critic, actors.ResidualActor),
        ("TformerTrajEncoder", "amago.nets.traj_encoders", traj_encoder.TformerTrajEncoder),
        ("MetamonMaskedActor", metamon, actors.MetamonMaskedActor),
        ("MetamonMaskedResidualActor", metamon, actors.MetamonMaskedResidualActor),
        (EXPERIMENT, metamon, experiment.Experiment),
        ("GemmaTstepEncoder", "gemma_metamon.nets.tstep_encoder", tstep_encoder.GemmaTstepEncoder),
        ("WordTstepEncoder", "gemma_metamon.nets.word_encoder", word_encoder.build_word_encoder),
        ("LMTrajEncoder", "gemma_metamon.nets.lm_actor", lm_actor.LMTrajEncoder),
        ("LMActor", "gemma_metamon.nets.lm_actor", lm_actor.LMActor),
        ("best_attention", "gemma_metamon.configs", best_attention),
    ]

"""gin: the packaged configs, the names they bind, overrides, and the resolved configuration of a run.

Configs use upstream's names to the letter, so that one file serves both runtimes. `register` puts the embedded classes
under those names; it runs when a config is loaded, never on import, because a process that imports amago has the same
names from there.
"""

import difflib
import inspect
import logging
import pprint
import re
import sys
import tokenize
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gemma_metamon.errors import ConfigError, MissingFileError

Kind = Literal["models", "training"]
KINDS: tuple[Kind, ...] = ("models", "training")
EXPERIMENT = "MetamonAMAGOExperiment"


@dataclass(frozen=True, kw_only=True)
class ResolvedConfig:
    """What gin holds after the files and the overrides.

    Attributes:
        text: all bindings as a .gin text that loads again, sorted by name; references by name.
        bindings: "Name.parameter" -> value as gin would print it.
    """

    text: str
    bindings: dict[str, str]


def config_folder(kind: Kind) -> Path:
    """The packaged configs: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).parent
    inside = package / "gin_configs"
    return (inside if inside.is_dir() else package.parent / "gin_configs") / kind


def list_configs(kind: Kind) -> list[str]:
    return sorted(path.name for path in config_folder(kind).glob("*.gin"))


def find_config(name: str, kind: Kind) -> Path:
    """A packaged config's path by its name, or a user's own file by its path.

    Raises MissingFileError naming the nearest packaged configs where there is neither.
    """
    for path in (Path(name), config_folder(kind) / name):
        if path.is_file():
            return path
    known = list_configs(kind)
    near = [other for other in known if other.startswith(Path(name).stem)]
    near = near or difflib.get_close_matches(name, known, n=2, cutoff=0.5) or known
    raise MissingFileError(f"no {kind.removesuffix('s')} config {name!r}; did you mean {' or '.join(near)}?")


def describe(path: Path) -> str:
    """The first line of a config, which says what it is."""
    return path.read_text(encoding="utf-8").split("\n", 1)[0].lstrip("# ").strip()


def load(model_gin_config: str, train_gin_config: str | None = None, overrides: Sequence[str] = ()) -> ResolvedConfig:
    """Fills gin from a model config, a training config and overrides, in that order, and checks every value's type.

    Raises MissingFileError for an unknown config; ConfigError for an unknown name or parameter, a value of the wrong
    type, a syntax error, or an upstream config that imports amago.
    """
    files = [find_config(model_gin_config, "models")]
    if train_gin_config is not None:
        files.append(find_config(train_gin_config, "training"))
    for file in files:
        _refuse_upstream_imports(file)
    return _parse([str(file) for file in files], overrides)


def load_text(text: str, overrides: Sequence[str] = ()) -> ResolvedConfig:
    """The same for a resolved configuration that a run saved."""
    return _parse([], [*text.splitlines(), *overrides])


def register() -> None:
    """Puts the embedded classes under upstream's gin names. Safe to call again."""
    import gin

    for name, module, target in _embedded_configurables():
        if name in _registered:
            continue
        gin.external_configurable(target, name=name, module=module)
        _registered[name] = (f"{module}.{name}", target)
    add_search_paths()


def add_search_paths() -> None:
    """Lets `include 'gemma_….gin'` find the packaged configs from anywhere. Safe to call again."""
    import gin

    logging.getLogger().addFilter(_is_no_search)
    for kind in KINDS:
        folder = str(config_folder(kind))
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
    return {parameter: _macro_value(value) for parameter, value in bindings.items()}


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
        critics,
        filters,
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
        ("Multigammas", agent, agent_interface.Multigammas),
        ("binary_filter", agent, filters.binary_filter),
        ("exp_filter", agent, filters.exp_filter),
        ("leaky_relu_filter", agent, filters.leaky_relu_filter),
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
        ("best_attention", "gemma_metamon.configs", best_attention),
    ]


def _refuse_upstream_imports(path: Path) -> None:
    found = re.search(r"^\s*(?:import|from)\s+(amago|metamon)\b.*", path.read_text(encoding="utf-8"), re.MULTILINE)
    if found:
        packaged = list_configs("training") + list_configs("models")
        ours = (
            path.name if path.name in packaged else (difflib.get_close_matches(path.name, packaged, n=1) or packaged)[0]
        )
        raise ConfigError(
            f"{path} is an upstream config ({found.group().strip()!r}), and this runtime has no {found.group(1)}; "
            f"use the packaged {ours}, or delete its import lines"
        )


def _parse(files: Sequence[str], bindings: Sequence[str]) -> ResolvedConfig:
    import gin

    register()
    gin.clear_config()
    try:
        for file in files:
            gin.parse_config_file(file)
        gin.parse_config("\n".join(bindings))
    except tokenize.TokenError as error:
        raise ConfigError(f"gin cannot read {_quoted(files, bindings)}: {error.args[0]}") from error
    except (ValueError, SyntaxError, ImportError, OSError) as error:
        raise ConfigError(f"gin: {_one_line(error)}") from error
    return ResolvedConfig(text=gin.config_str(), bindings=_checked_bindings())


def _quoted(files: Sequence[str], bindings: Sequence[str]) -> str:
    return repr("; ".join(bindings)) if bindings else " and ".join(files)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _checked_bindings() -> dict[str, str]:
    import gin

    checked = {}
    for name, (selector, target) in sorted(_registered.items()):
        function = target.__init__ if inspect.isclass(target) else target
        hints = typing.get_type_hints(function)
        for parameter, value in sorted(gin.get_bindings(selector, resolve_references=False).items()):
            resolved = _macro_value(value)
            if not _is_reference(resolved) and not fits(resolved, hints.get(parameter, Any)):
                raise ConfigError(
                    f"{name}.{parameter} = {resolved!r} is not of its type; expected {_type_name(hints[parameter])}"
                )
            # sorted as in gin's own text, so that a text and what it loads to have the same bindings
            checked[f"{name}.{parameter}"] = pprint.pformat(value, width=sys.maxsize)
    return checked


def _is_reference(value: Any) -> bool:
    return type(value).__name__ == "ConfigurableReference"


def _macro_value(value: Any) -> Any:
    """A macro (`%name`) is a reference to `gin.macro`; its value is what the type check is about."""
    import gin

    if _is_reference(value) and value.selector == "gin.macro":
        return gin.query_parameter(f"{value.scoped_selector}.value")
    return value


def fits(value: Any, hint: Any) -> bool:
    """Whether a gin value may be passed where `hint` is annotated. An int may be a float; a bool is no number."""
    if hint is Any or hint is inspect.Parameter.empty or isinstance(hint, typing.TypeVar):
        return True
    origin = typing.get_origin(hint)
    if origin is typing.Union or origin is types.UnionType:
        return any(fits(value, option) for option in typing.get_args(hint))
    if origin is Literal:
        return value in typing.get_args(hint)
    if hint is None or hint is type(None):
        return value is None
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if origin is not None:
        return _fits_generic(value, origin, typing.get_args(hint))
    return isinstance(value, hint) if inspect.isclass(hint) else True


def _fits_generic(value: Any, origin: Any, args: tuple[Any, ...]) -> bool:
    if not inspect.isclass(origin) or origin is type:  # Callable[...] and type[...] come as references
        return callable(value)
    if not isinstance(value, origin) or (isinstance(value, str) and origin is not str):
        return False
    if isinstance(value, (list, tuple)) and args:
        return all(fits(item, args[0]) for item in value)
    return True


def _type_name(hint: Any) -> str:
    return (
        hint.__name__ if inspect.isclass(hint) and typing.get_origin(hint) is None else str(hint).replace("typing.", "")
    )

"""The names that a .gin file can bind, and what a loaded configuration holds for them.

Configs use upstream's names to the letter, so that one file serves both runtimes. Names are registered when a config is
loaded, never on import, because a process that imports amago has the same names from there.
"""

import inspect
from collections.abc import Callable
from typing import Any, Final

from gemma_metamon.configs.types import macro_name
from gemma_metamon.errors import ConfigError

EXPERIMENT: Final = "MetamonAMAGOExperiment"
registered: Final[dict[str, tuple[str, Callable[..., Any]]]] = {}
"""Name -> gin's full name, and the class or function behind it. Empty in a metamon process."""


def register(name: str, module: str, target: Callable[..., Any]) -> None:
    """Puts a class or function under a gin name, `module` being the dotted prefix of it. Safe to call again.

    Raises ConfigError where another one has that name.
    """
    import gin

    if name not in registered:
        gin.external_configurable(target, name=name, module=module)
        registered[name] = (f"{module}.{name}", target)
    elif _place_of(target) != _place_of(taken := registered[name][1]):
        raise ConfigError(f"{_place_of(target)} cannot be called {name}, as {_place_of(taken)} is; choose another name")


def _place_of(target: Callable[..., Any]) -> str:
    return f"{target.__module__}.{target.__qualname__}"  # the same for one that is imported a second time


def is_embedded() -> bool:
    """Whether this process has the embedded classes under upstream's names."""
    return bool(registered)


def configurable(name: str) -> Callable[..., Any]:
    """The class or function registered under a gin name, with the loaded bindings applied when called."""
    import gin

    found: Callable[..., Any] = gin.get_configurable(name)
    return found


def bindings_of(name: str) -> dict[str, Any]:
    """The parameters that gin has bound for a name, macros followed; references stay references."""
    import gin

    bindings = gin.get_bindings(registered[name][0], resolve_references=False)
    return {parameter: followed(value) for parameter, value in bindings.items()}


def inherited_bindings(made: Any) -> dict[str, Any]:
    """What gin has bound for the configurable classes that this one extends, with references made.

    Upstream's classes call their parents, to whom gin gives what is bound; to ours it is given by whoever makes them.
    """
    import gin

    found: dict[str, Any] = {}
    for name in bases_of(made):
        found |= gin.get_bindings(registered[name][0])
    return found


def bases_of(made: Any) -> list[str]:
    """The gin names of the configurable classes that a class extends, the nearest last; none of a function."""
    names = {target: name for name, (_, target) in registered.items()}
    bases = reversed(inspect.getmro(made)) if inspect.isclass(made) else ()
    return [names[base] for base in bases if base in names and names[base] != made.__name__]


def followed(value: Any) -> Any:
    """What a macro stands for; loading has seen to it that this ends."""
    import gin

    while (name := macro_name(value)) is not None:
        value = gin.query_parameter(f"{name}/gin.macro.value")
    return value


def has_parameter(name: str, parameter: str) -> bool:
    """Whether what is registered under a gin name takes this parameter by name."""
    return parameter in inspect.signature(registered[name][1]).parameters


def bound_value(name: str, parameter: str) -> Any:
    """What gin has bound to a parameter, or the parameter's default."""
    bindings = bindings_of(name)
    return bindings.get(parameter, inspect.signature(registered[name][1]).parameters[parameter].default)

"""What a gin binding may hold, and whether it fits the parameter that it is bound to.

Plain values that can be written down again, references to what is registered, and macros. gin itself checks names
alone.
"""

import collections.abc
import inspect
import math
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal

from gemma_metamon.errors import ConfigError

MOST_VALUES: Final = 10_000
MOST_CHARACTERS: Final = 4096
DEEPEST: Final = 10
LARGEST: Final = 2**63 - 1


def require_plain(value: Any, depth: int = 0) -> None:
    """Raise ValueError, with the reason, for what is no value of a configuration.

    Numbers that 64 bits hold and that are finite, texts of printable characters, True, False, None, references, and
    lists, tuples and maps of these, nested no deeper than DEEPEST.
    """
    if depth > DEEPEST:
        raise ValueError(f"it is nested deeper than {DEEPEST} levels")
    if isinstance(value, (list, tuple, dict)):
        if len(value) > MOST_VALUES:
            raise ValueError(f"it has {len(value):,} entries; at most {MOST_VALUES:,}")
        for entry in (*value, *value.values()) if isinstance(value, dict) else value:
            require_plain(entry, depth + 1)
    elif reason := _why_not_plain(value):
        raise ValueError(reason)


def _why_not_plain(value: Any) -> str | None:
    if isinstance(value, str):
        if len(value) > MOST_CHARACTERS:
            return f"a text in it is {len(value):,} characters long; at most {MOST_CHARACTERS:,}"
        return None if value.isprintable() else "a text in it has a character that cannot be printed"
    if isinstance(value, int):
        return None if abs(value) <= LARGEST else "a number in it is beyond 64 bits"
    if isinstance(value, float):
        return None if math.isfinite(value) else "a number in it is not finite"
    return None if value is None or is_reference(value) else f"{type(value).__name__} is no type of a value here"


def is_reference(value: Any) -> bool:
    """Whether gin made this of @Name, @Name() or %macro."""
    return type(value).__name__ == "ConfigurableReference"


def macro_name(value: Any) -> str | None:
    """The NAME of %NAME; None for every other value. A constant of gin's is a macro that nobody has defined."""
    if not is_reference(value) or not value.evaluate or value.config_key[1] not in ("gin.macro", "gin.constant"):
        return None
    return str(value.config_key[0])


class Macros:
    """The macros of a configuration, to be put in the place of their names.

    Args:
        values: name -> what it is bound to, perhaps with other macros in it.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self._resolved = 0
        self.followed: set[str] = set()

    def resolve(self, value: Any) -> Any:
        """The value with every macro in it replaced.

        Raises ConfigError for a macro that is not defined, or by itself, or that grows beyond all bounds.
        """
        self._resolved = 0
        return self._resolve(value, ())

    def _resolve(self, value: Any, inside: tuple[str, ...]) -> Any:
        self._resolved += 1
        if self._resolved > MOST_VALUES:
            raise ConfigError(f"with its macros resolved a binding has more than {MOST_VALUES:,} values")
        name = macro_name(value)
        if name is not None:
            if name in inside:
                raise ConfigError(f"the macro %{name} is defined by itself ({' = '.join(f'%{n}' for n in inside)})")
            if name not in self._values:
                raise ConfigError(f"the macro %{name} is not defined; add a line `{name} = VALUE`, or write the value")
            self.followed.add(name)
            return self._resolve(self._values[name], (*inside, name))
        if isinstance(value, dict):
            return {key: self._resolve(entry, inside) for key, entry in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self._resolve(entry, inside) for entry in value)
        return value


def references_in(value: Any) -> Iterator[Any]:
    """The references in a value whose macros are resolved."""
    if is_reference(value):
        yield value
    elif isinstance(value, (list, tuple, dict)):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from references_in(entry)


def hints_of(target: Callable[..., Any]) -> dict[str, Any]:
    """Parameter -> annotation of a class or function; "return" -> what it makes.

    Code that is trusted may have annotations that only a type checker can follow. Nothing is known then but the class.
    """
    is_class = inspect.isclass(target)
    try:
        hints = typing.get_type_hints(target.__init__ if is_class else target)
    except (NameError, AttributeError, TypeError):
        hints = {}
    return {**hints, "return": target} if is_class else hints


def fits(value: Any, hint: Any) -> bool:
    """Whether a gin value may be passed where `hint` is annotated. An int may be a float; a bool is no number.

    A reference fits where what it makes does: @Actor a `Callable[..., ActorHead]`. What is not annotated may make
    anything.
    """
    if hint is Any or hint is inspect.Parameter.empty or isinstance(hint, typing.TypeVar):
        return True
    origin = typing.get_origin(hint)
    if origin is typing.Union or origin is types.UnionType:
        return any(fits(value, option) for option in typing.get_args(hint))
    if is_reference(value):
        return _reference_fits(value, hint)
    if origin is Literal:
        return any(value == option and type(value) is type(option) for option in typing.get_args(hint))
    if hint is None or hint is type(None):
        return value is None
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if origin is not None:
        return _fits_generic(value, origin, typing.get_args(hint))
    return isinstance(value, hint) if _is_class(hint) else True


def _reference_fits(reference: Any, hint: Any) -> bool:
    made = hints_of(reference.configurable.wrapped).get("return", Any)
    if made is Any:
        return reference.evaluate or typing.get_origin(hint) is collections.abc.Callable
    if reference.evaluate:  # what is passed is not the reference but what it makes
        return hint is made or _extends(made, hint)
    if typing.get_origin(hint) is not collections.abc.Callable:
        return False
    wanted = typing.get_args(hint)[-1]
    options = typing.get_args(wanted) if typing.get_origin(wanted) in (typing.Union, types.UnionType) else (wanted,)
    return any(option is Any or _extends(made, option) for option in options)


def _is_class(hint: Any) -> bool:
    """Under Python 3.10 `inspect.isclass` takes dict[str, Any] for one, which nothing can be an instance of."""
    return inspect.isclass(hint) and typing.get_origin(hint) is None


def _extends(made: Any, hint: Any) -> bool:
    return _is_class(made) and _is_class(hint) and issubclass(made, hint)


def _fits_generic(value: Any, origin: Any, args: tuple[Any, ...]) -> bool:
    if not inspect.isclass(origin) or origin in (type, collections.abc.Callable):
        return callable(value)
    if not isinstance(value, origin) or (isinstance(value, str) and origin is not str):
        return False
    if isinstance(value, dict) and len(args) == 2:
        return all(fits(key, args[0]) and fits(entry, args[1]) for key, entry in value.items())
    if isinstance(value, (list, tuple)) and args:
        return all(fits(item, args[0]) for item in value)
    return True


def type_name(hint: Any) -> str:
    """How an error writes a type."""
    if typing.get_origin(hint) is Literal:
        return f"one of {', '.join(map(repr, typing.get_args(hint)))}"
    plain = _is_class(hint)
    return hint.__name__ if plain else re.sub(r"typing\.|collections\.abc\.", "", str(hint))

"""The options between brackets behind a player's name: chat:MODEL@URL(max_calls=2000), text:RUN(reasoning=yes)."""

from collections.abc import Callable, Mapping
from typing import Any

from gemma_metamon.errors import ConfigError
from gemma_metamon.strict_json import shown

_YES_NO = {"yes": True, "no": False}


def yes_no(text: str) -> bool:
    """The kind of an option that is on or off. Raises ValueError for another text."""
    if text not in _YES_NO:
        raise ValueError
    return _YES_NO[text]


def read_options(body: str, kinds: Mapping[str, Callable[[str], Any]], who: str, example: str) -> dict[str, Any]:
    """What is written between the brackets.

    Args:
        body: "reasoning=no, max_calls=2000"; may be empty.
        kinds: option -> what makes its value of a text, or raises ValueError.
        who: has these options, for errors: "a chat model".
        example: of how they are written.

    Raises:
        ConfigError: an option that there is not, or twice, or a value that it cannot have.
    """
    options: dict[str, Any] = {}
    for part in body.split(","):
        name, equals, value = (side.strip() for side in part.partition("="))
        if not name and not equals:
            continue
        if name not in kinds:
            raise ConfigError(f"{who} has no option {shown(name)}; there are {', '.join(kinds)}")
        if name in options:
            raise ConfigError(f"{who} has more than one {name}; leave one")
        try:
            options[name] = kinds[name](value)
        except ValueError:
            wanted = "yes or no" if kinds[name] is yes_no else "a number"
            raise ConfigError(f"{name}={shown(value)}: give {wanted}, as in {example}") from None
    return options

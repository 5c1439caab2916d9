"""What a parameter may be, as a table beside each constructor: type, range, finiteness.

`check` refuses the first value that breaks its rule in one sentence, before anything is made of it. The upper bounds
are far beyond what has a use; they keep a slip of the keyboard, or a stranger's configuration, from taking minutes or
all of the memory.
"""

import numbers
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from gemma_metamon.errors import ConfigError
from gemma_metamon.strict_json import shown


@dataclass(frozen=True)
class Rule:
    """What a value must be, in words that follow "it must be", and whether one is."""

    wanted: str
    holds: Callable[[Any], bool]

    def or_none(self) -> "Rule":
        """The same rule, that None obeys too."""
        return Rule(f"{self.wanted}, or None", lambda value: value is None or self.holds(value))

    def saying(self, mend: str) -> "Rule":
        """The same rule, with what to do instead."""
        return replace(self, wanted=f"{self.wanted}; {mend}")


def check(owner: str, given: Mapping[str, Any], rules: Mapping[str, Rule]) -> None:
    """Refuse the first of the given values that breaks its rule.

    Args:
        owner: the name that gin knows the parameters by.
        given: parameter -> value; others than those in `rules` are not looked at.
        rules: parameter -> rule.

    Raises:
        ConfigError: "Class.parameter = value; it must be ...".
    """
    for name, rule in rules.items():
        if not rule.holds(given[name]):
            raise ConfigError(f"{owner}.{name} = {shown(given[name], none='None')}; it must be {rule.wanted}")


def whole(low: int, high: int) -> Rule:
    """A whole number within low...high; True and False are none."""
    return Rule(
        f"a whole number from {low:,} to {high:,}",
        lambda value: isinstance(value, numbers.Integral) and not isinstance(value, bool) and low <= int(value) <= high,
    )


def number(low: float, high: float, *, above: bool = False, below: bool = False) -> Rule:
    """A number within low...high, both included unless `above` (low is not) or `below` (high is not); never NaN."""

    def holds(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            return False
        try:
            found = float(value)
        except OverflowError:  # a whole number of more than 308 digits
            return False
        return (low < found if above else low <= found) and (found < high if below else found <= high)

    return Rule(
        f"a number {'above' if above else 'of at least'} {low:g} and {'below' if below else 'at most'} {high:g}", holds
    )


def one_of(*options: str) -> Rule:
    """One of these texts."""
    return Rule(f"one of {', '.join(map(repr, options))}", lambda value: isinstance(value, str) and value in options)


def each(rule: Rule, *, most: int) -> Rule:
    """A list, at most so long, whose entries obey the rule."""

    def holds(value: Any) -> bool:
        if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Collection):
            return False
        return len(value) <= most and all(map(rule.holds, value))

    return Rule(f"a list, of at most {most:,} entries, each {rule.wanted}", holds)


FLAG: Final = Rule("True or False", lambda value: isinstance(value, bool))
TEXT: Final = Rule("a text of at least one character", lambda value: isinstance(value, str) and value != "")
PART: Final = Rule("a reference to what builds it, as @Name", callable)
WIDTH: Final = whole(1, 65_536)
LAYERS: Final = whole(1, 128)
HEADS: Final = whole(1, 1024)
SEQUENCE: Final = whole(1, 10_000)
SHARE: Final = number(0, 1)
DROPOUT: Final = number(0, 1, below=True)

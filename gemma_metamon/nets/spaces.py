"""What a network asks of the spaces of an environment: a shape, or a number of actions."""

from typing import Any, Protocol


class HasShape(Protocol):
    """An observation's or the rl2 vector's space: anything with a shape (gymnasium's Box is one)."""

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Of one timestep; None for a space that is no array."""


class HasN(Protocol):
    """A list of actions: anything with their number (gymnasium's Discrete is one)."""

    @property
    def n(self) -> Any:
        """How many actions there are, a whole number."""

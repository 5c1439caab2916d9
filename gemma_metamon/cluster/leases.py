"""Work that is handed out in leases: what a lost worker had not told of is done again, and nothing counts twice."""

from collections import Counter, deque
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from gemma_metamon.errors import ServerError

MOST_LOSSES = 3
"""A piece of work that was lost so often is given up: it may be what its workers die of."""

Key = TypeVar("Key", bound=Hashable)
Work = TypeVar("Work")


@dataclass(frozen=True)
class Lease(Generic[Key, Work]):
    """Pieces of work in one worker's hands.

    Attributes:
        number: no other lease of the book has it.
        pieces: by their keys.
    """

    number: int
    pieces: Mapping[Key, Work]


class LeaseBook(Generic[Key, Work]):
    """Who has what. Each piece of work is waiting, in one lease, or done.

    Args:
        pieces: of work, by keys that are all different; begun in this order.
        size: how many a lease has at most.
    """

    def __init__(self, pieces: Iterable[tuple[Key, Work]], size: int) -> None:
        self._waiting = deque(pieces)
        self._left = {key for key, _ in self._waiting}
        self._size = size
        self._n_leases = 0
        self._losses = Counter[Key]()

    @property
    def is_done(self) -> bool:
        """Whether all of it is done."""
        return not self._left

    @property
    def waits(self) -> bool:
        """Whether there is a lease to take."""
        return bool(self._waiting)

    def take(self) -> Lease[Key, Work]:
        """The next lease; only while it `waits`."""
        some = [self._waiting.popleft() for _ in range(min(self._size, len(self._waiting)))]
        self._n_leases += 1
        return Lease(self._n_leases, dict(some))

    def note_done(self, key: Key) -> bool:
        """Whether this piece is done by what has just been told of it: False where it was done before."""
        if key not in self._left:
            return False
        self._left.discard(key)
        return True

    def give_back(self, lease: Lease[Key, Work], why: str, *, counts: bool = True) -> list[Key]:
        """What is not done of a lease waits again, before all else.

        Args:
            lease: whose worker has gone.
            why: it has, for the message.
            counts: whether the work may be what it went of; False where something else failed, which many share.

        Returns:
            The keys of what begins again.

        Raises:
            ServerError: one of the pieces was lost MOST_LOSSES times.
        """
        again = [(key, piece) for key, piece in lease.pieces.items() if key in self._left]
        if counts:
            self._losses.update(key for key, _ in again)
        worst = max((self._losses[key] for key, _ in again), default=0)
        if worst >= MOST_LOSSES:
            lost = next(key for key, _ in again if self._losses[key] == worst)
            raise ServerError(f"number {lost} was lost {worst} times with its worker, last because {why}")
        self._waiting.extendleft(reversed(again))
        return [key for key, _ in again]

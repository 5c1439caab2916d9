"""An LRU cache of text embeddings, cleared when a weight changes: no text is read twice while none does."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from cachetools import LRUCache
from torch import Tensor, nn

ENTRY_BYTES: Final = 2048
"""What an entry takes besides its numbers: the text as a key, a tensor's own objects, the places in the cache."""


class TextCache:
    """One tensor per text, at most `max_bytes` of memory in all; the least recently used go first.

    A text is its word ids: the same words give the same tensor, exactly, as long as the weights are the same. When they
    are not, everything is forgotten.

    Attributes:
        hits: texts that were found.
        misses: texts that had to be read.
    """

    def __init__(self, max_bytes: int) -> None:
        self.hits = self.misses = 0
        self._made_by: object = None
        self._values: LRUCache[bytes, Tensor] = LRUCache(max_bytes, getsizeof=_size_bytes)

    def __len__(self) -> int:
        return len(self._values)

    def read(self, words: Tensor, made_by: object, compute: Callable[[Tensor], Sequence[Tensor]]) -> list[Tensor]:
        """A tensor for each text.

        Args:
            words: (N, W) word ids.
            made_by: what else the tensors depend on: what `weights_of` says of the weights, and the precision.
            compute: texts (M, W) that are all different -> a tensor for each.
        """
        if made_by != self._made_by:
            self.clear()
            self._made_by = made_by
        keys = [row.tobytes() for row in words.cpu().numpy()]
        found = {key: self._values[key] for key in keys if key in self._values}
        missing = {key: row for row, key in enumerate(keys) if key not in found}
        if missing:
            for key, value in zip(missing, compute(words[list(missing.values())]), strict=True):
                found[key] = value
                if _size_bytes(value) <= self._values.maxsize:
                    self._values[key] = value.clone()  # a view would keep the whole batch alive
        self.hits += len(keys) - len(missing)
        self.misses += len(missing)
        return [found[key] for key in keys]

    def clear(self) -> None:
        """Forgets every text; the counts stay."""
        self._values.clear()


def _size_bytes(value: Tensor) -> int:
    return value.nbytes + ENTRY_BYTES


def weights_of(modules: Iterable[nn.Module]) -> object:
    """Something that compares unequal as soon as a parameter of these is changed in place, replaced or moved."""
    return tuple(
        (id(parameter), parameter._version, parameter.data_ptr())
        for module in modules
        for parameter in module.parameters()
    )

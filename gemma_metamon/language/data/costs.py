"""How long chats are for a tokenizer, and what a training on them takes: updates, tokens, hours, money."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gemma_metamon.errors import MissingFileError
from gemma_metamon.language.tokenizers import chat_template
from gemma_metamon.strict_json import shown_path

_BATCH = 256
_BINS: Final = 12
_BAR: Final = 40


def load_tokenizer(folder: Path) -> Any:
    """A tokenizer of a local folder, with Gemma's chat template where it has none of its own.

    Raises:
        MissingFileError: there is no such folder, or no tokenizer in it that transformers reads.
    """
    if not folder.is_dir():
        raise MissingFileError(f"no folder {shown_path(folder)}; give the folder of a downloaded model or tokenizer")
    from gemma_metamon.nets.reader import weights  # with torch, which takes a second

    tokenizer = weights.load_tokenizer(str(folder))
    if not tokenizer.chat_template:
        tokenizer.chat_template = chat_template()
    return tokenizer


class TokenCounter:
    """Counts the tokens of chats, marks of turns included.

    Args:
        tokenizer: with a chat template.

    Attributes:
        lengths: how many chats there are of each length.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._waiting: list[str] = []
        self.lengths: dict[int, int] = {}

    def add(self, messages: Sequence[dict[str, str]]) -> None:
        """Counts a chat, at once or with some others."""
        self._waiting.append(self._tokenizer.apply_chat_template(list(messages), tokenize=False))
        if len(self._waiting) == _BATCH:
            self.flush()

    def flush(self) -> None:
        """Counts those that wait."""
        if self._waiting:
            for ids in self._tokenizer(self._waiting, add_special_tokens=False)["input_ids"]:
                self.lengths[len(ids)] = self.lengths.get(len(ids), 0) + 1
        self._waiting = []

    @property
    def tokens(self) -> int:
        """Of all chats together."""
        return sum(length * count for length, count in self.lengths.items())

    def longer_than(self, most: int) -> int:
        """How many chats have more tokens."""
        return sum(count for length, count in self.lengths.items() if length > most)

    def quantile(self, share: float) -> int:
        """The least length that this share of the chats does not exceed."""
        left = share * sum(self.lengths.values())
        for length in sorted(self.lengths):
            left -= self.lengths[length]
            if left <= 0:
                return length
        return max(self.lengths, default=0)

    def histogram(self) -> list[str]:
        """Lines of "from-to count bar"."""
        if not self.lengths:
            return []
        low, high = min(self.lengths), max(self.lengths)
        width = -(-(high - low + 1) // _BINS)
        counts = [0] * -(-(high - low + 1) // width)
        for length, count in self.lengths.items():
            counts[(length - low) // width] += count
        lines = []
        for first, count in zip(range(low, high + 1, width), counts, strict=True):
            span = f"{first}-{first + width - 1}"
            lines.append(f"{span:>13}{count:>10,} {'#' * round(_BAR * count / max(counts))}".rstrip())
        return lines


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What training on some chats takes.

    Attributes:
        updates_per_epoch: with the batch size that was given.
        tokens_per_epoch: each chat read once.
        hours: for all epochs; None where no rate is given.
        money: for all epochs, in the unit of the price; None where no price is given.
    """

    updates_per_epoch: int
    tokens_per_epoch: int
    hours: float | None = None
    money: float | None = None

    @classmethod
    def of(
        cls,
        counter: TokenCounter,
        *,
        batch_size: int,
        epochs: int = 1,
        tokens_per_s: float | None = None,
        price: float | None = None,
    ) -> "Cost":
        """The cost of a training.

        Args:
            counter: that has counted all chats.
            batch_size: chats in an update.
            epochs: how often each chat is read.
            tokens_per_s: that the training reads, as `sft` reports it.
            price: of a million tokens.
        """
        read = epochs * counter.tokens
        return cls(
            updates_per_epoch=-(-sum(counter.lengths.values()) // batch_size),
            tokens_per_epoch=counter.tokens,
            hours=None if tokens_per_s is None else read / tokens_per_s / 3600,
            money=None if price is None else read / 1e6 * price,
        )

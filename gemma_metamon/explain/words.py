"""What the page shows of a model that answers in words: the chat, and how probable it finds each choice."""

from collections.abc import Sequence
from dataclasses import dataclass

from gemma_metamon.explain.follow import Shown


@dataclass(frozen=True, kw_only=True)
class WordsDecision(Shown):
    """One decision of a chat model, looked at.

    Attributes:
        messages: the chat that it is to answer, each with its "role" and "content".
        subwords: of the chat.
        asked: whether the model chose; it is not asked where there is one choice alone, or the chat is too long for it.
        thought: what it wrote before its choice; "" where it was not to.
        said: what the recorded player said to its own choice; "" for nothing.
        pictures: that it is shown with the chat, as `data:` URIs, the oldest first; none of a model that reads alone.
    """

    messages: Sequence[dict[str, str]]
    subwords: int
    asked: bool
    thought: str = ""
    said: str = ""
    pictures: Sequence[str] = ()

"""How chat models are written on the command line, and how what they took is told.

    chat:gemma-3-4b-it@http://127.0.0.1:8080/v1
    chat:gpt-5-mini@https://api.openai.com/v1(max_calls=2000, reasoning=no)

Their options are those of language/players/settings.py. The bounds of what they may take are among them, and no flags
of a command: each model has its own price.
"""

import re
from typing import TYPE_CHECKING, Any

from gemma_metamon.commands._player_options import read_options, yes_no
from gemma_metamon.errors import ConfigError

if TYPE_CHECKING:
    from gemma_metamon.language.players.settings import ChatSettings
    from gemma_metamon.results.schema import ChatUsageRow

CHAT = "chat:"
EXAMPLE = "chat:gemma-3-4b-it@http://127.0.0.1:8080/v1 or chat:MODEL@URL(reasoning=no, max_calls=2000)"
_CHAT = re.compile(r"\s*chat:(?P<model>.*)@(?P<url>[a-z]+://[^()]*)(?:\((?P<body>[^()]*)\))?\s*", re.DOTALL)

_KINDS: dict[str, Any] = {
    "reasoning": yes_no,
    "history": int,
    "temperature": float,
    "answer_tokens": int,
    "timeout_s": float,
    "retries": int,
    "at_once": int,
    "max_calls": int,
    "max_tokens": int,
    "key_from": str,
}


def read_chat(text: str) -> "ChatSettings | None":
    """What the text of a chat model says; None for the text of another player.

    Raises ConfigError for a text that is not written as above, an option that there is not, or a value that it cannot
    have. What may be a key is not repeated.
    """
    if not text.lstrip().startswith(CHAT):
        return None
    from gemma_metamon.language.players.settings import ChatSettings

    written = _CHAT.fullmatch(text)
    if written is None:
        raise ConfigError(f"a chat model is written as in {EXAMPLE}")
    options = read_options(written["body"] or "", _KINDS, "a chat model", EXAMPLE)
    return ChatSettings(model=written["model"].strip(), url=written["url"].strip().rstrip("/"), **options)


def usage_line(name: str, row: "ChatUsageRow") -> str:
    """What a chat model's choices took, for people."""
    made = sum(row.fallbacks.values())
    fallbacks = f"{made} made for it"
    if made:
        reasons = ", ".join(f"{count} {reason}" for reason, count in row.fallbacks.items())
        fallbacks += f" ({made / row.decisions:.1%}: {reasons})"
    ended = "" if row.ended is None else f"; stopped: {row.ended}"
    return (
        f"{name}: {row.decisions} decisions, {row.calls} calls ({row.retries} retries), {row.prompt_tokens} prompt and "
        f"{row.completion_tokens} completion tokens, {row.repairs} answers repaired, {fallbacks}{ended}"
    )

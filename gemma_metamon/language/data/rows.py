"""A row of chat data: one decision of a recorded battle as a chat, with what is known of the battle.

One JSON object per line, in the shape that TRL and OpenAI's clients read; a trainer that knows only `messages` may pass
over the rest. Vertex's supervised tuning has a shape of its own, with nothing but the chat.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, Literal, get_args

from gemma_metamon.battle.state import BattleState

Shape = Literal["messages", "gemini"]
Result = Literal["won", "lost", "tied"]
RESULTS: tuple[Result, ...] = get_args(Result)


@dataclass(frozen=True, kw_only=True)
class ChatRow:
    """One decision.

    Attributes:
        messages: of the system, the user and the assistant, each {"role": ..., "content": ...}.
        battle_id: the same for both players' views of a battle.
        turn: of the game, from 1.
        decision: its number in this view of the battle, from 0; no two decisions of a view have the same.
        legal: the names of the legal choices, in the order of the actions.
        choice: the one that the assistant's message names.
        result: for the player whose view it is.
        format: e.g. "gen1ou".
        player: whose view it is; "" where the file's name does not tell.
        opponent: the other player; "" where the file's name does not tell.
        rating: of the battle; None where it was not rated.
        labelled: whether `choice` is what an expert would have chosen, and not what was done.
        advantages: of each legal choice, in rewards: what a trained agent's critics give it, less the mean over the
            agent's policy; None where no critics were asked.
    """

    messages: list[dict[str, str]]
    battle_id: str
    turn: int
    decision: int
    legal: list[str]
    choice: str
    result: str
    format: str
    player: str = ""
    opponent: str = ""
    rating: int | None = None
    labelled: bool = False
    advantages: list[float] | None = None


def result_of(end: BattleState) -> Result:
    """Of a battle, by its last state."""
    return "won" if end.battle_won else "lost" if end.battle_lost else "tied"


def number_of(text: str) -> int:
    """64 bits that equal texts have in common, and different ones hardly ever."""
    return int.from_bytes(hashlib.sha256(text.encode(errors="surrogatepass")).digest()[:8], "big")


def as_gemini(messages: list[dict[str, str]]) -> dict[str, Any]:
    """A chat in the shape of Vertex's supervised tuning of Gemini: `systemInstruction` and `contents` of `parts`."""
    roles = {"user": "user", "assistant": "model"}
    shaped: dict[str, Any] = {}
    for message in messages:
        parts = [{"text": message["content"]}]
        if message["role"] == "system":
            shaped["systemInstruction"] = {"role": "system", "parts": parts}
        else:
            shaped.setdefault("contents", []).append({"role": roles[message["role"]], "parts": parts})
    return shaped

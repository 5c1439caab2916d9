"""What an answer is worth: the rewards of GRPO, each a pure function of an answer and its chat.

A reward returns None where it does not apply. A user's own is a function of the same two, named `module:function`.
"""

import importlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from gemma_metamon.errors import ConfigError, DataError
from gemma_metamon.language.data.chats import Chat
from gemma_metamon.language.telling.answers import AnswerError, parse_answer
from gemma_metamon.language.telling.json_answers import parse_json_answer, read_answer_object
from gemma_metamon.language.telling.prompts import SYSTEM_REASONING

Reward: TypeAlias = Callable[[str, Chat], float | None]

MOST_ADVANTAGE: Final = 2.0
"""In rewards of the battle. Critics may be wrong by much: beyond this, better or worse does not count."""
MOST_WORDS: Final = 40
"""Of an answer. A choice alone has 2 to 5, two sentences of facts about 30."""


def format_reward(answer: str, chat: Chat) -> float:
    """1 for exactly one SOLUTION block, and 1 more for exactly one REASONING block where the chat asks for reasoning.

    Where it does not, a REASONING block neither earns nor costs: the most is then 1. Of answers in JSON the same for
    one object with an action and a choice, and its reasoning.
    """
    if chat.in_json:
        return _json_format(answer, chat)
    asked = ["SOLUTION", "REASONING"] if chat.messages[0]["content"] == SYSTEM_REASONING else ["SOLUTION"]
    return float(sum(_blocks(answer, kind) == 1 for kind in asked))


def legality(answer: str, chat: Chat) -> float | None:
    """1 for an answer that is of the form and names a legal choice, else 0; None where the chat tells none."""
    if not chat.legal:
        return None
    return 0.0 if _chosen(answer, chat) is None else 1.0


def correctness(answer: str, chat: Chat) -> float | None:
    """2 for the teacher's choice, else 0; None where the chat does not tell it."""
    if not chat.choice:
        return None
    action = _chosen(answer, chat)
    return 2.0 if action is not None and chat.legal[action] == chat.choice else 0.0


def advantage(answer: str, chat: Chat) -> float | None:
    """What a trained agent's critics give the choice above the agent's mean, at most MOST_ADVANTAGE either way.

    An answer that names no legal choice gets -MOST_ADVANTAGE, as the worst choice. None where the chat tells no
    advantages: `chat export --critics RUN` writes them.
    """
    if not chat.advantages:
        return None
    action = _chosen(answer, chat)
    if action is None:
        return -MOST_ADVANTAGE
    return max(-MOST_ADVANTAGE, min(MOST_ADVANTAGE, chat.advantages[action]))


def length(answer: str, chat: Chat) -> float:
    """0 up to MOST_WORDS words, from there evenly down to -1 at twice as many."""
    return -min(1.0, max(0.0, len(answer.split()) / MOST_WORDS - 1))


def battle(answer: str, chat: Chat) -> float | None:
    """What the battle gave from this answer on, a win counting 1; None of answers that were not played."""
    return chat.earned


REWARDS: Final[Mapping[str, Reward]] = {
    "format": format_reward,
    "legality": legality,
    "correctness": correctness,
    "advantage": advantage,
    "length": length,
    "battle": battle,
}
DEFAULTS: Final = ("format", "legality", "correctness")
BATTLE_DEFAULTS: Final = ("battle", "legality")
"""Where battles are played, nobody tells the right choice."""
_NEEDS: Final = {
    "legality": "the rows tell no legal choices; export them with --to messages",
    "correctness": "the rows tell no choice; export them with --to messages",
    "advantage": "the rows tell no advantages; export them with chat export --critics RUN",
    "battle": "it is what battles give that are played; add --environment",
}


def read_weights(texts: Sequence[str]) -> dict[str, float]:
    """Weights by name of texts as "format=1", "correctness=2", "my_rewards:brave=0.5"; without a number it is 1.

    Raises ConfigError for a weight that is no number, a name that stands twice, or when all are 0.
    """
    weights: dict[str, float] = {}
    for text in texts:
        name, equals, number = text.partition("=")
        try:
            weight = float(number) if equals else 1.0
        except ValueError:
            weight = math.nan
        if not math.isfinite(weight):
            raise ConfigError(f"--reward {text}: {number!r} is no number; write NAME=WEIGHT, as correctness=2")
        if name in weights:
            raise ConfigError(f"--reward names {name} twice; give it one weight")
        weights[name] = weight
    if not any(weights.values()):
        raise ConfigError(
            "all rewards weigh 0, so that nothing is learned; give one a weight, as --reward correctness=1"
        )
    return weights


def find_rewards(names: Sequence[str]) -> dict[str, Reward]:
    """The functions by name: of REWARDS, or a user's own by `module:function`. Raises ConfigError for another name."""
    found = {}
    for name in names:
        module, colon, function = name.partition(":")
        if colon:
            found[name] = _users_own(module, function)
        elif name in REWARDS:
            found[name] = REWARDS[name]
        else:
            raise ConfigError(f"--reward {name}: there are {', '.join(REWARDS)}, and your own as module:function")
    return found


def evaluate(name: str, reward: Reward, answer: str, chat: Chat) -> float | None:
    """What a reward gives. Raises DataError where a user's own fails, or gives no number."""
    if name in REWARDS:
        return reward(answer, chat)
    try:
        value: Any = reward(answer, chat)
    except Exception as error:  # whatever a user's function does
        raise DataError(
            f"--reward {name} failed ({type(error).__name__}: {error}); it is called as f(answer: str, chat: Chat)"
        ) from error
    if value is None:
        return None
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(f"--reward {name} gave {value!r}; expected a finite number, or None where it does not apply")
    return float(value)


def require_applicable(rewards: Mapping[str, Reward], chats: Sequence[Chat]) -> None:
    """Raises ConfigError for a reward that applies to none of the chats, and DataError as `evaluate`."""
    for name, reward in rewards.items():
        if all(evaluate(name, reward, chat.messages[-1]["content"], chat) is None for chat in chats):
            needs = _NEEDS.get(name, "it gives None for all of their own answers")
            raise ConfigError(f"--reward {name} applies to no chat of --data: {needs}")


def _users_own(module: str, function: str) -> Reward:
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"--reward {module}:{function} cannot be had ({error}); write module:function, with the module's folder "
            "on PYTHONPATH"
        ) from error
    if not callable(found):
        raise ConfigError(f"--reward {module}:{function} is no function; name one of f(answer: str, chat: Chat)")
    reward: Reward = found
    return reward


def _json_format(answer: str, chat: Chat) -> float:
    try:
        found = read_answer_object(answer)
    except AnswerError:
        return 0.0
    return 1.0 + (bool(found.get("reasoning")) and chat.messages[-2]["content"].endswith(", reasoning."))


def _blocks(answer: str, kind: str) -> int:
    """How many blocks of a kind an answer has; 0 where their marks do not come in pairs."""
    pairs = len(re.findall(rf"<{kind}>.*?</{kind}>", answer, re.DOTALL))
    return pairs if answer.count(f"<{kind}>") == answer.count(f"</{kind}>") == pairs else 0


def _chosen(answer: str, chat: Chat) -> int | None:
    """The place among the legal choices of the one that an answer names; None where it names none."""
    try:
        parse = parse_json_answer if chat.in_json else parse_answer
        return parse(answer, dict(enumerate(chat.legal)))
    except AnswerError:
        return None

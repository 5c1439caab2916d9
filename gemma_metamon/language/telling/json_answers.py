"""The answer of one that sees the battle: a JSON object in place of marked blocks.

    {"action": "move", "choice": "Earthquake", "reasoning": "Starmie is slower."}

`action` and `choice` together are a choice's name, "move Earthquake"; `reasoning` may be left out.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from gemma_metamon.errors import DataError
from gemma_metamon.language.telling.answers import AnswerError, find_choice
from gemma_metamon.strict_json import parse_json, shown

_FIELDS: Final = ("action", "choice", "reasoning")


def answer_object(choice: str, reasoning: str = "") -> dict[str, str]:
    """The answer that names a choice, as `choice_names` names it; without reasoning it has no such field."""
    action, _, named = choice.partition(" ")
    return {"action": action, "choice": named} | ({"reasoning": reasoning} if reasoning else {})


def write_json_answer(choice: str, reasoning: str = "") -> str:
    """`answer_object` as text: what the model is to say."""
    return json.dumps(answer_object(choice, reasoning), ensure_ascii=False)


def parse_json_answer(text: str, choices: Mapping[int, str]) -> int:
    """The action that an answer names. Capitals, runs of spaces and curly apostrophes do not count.

    Args:
        text: the answer.
        choices: of `choice_names`.

    Raises:
        AnswerError: it is not of the form, or names none of the choices.
    """
    answer = read_answer_object(text)
    return find_choice(f"{answer['action']} {answer['choice']}", choices)


def read_answer_object(text: str) -> dict[str, str]:
    """The fields of an answer, whatever it names. Raises AnswerError where it is not of the form."""
    try:
        answer: Any = parse_json(text)
    except DataError as error:
        raise AnswerError(f"the answer is {error}; give one JSON object") from error
    if not isinstance(answer, dict) or not {"action", "choice"} <= set(answer) <= set(_FIELDS):
        raise AnswerError(f"the answer is {shown(answer)}; give an object with action, choice and perhaps reasoning")
    if not all(isinstance(value, str) for value in answer.values()):
        raise AnswerError(f"the answer is {shown(answer)}; give texts alone")
    return answer

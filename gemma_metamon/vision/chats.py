"""Data of `vlm export` as a trainer needs it: read whole, checked row by row, in subwords and files of pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gemma_metamon.errors import ConfigError, DataError
from gemma_metamon.language.data.chats import Chat, Example, sound_rows
from gemma_metamon.language.data.validation import Messages
from gemma_metamon.language.telling.json_answers import write_json_answer
from gemma_metamon.language.tokenizers import encode_answers
from gemma_metamon.strict_json import shown_path
from gemma_metamon.vision.forms import Form, read_form
from gemma_metamon.vision.models import SeeingModel, size_of_picture
from gemma_metamon.vision.rows import user_message


@dataclass(frozen=True, slots=True)
class SeenChat:
    """A decision with the files of its pictures, the oldest first."""

    chat: Chat
    pictures: tuple[Path, ...]

    @property
    def texts(self) -> list[str]:
        """All that is said in it."""
        return [message["content"] for message in self.chat.messages]


def read_sets(data: Path, val: Path | None) -> tuple[list[SeenChat], list[SeenChat], Form]:
    """The decisions of --data and of --val, none without it; and the form in which all of them are shown.

    Raises:
        MissingFileError: no such file, or no form.json beside it.
        ConfigError: another suffix than chat data has, or two forms.
        DataError: a row that is wrong, a picture that is missing, damaged or of another size than the form says, rows
            without pictures, or no row at all.
    """
    form = read_form(data.parent)
    if val is not None and read_form(val.parent) != form:
        raise ConfigError(f"--val {val} is shown in another form than --data {data}; export both with one")
    seen, held_out = read_seen(data), [] if val is None else read_seen(val)
    for path in dict.fromkeys(path for each in (*seen, *held_out) for path in each.pictures):
        width, height = size_of_picture(path)
        if (width, height) != (form.size, form.size):
            raise DataError(
                f"{path.name} has {width} x {height} pixels, and form.json beside the data says {form.size}; export "
                "the data again"
            )
    return seen, held_out, form


def read_seen(path: Path) -> list[SeenChat]:
    """The decisions of a file of `vlm export`; each picture is opened once.

    Raises:
        MissingFileError: no such file.
        ConfigError: another suffix than chat data has.
        DataError: a row that is wrong, a picture that is missing or damaged, rows without pictures, or no row at all.
    """
    found = []
    for place, row, messages in sound_rows(path):
        if "images" not in row:
            raise DataError(f"{place} has no pictures; give rows of gemma-metamon vlm export")
        told = tuple(row["legal"]), str(row.get("choice", "")), tuple(row.get("advantages") or ())
        chat = Chat(messages, *told, in_json=True)
        found.append(SeenChat(chat, tuple(path.parent / name for name in row["images"])))
    if not found:
        raise DataError(f"{shown_path(path)} holds no row; make one with gemma-metamon vlm export")
    return found


def choices_alone(seen: Sequence[SeenChat]) -> list[SeenChat]:
    """The same decisions, answered by the choice and nothing else; where a row does not tell it, as they were."""
    return [
        replace(each, chat=replace(each.chat, messages=_answered(each.chat))) if each.chat.choice else each
        for each in seen
    ]


def _answered(chat: Chat) -> Messages:
    return [*chat.messages[:-1], {"role": "assistant", "content": write_json_answer(chat.choice)}]


def encode(model: SeeingModel, seen: Sequence[SeenChat], context: int) -> tuple[list[Example], int]:
    """The decisions in subwords, and how many were set aside because they are longer than the context.

    A picture counts as the tokens that the model spends on it; none is opened.
    """
    answers = encode_answers(model.tokenizer, [each.chat.messages[-1]["content"] for each in seen])
    fitting, prompts = [], dict[tuple[int, str], list[int]]()  # without words to the pictures all ask the same
    for row, (each, answer) in enumerate(zip(seen, answers, strict=True), start=1):
        asked = len(each.pictures), each.chat.messages[-2]["content"]
        if asked not in prompts:
            prompts[asked] = model.prompt_ids([user_message(*asked)])
        example = Example(each.chat, prompts[asked], answer, each.pictures, row)
        if len(example) <= context:
            fitting.append(example)
    return fitting, len(seen) - len(fitting)

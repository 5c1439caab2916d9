"""From a recorded battle to rows with pictures: the filters and draws of `chat export`, another thing shown."""

import json
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, get_args

from gemma_metamon.language.choosing import Candidate, Chooser, Chosen
from gemma_metamon.language.json_answers import answer_object, write_json_answer
from gemma_metamon.language.prompts import user_text
from gemma_metamon.language.rows import number_of
from gemma_metamon.vision.grid import Layout, pictures_of

Context = Literal["none", "words"]
CONTEXTS: tuple[Context, ...] = get_args(Context)
_SHOWS: Final[dict[Layout, str]] = {
    "grid": "The picture shows the last four turns of a Pokémon Showdown battle: t=0 upper left, t=1 upper right, t=2 "
    "lower left, t=3, which is now, lower right.",
    "single": "The picture shows a Pokémon Showdown battle.",
    "four": "The pictures show the last four turns of a Pokémon Showdown battle; the last one is now.",
}
_ASKS: Final = "Yours is the lower Pokémon. What wins? Answer in JSON: action (move or switch), choice"


@dataclass(frozen=True, kw_only=True)
class Showing:
    """What is shown of a decision.

    Attributes:
        layout: how many turns, in how many pictures.
        context: "words" adds the text of the chat prompt; "none" leaves all to the pictures.
    """

    layout: Layout = "grid"
    context: Context = "none"


class PictureChooser(Chooser):
    """Makes rows whose pictures are still to be drawn: in place of files they name what the pictures show.

    Args:
        showing: what is shown.
        *args: as of `Chooser`.
        **named: as of `Chooser`.
    """

    def __init__(self, showing: Showing, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.showing = showing

    def candidate(self, chosen: Chosen) -> Candidate:
        """The row of a decision."""
        showing, blank = self.showing, self.wording.blank
        pictures = pictures_of(chosen.decisions[: chosen.t + 1], showing.layout)
        context = "" if showing.context == "none" or blank else user_text(chosen.decision)
        reasoning = self.reasoning_of(chosen)
        answer = write_json_answer(chosen.choice, reasoning)
        question = question_of(showing.layout, reasoning=self.wording.reasoning != "none")
        mark = number_of(repr([picture.mark for picture in pictures]) + context + answer)  # blank ones are all equal
        parts = [{"type": "image"} for _ in pictures]
        asked = "\n".join(text for text in (context, question) if text)
        row = {
            "pictures": [{} if blank else asdict(picture) for picture in pictures],
            "context": context,
            "question": question,
            "output": answer_object(chosen.choice, reasoning),
            "messages": [
                {"role": "user", "content": [*parts, {"type": "text", "text": asked}]},
                {"role": "assistant", "content": [{"type": "text", "text": answer}]},
            ],
            **chosen.facts(),
        }
        return Candidate(json.dumps(row, ensure_ascii=False), mark, self.rank_of(chosen))


def question_of(layout: Layout, *, reasoning: bool) -> str:
    """What is asked, in the same words at every decision.

    Args:
        layout: of the pictures.
        reasoning: whether the answer is to say why.
    """
    return f"{_SHOWS[layout]} {_ASKS}{', reasoning' if reasoning else ''}."

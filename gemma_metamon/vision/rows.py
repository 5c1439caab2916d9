"""From a recorded battle to rows with pictures: the filters and draws of `chat export`, another thing shown."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from gemma_metamon.language.data.choosing import Candidate, Chooser, Chosen
from gemma_metamon.language.data.rows import number_of
from gemma_metamon.language.telling.json_answers import answer_object, write_json_answer
from gemma_metamon.language.telling.prompts import Decision, user_text
from gemma_metamon.vision.scenes.grid import Layout, Picture, pictures_of
from gemma_metamon.vision.scenes.scene import Button, Scene, Shown, scene_of

Context = Literal["none", "words"]
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
        reasoning: whether the answer is to say why.
        blank: show and tell nothing of the battle: the control.
    """

    layout: Layout = "grid"
    context: Context = "none"
    reasoning: bool = False
    blank: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """A decision as it is put to a model: pictures, a text that may be empty, and the question."""

    pictures: list[Picture]
    context: str
    question: str

    def message(self) -> dict[str, Any]:
        """Of the user, with places for the pictures."""
        return user_message(len(self.pictures), "\n".join(text for text in (self.context, self.question) if text))


def user_message(pictures: int, text: str) -> dict[str, Any]:
    """The user's message: places for so many pictures, and the text behind them."""
    return {"role": "user", "content": [*({"type": "image"} for _ in range(pictures)), {"type": "text", "text": text}]}


def asked_of(decisions: Sequence[Decision], showing: Showing) -> Asked:
    """How the last of these decisions of one battle is put; raises DataError as `pictures_of`."""
    context = "" if showing.context == "none" or showing.blank else user_text(decisions[-1])
    return Asked(
        pictures_of(decisions, showing.layout), context, question_of(showing.layout, reasoning=showing.reasoning)
    )


class PictureChooser(Chooser):
    """Makes rows whose pictures are still to be drawn: in place of files they name what the pictures show.

    Args:
        showing: what is shown; what the wording says of reasoning and blanks is to say the same.
        *args: as of `Chooser`.
        **named: as of `Chooser`.
    """

    def __init__(self, showing: Showing, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.showing = showing

    def reasoning_of(self, chosen: Chosen) -> str:
        """As of `Chooser`; "seen" is what is drawn of this turn, and nothing where that is blank."""
        if self.wording.reasoning != "seen":
            return super().reasoning_of(chosen)
        return "" if self.showing.blank else read_aloud(scene_of(chosen.decision))

    def candidate(self, chosen: Chosen) -> Candidate:
        """The row of a decision."""
        asked = asked_of(chosen.decisions[: chosen.t + 1], self.showing)
        reasoning = self.reasoning_of(chosen)
        answer = write_json_answer(chosen.choice, reasoning)
        marks = [picture.mark for picture in asked.pictures]
        mark = number_of(repr(marks) + asked.context + answer)  # blank ones are all equal
        row = {
            "pictures": [{} if self.showing.blank else asdict(picture) for picture in asked.pictures],
            "context": asked.context,
            "question": asked.question,
            "output": answer_object(chosen.choice, reasoning),
            "messages": [
                asked.message(),
                {"role": "assistant", "content": [{"type": "text", "text": answer}]},
            ],
            **chosen.facts(),
        }
        return Candidate(json.dumps(row, ensure_ascii=False), mark, self.rank_of(chosen))


def read_aloud(scene: Scene) -> str:
    """What a picture shows, in few words: the moves in order, both Pokémon on the field, and who had best come."""
    told = [" ".join((button.name, *_outlook(button))) for button in scene.moves[:4]]
    own, foe = scene.own.active, scene.foe.active
    told.append(" ".join(word for word in (*_standing(own), own.ending) if word))
    told.append(" ".join(_standing(foe)))
    told += [f"best {pokemon.name}" for pokemon in scene.own.bench if pokemon.best]
    return ", ".join(told)


def _outlook(button: Button) -> list[str]:
    found = ["strongest"] if button.strongest else []
    if button.knocks_out:
        return [*found, "knocks out"]
    if button.takes is not None:
        return [*found, f"{round(button.takes, -1)}%"]
    return found if button.lands is None else ["lands" if button.lands else "fails"]


def _standing(pokemon: Shown) -> tuple[str, str, str]:
    return pokemon.name, f"{round(pokemon.hp or 0, -1)}%", pokemon.status or "well"


def question_of(layout: Layout, *, reasoning: bool) -> str:
    """What is asked, in the same words at every decision.

    Args:
        layout: of the pictures.
        reasoning: whether the answer is to say why.
    """
    return f"{_SHOWS[layout]} {_ASKS}{', reasoning' if reasoning else ''}."

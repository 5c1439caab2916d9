"""A player that looks at its battle, and takes the choice that its model finds the most probable answer.

Each decision is drawn as the model's form says, from the same `Decision` as the data that it was trained on.
"""

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from gemma_metamon.battle.state import BattleState
from gemma_metamon.errors import ConfigError
from gemma_metamon.language.data.chats import PromptForm
from gemma_metamon.language.models.answering import ScoredChoices
from gemma_metamon.language.models.scoring import ChoiceScorer
from gemma_metamon.language.players.text import TextInput, TextPolicy, TextSession
from gemma_metamon.language.players.told import Telling
from gemma_metamon.language.telling.prompts import BattleSoFar, Decision
from gemma_metamon.strict_json import shown_path
from gemma_metamon.vision.models import SeeingModel
from gemma_metamon.vision.rows import asked_of
from gemma_metamon.vision.scenes.grid import FRAMES, GridPainter, Picture
from gemma_metamon.vision.scenes.sprites import Sprites


@dataclass
class SeeingSession(TextSession):
    """What is remembered of one battle: its last decisions as well.

    Attributes:
        last: of them, the oldest first, this one among them.
    """

    last: deque[Decision] = field(default_factory=lambda: deque(maxlen=FRAMES))

    def decision(self, state: BattleState, legal: npt.NDArray[np.bool_]) -> Decision:
        """In this state; asked again before the battle goes on, it takes its own place."""
        before = self.telling.decision
        is_new = before is None or self.telling.at != self.at
        decision = super().decision(state, legal)
        if not is_new:
            self.last.pop()
        self.last.append(decision)
        return decision


@dataclass(slots=True)
class SeeingInput(TextInput):
    """With what is to be drawn."""

    pictures: list[Picture] = field(default_factory=list)


class SeeingPolicy(TextPolicy):
    """A model that sees, deciding for many battles at once.

    Args:
        model: in eval mode.
        name: for results.
        sample: draw each choice by its probability; otherwise the most probable one is taken.
        temperature: of the probabilities that choices are drawn by; 0 takes the most probable one all the same.
        seed: of the draws in battles without dice of their own.
        sprites: the folder of those that it was trained with; None where it was trained without.

    Raises:
        ConfigError: no sprites, and it was trained with some; or others than those.
        MissingFileError, DataError: as `Sprites`.
    """

    def __init__(
        self,
        model: SeeingModel,
        *,
        name: str,
        sample: bool = False,
        temperature: float = 1.0,
        seed: int = 0,
        sprites: Path | None = None,
    ) -> None:
        self._scorer = ChoiceScorer(model)
        super().__init__(
            self._scorer, PromptForm(history=0), name=name, sample=sample, temperature=temperature, seed=seed
        )
        form = model.form
        found = None if sprites is None else Sprites(sprites)
        if (None if found is None else found.mark) != form.sprites:
            if form.sprites is None:
                raise ConfigError(f"{name} was trained without sprites; leave out sprites=")
            given = "none are given" if sprites is None else f"those of {shown_path(sprites)} are others"
            raise ConfigError(f"{name} was trained on sprites, and {given}; name their folder: vlm:RUN(sprites=DIR)")
        self._model, self._painter = model, GridPainter(form.size, form.theme, found)

    def open_session(self, dice: random.Random | None = None) -> SeeingSession:
        """A new battle's session."""
        return SeeingSession(Telling(BattleSoFar(0)), dice)

    def ask(self, decision: Decision, session: TextSession) -> SeeingInput:
        """What the battle puts into a step."""
        if not isinstance(session, SeeingSession):
            raise TypeError(f"{type(session).__name__} is no session of a SeeingPolicy")
        asked = asked_of(list(session.last), self._model.form.showing)
        return SeeingInput([asked.message()], dict(decision.choices), session, asked.pictures)

    def answer(self, inputs: Sequence[TextInput]) -> list[ScoredChoices | None]:
        """What the model makes of each; None of what is longer than its context."""
        model = self._model
        prompts = [model.prompt_ids(each.messages) for each in inputs]
        answers = [self._scorer.answer_ids(list(each.choices.values())) for each in inputs]
        found: list[ScoredChoices | None] = [None] * len(inputs)
        lengths = [len(prompt) + max(map(len, own)) for prompt, own in zip(prompts, answers, strict=True)]
        fitting = [i for i, length in enumerate(lengths) if length <= model.context]
        if not fitting:
            return found
        pixels = [model.look([self.draw(picture) for picture in _shown(inputs[i])]) for i in fitting]
        scores = self._scorer.score_ids([prompts[i] for i in fitting], [answers[i] for i in fitting], pixels)
        for i, own in zip(fitting, scores, strict=True):
            found[i] = ScoredChoices(own)
        return found

    def count_subwords(self, asked: SeeingInput) -> int:
        """Of what is asked, up to where the model answers; a picture counts as the places that it takes."""
        return len(self._model.prompt_ids(asked.messages))

    def draw(self, picture: Picture) -> Image.Image:
        """What the model is shown of it."""
        return self._painter.blank() if self._model.form.blank else self._painter.draw(picture)


def _shown(asked: TextInput) -> list[Picture]:
    return asked.pictures if isinstance(asked, SeeingInput) else []

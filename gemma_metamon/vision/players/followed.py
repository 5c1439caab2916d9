"""A model that sees followed through a recorded battle, as `explain` shows it: what it is shown and would choose."""

import base64
import io
from collections import deque
from collections.abc import Iterator

from PIL import Image

from gemma_metamon.battle.replays import RecordedBattle
from gemma_metamon.explain.words import WordsDecision
from gemma_metamon.language.data.recorded import recorded_decisions
from gemma_metamon.language.models.followed import followed
from gemma_metamon.language.players.told import Telling
from gemma_metamon.language.telling.prompts import BattleSoFar, Decision
from gemma_metamon.vision.players.seeing import SeeingPolicy, SeeingSession
from gemma_metamon.vision.scenes.grid import FRAMES


def follow_by_sight(policy: SeeingPolicy, battle: RecordedBattle) -> Iterator[WordsDecision]:
    """The decisions of a recorded battle, one after the other, as a player of this model would make them.

    What could be chosen is the rule of the action space, as in training: a file tells of no disabled move.

    Args:
        policy: of the model.
        battle: T states, T - 1 decisions.
    """
    last = deque[Decision](maxlen=FRAMES)
    for t, decision in enumerate(recorded_decisions(battle, history=0)):
        last.append(decision)
        asked = policy.ask(decision, SeeingSession(Telling(BattleSoFar(0)), last=last))
        (found,) = policy.answer([asked]) if len(decision.choices) > 1 else (None,)
        yield followed(
            battle,
            t,
            decision,
            found,
            messages=[{"role": "user", "content": asked.messages[0]["content"][-1]["text"]}],
            subwords=policy.count_subwords(asked),
            pictures=[_as_uri(policy.draw(picture)) for picture in asked.pictures],
        )


def _as_uri(picture: Image.Image) -> str:
    content = io.BytesIO()
    picture.save(content, "PNG")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"

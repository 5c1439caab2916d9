"""A chat model followed through a recorded battle, as `explain` shows it: what it is told, thinks and would choose."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from gemma_metamon.battle.replays import MISSING_ACTION, RecordedBattle
from gemma_metamon.explain.follow import Option, action_name, on_field
from gemma_metamon.explain.words import WordsDecision
from gemma_metamon.language.data.chats import PromptForm
from gemma_metamon.language.data.recorded import is_stand_in, recorded_decisions
from gemma_metamon.language.models.answering import Answerer, ScoredChoices
from gemma_metamon.language.telling.prompts import Decision, messages_of


def follow_in_words(answerer: Answerer, form: PromptForm, battle: RecordedBattle) -> Iterator[WordsDecision]:
    """The decisions of a recorded battle, one after the other, as a player of this model would make them.

    What could be chosen is the rule of the action space, as in training: a file tells of no disabled move.

    Args:
        answerer: of the model.
        form: how its prompts are told.
        battle: T states, T - 1 decisions.
    """
    reasoning = form.reasoning or answerer.thinking.reasoning
    for t, decision in enumerate(recorded_decisions(battle, form.history)):
        messages = messages_of(decision, reasoning=reasoning, blank=form.blank)
        found = None
        if len(decision.choices) > 1:
            (found,) = answerer.choose([messages], [list(decision.choices.values())])
        yield followed(
            battle,
            t,
            decision,
            found,
            messages=messages,
            subwords=answerer.count_subwords(messages),
        )


def followed(
    battle: RecordedBattle, t: int, decision: Decision, found: ScoredChoices | None, **shown: Any
) -> WordsDecision:
    """What a page shows of a decision.

    Args:
        battle: recorded.
        t: the decision's timestep.
        decision: the same as the model was told it.
        found: what the model made of it; None where it was not asked.
        **shown: the fields of `WordsDecision` that say what it was told.
    """
    known = battle.actions[t] != MISSING_ACTION and not is_stand_in(battle, t)
    chosen = battle.actions[t] if known else None
    options = _options(decision, found, chosen)
    return WordsDecision(
        **on_field(decision.state),
        timestep=t,
        asked=found is not None,
        thought="" if found is None else found.thought,
        said=(battle.thoughts[t] or "") if battle.thoughts is not None else "",
        options=options,
        chosen=chosen,
        preferred=max(options, key=lambda option: option.probability).action,
        **shown,
    )


def _options(decision: Decision, found: ScoredChoices | None, chosen: int | None) -> tuple[Option, ...]:
    """The choices with their probabilities, all equal where nobody was asked; and what was taken in spite of them."""
    n = len(decision.choices)
    probabilities = np.full(n, 1 / n) if found is None else np.exp(found.scores)
    options = [
        Option(action=action, name=name, probability=float(probability), values=())
        for (action, name), probability in zip(decision.choices.items(), probabilities, strict=True)
    ]
    if chosen is not None and chosen not in decision.choices:
        options.append(Option(action=chosen, name=action_name(chosen, decision.state), probability=0.0, values=()))
    return tuple(options)

"""A chat model plays: legal choices alone, the same battles again, and told of each decision as in training."""

import asyncio
import json
import random
from pathlib import Path

import numpy as np
import pytest
from support.chats import chats_of, small_model
from support.small_agent import BATTLES

from gemma_metamon.battle.replays import find_battles, load_battle
from gemma_metamon.commands import main
from gemma_metamon.language.chats import PromptForm
from gemma_metamon.language.models import ChatModel
from gemma_metamon.language.players.text import TextPolicy, TextSession
from gemma_metamon.language.prompts import messages_of
from gemma_metamon.language.recorded import recorded_decisions
from gemma_metamon.language.scoring import ChoiceScorer

CHATS = chats_of(most=12)
with pytest.MonkeyPatch.context() as patch:
    MODEL = small_model(patch, CHATS)


def policy_of(model: ChatModel, *, sample: bool = False) -> TextPolicy:
    return TextPolicy(ChoiceScorer(model), PromptForm(), name="text:small", sample=sample)


def test_it_is_told_of_a_battle_as_training_was() -> None:
    battle = load_battle(find_battles(BATTLES, ["gen1ou"])[0])
    session: TextSession = policy_of(MODEL).open_session()
    for expected, action in zip(recorded_decisions(battle), battle.actions, strict=False):
        legal = np.isin(np.arange(13), list(expected.choices))
        session.decision(expected.state, legal)
        again = session.decision(expected.state, legal)  # asked a second time, as after a refusal
        assert messages_of(again) == messages_of(expected)
        if action in expected.choices:
            session.note(expected.state, action)
        else:
            session.asked = None


def test_it_takes_the_most_probable_choice_or_draws_with_the_battles_dice() -> None:
    battle = load_battle(find_battles(BATTLES, ["gen1ou"])[0])
    decision = next(each for each in recorded_decisions(battle) if len(each.choices) > 4)
    legal = np.isin(np.arange(13), list(decision.choices))

    async def chosen(policy: TextPolicy, dice: int) -> tuple[int, np.ndarray]:
        return await policy.consider(policy.open_session(random.Random(dice)), decision.state, legal)

    action, probs = asyncio.run(chosen(policy_of(MODEL), 0))
    assert action == probs.argmax()
    assert probs.sum() == pytest.approx(1, abs=1e-5)
    assert not probs[~legal].any()
    drawn = [asyncio.run(chosen(policy_of(MODEL, sample=True), dice))[0] for dice in range(12)]
    assert drawn == [asyncio.run(chosen(policy_of(MODEL, sample=True), dice))[0] for dice in range(12)]
    assert len(set(drawn)) > 1


@pytest.mark.server
def test_it_plays_legally_the_same_battles_again(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    MODEL.save(tmp_path / "run/ckpts/epoch_0")
    command = ["evaluate", "--format", "gen1ou", "--battles", "2", "--opponents", "MaxBasePowerPlayer", "--json"]
    command += ["--players", f"text:{tmp_path / 'run'}", f"text:{tmp_path / 'run'}@0@T0.5", "--sample"]
    reports = []
    for _ in range(2):
        assert main(command) == 0
        reports.append(json.loads(capsys.readouterr().out))
    first, again = reports
    assert [row["name"] for row in first["contestants"] if row["kind"] == "text"] == ["text:run@0", "text:run@0@T0.5"]
    for pair, same in zip(first["pairs"], again["pairs"], strict=True):
        assert pair["legal_rate"] == 1
        assert pair["latency_ms"]["median"] > 0
        assert (pair["wins"], pair["mean_turns"]) == (same["wins"], same["mean_turns"])


def test_what_is_no_chat_model_is_refused_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for text, said in (
        (f"text:{tmp_path / 'nowhere'}", "holds no chat model; name the --out of gemma-metamon sft"),
        (f"text:ensemble({tmp_path}, {tmp_path})", "a model that answers in words plays alone"),
    ):
        assert main(["evaluate", "--format", "gen1ou", "--players", text, "--opponents", "RandomPlayer"]) == 1
        assert said in capsys.readouterr().err.splitlines()[-1]

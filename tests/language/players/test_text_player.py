"""A chat model plays: legal choices alone, the same battles again, and told of each decision as in training."""

import asyncio
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.chats import chats_of, small_model
from support.small_agent import BATTLES

from gemma_metamon.battle.replays import find_battles, load_battle
from gemma_metamon.commands import main
from gemma_metamon.language.data.chats import PromptForm
from gemma_metamon.language.data.recorded import recorded_decisions
from gemma_metamon.language.models import chat_model as models
from gemma_metamon.language.models.answering import Answerer, Thinking, as_thought
from gemma_metamon.language.models.chat_model import ChatModel
from gemma_metamon.language.models.held_out import answer_loss
from gemma_metamon.language.models.scoring import ChoiceScorer
from gemma_metamon.language.players.text import TextPolicy, TextSession
from gemma_metamon.language.telling.answers import split_answer, write_answer
from gemma_metamon.language.telling.prompts import messages_of
from gemma_metamon.language.tokenizers import encode_answers, encode_prompts

CHATS = chats_of(most=12)
with pytest.MonkeyPatch.context() as patch:
    MODEL = small_model(patch, CHATS)


MARKS = ("<REASONING>", "</REASONING>", "<SOLUTION>", "</SOLUTION>", "</REAS", "<")
THINKING = Thinking(reasoning=True, reasoning_tokens=12)


def policy_of(model: ChatModel, *, sample: bool = False, thinking: Thinking | None = None) -> TextPolicy:
    return TextPolicy(ChoiceScorer(model), PromptForm(history=2), name="text:small", sample=sample, thinking=thinking)


def test_it_is_told_of_a_battle_as_training_was() -> None:
    battle = load_battle(find_battles(BATTLES, ["gen1ou"])[0])
    session: TextSession = policy_of(MODEL).open_session()
    for expected, action in zip(recorded_decisions(battle, history=2), battle.actions, strict=False):
        legal = np.isin(np.arange(13), list(expected.choices))
        session.decision(expected.state, legal)
        again = session.decision(expected.state, legal)  # asked a second time, as after a refusal
        assert messages_of(again) == messages_of(expected)
        if action in expected.choices:
            session.note(expected.state, action)
        else:
            session.telling.decision = None  # nobody knows what was done


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


def test_after_a_refusal_the_decision_is_the_same_with_another_choice() -> None:
    battle = load_battle(find_battles(BATTLES, ["gen1ou"])[0])
    first, second = list(recorded_decisions(battle))[:2]
    session = policy_of(MODEL).open_session()
    session.at = "this request"
    refused, taken = list(first.choices)[:2]
    session.decision(first.state, np.isin(np.arange(13), list(first.choices)))
    session.note(first.state, refused)
    session.decision(first.state, np.isin(np.arange(13), list(first.choices)[1:]))
    session.note(first.state, taken)
    session.at = "the next one"
    told = session.decision(second.state, np.isin(np.arange(13), list(second.choices)))
    assert [past.choice for past in told.history] == [first.choices[taken]]
    assert told.turn == 2


def test_a_thought_comes_before_the_choice_and_the_choice_is_scored_behind_it() -> None:
    chats, legal = [chat.messages[:-1] for chat in CHATS[:5]], [chat.legal for chat in CHATS[:5]]
    scorer = ChoiceScorer(MODEL)
    together = Answerer(scorer, THINKING).choose(chats, legal)
    thoughts = set()
    for chat, choices, found in zip(chats, legal, together, strict=True):
        assert found is not None
        (alone,) = Answerer(ChoiceScorer(MODEL), THINKING).choose([chat], [choices])
        assert alone is not None
        assert alone.thought == found.thought
        np.testing.assert_allclose(found.scores, alone.scores, rtol=0, atol=1e-4)
        assert np.exp(found.scores).sum() == pytest.approx(1, abs=1e-4)
        prompts = encode_prompts(MODEL.tokenizer, [chat])
        answers = encode_answers(MODEL.tokenizer, [write_answer(choice, found.thought) for choice in choices])
        same_end = next(n for n in range(99) if len({answer[-1 - n] for answer in answers}) > 1)
        answers = [answer[: len(answer) - same_end + 1] for answer in answers]  # what all end with tells nothing
        whole = [answer_loss(MODEL.gemma, *_as_batch(prompts[0], answer))[0] for answer in answers]
        expected = torch.log_softmax(-torch.stack(whole).detach(), 0).numpy()
        np.testing.assert_allclose(found.scores, expected, rtol=0, atol=2e-3)
        thoughts.add(found.thought)
        assert len(MODEL.tokenizer(found.thought)["input_ids"]) <= 2 * THINKING.reasoning_tokens
    assert len(thoughts) > 1


def _as_batch(prompt: list[int], answer: list[int]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    return {"input_ids": torch.tensor([prompt + answer])}, torch.tensor([[-100] * len(prompt) + answer])


@given(st.text(alphabet=st.sampled_from("ab <>/\n"), max_size=20), st.sampled_from(["", *MARKS]), st.text(max_size=9))
def test_whatever_is_written_a_thought_fits_into_an_answer(before: str, mark: str, after: str) -> None:
    thought = as_thought(f"{before}{mark}{after}")
    reasoning, solution = split_answer(write_answer("move Rest", thought))
    assert (reasoning, solution) == (thought, "move Rest")


@pytest.mark.server
def test_a_player_that_thinks_plays_legally_and_its_thoughts_are_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    MODEL.save(tmp_path / "run/ckpts/epoch_0")
    thinks = f"text:{tmp_path / 'run'}(reasoning=yes, reasoning_tokens=3)"
    command = ["evaluate", "--format", "gen1ou", "--battles", "1", "--opponents", "MaxBasePowerPlayer", "--json"]
    assert main([*command, "--players", thinks]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["contestants"][0]["name"] == "text:run@0(reasoning=yes, reasoning_tokens=3)"
    assert report["pairs"][0]["legal_rate"] == 1
    out = tmp_path / "battles"
    collect = ["collect", "--format", "gen1ou", "--battles", "1", "--out", str(out)]
    assert main([*collect, "--players", thinks]) == 0
    thoughts = [load_battle(path).thoughts for path in find_battles(out, ["gen1ou"])]
    spoken = [thought for each in thoughts if each is not None for thought in each if thought]
    assert spoken


@pytest.mark.server
def test_a_chat_longer_than_the_context_is_never_cut_but_decided_for_it_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    longest = max(len(ids) for ids in encode_prompts(MODEL.tokenizer, [chat.messages[:-1] for chat in CHATS]))
    monkeypatch.setattr(models.ChatModel, "context", longest)
    told = [CHATS[0].messages[0], {"role": "user", "content": "more " * longest}]
    assert Answerer(ChoiceScorer(MODEL)).choose([told], [CHATS[0].legal]) == [None]
    MODEL.save(tmp_path / "run/ckpts/epoch_0")
    command = ["evaluate", "--format", "gen1ou", "--battles", "2", "--opponents", "RandomPlayer", "--json"]
    assert main([*command, "--players", f"text:{tmp_path / 'run'}", "--out", str(tmp_path / "out")]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["pairs"][0]["legal_rate"] == 1
    counted = report["contestants"][0]["policy"]["too_long"]
    assert counted > 0
    assert f"{counted} decisions were made for it" in (tmp_path / "out/report.html").read_text(encoding="utf-8")


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
        (f"text:{tmp_path}(reasoning_tokens=5)", "without reasoning there are no reasoning_tokens"),
        (f"text:{tmp_path}(reasoning=yes, reasoning_tokens=0)", "reasoning_tokens=0; it must be within 1 to 4096"),
        (f"text:{tmp_path}(reasoning=perhaps)", "give yes or no, as in text:RUN(reasoning=yes"),
        (
            f"text:{tmp_path}(think=yes)",
            "a model that answers in words has no option 'think'; there are reasoning, reasoning_tokens",
        ),
    ):
        assert main(["evaluate", "--format", "gen1ou", "--players", text, "--opponents", "RandomPlayer"]) == 1
        assert said in capsys.readouterr().err.splitlines()[-1]

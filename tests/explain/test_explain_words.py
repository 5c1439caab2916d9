"""The page of a chat model: each turn's chat, its thought, and how probable it finds each choice, as it plays."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.chats import chats_of, small_model
from support.pages import Page, after_scripts, loads, needs_chromium
from support.small_agent import BATTLES

from gemma_metamon.battle.replays import RecordedBattle, find_battles, load_battle
from gemma_metamon.commands import main
from gemma_metamon.explain.page import Explanation, render_page
from gemma_metamon.explain.words import WordsDecision
from gemma_metamon.language.data.chats import PromptForm
from gemma_metamon.language.data.recorded import recorded_decisions
from gemma_metamon.language.models import chat_model as models
from gemma_metamon.language.models.answering import Answerer, Thinking
from gemma_metamon.language.models.followed import follow_in_words
from gemma_metamon.language.models.scoring import ChoiceScorer
from gemma_metamon.language.telling.prompts import messages_of

with pytest.MonkeyPatch.context() as patch:
    MODEL = small_model(patch, chats_of(most=12))
FILE = find_battles(BATTLES, ["gen1ou"])[0]
WHOLE = load_battle(FILE)
BATTLE = RecordedBattle(WHOLE.states[:9], (*WHOLE.actions[:8], -1))
THINKING = Thinking(reasoning=True, reasoning_tokens=6)


def follow(battle: RecordedBattle = BATTLE, thinking: Thinking | None = None) -> list[WordsDecision]:
    return list(follow_in_words(Answerer(ChoiceScorer(MODEL), thinking), PromptForm(), battle))


def explained(decisions: list[WordsDecision], opponent: str = "Bob") -> Explanation:
    return Explanation(
        battle="b",
        battle_format="gen1ou",
        player="Ann",
        opponent=opponent,
        agent="text:words@1",
        result="won",
        setting=None,
        decisions=decisions,
    )


def test_each_decision_is_the_chat_and_the_probabilities_that_the_player_has() -> None:
    expected = list(recorded_decisions(BATTLE))
    decisions = follow()
    assert len(decisions) == len(expected) == len(BATTLE.states) - 1
    scorer = ChoiceScorer(MODEL)
    for decision, recorded in zip(decisions, expected, strict=True):
        assert decision.messages == messages_of(recorded)
        own = {option.action: option.probability for option in decision.options if option.action in recorded.choices}
        assert own.keys() == recorded.choices.keys()
        assert sum(own.values()) == pytest.approx(1, abs=1e-4)
        assert decision.asked == (len(own) > 1)
        if decision.asked:
            (scores,) = scorer.score([decision.messages], [list(recorded.choices.values())])
            np.testing.assert_allclose(list(own.values()), np.exp(scores), rtol=0, atol=1e-4)
        assert decision.thought == ""
    assert any(decision.chosen is not None for decision in decisions)


def test_the_page_stands_alone_believes_nothing_and_shows_thoughts() -> None:
    decisions = follow(thinking=THINKING)
    html = render_page(explained(decisions, opponent="<script>alert(1)</script>"))
    assert loads(html) == []
    assert html.count("<script>") == 1
    page = Page(html)
    thoughts = [element.text for element in page.all("p", class_="said thought")]
    assert [thought.strip() for thought in thoughts] == [each.thought for each in decisions if each.thought]
    assert thoughts
    assert page.all("p", class_="said")[1].text == decisions[0].messages[1]["content"]
    assert "Answer <REASONING>why" in page.all("p", class_="said")[0].text


def test_what_the_recorded_player_said_and_took_in_spite_of_the_rule_is_shown() -> None:
    n = len(BATTLE.states)
    first = next(recorded_decisions(BATTLE))
    illegal = next(action for action in range(13) if action not in first.choices)
    battle = RecordedBattle(
        BATTLE.states, (illegal, *BATTLE.actions[1:]), thoughts=("I <b>insist</b>", *[""] * (n - 2), None)
    )
    decision = follow(battle)[0]
    assert decision.said == "I <b>insist</b>"
    assert decision.chosen == illegal
    assert decision.options[-1].probability == 0
    assert "I &lt;b&gt;insist&lt;/b&gt;" in render_page(explained([decision]))


def test_a_chat_that_is_too_long_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models.ChatModel, "context", 10)
    decision = next(each for each in follow() if len(each.options) > 1)
    assert not decision.asked
    assert "longer than the model's context" in render_page(explained([decision])).replace("&#39;", "'")


@needs_chromium
def test_a_browser_shows_one_decision_at_a_time(tmp_path: Path) -> None:
    decisions = follow()
    (tmp_path / "battle.html").write_text(render_page(explained(decisions)), encoding="utf-8")
    page = after_scripts(tmp_path / "battle.html", tmp_path)
    sections = page.all("section", class_="decision")
    assert ["hidden" in section.attributes for section in sections] == [False] + [True] * (len(decisions) - 1)
    (where,) = page.all("span", class_="where num")
    assert where.text == f"decision 1 of {len(decisions)}"


def test_the_command_writes_the_page_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    MODEL.save(tmp_path / "run/ckpts/epoch_1")
    battle = shutil.copy(FILE, tmp_path)
    page = tmp_path / "page.html"
    who = f"text:{tmp_path / 'run'}(reasoning=yes, reasoning_tokens=4)"
    assert main(["explain", str(battle), "--run_dir", who, "--out", str(page), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["agent"] == "text:run@1(reasoning=yes, reasoning_tokens=4)"
    assert len(shown["decisions"]) == len(WHOLE.states) - 1
    assert "What it thought" in page.read_text(encoding="utf-8")
    for arguments, said in (
        (["--run_dir", f"text:{tmp_path / 'nowhere'}"], "holds no chat model"),
        (["--run_dir", f"text:{tmp_path / 'run'}", "--ckpt", "7"], "has no checkpoint 7"),
        (["--run_dir", f"text:{tmp_path / 'run'}", "--temperature", "2"], "leave out --temperature and @T"),
    ):
        assert main(["explain", str(battle), *arguments]) == 1
        assert said in capsys.readouterr().err.splitlines()[-1]

"""The page of explained decisions: what it shows, that it stands alone, and how it moves in a browser."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.explained import ENTITY, build_agent, explain
from support.pages import Page, after_scripts, loads, needs_chromium

from gemma_metamon.battle.replays import load_battle
from gemma_metamon.explain.follow import Advice, Tried
from gemma_metamon.explain.page import render_page
from gemma_metamon.view import BattleView

REGRESSING = [
    "MetamonAMAGOExperiment.agent_type = @agent.Agent",
    "Agent.actor_type = @MetamonMaskedActor",
    "Agent.pass_obs_keys_to_actor = ['illegal_actions']",
    "Agent.critic_type = @actor_critic.NCritics",
]


def test_critics_that_regress_give_a_number_each(view: BattleView, battle_file: Path) -> None:
    agent = build_agent(view, *REGRESSING)
    with torch.no_grad():
        agent.popart.mu.fill_(300.0)
    explanation = explain(agent, view, battle_file)
    assert explanation.setting.returns == ()
    assert explanation.decisions[0].distributions == ()
    # returns are near PopArt's mean, 300 in multiplied reward
    assert all(abs(value - 30) < 3 for value in explanation.decisions[0].judged_option.values)
    assert len(explanation.decisions[0].judged_option.values) == len(agent.critics)
    assert "critic 4" in render_page(explanation)


def test_an_imitating_agents_critics_are_not_shown(view: BattleView, battle_file: Path) -> None:
    explanation = explain(build_agent(view, training="il.gin"), view, battle_file)
    assert explanation.setting.critics == 0
    page = render_page(explanation)
    assert "its critics never learned anything" in page
    assert "<polygon" not in page


def test_the_page_shows_what_somebody_else_would_have_done(view: BattleView, battle_file: Path) -> None:
    explanation = explain(build_agent(view), view, battle_file)
    assert explanation.adviser is None
    first, *others = explanation.decisions
    assert first.chosen is not None
    tried = (Tried(name="Surf", times=400, won=0.625, low=0.577, high=0.671),)
    advised = [replace(first, advice=Advice(who="<b>Misty", action=first.chosen, tried=tried))]
    advised += [replace(decision, advice=Advice(who="<b>Misty", action=-1)) for decision in others]
    page = render_page(replace(explanation, decisions=advised))
    assert "and &lt;b&gt;Misty would have taken it in 1</p>" in page
    assert page.count('<span class="tag">&lt;b&gt;Misty</span>') == 1
    assert page.count("Played out from here, &lt;b&gt;Misty going on") == 1
    assert "57.7 % to 67.1 % of 400" in page


def test_the_page_loads_nothing_and_believes_no_name(view: BattleView, battle_file: Path) -> None:
    name = "<script>alert(1)</script>"
    html = render_page(explain(build_agent(view), view, battle_file, opponent=name, battle="</title>"))
    assert loads(html) == []
    assert not re.search(r"url\(|@import|https?:", html)
    assert html.count("<script>") == html.count("<title>") == html.count("</title>") == 1
    n_decisions = len(load_battle(battle_file).states) - 1
    page = Page(html)
    assert len(page.all("section", class_="decision")) == n_decisions
    assert page.all("input", id="slider")[0].attributes["max"] == str(n_decisions)


@needs_chromium
@pytest.mark.parametrize(("mark", "shown"), [("", 1), ("#3", 3), ("#999", None)])
def test_a_browser_shows_one_decision_at_a_time(
    mark: str, shown: int | None, view: BattleView, battle_file: Path, tmp_path: Path
) -> None:
    explanation = explain(build_agent(view, ENTITY), view, battle_file)
    file = tmp_path / "battle.html"
    file.write_text(render_page(explanation), encoding="utf-8")
    page = after_scripts(file, tmp_path, mark)
    n_decisions = len(explanation.decisions)
    shown = n_decisions if shown is None else shown
    assert page.all("span", class_="where num")[0].text == f"decision {shown} of {n_decisions}"
    decisions = page.all("section", class_="decision")
    visible = [i for i, section in enumerate(decisions, 1) if "hidden" not in section.attributes]
    assert visible == [shown]
    assert page.all("rect", id="cursor")[0].attributes["x"] == str(shown - 1)

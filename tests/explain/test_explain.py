"""What `explain` shows of an agent is what the agent reads, thinks and does in play; the page stands alone."""

import asyncio
import functools
import json
import logging
import re
import shutil
import subprocess
import time
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.small_agent import SMALL, TINY, train_command

from gemma_metamon.battle.replays import load_battle
from gemma_metamon.commands import main
from gemma_metamon.configs.names import EXPERIMENT, configurable
from gemma_metamon.data.dataset import collate, take_window
from gemma_metamon.data.encoding import encode_battle
from gemma_metamon.explain.follow import Advice, Decision, Follower, Tried, follow_recorded
from gemma_metamon.explain.page import Explanation, render_page
from gemma_metamon.explain.watch import NOW, Watcher
from gemma_metamon.runs import resolve
from gemma_metamon.showdown.live.door import open_door
from gemma_metamon.showdown.live.recording import Recorder
from gemma_metamon.showdown.matches.evaluate import play_match
from gemma_metamon.showdown.players.policy_player import BatchedPolicy, PolicyPlayer
from gemma_metamon.showdown.simulator.server import running_server
from gemma_metamon.showdown.simulator.teams import load_teams
from gemma_metamon.text.phrases import join_phrases
from gemma_metamon.text.subwords import SubwordTable
from gemma_metamon.view import BattleView

ENTITY = "GemmaTstepEncoder.granularity = 'entity'"
REGRESSING = [
    "MetamonAMAGOExperiment.agent_type = @agent.Agent",
    "Agent.actor_type = @MetamonMaskedActor",
    "Agent.pass_obs_keys_to_actor = ['illegal_actions']",
    "Agent.critic_type = @actor_critic.NCritics",
]
GRANULARITIES = pytest.mark.parametrize("overrides", [[], [ENTITY]], ids=["turn", "entity"])


@pytest.fixture
def view() -> BattleView:
    return BattleView.default()


def build_agent(view: BattleView, *overrides: str, training: str = "binary_rl.gin") -> Any:
    resolve.load(TINY, training, [*SMALL, *overrides])
    torch.manual_seed(0)
    return configurable(EXPERIMENT)().build_agent(view).eval()


def explain(agent: Any, view: BattleView, battle_file: Path, **changed: Any) -> Explanation:
    follower = Follower(agent, view)
    explanation = {
        "battle": "b",
        "battle_format": "gen9ou",
        "player": "Ann",
        "opponent": "Bob",
        "agent": "first, epoch 1",
        "result": "won",
        "setting": follower.setting(),
        "decisions": list(follow_recorded(follower, load_battle(battle_file))),
    }
    return Explanation(**explanation | changed)


def probabilities(decision: Decision) -> dict[int, float]:
    return {option.action: option.probability for option in decision.options}


class Listening:
    """An observer that notes what it is told; with it, the probabilities that each decision was made by."""

    def __init__(self, policy: BatchedPolicy) -> None:
        self.told: list[tuple[np.ndarray, int]] = []
        self.probs: list[torch.Tensor] = []
        self.ended = 0
        act = policy.agent.act

        def noting(*arguments: Any, **options: Any) -> Any:
            actions, probs = act(*arguments, **options)
            self.probs += probs
            return actions, probs

        policy.agent.act = noting

    def on_decision(self, player: Any, battle: Any, state: Any, legal: np.ndarray, action: int) -> None:
        self.told.append((legal, action))

    def on_end(self, player: Any, battle: Any, state: Any) -> None:
        self.ended += 1


def play(policy: BatchedPolicy, observer: Any, n_battles: int, *, concurrency: int = 1) -> list[Any]:
    records: list[Any] = []

    def build(**options: Any) -> PolicyPlayer:
        player = PolicyPlayer(policy, observer=observer, **options)
        open_door(player).record(Recorder(lambda battle, record: records.append(record)))
        return player

    with running_server() as server:
        asyncio.run(
            play_match(
                build,
                "RandomPlayer",
                n_battles,
                battle_format="gen1ou",
                teams=load_teams("gen1ou"),
                websocket_url=server.websocket_url,
                concurrency=concurrency,
            )
        )
    policy._worker.shutdown(wait=True)  # what is done aside is done
    return records


@pytest.mark.slow
@pytest.mark.server
@GRANULARITIES
def test_a_recorded_battle_is_explained_as_it_was_decided_live(view: BattleView, overrides: list[str]) -> None:
    """Beyond the agent's memory (12 decisions), at a temperature, drawn actions."""
    agent = build_agent(view, *overrides)
    policy = BatchedPolicy(agent, view, max_battles=2, sample=True, temperature=0.7)
    listening = Listening(policy)
    (record,) = play(policy, listening, 1)
    del agent.act
    assert listening.ended == 1
    assert len(listening.told) == len(listening.probs) == len(record.states) - 1 > 12
    by_simulator = [legal for legal, _ in listening.told]
    decisions = list(follow_recorded(Follower(agent, view, temperature=0.7), record, by_simulator))
    as_recorded = list(follow_recorded(Follower(agent, view, temperature=0.7), record))
    for t, (decision, live) in enumerate(zip(decisions, listening.probs, strict=True)):
        shown = probabilities(decision)
        assert sorted(shown) == np.flatnonzero(by_simulator[t]).tolist()
        assert decision.chosen == listening.told[t][1]
        torch.testing.assert_close(torch.tensor(list(shown.values())), live[list(shown)], rtol=0, atol=1e-5)
        if np.array_equal(view.action_space.legal(record.states[t]), by_simulator[t]):
            assert probabilities(as_recorded[t]) == pytest.approx(shown, abs=1e-5)


@GRANULARITIES
def test_policy_and_critics_are_those_of_the_whole_trajectory(
    view: BattleView, overrides: list[str], battle_file: Path
) -> None:
    """Within the agent's memory, against the batch that training reads."""
    agent = build_agent(view, *overrides, "MetamonAMAGOExperiment.max_seq_len = 400")
    encoded = encode_battle(battle_file, view)
    batch = collate([take_window(encoded, 0, encoded.n_decisions)])
    explanation = explain(agent, view, battle_file)
    with torch.no_grad():
        probs = agent.action_probs(batch)[0]  # (T, A)
        state = agent.traj_encoder(agent.tstep_encoder(batch.obs, batch.rl2s), batch.time_idxs)
        chosen = torch.tensor([decision.judged for decision in explanation.decisions])
        one_hot = torch.nn.functional.one_hot(chosen, 13).float()[None, None, :, None]  # (1, 1, L, 1, A)
        log_probs = agent.critics(state[:, :-1], one_hot.expand(-1, -1, -1, len(agent.discounts), -1))[0, 0, :, :, -1]
    assert encoded.actions[:-1].tolist() == [-1 if d.chosen is None else d.chosen for d in explanation.decisions]
    for t, decision in enumerate(explanation.decisions):
        legal = torch.from_numpy(encoded.legal_actions[t])
        expected = probs[t] * legal / (probs[t] * legal).sum()  # play gives illegal actions exactly 0
        shown = probabilities(decision)
        torch.testing.assert_close(torch.tensor(list(shown.values())), expected[list(shown)], rtol=0, atol=1e-5)
        torch.testing.assert_close(torch.tensor(decision.distributions), log_probs[t].exp(), rtol=0, atol=1e-5)
        bins = torch.tensor(explanation.setting.returns)
        means = (log_probs[t].exp() * bins).sum(-1)  # (C,)
        torch.testing.assert_close(torch.tensor(decision.judged_option.values), means, rtol=0, atol=1e-3)


@pytest.mark.parametrize("phrasing", ["natural", "raw"])
@GRANULARITIES
def test_the_words_are_those_that_gemma_reads(
    view: BattleView, overrides: list[str], phrasing: str, battle_file: Path
) -> None:
    agent = build_agent(view, *overrides, f"GemmaTstepEncoder.phrasing = '{phrasing}'")
    words, _ = view.obs_space.observe_battle(load_battle(battle_file).states)
    table = SubwordTable.load(phrasing)
    for decision, turn in zip(explain(agent, view, battle_file).decisions, words.tolist(), strict=False):
        text = " ".join(entity.text for entity in decision.entities)
        assert text == join_phrases(turn, phrasing, view.vocabulary)
        if not overrides:
            assert decision.subwords == len(table.encode_line(turn))


@pytest.mark.parametrize(
    ("overrides", "place", "entity"), [([], 16, "move 2"), ([ENTITY], 4, "move 2"), ([ENTITY], 12, "opponent")]
)
def test_attention_is_credited_to_the_entity_that_gets_it(
    view: BattleView, overrides: list[str], place: int, entity: str, battle_file: Path
) -> None:
    """A readout whose every head looks at one place: a word's (the second move's name is word 16), or an entity's."""
    agent = build_agent(view, *overrides)
    with torch.no_grad():
        agent.tstep_encoder.readout.slot_scores.zero_()[place] = 1000.0
    for decision in explain(agent, view, battle_file).decisions:
        shares = {part.name: part.attention for part in decision.entities}
        assert shares.pop(entity) == pytest.approx(1.0, abs=1e-6)
        assert sum(shares.values()) + decision.start_attention == pytest.approx(0.0, abs=1e-6)


@GRANULARITIES
def test_attention_is_told_also_of_texts_that_are_remembered(
    view: BattleView, overrides: list[str], battle_file: Path
) -> None:
    agent = build_agent(view, *overrides)
    first, again = (explain(agent, view, battle_file).decisions for _ in range(2))
    assert agent.tstep_encoder.reader.cache.hits > 0
    for before, after in zip(first, again, strict=True):
        assert sum(part.attention for part in before.entities) + before.start_attention == pytest.approx(1.0, abs=1e-5)
        assert [part.attention for part in after.entities] == pytest.approx(
            [part.attention for part in before.entities], abs=1e-6
        )


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


class Page(HTMLParser):
    """The elements of a page by id, the classes, and all that it would load from elsewhere."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.attributes: dict[str, dict[str, str | None]] = {}
        self.loads: list[str] = []
        self.classes: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.classes += (found.get("class") or "").split()
        if found.get("id"):
            self.attributes[str(found["id"])] = found
        self.loads += [f"{tag} {name}={found[name]}" for name in ("src", "href", "srcset", "data") if name in found]


def test_the_page_loads_nothing_and_believes_no_name(view: BattleView, battle_file: Path) -> None:
    name = "<script>alert(1)</script>"
    html = render_page(explain(build_agent(view), view, battle_file, opponent=name, battle="</title>"))
    page = Page(html)
    assert page.loads == []
    assert not re.search(r"url\(|@import|https?:", html)
    assert html.count("<script>") == html.count("<title>") == html.count("</title>") == 1
    n_decisions = len(load_battle(battle_file).states) - 1
    assert page.classes.count("decision") == n_decisions
    assert page.attributes["slider"]["max"] == str(n_decisions)


@pytest.mark.parametrize(("mark", "shown"), [("", 1), ("#3", 3), ("#999", None)])
def test_a_browser_shows_one_decision_at_a_time(
    mark: str, shown: int | None, view: BattleView, battle_file: Path, tmp_path: Path
) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium to open the page with: apt-get install chromium")
    explanation = explain(build_agent(view, ENTITY), view, battle_file)
    file = tmp_path / "battle.html"
    file.write_text(render_page(explanation), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    flags += ["--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    done = subprocess.run([browser, *flags, f"{file.as_uri()}{mark}"], capture_output=True, text=True, timeout=120)
    n_decisions = len(explanation.decisions)
    shown = n_decisions if shown is None else shown
    assert f"decision {shown} of {n_decisions}" in done.stdout
    attributes = Page(done.stdout).attributes
    visible = [i for i in range(1, n_decisions + 1) if "hidden" not in attributes[f"decision-{i}"]]
    assert visible == [shown]
    assert attributes["cursor"]["x"] == str(shown - 1)


@pytest.mark.slow
@pytest.mark.server
def test_battles_are_watched_one_at_a_time(view: BattleView, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    counts: list[int] = []

    class Reading(Watcher):
        def on_decision(self, *arguments: Any) -> None:
            super().on_decision(*arguments)
            page = (self.folder / NOW).read_text(encoding="utf-8")
            assert 'data-refresh="2.0"' in page
            counts.append(page.count('<section class="decision"'))

    policy = BatchedPolicy(build_agent(view), view, max_battles=8, sample=True)
    with caplog.at_level(logging.WARNING, logger="concurrent.futures"):
        records = play(policy, Reading(tmp_path / "watch"), 2, concurrency=2)
    assert not caplog.records
    assert len(records) == 2
    assert counts[0] == 1
    # the watched battle's next decision, one of the other battle's, or the first of the battle after it
    assert all(after in (before + 1, before, 1) for before, after in pairwise(counts))
    finished = sorted(path for path in (tmp_path / "watch").iterdir() if path.name != NOW)
    assert 1 <= len(finished) <= 2
    lengths = [len(record.states) - 1 for record in records]
    for path in finished:
        html = path.read_text(encoding="utf-8")
        assert "data-refresh" not in html
        assert Page(html).classes.count("decision") in lengths


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    assert main(train_command(folder)) == 0
    return folder / "run"


def test_explain_writes_a_page_and_prints_what_it_shows(
    run_dir: Path, battle_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["explain", str(battle_file), "--run_dir", str(run_dir), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    page = Path(shown["page"])
    assert "gen9ou-0355040679" in page.name
    assert page.is_file()
    assert len(shown["decisions"]) == len(load_battle(battle_file).states) - 1
    for decision in shown["decisions"]:
        assert sum(option["probability"] for option in decision["options"]) == pytest.approx(1.0, abs=1e-5)
    assert main(["explain", str(battle_file), "--run_dir", str(run_dir), "--out", "deep/page.html"]) == 0
    assert f"{len(shown['decisions'])} decisions" in capsys.readouterr().out
    assert (tmp_path / "deep" / "page.html").read_bytes() == page.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--temperature", "0"], "--temperature 0.0; it must be above 0"),
        (["--out", "."], "--out . is a folder"),
        (["--ckpt", "9"], "has no checkpoint 9; it has 0, 1"),
        (["--run_dir", "nowhere"], "nowhere: no such folder"),
        (["--out", "/dev/null/page.html"], "--out /dev/null cannot be made (File exists); name another folder"),
    ],
)
def test_bad_input_to_explain_gets_one_sentence(
    arguments: list[str], complaint: str, run_dir: Path, battle_file: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["explain", str(battle_file), "--run_dir", str(run_dir), *arguments]) == 1
    assert complaint in capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.slow
@pytest.mark.server
def test_evaluate_lets_one_watch(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    command = ["evaluate", "--opponents", "RandomPlayer", "--battles", "1", "--watch", str(tmp_path), "--json"]
    assert main([*command, "--run_dir", str(run_dir)]) == 0
    assert json.loads(capsys.readouterr().out)["pairs"][0]["battles"] == 1
    deadline = time.monotonic() + 60
    while not (pages := list(tmp_path.glob("battle-gen1ou-*.html"))):  # written aside
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert len(pages) == 1
    (tmp_path / "file").write_text("")
    assert main([*command, "--run_dir", str(run_dir), "--watch", str(tmp_path / "file")]) == 1
    assert "file cannot be made (File exists); name another folder" in capsys.readouterr().err
    assert main([*command, "--players", "MaxBasePowerPlayer"]) == 1
    assert "--watch shows what a checkpoint thinks" in capsys.readouterr().err


def test_a_battle_that_is_not_there_is_named(run_dir: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["explain", "nowhere.json.lz4", "--run_dir", str(run_dir)]) == 1
    assert "no battle file nowhere.json.lz4" in capsys.readouterr().err


def test_a_policy_says_what_went_wrong_aside(view: BattleView, caplog: pytest.LogCaptureFixture) -> None:
    policy = BatchedPolicy(build_agent(view), view, max_battles=1)
    policy.run_in_policy_thread(functools.partial(int, "x"))
    policy._worker.shutdown(wait=True)
    assert "invalid literal" in caplog.text

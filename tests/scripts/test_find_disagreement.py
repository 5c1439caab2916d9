"""scripts/find_disagreement.py: battles with a teacher beside the agent, choices played out, and the table of them."""

import asyncio
import json
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import find_disagreement
import pytest
from find_disagreement import Rated, as_table, clearest, mean_of_groups, of_one, summary
from hypothesis import given
from hypothesis import strategies as st
from playouts import Choice, Decision, PlayedBattle, Playouts, Rules, play_beside, share_won
from support.small_agent import train_command

from gemma_metamon.commands import main
from gemma_metamon.errors import ConfigError
from gemma_metamon.showdown.arena.arena import Arena, Ending
from gemma_metamon.showdown.players.contestants import scripted
from gemma_metamon.showdown.simulator.teams import load_teams

Run = Callable[..., Any]


def choice(message: str, kind: str = "attack", action: int = 0) -> Choice:
    return Choice(action=action, name=message.upper(), kind=kind, message=message)


def decision(agent: str, teacher: str, legal: int = 2, kinds: tuple[str, str] = ("attack", "attack")) -> Decision:
    mine, theirs = choice(agent, kinds[0]), choice(teacher, kinds[1])
    return Decision(turn=1, legal=list(range(legal)), agent=mine, teacher=theirs)


def battle(number: int, *decisions: Decision, won: float = 1.0) -> PlayedBattle:
    return PlayedBattle(number=number, seat="p1", won=won, inputs=[], decisions=list(decisions))


def rated(battle: int, decision: int, agent: list[float], teacher: list[float]) -> Rated:
    return Rated(battle=battle, decision=decision, agent=agent, teacher=teacher)


def test_what_was_played_is_cut_before_the_choice_and_team_preview_is_none() -> None:
    inputs = [">start {}", ">player p1 {}", ">player p2 {}", ">p1 team 123", ">p2 team 321"]
    inputs += [">p1 move 1", ">p2 move 2", ">p1 switch 2", ">p1 move 3", ">p2 move 1"]
    played = PlayedBattle(number=0, seat="p1", won=1.0, inputs=inputs, decisions=[])
    assert [len(played.inputs_before(i)) for i in range(3)] == [5, 7, 8]


def test_a_tie_and_a_battle_that_was_dropped_are_half_won() -> None:
    endings = [Ending(winner=winner, turns=1, inputs=()) for winner in ("p1", "p2", None)]
    assert [share_won(ending, "p1") for ending in (*endings, None)] == [1.0, 0.0, 0.5, 0.5]


def test_only_what_was_free_to_choose_can_differ() -> None:
    assert decision("move 1", "move 2").differs
    assert not decision("move 1", "move 1").differs
    assert not decision("move 1", "default", legal=1).differs


def test_the_interval_of_a_mean_is_students() -> None:
    mean, low, high = mean_of_groups([[x] for x in (0.1, 0.2, 0.3, 0.4, 0.5)])
    assert mean == pytest.approx(0.3)
    half = 2.776 * statistics.stdev([0.1, 0.2, 0.3, 0.4, 0.5]) / 5**0.5
    assert (low, high) == pytest.approx((0.3 - half, 0.3 + half), rel=0.1)
    assert mean_of_groups([[0.5]] * 4) == (0.5, -1.0, 1.0)


@given(st.lists(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0]), min_size=1, max_size=4), min_size=5, max_size=9))
def test_values_that_go_together_count_as_one(groups: list[list[float]]) -> None:
    """Each value twice is the same mean and the same interval, which of independent values would be narrower."""
    once, twice = mean_of_groups(groups), mean_of_groups([group * 2 for group in groups])
    assert twice == pytest.approx(once)
    mean, low, high = once
    assert -1 <= low <= mean + 1e-12
    assert mean - 1e-12 <= high <= 1


def test_the_clearest_is_by_the_lower_end_of_the_interval() -> None:
    sure, lucky = [1.0] * 15 + [0.0] * 5, [1.0, 1.0, 1.0, 1.0, 0.0]
    rows = [rated(0, 0, lucky, [0.0] * 5), rated(1, 3, sure, [0.0] * 20), rated(2, 1, [0.0] * 20, sure)]
    best = clearest(rows)
    assert best is rows[1]
    assert of_one(best)[0] == 0.75
    assert clearest(rows[2:]) is None
    assert clearest([]) is None


def test_kinds_of_disagreement_are_counted_and_weighed() -> None:
    switch = decision("switch 2", "move 1", kinds=("switch", "attack"))
    battles = {n: battle(n, decision("move 1", "move 1"), decision("move 1", "move 2"), switch) for n in range(10)}
    rows = [rated(n, 1, [1.0] * 5, [0.0] * 5) for n in range(6)] + [rated(n, 2, [0.0] * 5, [1.0] * 5) for n in range(6)]
    found = summary(battles, rows)
    assert (found["battles"], found["won"], found["decisions"], found["disagreements"]) == (10, 10, 30, 20)
    attacks, left = found["kinds"]["attack / attack"], found["kinds"]["switch / attack"]
    assert (attacks["n"], attacks["rated"], attacks["agent_right"], attacks["teacher_right"]) == (10, 6, 6, 0)
    assert attacks["in_a_battle"][0] == 1.0
    assert (left["agent_right"], left["teacher_right"], left["difference"][0]) == (0, 6, -1.0)
    assert found["kinds"]["all"]["difference"][0] == 0.0
    text = as_table({**found, "agent": "a", "teacher": "T", "opponent": "O", "format": "gen1ou"})
    assert "a won 10 of 10 battles against O in gen1ou (72% to 100%)." in text
    assert "In 20 of 30 decisions (66.7%) T would have done something else." in text
    assert "switch / attack                     10      6       0 (0%)       6 (100%)" in text


def test_nothing_that_was_rated_is_said_to_be_nothing() -> None:
    found = summary({0: battle(0, decision("move 1", "move 1"))}, [])
    text = as_table({**found, "agent": "a", "teacher": "T", "opponent": "O", "format": "gen1ou"})
    assert "In 0 of 1 decisions (0.0%)" in text


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """The script with these arguments, small; results.json."""

    def run_script(agent: str, *extra: str) -> Any:
        out = ["--out", str(tmp_path / "out"), "--max_turns", "60"]
        monkeypatch.setattr(sys, "argv", ["find_disagreement.py", agent, "--battles", "2", *out, *extra])
        find_disagreement.main()
        return json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))

    return run_script


@pytest.mark.parametrize("wrong", [["--playouts", "4"], ["--rate", "-1"], ["--battles", "0"]])
def test_sizes_that_say_nothing_are_refused(run: Run, wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("MaxBasePowerPlayer", *wrong)
    assert f"{wrong[0]} {wrong[1]}; give " in capsys.readouterr().err


@pytest.fixture
def arena() -> Iterator[Arena]:
    with Arena() as started:
        yield started


@pytest.mark.slow
@pytest.mark.server
def test_one_choice_twice_comes_to_the_same_and_the_battle_is_led_back_to_its_decision(arena: Arena) -> None:
    rules = Rules(battle_format="gen1ou", teams=load_teams("gen1ou"), seed=3, in_play=8, max_turns=300)
    agent, teacher = scripted("MaxBasePowerPlayer"), scripted("DuelTrainer")
    played = asyncio.run(play_beside(arena, rules, agent, teacher, teacher, [0, 1]))
    assert [each.seat for each, _ in played] == ["p1", "p2"]
    playouts = Playouts(arena, rules, agent, teacher, teacher)
    for each, record in played:
        assert len(each.decisions) == len(record.states) - 1
        assert [d.agent.action for d in each.decisions] == list(record.actions[:-1])
        i = next(i for i, d in enumerate(each.decisions) if d.differs)
        mine, theirs = each.decisions[i].agent.message, each.decisions[i].teacher.message
        first, second, other = asyncio.run(playouts.rate(each, i, [mine, mine, theirs], 4, dice_for="a"))
        assert first == second
        assert len(other) == 4
        assert not arena.battles
        (again,) = asyncio.run(playouts.rate(each, i, [theirs], 4, dice_for="a"))
        assert again == other


@pytest.mark.slow
@pytest.mark.server
def test_what_is_there_is_not_made_again_and_other_sizes_are_refused(run: Run, tmp_path: Path) -> None:
    sizes = ["--playouts", "5", "--confirm", "5"]
    first = run("MaxBasePowerPlayer", *sizes, "--rate", "1")
    assert first["kinds"]["all"]["rated"] == 1
    assert first["disagreements"] == first["kinds"]["all"]["n"] > 0
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "battles").rglob("*") if path.is_file()}
    assert len(made) == 4
    second = run("MaxBasePowerPlayer", *sizes, "--rate", "2")
    assert second["kinds"]["all"]["rated"] == 2
    assert {path: path.stat().st_mtime_ns for path in made} == made
    rows = (tmp_path / "out" / "rated.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 2
    with pytest.raises(ConfigError, match="was made with playouts 5, not 6; choose another --out"):
        run("MaxBasePowerPlayer", "--playouts", "6", "--confirm", "5")
    with pytest.raises(ConfigError, match="DuelTrainer would meet itself"):
        run("DuelTrainer", "--out", str(tmp_path / "other"))


@pytest.mark.slow
@pytest.mark.server
def test_the_page_shows_the_teacher_beside_the_agent(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(train_command(tmp_path / "runs")) == 0
    monkeypatch.setattr(find_disagreement, "clearest", lambda rows: rows[0])  # whoever is right
    found = run(str(tmp_path / "runs" / "run"), "--playouts", "5", "--confirm", "6", "--rate", "1")
    best = found["clearest"]
    page, _, place = best["page"].partition("#")
    text = Path(page).read_text(encoding="utf-8")
    assert int(place) == best["decision"] + 1
    assert "DuelTrainer would have taken it in" in text
    assert text.count("Played out from here, DuelTrainer going on") == 1
    section = text.split(f'id="decision-{place}"')[1].split("</section>")[0]
    assert "of 6</span>" in section
    assert best["agent"] in section
    assert '<span class="tag">DuelTrainer</span>' in section

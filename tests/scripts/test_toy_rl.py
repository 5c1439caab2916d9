"""A toy whose values are known: what always wins, what never does, and which recipes find the better action."""

import json
import sys

import pytest
import torch
import toy_rl
from toy_rl import RECIPES, RIGHT, WRONG, Values, record_battles, run


def always(kind: int) -> Values:
    return Values(torch.eye(5)[kind].expand(toy_rl.DECISIONS, 2 * toy_rl.DECISIONS + 1, toy_rl.CONTEXTS, -1))


def test_the_toys_values_are_known() -> None:
    start = toy_rl.DECISIONS
    assert always(RIGHT).win[0, start] == 1.0
    assert always(WRONG).win[0, start] == 0.0
    assert always(2).win[0, start] == 0.5  # idle: a tie, and a coin
    recorded = Values.of_recorded()
    assert recorded.win[-2, start + 1] == pytest.approx(0.35 + 0.2 + 0.45 / 2)  # a lead of one, a decision to go
    battles = record_battles(20_000, seed=0)
    assert (battles.rewards[:, -1] > 0).float().mean() == pytest.approx(float(recorded.win[0, start]), abs=0.02)
    assert float(toy_rl.reached().sum(1).sub(1).abs().max()) < 1e-6


def test_faithful_imitation_always_loses() -> None:
    result = run(RECIPES["imitation"], updates=150)
    assert (result.wins, result.right) == (0.0, 0.0)


@pytest.mark.parametrize("name", ["binary_rl, Monte Carlo, warm-up", "target, Monte Carlo, warm-up"])
def test_the_better_action_is_found_by(name: str) -> None:
    result = run(RECIPES[name], updates=600)
    assert result.wins > 0.98
    assert result.right > 0.9


@pytest.mark.slow
@pytest.mark.long
def test_seven_discounts_and_one_step_have_not_found_it_by_then() -> None:
    result = run(RECIPES["binary_rl"])
    assert result.right < 0.7
    assert result.critics_right < 0.6


def test_the_script_prints_a_table_and_a_line_of_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["toy_rl.py", "--recipes", "imitation", "--seeds", "0", "--updates", "3"])
    toy_rl.main()
    *_, row, line = capsys.readouterr().out.splitlines()
    assert row.startswith("imitation ")
    assert json.loads(line)["recipes"]["imitation"].keys() == {"wins", "right", "critics_right", "cpu_s"}

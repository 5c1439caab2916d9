"""Battles ranked by how well they were played."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.run_files import changed, weights
from support.small_agent import BATTLES, SMALL, TINY, train_command

from gemma_metamon.commands import main
from gemma_metamon.configs.names import EXPERIMENT, configurable
from gemma_metamon.data.dataset import BattleDataset, collate, load_encoded, take_window
from gemma_metamon.nets.batch import countable_actions
from gemma_metamon.runs import resolve
from gemma_metamon.training.ranking import best_places, judge_all
from gemma_metamon.view import BattleView

LENGTH = 12


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_battles_score_is_what_its_known_decisions_are_worth_less_half_of_their_states(
    tmp_path: Path, batch_size: int
) -> None:
    view = BattleView.default()
    overrides = ["MultiTaskAgent.baseline = 'state'", "MultiTaskAgent.lambda_return = 1.0"]
    resolve.load(TINY, "binary_rl.gin", [*SMALL, *overrides])
    agent = configurable(EXPERIMENT)().build_agent(view)
    damaged = tmp_path / "damaged.json.lz4"
    damaged.write_bytes(b"nothing")
    battles = [damaged, *sorted((BATTLES / "gen1ou").glob("*.lz4"))[:4]]
    means = judge_all(agent, battles, view, LENGTH, batch_size)
    assert agent.training
    agent.eval()
    assert means[0] is None
    for battle, mean in zip(battles[1:], means[1:], strict=True):
        batch = collate([take_window(load_encoded(battle, view), 0, LENGTH)])
        recorded = agent.judge_recorded(batch)
        of_state = recorded.worth - recorded.advantage
        known: torch.Tensor = (recorded.worth - of_state / 2)[countable_actions(batch)]
        assert mean is not None
        assert mean.score() == pytest.approx(float(known.mean()), rel=1e-4, abs=0.01)
        assert mean.score(1) == pytest.approx(mean.worth - mean.of_state)


@given(st.lists(st.none() | st.floats(-5, 5)), st.floats(0.01, 1))
def test_the_best_places_are_of_the_largest_numbers(means: list[float | None], share: float) -> None:
    best = best_places(means, share)
    known = [place for place, mean in enumerate(means) if mean is not None]
    assert len(best) == min(len(known), max(1, round(share * len(known))))
    assert sorted(set(best.tolist())) == best.tolist()
    assert set(best) <= set(known)
    left = [means[place] for place in known if place not in best]
    assert not left or min(means[place] for place in best) >= max(left)


def test_a_dataset_that_keeps_some_battles_takes_windows_of_them_alone() -> None:
    view = BattleView.default()
    sources = [sorted((BATTLES / name).glob("*.lz4")) for name in ("gen1ou", "gen9ou")]
    dataset = BattleDataset(sources, [0.5, 0.5], view, max_seq_len=LENGTH)
    everything = {dataset.describe(number)["file"] for number in range(60)}
    dataset.keep([np.array([0]), np.array([1])])
    assert {dataset.describe(number)["file"] for number in range(60)} == {str(sources[0][0]), str(sources[1][1])}
    assert len(everything) > 2
    assert dataset.n_battles == len(sources[0]) + len(sources[1])


def test_a_run_goes_on_with_the_best_and_a_resumed_one_with_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for folder, *flags in (("whole", "3"), ("parts", "2"), ("parts", "3", "--ckpt", "2")):
        command = train_command(tmp_path / folder, training="recommended_rl.gin")
        assert main([*command, "--epochs", *flags]) == 0
    whole, parts = tmp_path / "whole" / "run", tmp_path / "parts" / "run"
    assert not changed(weights(whole, 3), weights(parts, 3))
    first, *judged = map(json.loads, (whole / "judged.jsonl").read_text().splitlines())
    assert (parts / "judged.jsonl").read_text() == (whole / "judged.jsonl").read_text()
    assert len(first["judge"]) == 64
    kept = round(0.25 * len(judged))
    assert caplog.text.count(f"from here on {kept} of {len(judged)} battles are trained on") == 3


def test_a_run_that_begins_anew_goes_on_with_the_best_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    command = train_command(tmp_path, training="recommended_rl.gin")
    assert main([*command, "--epochs", "2"]) == 0
    assert main([*command, "--epochs", "3", "--ckpt", "2", "--anew"]) == 0
    assert caplog.text.count("battles are trained on, those that the critics call best played") == 2


def test_what_another_checkpoint_judged_is_judged_again(tmp_path: Path) -> None:
    command = train_command(tmp_path, training="recommended_rl.gin")
    assert main([*command, "--epochs", "2"]) == 0
    path = tmp_path / "run" / "judged.jsonl"
    right = path.read_text()
    for wrong in (right.replace('"judge": "', '"judge": "0'), right[: len(right) // 2], ""):
        path.write_text(wrong)
        assert main([*command, "--epochs", "3", "--ckpt", "2", "--discard_later"]) == 0
        assert path.read_text() == right


def test_imitation_without_critics_cannot_rank(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    command = train_command(tmp_path, training="il.gin")
    assert main([*command, "--gin_override", "MetamonAMAGOExperiment.best_share = 0.5"]) == 1
    assert "no critics learn that could rank the battles; use recommended_rl.gin" in capsys.readouterr().err

"""Batches equal metamon's and amago's; draws depend on their number alone; damaged files are set aside and counted."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.paths import BATTLE_FILES, GOLDENS, observation_golden

from gemma_metamon.battle.actions import get_action_space
from gemma_metamon.battle.observations import get_observation_space
from gemma_metamon.battle.rewards import get_reward_function
from gemma_metamon.data.dataset import (
    BattleDataset,
    collate,
    encode_battle,
    is_held_out,
    pick_start,
    take_window,
)
from gemma_metamon.errors import DataError
from gemma_metamon.view import BattleView


class GoldenVocabulary:
    """metamon's word ids, as far as the golden observations tell them (its word list itself is not ours to ship)."""

    def __init__(self, files: Sequence[Path], space: str) -> None:
        self.ids: dict[str, int] = {}
        for file in files:
            golden = np.load(observation_golden(file))
            for line, tokens in zip(golden[f"{space}/text"], golden[f"{space}/tokens"], strict=True):
                self.ids |= dict(zip(line.split(" "), tokens.tolist(), strict=True))

    def encode(self, words: np.ndarray) -> np.ndarray:
        return np.array([[self.ids[word] for word in row] for row in words], dtype=np.int32)


@pytest.mark.parametrize("name", ["gen9ou", "gen1ou_minimal_actions"])
def test_a_batch_equals_metamons(name: str) -> None:
    golden = np.load(GOLDENS / "collate" / f"{name}.npz")
    config = json.loads(str(golden["config"]))
    files = [GOLDENS / file for file in config["files"]]
    view = BattleView(
        obs_space=get_observation_space(config["observation_space"]),
        action_space=get_action_space(config["action_space"]),
        reward_function=get_reward_function(config["reward"]),
        vocabulary=GoldenVocabulary(files, config["observation_space"]),  # type: ignore[arg-type]
    )
    windows = [
        take_window(encode_battle(file, view), start, config["max_seq_len"])
        for file, start in zip(files, config["start"], strict=True)
    ]
    batch = collate(windows)
    arrays = {f"obs.{key}": value for key, value in batch.obs.items()} | batch._asdict() | {"rews": batch.rewards}
    for key in config["dtypes"]:
        expected = torch.from_numpy(golden[f"batch/{key}"])
        assert arrays[key].dtype == expected.dtype == getattr(torch, config["dtypes"][key].removeprefix("torch."))
        torch.testing.assert_close(arrays[key], expected, rtol=0, atol=0)


@settings(max_examples=200)
@given(n_decisions=st.integers(1, 60), max_seq_len=st.integers(1, 40), seed=st.integers(0, 10**6))
def test_a_window_is_whole_where_the_battle_allows(n_decisions: int, max_seq_len: int, seed: int) -> None:
    start = pick_start(n_decisions, max_seq_len, np.random.default_rng(seed))
    assert start >= 0
    assert min(start + max_seq_len, n_decisions) - start == min(max_seq_len, n_decisions)


def test_every_start_is_drawn_equally_often() -> None:
    rng = np.random.default_rng(0)
    counts = np.bincount([pick_start(10, 7, rng) for _ in range(8000)])
    assert len(counts) == 4
    assert abs(counts / 8000 - 0.25).max() < 0.02


def test_a_draw_depends_on_seed_and_number_alone() -> None:
    make = lambda seed, cached: BattleDataset(  # noqa: E731
        [BATTLE_FILES], [1.0], BattleView.default(), max_seq_len=8, seed=seed, cached_battles=cached
    )
    cached, fresh = make(3, 100), make(3, 1)
    for number in (5, 0, 17, 5):
        a, b = cached[number], fresh[number]
        np.testing.assert_array_equal(a.rl2s, b.rl2s)
        np.testing.assert_array_equal(a.time_idxs, b.time_idxs)
    assert any(
        len(cached[n].rl2s) != len(make(4, 100)[n].rl2s) or (cached[n].rl2s != make(4, 100)[n].rl2s).any()
        for n in range(5)
    )


def test_sources_are_drawn_by_weight() -> None:
    short, long = [BATTLE_FILES[0]], [BATTLE_FILES[1]]
    dataset = BattleDataset([short, long], [0.25, 0.75], BattleView.default(), max_seq_len=200)
    first = dataset.load(short[0]).n_decisions  # type: ignore[union-attr]
    drawn = [len(dataset[n].rewards) == first for n in range(2000)]
    assert 0.21 < np.mean(drawn) < 0.29


def test_damaged_files_are_set_aside_with_their_reasons_and_counted(tmp_path: Path, battle_file: Path) -> None:
    good = [tmp_path / f"good{i}.json.lz4" for i in range(30)]
    for path in good:
        path.write_bytes(battle_file.read_bytes())
    bad = tmp_path / "half.json.lz4"
    bad.write_bytes(battle_file.read_bytes()[:2000])
    record = tmp_path / "set_aside.jsonl"
    dataset = BattleDataset([[*good, bad]], [1.0], BattleView.default(), max_seq_len=8, set_aside_record=record)
    dataset.preload()
    assert list(dataset.set_aside.reasons) == [bad]
    assert json.loads(record.read_text()) == {"file": str(bad), "reason": dataset.set_aside.reasons[bad]}
    assert "half.json.lz4" in dataset.set_aside.reasons[bad]
    assert all(len(dataset[n].rewards) == 8 for n in range(50))


def test_too_many_damaged_files_stop_training(tmp_path: Path, battle_file: Path) -> None:
    files = [tmp_path / f"{i}.json.lz4" for i in range(30)]
    for i, path in enumerate(files):
        path.write_bytes(battle_file.read_bytes()[: 1000 if i % 5 == 0 else None])
    dataset = BattleDataset([files], [1.0], BattleView.default(), max_seq_len=8, max_set_aside=0.1)
    with pytest.raises(DataError, match=r"battle files are damaged: \d+%, and --max_set_aside allows 10%"):
        dataset.preload()


def test_a_folder_of_nothing_but_damage_stops_training(tmp_path: Path) -> None:
    files = [tmp_path / f"{i}.json" for i in range(3)]
    for path in files:
        path.write_text("{}")
    dataset = BattleDataset([files], [1.0], BattleView.default(), max_seq_len=8, max_set_aside=1.0)
    with pytest.raises(DataError, match="3 of 3 battle files are damaged"):
        dataset[0]


def test_both_views_of_a_battle_are_held_out_together() -> None:
    names = [
        (
            f"b-gen1ou-{i}_Unrated_A_vs_B_01-01-2026_WIN.json.lz4",
            f"b-gen1ou-{i}_Unrated_B_vs_A_01-01-2026_LOSS.json.lz4",
        )
        for i in range(2000)
    ]
    held_out = [is_held_out(Path(one), 0.1) for one, _ in names]
    assert held_out == [is_held_out(Path(other), 0.1) for _, other in names]
    assert 0.08 < np.mean(held_out) < 0.12

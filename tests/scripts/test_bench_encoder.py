"""scripts/bench_encoder.py: both sides read the same texts, and the ratios are those of timesteps per second."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.paths import SCRIPTS
from tokenizers import Tokenizer

from gemma_metamon.nets.batch import padded_timesteps

SCRIPT = SCRIPTS / "bench_encoder.py"


@pytest.fixture(scope="module")
def bench() -> Any:
    import bench_encoder

    return bench_encoder


@pytest.fixture
def contest(bench: Any) -> Any:
    args = SimpleNamespace(
        device="cpu",
        threads=1,
        clock="wall",
        slices=3,
        tokenizer=bench.TOKENIZER,
        phrasing="natural",
        seed=0,
        small=True,
    )
    return bench.Contest(args)


@pytest.fixture
def tokenizer_file(bench: Any) -> Path:
    file: Path = bench.TOKENIZER / "tokenizer.json"
    if not file.is_file():
        pytest.skip("no Gemma tokenizer: run `npm ci --prefix tests/npm`")
    return file


def test_the_batch_is_two_battles_of_64_timesteps_with_padding(contest: Any) -> None:
    assert contest.rl2s.shape[:2] == contest.obs["text_tokens"].shape[:2] == (2, 64)
    is_real = ~padded_timesteps(contest.rl2s)
    assert contest.timesteps == {"padded": 128, "real": int(is_real.sum())}
    assert 0 < contest.timesteps["real"] < 128
    for rows in contest.slices["real"]:
        assert len(set(rows)) == 8
        assert is_real.flatten()[rows].all()
    assert any(not is_real.flatten()[row] for rows in contest.slices["padded"] for row in rows)


def test_both_sides_read_the_same_subwords(contest: Any, tokenizer_file: Path) -> None:
    lookup = contest.build("turn").subwords
    texts = lookup(contest.obs["text_tokens"].flatten(0, 1))
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    for text, row, length in zip(contest.texts, texts.subwords, texts.lengths.tolist(), strict=True):
        assert lookup.used_ids[row[:length]].tolist() == tokenizer.encode(text).ids


def test_ratios_are_medians_of_timesteps_per_second(contest: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"turn": [2.0, 4.0, 8.0], "entity": [1.0, 1.0, 1.0]}
    seconds |= {"direct_padded": [10.0, 10.0, 40.0], "direct_real": [1.0, 1.0, 1.0]}
    monkeypatch.setattr(contest, "step", lambda *_, **__: None)
    monkeypatch.setattr(contest, "seconds", lambda side, turn: seconds[side][turn])
    contest.timesteps = {"padded": 128, "real": 32}
    result = contest.run(3)
    assert result["turn_vs_direct"] == 80  # 80, 40, 80
    assert result["entity_vs_direct"] == 160
    assert result["turn_vs_direct_real"] == 1
    assert result["entity_vs_direct_real"] == 4


def test_every_trained_weight_of_ours_gets_a_gradient(contest: Any) -> None:
    for side in ("turn", "entity"):
        contest.step(side)
        for name, parameter in contest.models[side].named_parameters():
            assert (parameter.grad is not None) == parameter.requires_grad, name


def test_products_are_counted_with_what_is_recomputed(contest: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H200")
    kept = contest.tflops("turn", 2.0)
    assert kept["tflop_per_s"] == pytest.approx(kept["tflop"] / 2)
    assert kept["share_of_bf16_peak"] == pytest.approx(kept["tflop_per_s"] / 989)
    contest.models["turn"].reader.chunk_subwords = 2000
    assert contest.tflops("turn", 2.0)["tflop"] > 1.2 * kept["tflop"]


def test_a_missing_tokenizer_is_said_with_the_mend(contest: Any, tmp_path: Path) -> None:
    contest.args.tokenizer = tmp_path
    with pytest.raises(SystemExit, match=r"no tokenizer at .*npm ci --prefix tests/npm"):
        contest.build("direct")


@pytest.mark.slow
@pytest.mark.long
def test_it_prints_a_table_and_one_line_of_json(tokenizer_file: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--small", "--slices", "1", "--threads", "1", "--json"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert sum(line.startswith(("| turn", "| entity")) for line in lines) == 4
    result = json.loads(lines[-1])
    assert {f"{side}_vs_direct{column}" for side in ("turn", "entity") for column in ("", "_real")} <= set(result)
    assert result["peak_mib"]["turn"] < result["peak_mib"]["direct_real"]

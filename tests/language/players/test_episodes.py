"""Battles to learn from, on the real simulator: what they give back, and an update on them."""

import itertools
import json
import os
import signal
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from support.chats import chats_of, small_model, write_chats

from gemma_metamon.battle.rewards import get_reward_function
from gemma_metamon.commands import main
from gemma_metamon.language.data.chats import PromptForm
from gemma_metamon.language.players.episodes import Episodes
from gemma_metamon.language.tokenizers import encode_prompts
from gemma_metamon.showdown.arena.arena import Arena, News
from gemma_metamon.showdown.players.contestants import scripted
from gemma_metamon.showdown.simulator.formats import find_teams

pytestmark = pytest.mark.server
CHATS = chats_of(most=12)
with pytest.MonkeyPatch.context() as patch:
    MODEL = small_model(patch, CHATS)


def episodes_in(arena: Arena) -> Episodes:
    battle_format, teams = find_teams("gen1ou", None)
    return Episodes(
        arena=arena,
        battle_format=battle_format,
        teams=teams,
        opponents=[scripted("MaxBasePowerPlayer")],
        form=PromptForm(),
        reward_function=get_reward_function("BinaryReward"),
        discount=1.0,
    )


def fail_at(monkeypatch: pytest.MonkeyPatch, times: Iterable[int], how: signal.Signals) -> None:
    """The simulator's process ends or hangs when it is listened to for the n-th time, for each n of `times`."""
    settle, n_calls, faulty = Arena.settle, itertools.count(1), set(times)

    def failing(arena: Arena, battles: Iterable[str]) -> list[News]:
        if next(n_calls) in faulty:
            os.kill(arena.process_ids[0], how)
        return settle(arena, battles)

    monkeypatch.setattr(Arena, "settle", failing)


def test_each_answer_earns_what_its_battle_gave_afterwards() -> None:
    with Arena() as arena:
        turns = episodes_in(arena).play(MODEL, [0, 1], 2, 3, most=3, temperature=1.0)
    assert len(turns) == 2 * 2 * 3
    for first in range(0, len(turns), 3):
        assert len({turn.chat.earned for turn in turns[first : first + 3]}) == 1  # the battle's result, undiscounted
    assert {turn.chat.earned for turn in turns} <= {-1.0, 0.0, 1.0}
    for turn in turns:
        assert len(turn.chat.legal) > 1
        assert turn.prompt == encode_prompts(MODEL.tokenizer, [turn.chat.messages])[0]
        assert 1 <= len(turn.answer) <= 3
        assert turn.text == MODEL.tokenizer.decode(turn.answer, skip_special_tokens=True)


def test_a_groups_battles_are_the_same_whatever_was_played_before() -> None:
    def played(*calls: int) -> list[list[int]]:
        episodes = episodes_in(arena)
        for group in calls:
            torch.manual_seed(1)  # of the answers
            turns = episodes.play(MODEL, [group], 2, 2, most=3, temperature=1.0)
        return [turn.prompt for turn in turns]

    with Arena() as arena:
        assert played(0, 1) == played(1)


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_battles_of_a_simulator_that_dies_or_hangs_begin_again_and_earn_as_others_do(
    how: signal.Signals, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fail_at(monkeypatch, [9], how)
    with Arena(silence_timeout_s=5) as arena:
        turns = episodes_in(arena).play(MODEL, [0], 2, 3, most=3, temperature=1.0)
        assert not arena.battles
    assert caplog.text.count("ended by signal 9; it begins again") == 2
    assert ("said nothing for 5 seconds" in caplog.text) == (how == signal.SIGSTOP)
    assert len(turns) == 2 * 3
    for first in (0, 3):  # of the battle that was played to its end alone: those of the lost one have no result
        assert {turn.chat.earned for turn in turns[first : first + 3]} <= {-1.0, 0.0, 1.0}
        assert len({turn.chat.earned for turn in turns[first : first + 3]}) == 1


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_simulator_that_is_killed_again_ends_a_run_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    MODEL.save(tmp_path / "words/ckpts/epoch_0")
    fail_at(monkeypatch, [9, 15], signal.SIGKILL)
    command = ["grpo", "--environment", "--model", str(tmp_path / "words"), "--out", str(tmp_path / "run"), "--json"]
    command += ["--num_generations", "2", "--batch_size", "2", "--max_updates", "1", "--answer_subwords", "3"]
    assert main([*command, "--device", "cpu", "--workers", "1"]) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("gemma-metamon grpo: battle-gen1ou-")
    assert said[-1].endswith(", for the second time; it may be that this machine has too little memory")
    assert not any(line.startswith("Traceback") for line in said)
    assert main([*command, "--device", "cpu"]) == 1
    assert "was stopped before there was anything to go on from; delete it, or choose" in capsys.readouterr().err


def test_a_run_in_battles_logs_what_they_gave(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    MODEL.save(tmp_path / "words/ckpts/epoch_0")
    command = ["grpo", "--environment", "--model", str(tmp_path / "words"), "--out", str(tmp_path / "run"), "--json"]
    command += ["--opponents", "MaxBasePowerPlayer", "--num_generations", "2", "--turns", "2", "--batch_size", "4"]
    assert main([*command, "--max_updates", "1", "--answer_subwords", "3", "--device", "cpu"]) == 0
    assert json.loads(capsys.readouterr().out)["updates"] == 1
    described = json.loads((tmp_path / "run/run.json").read_text(encoding="utf-8"))
    assert described["battles"]["opponents"] == ["MaxBasePowerPlayer"]
    assert described["rewards"] == {"battle": 1.0, "legality": 1.0}


def test_what_is_wrong_is_said_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    MODEL.save(tmp_path / "words/ckpts/epoch_0")
    data = str(write_chats(tmp_path / "chats.jsonl", CHATS))

    def sentence(*changed: str) -> str:
        given = ["--model", str(tmp_path / "words"), "--out", str(tmp_path / "run"), "--device", "cpu"]
        assert main(["grpo", *given, *changed]) == 1
        said: str = capsys.readouterr().err.splitlines()[-1]
        return said

    assert "give --data, whose prompts are answered, or --environment" in sentence()
    assert "not both" in sentence("--environment", "--data", data)
    assert "say by --max_updates" in sentence("--environment")
    playing = ["--environment", "--max_updates", "1"]
    assert "is told by recorded decisions" in sentence(*playing, "--reward", "correctness")
    assert "add --environment" in sentence("--data", data, "--reward", "battle")
    assert "--num_generations 4 times --turns 3" in sentence(*playing, "--turns", "3")
    assert not (tmp_path / "run").exists()
    assert "unknown reward function 'Nice'" in sentence(*playing, "--reward_function", "Nice")
    assert "which --environment begins with" in sentence(*playing, "--model", str(tmp_path / "nowhere"))
    assert not (tmp_path / "run").exists()

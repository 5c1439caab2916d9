"""Battles to learn from, on the real simulator: what they give back, and an update on them."""

import json
from pathlib import Path

import pytest
import torch
from support.chats import chats_of, small_model, write_chats

from gemma_metamon.battle.rewards import get_reward_function
from gemma_metamon.commands import main
from gemma_metamon.language.chats import PromptForm
from gemma_metamon.language.players.episodes import Episodes
from gemma_metamon.language.tokenizers import encode_prompts
from gemma_metamon.showdown.arena.arena import Arena
from gemma_metamon.showdown.players.contestants import scripted
from gemma_metamon.showdown.simulator.formats import find_teams

pytestmark = pytest.mark.server
CHATS = chats_of(most=12)
with pytest.MonkeyPatch.context() as patch:
    MODEL = small_model(patch, CHATS)


def test_each_answer_earns_what_its_battle_gave_afterwards() -> None:
    battle_format, teams = find_teams("gen1ou", None)
    with Arena() as arena:
        episodes = Episodes(
            arena=arena,
            battle_format=battle_format,
            teams=teams,
            opponents=[scripted("MaxBasePowerPlayer")],
            form=PromptForm(),
            reward_function=get_reward_function("BinaryReward"),
            discount=1.0,
        )
        turns = episodes.play(MODEL, [0, 1], 2, 3, most=3, temperature=1.0)
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
    battle_format, teams = find_teams("gen1ou", None)

    def played(*calls: int) -> list[list[int]]:
        episodes = Episodes(
            arena=arena,
            battle_format=battle_format,
            teams=teams,
            opponents=[scripted("MaxBasePowerPlayer")],
            form=PromptForm(),
            reward_function=get_reward_function("BinaryReward"),
            discount=1.0,
        )
        for group in calls:
            torch.manual_seed(1)  # of the answers
            turns = episodes.play(MODEL, [group], 2, 2, most=3, temperature=1.0)
        return [turn.prompt for turn in turns]

    with Arena() as arena:
        assert played(0, 1) == played(1)


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
    assert "unknown reward function 'Nice'" in sentence(*playing, "--reward_function", "Nice")
    assert "which --environment begins with" in sentence(*playing, "--model", str(tmp_path / "nowhere"))

"""GRPO on what is seen: the language layers learn by the same rewards, and what was learned of sight stays as it is."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from support.seen_battles import bundled

from gemma_metamon.commands import main
from gemma_metamon.language.chats import Chat
from gemma_metamon.language.fine_tuning import find_model
from gemma_metamon.language.json_answers import write_json_answer
from gemma_metamon.language.rewards import correctness, format_reward, legality
from gemma_metamon.vision.models import load


@pytest.mark.slow
def test_the_language_layers_learn_and_sight_stays(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "battles/gen1ou").mkdir(parents=True)
    for path in bundled("gen1ou", 2):
        shutil.copy(path, tmp_path / "battles/gen1ou")
    data, eyes, out = tmp_path / "seen/dataset.jsonl", tmp_path / "eyes", tmp_path / "earned"
    export = ["vlm", "export", "--parsed_replay_dir", str(tmp_path / "battles"), "--out", str(data.parent)]
    assert main([*export, "--size", "112", "--frames", "single", "--workers", "1", "--subset", "16"]) == 0
    few = ["--data", str(data), "--warmup_updates", "0", "--json"]
    taught = ["--out", str(eyes), "--epochs", "40", "--batch_size", "8", "--learning_rate", "5e-3"]
    assert main(["vlm", "train", *few, *taught]) == 0
    capsys.readouterr()
    reinforce = ["grpo", *few, "--val", str(data), "--model", str(eyes), "--out", str(out), "--held_out", "4"]
    reinforce += [
        "--generated",
        "2",
        "--batch_size",
        "8",
        "--answer_subwords",
        "16",
        "--keep_every",
        "2",
        "--learning_rate",
        "1e-3",
    ]
    assert main([*reinforce, "--max_updates", "2"]) == 0
    done: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert done["updates"] == 2
    assert done["before"]["decisions"] > 0
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert max(line.get("held_out/reward", 0) for line in lines) > 0  # it answers as it was taught
    before, after = load(find_model(eyes)).model.state_dict(), load(find_model(out)).model.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert any("language_model" in name for name in changed)
    assert not any("vision_tower" in name or "multi_modal_projector" in name for name in changed)


def test_rewards_read_answers_in_json() -> None:
    asked = "The picture shows a battle. Answer in JSON: action (move or switch), choice"
    legal = ("move Surf", "switch Tauros")
    for question, most in ((f"{asked}.", 1), (f"{asked}, reasoning.", 2)):
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": ""}]
        chat = Chat(messages, legal, "move Surf", in_json=True)
        right, other = write_json_answer("move Surf", "It is faster."), write_json_answer("switch Tauros")
        assert [format_reward(answer, chat) for answer in (right, other, "move Surf")] == [most, 1, 0]
        assert [correctness(answer, chat) for answer in (right, other, "move Surf")] == [2, 0, 0]
        assert [legality(answer, chat) for answer in (right, write_json_answer("move Fly"))] == [1, 0]

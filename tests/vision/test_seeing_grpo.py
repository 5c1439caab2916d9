"""GRPO on what is seen: the language layers learn by the same rewards, and what was learned of sight stays as it is."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from support.seen_battles import bundled

from gemma_metamon.commands import main
from gemma_metamon.language.data.chats import Chat
from gemma_metamon.language.telling.json_answers import write_json_answer
from gemma_metamon.language.training.fine_tuning import FineTuning, find_model
from gemma_metamon.language.training.rewards import correctness, format_reward, legality
from gemma_metamon.vision.models import load

UPDATES = 4


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("seen")
    (root / "battles/gen1ou").mkdir(parents=True)
    for path in bundled("gen1ou", 2):
        shutil.copy(path, root / "battles/gen1ou")
    export = ["vlm", "export", "--parsed_replay_dir", str(root / "battles"), "--out", str(root / "data")]
    assert main([*export, "--size", "112", "--frames", "single", "--workers", "1", "--subset", "16"]) == 0
    return root / "data/dataset.jsonl"


@pytest.fixture(scope="module")
def eyes(data: Path) -> Path:
    """A run of vlm train that answers as it was taught: a random model never earns anything."""
    out = data.parent.parent / "eyes"
    teach = ["vlm", "train", "--data", str(data), "--out", str(out), "--warmup_updates", "0"]
    assert main([*teach, "--epochs", "40", "--batch_size", "8", "--learning_rate", "5e-3"]) == 0
    return out


def reinforce(data: Path, model: Path, out: Path, *more: str) -> int:
    command = ["grpo", "--data", str(data), "--model", str(model), "--out", str(out), "--warmup_updates", "0"]
    command += ["--batch_size", "8", "--answer_subwords", "16", "--keep_every", "2", "--learning_rate", "1e-3"]
    return main([*command, "--json", *more])


def lines_of(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def weights_of(run_dir: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = load(find_model(run_dir)).model.state_dict()
    return weights


@pytest.mark.slow
def test_the_language_layers_learn_and_sight_stays(
    data: Path, eyes: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    measured = ["--val", str(data), "--held_out", "4", "--generated", "2"]
    assert reinforce(data, eyes, tmp_path / "earned", "--max_updates", "2", *measured) == 0
    done: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert done["updates"] == 2
    assert done["before"]["decisions"] > 0
    assert max(line.get("held_out/reward", 0) for line in lines_of(tmp_path / "earned")) > 0  # it answers as taught
    before, after = weights_of(eyes), weights_of(tmp_path / "earned")
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert any("language_model" in name for name in changed)
    assert not any("vision_tower" in name or "multi_modal_projector" in name for name in changed)


@pytest.fixture
def told_each_update(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = FineTuning.arguments

    def each(self: FineTuning, *args: Any) -> dict[str, Any]:
        return arguments(self, *args) | {"logging_steps": 1}

    monkeypatch.setattr(FineTuning, "arguments", each)


@pytest.mark.slow
@pytest.mark.usefixtures("told_each_update")
@pytest.mark.parametrize("learns", ["all weights", "adapters"])
def test_held_near_its_start_it_goes_on_after_a_stop_as_if_there_were_none(
    data: Path, eyes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, learns: str
) -> None:
    start = eyes
    if learns == "adapters":
        start = tmp_path / "adapted"
        adapt = ["vlm", "train", "--data", str(data), "--model", str(find_model(eyes)), "--out", str(start)]
        assert main([*adapt, "--max_updates", "1", "--warmup_updates", "0", "--lora_r", "2"]) == 0
    held = ["--beta", "0.1", "--max_updates", str(UPDATES)]
    assert reinforce(data, start, tmp_path / "whole", *held) == 0
    distances = {line["update"]: line["grpo/kl"] for line in lines_of(tmp_path / "whole") if "grpo/kl" in line}
    assert sorted(distances) == list(range(1, UPDATES + 1))
    assert abs(distances[1]) < 1e-6  # from where it began, as it saw the same pictures
    assert max(distances.values()) > 1e-6

    keep = FineTuning.keep

    def stopping(self: FineTuning, number: int, updates: int) -> None:
        if number == 2:
            raise KeyboardInterrupt
        keep(self, number, updates)

    with monkeypatch.context() as patch:
        patch.setattr(FineTuning, "keep", stopping)
        assert reinforce(data, start, tmp_path / "stopped", *held) == 130
    assert reinforce(data, start, tmp_path / "stopped", *held, "--resume") == 0
    assert [line["update"] for line in lines_of(tmp_path / "stopped") if "grpo/kl" in line][-1] == UPDATES
    whole, resumed = weights_of(tmp_path / "whole"), weights_of(tmp_path / "stopped")
    torch.testing.assert_close(resumed, whole, rtol=0, atol=1e-6)
    begun = weights_of(start)
    changed = {name for name, value in resumed.items() if not torch.equal(value, begun[name])}
    assert changed
    assert not any("vision_tower" in name or "multi_modal_projector" in name for name in changed)
    assert not (find_model(tmp_path / "stopped") / "ref").exists()


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

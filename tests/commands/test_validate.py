"""`gemma-metamon validate`: a good training passes and leaves nothing; what is odd is a row that names it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.disks import disk_with_room
from support.small_agent import BATTLES, train_command

from gemma_metamon.battle.replays import find_battles
from gemma_metamon.commands import main
from gemma_metamon.data.dataset import BattleDataset
from gemma_metamon.nets.agents.base import ActorCriticAgent
from gemma_metamon.text.vocabulary import Vocabulary
from gemma_metamon.training import validating
from gemma_metamon.view import BattleView

NAMES = ("configuration", "battles", "rewards", "batches", "updates", "gradients", "save and load", "room", "act")


@pytest.fixture
def validated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, dict[str, dict[str, Any]]]]:
    def validate(*extra: str, **options: Any) -> tuple[int, dict[str, dict[str, Any]]]:
        save_dir = options.pop("save_dir", tmp_path / "runs")
        status = main(["validate", *train_command(save_dir, *extra, **options)[1:], "--json"])
        found = json.loads(capsys.readouterr().out)
        assert found["well"] == (status == 0)
        return status, {row["name"]: row for row in found["rows"]}

    return validate


def wrong(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: row for name, row in rows.items() if row["state"] == "wrong"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("training", "flags"),
    [
        # an adapter's first half gets no gradient before an update has moved the other
        ("binary_rl.gin", ["--grad_accum", "3", "--gin_override", "GemmaTstepEncoder.use_lora = True"]),
        ("il.gin", []),
        ("recommended_rl.gin", []),
    ],
)
def test_a_training_that_works_passes_and_nothing_of_it_stays(
    training: str, flags: list[str], validated: Callable[..., Any], tmp_path: Path
) -> None:
    status, rows = validated(*flags, training=training)
    assert (status, wrong(rows)) == (0, {})
    assert tuple(rows) == NAMES
    assert list((tmp_path / "runs").iterdir()) == []
    assert ", 0 illegal;" in rows["act"]["found"]
    assert ("the critics learn nothing here" in rows["gradients"]["found"]) == (training == "il.gin")


def test_what_train_refuses_is_the_first_row(validated: Callable[..., Any]) -> None:
    status, rows = validated("--gin_override", "MultiTaskAgent.no_such = 1")
    assert (status, list(rows)) == (1, ["configuration"])
    assert "no_such" in rows["configuration"]["found"]


def test_a_run_that_goes_on_is_tried_out_as_it_goes_on(
    validated: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(train_command(tmp_path / "runs", "--steps_per_epoch", "1")) == 0
    capsys.readouterr()
    status, rows = validated()
    assert (status, list(rows)) == (1, ["configuration"])
    assert "already holds checkpoints" in rows["configuration"]["found"]
    for going_on in (["--ckpt", "1"], ["--resume", "auto"]):
        status, rows = validated("--steps_per_epoch", "1", "--epochs", "2", *going_on)
        assert (status, tuple(rows)) == (0, NAMES)
        assert rows["configuration"]["found"].endswith("goes on after epoch_1")
    status, rows = validated("--resume", "auto")
    assert (status, list(rows)) == (0, ["configuration"])
    assert rows["configuration"]["found"].endswith("is trained to epoch 1 already")


def test_battles_that_cannot_be_read_are_a_row_with_the_first_reason(
    validated: Callable[..., Any], tmp_path: Path
) -> None:
    battles = tmp_path / "battles"
    shutil.copytree(BATTLES / "gen1ou", battles / "gen1ou")
    for path in sorted((battles / "gen1ou").iterdir())[1:]:
        path.write_bytes(b"no battle")
    status, rows = validated("--parsed_replay_dir", str(battles), "--formats", "gen1ou", "--holdout_share", "0")
    assert (status, list(wrong(rows))) == (1, ["battles"])
    assert "were refused, more than --max_set_aside; the first: " in rows["battles"]["mend"]


@pytest.mark.parametrize(
    ("has", "state"),
    [
        (lambda word: word != "tauros", "ok"),  # a species that is newer than the list
        (lambda word: word.startswith("<"), "wrong"),
        (lambda word: word == "tauros", "wrong"),
    ],
    ids=["all but a species", "what is no name", "one word"],
)
def test_words_in_no_vocabulary_are_wrong_where_they_are_more_than_some_new_names(
    has: Callable[[str], bool], state: str
) -> None:
    words = Vocabulary.from_words(filter(has, Vocabulary.default().words))
    view = replace(BattleView.default(), vocabulary=words)
    dataset = BattleDataset([find_battles(BATTLES, ["gen1ou"])], [1.0], view, max_seq_len=12)
    battles, row = validating.sample_battles(dataset)
    assert battles
    assert (row.state, "--tokenizer" in row.mend) == (state, state == "wrong"), row
    assert "of their words are in no vocabulary ('" in row.found


def test_a_list_of_other_words_ends_the_trial_there(validated: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "words.json").write_text('["tauros"]')
    status, rows = validated("--tokenizer", str(tmp_path / "words.json"))
    assert (status, list(rows)[-1], rows["battles"]["state"]) == (1, "battles", "wrong")


def test_returns_that_leave_the_critics_bins_are_a_row(validated: Callable[..., Any]) -> None:
    status, rows = validated("--gin_override", "MultiTaskAgent.reward_multiplier = 20")
    assert status == 1
    assert next(iter(wrong(rows))) == "rewards"
    assert "bins of -1100 to 1100, which " in rows["rewards"]["found"]
    assert "widen actor_critic.NCriticsTwoHot.min_return" in rows["rewards"]["mend"]


def test_a_loss_that_is_not_finite_is_a_row(validated: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    forward = ActorCriticAgent.forward

    def spoiled(agent: Any, *given: Any) -> Any:
        losses = forward(agent, *given)
        return losses._replace(actor_loss=losses.actor_loss * float("nan"))

    monkeypatch.setattr(ActorCriticAgent, "forward", spoiled)
    status, rows = validated()
    assert (status, list(rows)[-1]) == (1, "updates")
    assert "nan" in rows["updates"]["found"]


def test_an_update_that_would_be_left_out_is_a_row_with_the_tensors_that_it_comes_from(
    validated: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = ActorCriticAgent.forward

    def steep(agent: Any, *given: Any) -> Any:
        losses = forward(agent, *given)
        weight = next(agent.actor.parameters())
        return losses._replace(actor_loss=losses.actor_loss + (weight - weight.detach()).abs().sum().sqrt())  # + 0

    monkeypatch.setattr(ActorCriticAgent, "forward", steep)
    status, rows = validated()
    assert (status, list(rows)[-1]) == (1, "updates")
    assert (
        ": 3 of 3 updates would be left out; 1 tensors have a gradient that is not finite (actor."
        in (rows["updates"]["found"])
    )


def test_a_part_that_gets_no_gradient_is_named(validated: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    policy = ActorCriticAgent._policy

    def cut_off(agent: Any, actor: Any, state: torch.Tensor, seen: Any) -> Any:
        found = policy(agent, actor, state, seen)
        return type(found)(found.probs.detach(), found.logits.detach())

    monkeypatch.setattr(ActorCriticAgent, "_policy", cut_off)
    status, rows = validated()
    assert (status, list(rows)[-1]) == (1, "gradients")
    assert "get no gradient (actor." in rows["gradients"]["found"]


def test_weights_that_are_others_once_loaded_are_named(
    validated: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    load = validating.load_weights

    def changed(agent: Any, checkpoint: Any) -> None:
        load(agent, checkpoint)
        next(agent.actor.parameters()).data[0] += 1

    monkeypatch.setattr(validating, "load_weights", changed)
    status, rows = validated()
    assert (status, list(rows)[-1]) == (1, "save and load")
    assert "1 are others once loaded (actor." in rows["save and load"]["found"]


def test_an_illegal_action_is_counted(validated: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    load = validating.load_for_play

    def reckless(*given: Any) -> Any:
        playable = load(*given)
        act = playable.agent.act

        def first_forbidden(obs: Any, *rest: Any) -> Any:
            return obs["illegal_actions"][:, 0].int().argmax(-1), act(obs, *rest)[1]

        playable.agent.act = first_forbidden
        return playable

    monkeypatch.setattr(validating, "load_for_play", reckless)
    status, rows = validated()
    assert (status, list(wrong(rows))) == (1, ["act"])
    assert ", 0 illegal" not in rows["act"]["found"]


def test_a_disk_without_room_for_the_checkpoints_is_a_row(validated: Callable[..., Any], tmp_path: Path) -> None:
    status, rows = validated("--epochs", "1000000")
    assert (status, list(wrong(rows))) == (1, ["room"])
    with disk_with_room(tmp_path / "disk", 1 << 16) as place:
        status, rows = validated(save_dir=place / "runs")
        assert (status, list(rows)[-1]) == (1, "save and load")
        assert "o space left on device" in rows["save and load"]["found"]
        assert list((place / "runs").iterdir()) == []


def test_a_batch_that_does_not_fit_in_memory_is_a_row(
    validated: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_much(agent: Any, *given: Any) -> Any:
        return torch.empty(1 << 62, dtype=torch.uint8)

    monkeypatch.setattr(ActorCriticAgent, "forward", too_much)
    status, rows = validated()
    assert (status, list(rows)[-1]) == (1, "updates")
    assert "do not fit in memory (" in rows["updates"]["found"]
    assert "find-batch-size" in rows["updates"]["mend"]

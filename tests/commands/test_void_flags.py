"""Flags that another flag makes void are refused by name: who gives one believes that it does something."""

from pathlib import Path

import pytest
from support.small_agent import BATTLES, train_command

from gemma_metamon.commands import build_parser, main
from gemma_metamon.commands._drawing import require_drawn, require_taken
from gemma_metamon.commands._evaluations import check_evaluation
from gemma_metamon.commands._fine_tuning import learning_arguments, plan_arguments
from gemma_metamon.commands._players import FoundMember, FoundPlayer
from gemma_metamon.commands._run_folder import find_start
from gemma_metamon.commands._training_plan import open_battles, take_batch_size
from gemma_metamon.errors import ConfigError
from gemma_metamon.runs.checkpoints import Checkpoint
from gemma_metamon.showdown.search.settings import SearchSettings
from gemma_metamon.view import BattleView

ADAPTERS = {"--lora_r": "8", "--lora_alpha": "4", "--lora_dropout": "0.5"}


@pytest.mark.parametrize("flag", ["--eval_every", "--eval_battles", "--eval_device", "--eval_opponents"])
def test_without_evaluations_nothing_is_said_of_them(tmp_path: Path, flag: str) -> None:
    value = {"--eval_device": "cuda", "--eval_opponents": "RandomPlayer"}.get(flag, "7")
    args = build_parser().parse_args(train_command(tmp_path, flag, value))
    with pytest.raises(ConfigError, match=f"^{flag} {value} changes nothing: without --eval_gens no checkpoint plays;"):
        check_evaluation(args)
    check_evaluation(build_parser().parse_args(train_command(tmp_path, flag, value, "--eval_gens")))  # turned off


def test_what_goes_on_without_a_checkpoint_discards_nothing(tmp_path: Path) -> None:
    args = build_parser().parse_args(train_command(tmp_path, "--discard_later"))
    with pytest.raises(ConfigError, match=r"^--discard_later is of what came after --ckpt N; give that, too"):
        find_start(args, tmp_path / "run")


def test_a_file_of_sizes_brings_its_own_batches_of_an_update(tmp_path: Path) -> None:
    command = train_command(tmp_path, "--grad_accum", "4")
    at = command.index("--batch_size_per_gpu")
    command[at : at + 2] = ["--batch_size_from", str(tmp_path / "sizes.json")]
    with pytest.raises(ConfigError, match=r"^--grad_accum 4 changes nothing: --batch_size_from brings its own; leave"):
        take_batch_size(build_parser().parse_args(command), trains=True)


def test_a_share_of_more_battles_needs_more_battles(tmp_path: Path) -> None:
    args = build_parser().parse_args(train_command(tmp_path, "--custom_replay_sample_weight", "0.5"))
    with pytest.raises(
        ConfigError, match=r"^--custom_replay_sample_weight 0\.5 changes nothing: without --custom_repl"
    ):
        open_battles(args, BattleView.default(), tmp_path, 12)


@pytest.mark.parametrize("flag", ADAPTERS)
@pytest.mark.parametrize("whole", [["--model", "google/gemma-3-270m-it", "--full"], []], ids=["full", "tiny"])
def test_who_trains_all_weights_has_no_adapters(flag: str, whole: list[str]) -> None:
    given = ["sft", "--data", "x.jsonl", "--out", "y", flag, ADAPTERS[flag]]
    with pytest.raises(
        ConfigError, match=rf"^{flag} {ADAPTERS[flag]}(\.0)? changes nothing: .* and no adapters; leave"
    ):
        plan_arguments(build_parser().parse_args([*given, *whole]))
    plan_arguments(build_parser().parse_args([*given, "--model", "google/gemma-3-270m-it"]))


@pytest.mark.parametrize("flag", ["--held_out", "--generated"])
def test_what_is_looked_at_must_be_held_out(flag: str) -> None:
    given = ["vlm", "train", "--data", "x.jsonl", "--out", "y", flag]
    with pytest.raises(
        ConfigError, match=f"^{flag} 7 changes nothing: without --val nothing is held out; leave it out"
    ):
        learning_arguments(build_parser().parse_args([*given, "7"]))
    learning_arguments(build_parser().parse_args([*given, "7", "--val", "z.jsonl"]))


def test_nothing_of_it_needs_no_held_out_chats() -> None:
    learning_arguments(build_parser().parse_args(["sft", "--data", "x", "--out", "y", "--generated", "0"]))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--data", "x.jsonl", "--turns", "4"], "--turns 4 changes nothing: without --environment no battle is played"),
        (
            ["--data", "x.jsonl", "--opponents", "DuelTrainer", "RandomPlayer"],
            "--opponents DuelTrainer RandomPlayer ch",
        ),
        (["--data", "x.jsonl", "--format", "gen9ou"], "--format gen9ou changes nothing"),
        (["--data", "x.jsonl", "--discount", "0.9"], "--discount 0.9 changes nothing"),
        (
            ["--environment", "--epochs", "3", "--max_updates", "1"],
            "--epochs 3 changes nothing: battles have no end of",
        ),
    ],
)
def test_battles_and_chats_have_flags_of_their_own(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, flags: list[str], said: str
) -> None:
    pytest.importorskip("trl", reason="needs the extra: pip install 'gemma-metamon[language]'")
    assert main(["grpo", "--model", str(tmp_path), "--out", str(tmp_path / "out"), *flags]) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--blank", "--history", "3"], "--history 3 tells nothing beside --blank, which leaves all out; give one"),
        (
            ["--to", "gemini", "--critics", "runs/first"],
            "--to gemini writes no advantages, so --critics would judge for",
        ),
    ],
)
def test_a_chat_is_told_what_its_row_can_hold(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, flags: list[str], said: str
) -> None:
    command = ["chat", "export", "--parsed_replay_dir", str(BATTLES), "--out", str(tmp_path / "x.jsonl"), *flags]
    assert main(command) == 1
    assert said in capsys.readouterr().err


def test_a_type_of_weights_is_of_checkpoints(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["evaluate", "--players", "RandomPlayer", "--opponents", "MaxBasePowerPlayer", "--dtype", "bfloat16"]) == 1
    )
    assert "--dtype bfloat16 is of checkpoints of `train`, and none plays here" in capsys.readouterr().err


RUN = FoundMember(checkpoint=Checkpoint(Path("runs/first"), 1))
NOT_DRAWN = r"^--temperature 0\.5 changes nothing: without --sample the most probable choice is taken; leave it out"


@pytest.mark.parametrize(
    ("player", "told", "changes_nothing"),
    [
        (FoundPlayer(text="RandomPlayer", scripted="RandomPlayer"), True, True),
        (FoundPlayer(text="LookaheadTrainer", search=SearchSettings()), True, True),
        (FoundPlayer(text="text:runs/words", words=Path("runs/words")), True, True),
        (FoundPlayer(text="runs/first", members=(RUN,)), False, True),
        (FoundPlayer(text="runs/first", members=(RUN,)), True, False),  # whose probabilities somebody looks at
        (FoundPlayer(text="ensemble(runs/first)", members=(RUN,), ensemble=True), False, False),
        (FoundPlayer(text="search(runs/first)", members=(RUN,), search=SearchSettings()), False, False),
    ],
    ids=lambda value: f"{value.text}" if isinstance(value, FoundPlayer) else None,
)
def test_a_temperature_is_of_what_is_drawn(player: FoundPlayer, told: bool, changes_nothing: bool) -> None:
    command = ["evaluate", "--players", player.text, "--temperature", "0.5"]
    args = build_parser().parse_args(command)
    if changes_nothing:
        with pytest.raises(ConfigError, match=NOT_DRAWN):
            require_drawn(args, [player], told=told)
    else:
        require_drawn(args, [player], told=told)
    require_drawn(build_parser().parse_args(command[:-2]), [player], told=told)


COOLER = FoundMember(checkpoint=Checkpoint(Path("runs/first"), 1), temperature=0.2)
NOBODY_TAKES = r"^--temperature 0\.5 changes nothing: no checkpoint plays that has none of its own by @T; leave it out"
NOBODY_DRAWS = r"^--sample changes nothing: no checkpoint plays, and nobody else draws by it; leave it out"


@pytest.mark.parametrize(
    ("player", "refused"),
    [
        (FoundPlayer(text="RandomPlayer", scripted="RandomPlayer"), NOBODY_DRAWS),
        (FoundPlayer(text="LookaheadTrainer", search=SearchSettings()), NOBODY_DRAWS),
        (FoundPlayer(text="text:runs/words", words=Path("runs/words")), None),
        (FoundPlayer(text="text:runs/words@T0.2", words=Path("runs/words"), temperature=0.2), NOBODY_TAKES),
        (FoundPlayer(text="runs/first", members=(RUN,)), None),
        (FoundPlayer(text="runs/first@1@T0.2", members=(COOLER,)), NOBODY_TAKES),
        (FoundPlayer(text="ensemble(runs/first, runs/first@1@T0.2)", members=(RUN, COOLER), ensemble=True), None),
    ],
    ids=lambda value: f"{value.text}" if isinstance(value, FoundPlayer) else None,
)
def test_draws_and_their_temperature_are_of_somebody_who_plays(player: FoundPlayer, refused: str | None) -> None:
    sampled = ["evaluate", "--players", player.text, "--sample"]
    args = build_parser().parse_args([*sampled, "--temperature", "0.5"])
    if refused is None:
        require_drawn(args, [player], told=False)
        require_taken(args, [player])
        return
    with pytest.raises(ConfigError, match=refused):
        require_drawn(args, [player], told=False)
    with pytest.raises(ConfigError, match=NOBODY_TAKES):
        require_taken(args, [player])
    require_taken(build_parser().parse_args(sampled), [player])


def test_collect_refuses_a_temperature_where_scripted_players_play(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["collect", "--format", "gen1ou", "--battles", "1", "--players", "RandomPlayer", "TypeTrainer"]
    assert main([*command, "--out", str(tmp_path / "battles"), "--temperature", "0.5"]) == 1
    assert "--temperature 0.5 changes nothing: no checkpoint plays" in capsys.readouterr().err
    assert not (tmp_path / "battles").exists()


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate", "--players", "RandomPlayer", "--opponents", "MaxBasePowerPlayer"],
        ["ladder", "--username", "Anna", "--player", "RandomPlayer"],
    ],
    ids=["evaluate", "ladder"],
)
def test_where_nothing_is_drawn_a_temperature_is_refused_before_a_server_is_asked(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--temperature", "0.5"]) == 1
    assert "--temperature 0.5 changes nothing: without --sample" in capsys.readouterr().err

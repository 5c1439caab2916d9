"""The steps of a round of `improve`: which there are, what each does again when it was stopped."""

from datetime import datetime
from pathlib import Path

import pytest
from support.improving import evaluation, improve_command
from support.small_agent import TINY

from gemma_metamon.battle.replays import BattleFileName
from gemma_metamon.commands import _round_steps, build_parser
from gemma_metamon.commands._round_steps import Rounds, count_battles, drop_half_recorded
from gemma_metamon.loops.steps import Step
from gemma_metamon.results import schema
from gemma_metamon.showdown.players.registry import seat_name, user_name


def test_an_untrained_agent_collects_nothing_before_its_first_training() -> None:
    args = build_parser().parse_args(improve_command(Path("out"), "--model_gin_config", TINY))
    first, second = ([s.name for s in Rounds(args, None).steps() if s.round == number] for number in (1, 2))
    assert first == ["train", "evaluate"]
    assert second == ["collect", "prepare", "train", "evaluate"]


def test_a_battle_counts_as_collected_once_whatever_the_views_of_it(tmp_path: Path) -> None:
    assert count_battles(tmp_path / "none") == 0
    for battle, player, opponent in (("1", "A", "B"), ("1", "B", "A"), ("2", "A", "B")):
        name = BattleFileName(f"gemma-gen1ou-{battle}", None, player, opponent, datetime(2026, 1, 1), player == "A")
        (tmp_path / f"{name}.json.lz4").touch()
        (tmp_path / f".{name}.json.lz4.part").touch()  # of a process that was killed
    assert count_battles(tmp_path) == 2


def touch_battle(folder: Path, battle: str, *sides: tuple[str, str]) -> None:
    for player, opponent in sides:
        name = BattleFileName(f"gemma-gen1ou-{battle}", None, player, opponent, datetime(2026, 1, 1), player < opponent)
        (folder / f"{name}.json.lz4").touch()


@pytest.mark.parametrize(("both_views", "kept"), [(False, {"whole", "other", "past"}), (True, {"whole"})])
def test_a_battle_with_one_view_of_two_is_played_again(both_views: bool, kept: set[str], tmp_path: Path) -> None:
    touch_battle(tmp_path, "whole", ("out1-aa", "out1-bb"), ("out1-bb", "out1-aa"))
    touch_battle(tmp_path, "half", ("out1-aa", "out1-bb"))
    touch_battle(tmp_path, "other", ("out1-aa", "Random-cc"))
    touch_battle(tmp_path, "past", ("out1-aa", "out11-bb"))
    (tmp_path / ".x.json.lz4.part").touch()
    drop_half_recorded(tmp_path, ["out@1"], both_views=both_views)
    left = {BattleFileName.parse(path.name).battle_id.rpartition("-")[2] for path in tmp_path.iterdir()}
    assert left == kept
    drop_half_recorded(tmp_path / "none", ["out@1"], both_views=both_views)


def test_an_experts_battle_with_the_agent_has_both_views(tmp_path: Path) -> None:
    sides = [seat_name(name, "p1") for name in ("out@1", "DuelTrainer", "RandomPlayer")]
    touch_battle(tmp_path, "half", (sides[0], sides[1]))
    touch_battle(tmp_path, "whole", (sides[1], sides[0]), (sides[0], sides[1]))
    touch_battle(tmp_path, "opponent", (sides[1], sides[2]))
    drop_half_recorded(tmp_path, ["out@1", "DuelTrainer"], both_views=False)
    assert count_battles(tmp_path) == 2


def test_of_a_long_name_no_battle_is_taken_for_half_recorded(tmp_path: Path) -> None:
    # Showdown's names end after nine of its characters: it may be against an earlier round, which has no view
    touch_battle(tmp_path, "1", (user_name("self-playing@1"), user_name("self-playing@2")))
    drop_half_recorded(tmp_path, ["self-playing@2"], both_views=False)
    assert count_battles(tmp_path) == 1


@pytest.mark.parametrize(
    ("there", "commands"),
    [
        ([], ["evaluate --players"]),
        (["battles.jsonl"], ["evaluate --players"]),
        (["results.json"], ["report"]),
        (["results.json", "report.html"], []),
    ],
)
def test_an_evaluation_that_was_stopped_is_played_anew_or_only_gets_its_page(
    there: list[str], commands: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "out" / "evaluations" / "round_1"
    folder.mkdir(parents=True)
    done = evaluation(("out@1", "Rival", 6, 4))
    for name in there:  # battles.jsonl and the page are not looked into
        schema.write(folder / name, done)
    ran: list[str] = []

    def run_command(run: object, arguments: list[str], step: Step, out: Path) -> None:
        ran.append(" ".join(arguments))
        if arguments[0] == "evaluate":
            assert not folder.exists()
            folder.mkdir()
            schema.write(folder / "results.json", done)

    monkeypatch.setattr(_round_steps, "run_command", run_command)
    args = build_parser().parse_args(improve_command(tmp_path / "out", "--model_gin_config", TINY))
    Rounds(args, None).work(Step(1, "evaluate"))
    assert [said.startswith(command) for said, command in zip(ran, commands, strict=True)] == [True] * len(commands)


def test_a_round_is_rated_by_more_battles_against_its_parent_and_the_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    played: list[tuple[list[str], str]] = []

    def run_command(run: object, arguments: list[str], step: Step, folder: Path) -> None:
        if arguments[0] != "evaluate":
            return
        flags = build_parser().parse_args(arguments)
        played.append(([Path(name).name for name in flags.opponents], str(flags.battles)))
        flags.out.mkdir(parents=True)
        schema.write(flags.out / "results.json", evaluation(*[("out@4", name, 6, 4) for name in played[-1][0]]))

    monkeypatch.setattr(_round_steps, "run_command", run_command)
    flags = ["--model_gin_config", TINY, "--rounds", "4", "--parent_battles", "1000", "--eval_battles", "100"]
    args = build_parser().parse_args(improve_command(out, *flags))
    Rounds(args, None).work(Step(4, "evaluate"))
    assert played == [(["out@1", "out@3"], "1000"), (["out@2", "RandomPlayer"], "100")]
    met = [pair.opponent for pair in schema.read(out / "results.json").pairs]
    assert met == ["out@1", "out@3", "out@2", "RandomPlayer"]


def test_a_round_that_was_asked_to_end_is_trained_on_from_where_it_was_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, commands = tmp_path / "out", []
    monkeypatch.setattr(_round_steps, "run_command", lambda run, arguments, step, folder: commands.append(arguments))
    args = build_parser().parse_args(improve_command(out, "--model_gin_config", TINY, "--rounds", "2", "--anew"))
    (out / "out" / "ckpts" / "epoch_1").mkdir(parents=True)
    Rounds(args, None).work(Step(2, "train"))
    (out / "out" / "ckpts" / "epoch_1_update_70").mkdir()
    Rounds(args, None).work(Step(2, "train"))
    anew, gone_on = (build_parser().parse_args(arguments) for arguments in commands)
    assert (anew.ckpt, anew.anew, anew.resume) == (1, True, None)
    assert (gone_on.ckpt, gone_on.anew, gone_on.resume) == (None, False, "auto")

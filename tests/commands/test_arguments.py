"""Flags' values are checked while the command line is read: one spelling, default and check for a flag of a name."""

import argparse
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemma_metamon.commands import _arguments as arguments
from gemma_metamon.commands import build_parser, main


def flags() -> Iterator[tuple[str, argparse.Action]]:
    """(command, flag) of all commands and their own commands."""

    def walk(command: str, parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.Action]]:
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for name, inner in action.choices.items():
                    yield from walk(f"{command} {name}".strip(), inner)
            else:
                yield command, action

    yield from walk("", build_parser())


def test_no_flag_takes_a_number_unchecked() -> None:
    unchecked = [(command, action.dest) for command, action in flags() if action.type in (int, float)]
    assert unchecked == []


def test_a_seed_is_checked_by_every_command_that_has_one() -> None:
    seeds = {command: action.type for command, action in flags() if action.dest == "seed"}
    assert set(seeds) == {
        *("train", "evaluate", "collect", "ladder", "improve", "chat export", "sft", "grpo", "vlm export", "vlm train"),
        *("validate", "find-batch-size", "serve"),
    }
    assert set(seeds.values()) == {arguments.seed}


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ("evaluate --players A --seed -1", "evaluate: --seed -1; it must be within 0 to 4294967295"),
        ("collect --seed 4294967296", "collect: --seed 4294967296; it must be within 0 to 4294967295"),
        ("ladder --seed 0.5", "ladder: --seed '0.5'; give a whole number"),
        ("evaluate --battles many", "evaluate: --battles 'many'; give a whole number"),
        ("evaluate --timeout_s nan", "evaluate: --timeout_s nan; it must be above 0"),
        ("collect --temperature -1", "collect: --temperature -1.0; it must not be negative"),
        ("collect --server localhost", "collect: --server localhost; give its address, as ws://localhost:8000/"),
        ("train --custom_replay_weight 2", "train: --custom_replay_sample_weight 2.0; it is a share, between 0 and 1"),
        ("configs dataset --custom_replay_weight x", "configs: --custom_replay_sample_weight 'x'; give a number"),
        ("prepare --formats gen1ou a/b", "prepare: --formats 'a/b'; it names a folder"),
        ("showdown start --port 70000", "showdown: --port 70000; it must be within 1 to 65535"),
        ("explain x --ckpt last", "explain: --ckpt 'last'; give a whole number"),
        ("report x --replays -1", "report: --replays -1; it must not be negative"),
    ],
)
def test_a_value_that_a_flag_does_not_take_is_told_in_one_sentence(
    command: str, complaint: str, capsys: pytest.CaptureFixture
) -> None:
    assert main(command.split()) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"gemma-metamon {complaint}")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ("evaluate", "evaluate: the following arguments are required: --run_dir"),
        ("evaluate --battles", "evaluate: argument --battles"),
        ("showdown sing", "showdown: argument action: invalid choice: 'sing' (choose from"),
        ("trian --run_name x", ": there is no command 'trian'; did you mean train?; gemma-metamon --help tells all"),
        ("registry shwo best@1", "registry: there is no action 'shwo'; did you mean show?"),
        ("report x --replay-count 1", "report: unrecognized arguments: --replay_count 1; did you mean --replays?"),
        ("registry show x --jsn", "registry show: unrecognized arguments: --jsn; did you mean --json?"),
        ("report x --nonsense", "report: unrecognized arguments: --nonsense; gemma-metamon report --help tells all"),
    ],
)
def test_what_argparse_refuses_itself_is_one_line_with_what_was_meant(
    command: str, complaint: str, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(command.split())
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"gemma-metamon{'' if complaint.startswith(':') else ' '}{complaint}")
    assert said.count("\n") == 1


@given(st.text() | st.integers().map(str) | st.floats().map(str))
def test_any_text_is_a_value_that_keeps_the_rule_or_is_refused(text: str) -> None:
    for read, holds in (
        (arguments.at_least_one, lambda value: type(value) is int and value >= 1),
        (arguments.seed, lambda value: type(value) is int and 0 <= value < 2**32),
        (arguments.share, lambda value: type(value) is float and 0 <= value <= 1),
        (arguments.above_zero, lambda value: type(value) is float and value > 0),
        (arguments.folder_name, lambda value: "/" not in value and 0 < len(value.encode()) <= 200),
    ):
        try:
            value = read(text)
        except argparse.ArgumentTypeError:
            continue
        assert holds(value)

"""The pages' commands, flags, paths and names are today's."""

import argparse
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from support.page_commands import PAGES, arguments, flags, lines, script_calls, spans, words_of
from support.paths import ROOT

from gemma_metamon.commands import build_parser, with_underscores
from gemma_metamon.errors import GemmaMetamonError

LEFT_OUT = ("...", "…")
OTHERS_FLAGS = {
    *("--editable", "--recursive"),  # pip's and git's
    *("--multi_gpu", "--machine_rank"),  # accelerate's
    *("--save_results_to", "--battle_backend", "--gpus", "--output_dir"),  # metamon's, to which they are passed on
}
HISTORY = {ROOT / "CHANGELOG.md"}  # it names what was, too
MADE_BY_READERS = {"my.gin", "best.gin", "config.gin", "MODEL.gin", "TRAINING.gin"}
IDS = [str(page.relative_to(ROOT)) for page in PAGES]


def parsers(parser: argparse.ArgumentParser, *path: str) -> Iterator[tuple[tuple[str, ...], set[str]]]:
    """Each command and the flags of it and of those beneath it."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    own = set(parser._option_string_actions)
    for action in below:
        for name, child in action.choices.items():
            found = list(parsers(child, *path, name))
            own |= found[-1][1]
            yield from found
    yield path, own


@cache
def known() -> dict[tuple[str, ...], set[str]]:
    return dict(parsers(build_parser()))


@cache
def script_texts() -> dict[str, str]:
    folders = (ROOT / "scripts", ROOT / "examples")
    paths = [path for folder in folders for path in folder.rglob("*") if path.suffix in (".py", ".sh", ".sbatch")]
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}


def command_of(words: list[str]) -> tuple[str, ...]:
    """The longest command that the words begin with."""
    path: tuple[str, ...] = ()
    while len(path) < len(words) and (*path, words[len(path)]) in known():
        path = (*path, words[len(path)])
    return path


def unknown_flags(words: list[str]) -> list[str]:
    """Flags that the command does not have; of no command, those that nobody here has."""
    path, given = command_of(words), flags(words)
    if path and path[0].startswith("metamon-"):
        return []  # metamon's own flags
    has = known()[path]
    elsewhere = set() if path else {flag for flag in given if any(flag in text for text in script_texts().values())}
    return [flag for flag in given if not {flag, *with_underscores([flag])} & (has | elsewhere | OTHERS_FLAGS)]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_command_in_a_block_is_taken_by_the_parser(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = []
    for line in lines(page):
        words = arguments(line)
        if words is None or not command_of(words):
            continue  # what a command printed
        if any(sign in word for word in words for sign in LEFT_OUT):
            wrong += [(line, flag) for flag in unknown_flags(words)]
            continue
        try:
            args, passed = build_parser().parse_known_args(with_underscores(words))
        except (SystemExit, GemmaMetamonError) as error:
            wrong.append((line, f"{error} {capsys.readouterr().err}"))
        else:
            wrong += [(line, flag) for flag in passed if not getattr(args, "passes_on", False)]
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_flag_that_a_page_names_is_there(page: Path) -> None:
    named = [(span, words_of(span)) for span in spans(page)]
    stripped = [(span, words[1:] if words[:1] == ["gemma-metamon"] else words) for span, words in named]
    wrong = [(span, flag) for span, words in stripped for flag in unknown_flags(words)]
    commands = [(span, words) for span, words in stripped if re.match("gemma-metamon [a-z]", span)]
    wrong += [(span, "no such command") for span, words in commands if not command_of(words)]
    assert page in HISTORY or not wrong


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_script_that_a_page_runs_is_there_and_has_these_flags(page: Path) -> None:
    wrong = []
    for name, given in script_calls(page):
        same = [text for path, text in script_texts().items() if Path(path).stem == Path(name).stem]
        if name not in script_texts():
            wrong.append((name, "no such file"))
        wrong += [(name, flag) for flag in given if not any(flag in text for text in same)]
    assert page in HISTORY or not wrong


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_path_of_the_repository_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8").replace("gemma_metamon/Battle-v0", "")  # gymnasium's id
    folders = r"(?<![\w/.~$-])((?:scripts|examples|tests|gemma_metamon|docs|gin_configs|\.github)/[\w./-]*\w)"
    wrong = [path for path in re.findall(folders, text) if not (ROOT / path).exists()]
    configs = {path.name for path in (ROOT / "gin_configs").rglob("*.gin")} | MADE_BY_READERS
    wrong += [name for name in re.findall(r"\b[\w.]+\.gin\b", text) if name not in configs]
    assert page in HISTORY or not wrong


def test_what_is_wrong_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    block = "```bash\ngemma-metamon train \\\n    --epoch 3 ...  # so\n```\n"
    page.write_text(f"`evaluate --batles 3` and `--out`\n\n{block}")
    assert [flag for span in spans(page) for flag in unknown_flags(words_of(span))] == ["--batles"]
    (words,) = [words for line in lines(page) if (words := arguments(line)) is not None]
    assert words == ["train", "--epoch", "3", "..."]
    assert unknown_flags(words) == ["--epoch"]

"""The pages: what they link to is there, what is drawn is today's code, and a site can be made of them."""

import importlib.util
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import check_site
import draw_architecture
import pytest
from support.modules import PACKAGE, is_in_the_code, texts_of_the_code
from support.paths import ROOT

from gemma_metamon.language.models.held_out import Measured

PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / ".github").rglob("*.md")]
LINK = re.compile(r"\]\(([^)\s#]*)(#[^)\s]+)?\)")


def without_code(text: str) -> str:
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


def headings(page: Path) -> set[str]:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    titles = re.findall(r"^#+ +(.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere_in_a_clone(page: Path) -> None:
    wrong = []
    for target, anchor in LINK.findall(without_code(page.read_text(encoding="utf-8"))):
        if re.match("[a-z]+:", target):
            continue
        path = (page.parent / target).resolve() if target else page
        if not path.exists() or (anchor and path.suffix == ".md" and anchor[1:] not in headings(path)):
            wrong.append(target + anchor)
    assert not wrong


def test_every_picture_is_on_a_page() -> None:
    shown = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    pictures = [path.name for path in (ROOT / "docs" / "images").iterdir()]
    assert pictures
    assert not [name for name in pictures if f"images/{name})" not in shown]


def test_the_drawings_of_the_architecture_are_of_todays_code() -> None:
    for name, drawing in draw_architecture.drawings().items():
        kept = (ROOT / "docs" / "images" / name).read_text(encoding="utf-8")
        assert kept == drawing, f"{name}: run `python scripts/draw_architecture.py`"


def test_every_step_of_the_drawn_ways_is_a_module_or_a_room() -> None:
    for _, steps in draw_architecture.WAYS:
        for module, _ in steps:
            path = PACKAGE.joinpath(*module.split("."))
            assert path.is_dir() or path.with_suffix(".py").is_file(), module


NAME = re.compile(r"`([a-z_]\w*(?:\.\w+)+)`")
FILE_ENDINGS = ("py", "js", "gin", "jsonl", "json", "html")


def names_of_code(page: Path) -> set[str]:
    """The dotted names on a page that are of this package: after `gemma_metamon.`, or after one of its rooms."""
    rooms = {path.stem for path in PACKAGE.iterdir()}
    names = {name.removeprefix("gemma_metamon.") for name in NAME.findall(page.read_text(encoding="utf-8"))}
    return {name for name in names if name.split(".")[0] in rooms and name.split(".")[-1] not in FILE_ENDINGS}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_name_of_the_code_on_a_page_is_there(page: Path) -> None:
    assert not [name for name in sorted(names_of_code(page)) if not is_in_the_code(name)]


def test_the_hops_of_the_architecture_are_named_and_a_wrong_name_is_found(tmp_path: Path) -> None:
    assert len(names_of_code(ROOT / "docs" / "architecture.md")) > 40
    page = tmp_path / "page.md"
    page.write_text("`data.dataset.take_window`, `data.dataset.take_windows`, `view.py`, `nets.batch.Batch.rl2s`")
    assert [name for name in sorted(names_of_code(page)) if not is_in_the_code(name)] == ["data.dataset.take_windows"]


def quoted_messages(page: str) -> list[str]:
    """What stands between backticks in the first column of the tables of messages."""
    rows = re.findall(r"^\| (`.+?) \| ", page.partition("## By message")[2], flags=re.MULTILINE)
    return [message for row in rows for message in re.findall(r"`([^`]+)`", row)]


def unsaid(messages: list[str]) -> list[str]:
    """Those of which no text of the package says 12 signs, in parts of four or more."""
    texts = [
        [part.strip(" `'") for whole in parts for part in re.split("[;:,(\n]", whole)] for parts in texts_of_the_code()
    ]
    longer = [[part for part in parts if len(part) >= 4] for parts in texts]

    def is_said(message: str) -> bool:
        stated = message.strip("…; ")
        return any(
            sum(len(part) for part in parts if part in message) >= 12 or any(stated in part for part in parts)
            for parts in longer
        )

    return [message for message in messages if not is_said(message)]


def test_every_message_that_troubleshooting_quotes_is_said_by_the_package() -> None:
    messages = quoted_messages((ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8"))
    assert len(messages) > 40
    assert not unsaid(messages)
    assert unsaid(["the dog ate the battle file 3", "runs/first already holds checkpoints"]) == [
        "the dog ate the battle file 3"
    ]


def metrics_of_the_code() -> set[str]:
    """The names of metrics that stand in the package whole, and those of what is measured of held-out answers."""
    texts = {text for parts in texts_of_the_code() for text in parts}
    named = {text for text in texts if re.fullmatch(r"(loss|held_out|grpo|reward)/[a-z_0-9]+", text)}
    return named | {f"held_out/{field.name}" for field in fields(Measured)}


def test_every_metric_has_a_row() -> None:
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    rows = [re.findall(r"`([\w/]+)`", row.split(" | ")[0]) for row in re.findall(r"^\| .*", page, flags=re.MULTILINE)]
    # behind a name `_x` stands for that name, or the part of it that it shares with others, with another ending
    told = {name for row in rows for name in row}
    short = {(row[0].rpartition("/")[0], ending) for row in rows for ending in row[1:] if ending.startswith("_")}
    metrics = metrics_of_the_code()
    assert len(metrics) > 20
    assert not [
        name
        for name in sorted(metrics - told)
        if not any(name.startswith(f"{group}/") and name.endswith(ending) for group, ending in short)
    ]


def test_a_link_of_a_built_site_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<h1 id="here"></h1><a href="b.html#there">1</a><a href="#here">2</a><img src="c.png">'
    )
    (tmp_path / "b.html").write_text('<a href="a.html#here">1</a><a href="https://example.org/#x">2</a>')
    pages = {path: check_site.read(path) for path in tmp_path.glob("*.html")}
    found = check_site.nowhere(tmp_path, pages)
    assert found == [(tmp_path / "a.html", "b.html#there"), (tmp_path / "a.html", "c.png")]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="mkdocs is missing: pip install '.[docs]'")
def test_a_site_is_made_of_the_pages_without_a_warning_or_a_dead_link(tmp_path: Path) -> None:
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(build, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    check = [sys.executable, str(ROOT / "scripts" / "check_site.py"), str(tmp_path / "site")]
    checked = subprocess.run(check, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    command_line = (tmp_path / "site" / "reference" / "command_line.html").read_text(encoding="utf-8")
    assert "--parsed_replay_dir" in command_line
    assert "GemmaTstepEncoder" in (tmp_path / "site" / "reference" / "gin.html").read_text(encoding="utf-8")
    results = (tmp_path / "site" / "reference" / "python" / "results.html").read_text(encoding="utf-8")
    assert {"EvaluationResults", "battles_per_pair", "ReleaseReport"} <= set(re.findall(r"\w+", results))
    assert "load_for_play" in (tmp_path / "site" / "reference" / "python" / "runs.html").read_text(encoding="utf-8")

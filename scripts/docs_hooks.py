"""What mkdocs is told beside mkdocs.yml: pages whose text lies outside docs/, and links that lead there.

A link of a page leads where it leads in the repository, so that both the site and a clone can be read.
"""

import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]  # mkdocs starts hooks with neither
import docs_reference  # noqa: E402

OF_THE_TOP_LEVEL = ("GEMMA_TRAINING.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
LINK = re.compile(r"(!?\[[^\]]*\]\()([^)#\s]+)(#[^)]*)?\)")


def on_config(config: MkDocsConfig, **_: Any) -> MkDocsConfig:
    """Puts pages that mkdocs.yml does not name at the end of their folder's section, so that none is left out."""
    named = set(_leaves(config.nav or []))
    folder_of = {
        page.rpartition("/")[0]: section for section in _sections(config.nav or []) for page in _leaves(section)
    }
    examples = [f"examples/{path.stem}.md" for path in (ROOT / "examples").glob("*.py")]
    pages = [path.relative_to(config.docs_dir).as_posix() for path in Path(config.docs_dir).glob("*/*.md")]
    for page in sorted({*pages, *examples} - named):
        if (folder := page.rpartition("/")[0]) in folder_of:
            folder_of[folder].append(page)
    return config


def _sections(nav: list[Any]) -> Iterator[list[Any]]:
    """The innermost lists last: a folder belongs to the list that its pages stand in."""
    for entry in nav:
        for below in entry.values() if isinstance(entry, dict) else ():
            if isinstance(below, list):
                yield below
                yield from _sections(below)


def _leaves(nav: list[Any]) -> Iterator[str]:
    for entry in nav:
        for below in entry.values() if isinstance(entry, dict) else (entry,):
            yield from _leaves(below) if isinstance(below, list) else (below,)


def on_files(files: Files, *, config: MkDocsConfig, **_: Any) -> Files:
    """Adds the pages of the top level, the examples, and what is made from the code."""
    for name in OF_THE_TOP_LEVEL:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    for path in sorted((ROOT / "examples").glob("*.py")):
        text = f"# {path.name}\n\n```python\n{path.read_text(encoding='utf-8')}```\n"
        files.append(File.generated(config, f"examples/{path.stem}.md", content=text))
    for name, text in docs_reference.pages():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Turns what a link means in the repository into what it means among the pages."""
    uri = page.file.src_uri
    in_repository = "" if uri in OF_THE_TOP_LEVEL else posixpath.join("docs", posixpath.dirname(uri))

    def as_among_pages(link: re.Match[str]) -> str:
        before, target, anchor = link[1], link[2], link[3] or ""
        if re.match(r"[a-z]+:", target):
            return link[0]
        path = posixpath.normpath(posixpath.join(in_repository, target))
        among_pages = re.sub(r"^(examples/\w+)\.py$", r"\1.md", path.removeprefix("docs/"))
        return f"{before}{posixpath.relpath(among_pages, posixpath.dirname(uri) or '.')}{anchor})"

    return LINK.sub(as_among_pages, markdown)

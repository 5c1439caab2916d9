"""Looking at a page as a browser does: its elements, what it would load, and what its scripts make of it."""

import re
import shutil
import subprocess
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium; Debian's `apt-get install chromium` has one")
_LOADING_ATTRIBUTES = {"src", "srcset", "poster", "data", "background", "action", "xlink:href"}
_LOADING_TEXT = re.compile(r"@import|url\(\s*['\"]?(?!#)|\bfetch\(|XMLHttpRequest|WebSocket|import\(", re.IGNORECASE)


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    text: str = ""


@dataclass
class Page(HTMLParser):
    """All elements in their order, each with the text directly within it."""

    html: str
    elements: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._open: list[Element] = []
        self.feed(self.html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.elements.append(element)
        if tag not in ("meta", "input", "br", "link", "img"):
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop().tag != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open:
            self._open[-1].text += data

    def all(self, tag: str, **attributes: str) -> list[Element]:
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [e for e in self.elements if e.tag == tag and wanted.items() <= e.attributes.items()]


def loads(html: str) -> list[str]:
    """What the page would fetch when it is opened: nothing, if it stands alone. Links to click on do not count."""
    found = []
    for element in Page(html).elements:
        if element.tag in ("link", "iframe", "object", "embed", "base"):
            found.append(element.tag)
        for name, value in element.attributes.items():
            if name in _LOADING_ATTRIBUTES and not value.startswith(("#", "data:")):
                found.append(f"{element.tag} {name}={value}")
            if name == "href" and element.tag not in ("a",) and not value.startswith("#"):
                found.append(f"{element.tag} href={value}")
            if name == "style" and _LOADING_TEXT.search(value):
                found.append(value)
        if element.tag in ("style", "script") and element.attributes.get("type", "").startswith(("", "text/css")):
            plain = element.attributes.get("type") in ("text/plain", "application/json")
            found += [] if plain else _LOADING_TEXT.findall(element.text)
    return found


def after_scripts(path: Path, tmp_path: Path, mark: str = "") -> Page:
    """The page as chromium has it after its scripts have run, opened at the mark, read from disk, without a network."""
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
    command += [
        "--disable-background-networking",
        "--disable-component-update",
        f"--user-data-dir={tmp_path / 'chromium'}",
    ]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--dump-dom", f"{path.resolve().as_uri()}{mark}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return Page(done.stdout)

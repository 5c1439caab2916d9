"""Looks through a built site: every link to a page, a picture or a place in a page leads somewhere.

    python scripts/check_site.py build/site

Links to other hosts are counted, not followed. Prints what leads nowhere, and ends with status 1 where anything does.
"""

import argparse
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

POINTING = {"a": "href", "img": "src", "link": "href", "script": "src"}


@dataclass
class Found(HTMLParser):
    """The links of a page, and the places in it that links can name."""

    links: set[str] = field(default_factory=set)
    places: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value is not None and (name == "id" or (tag == "a" and name == "name")):
                self.places.add(value)
            if value is not None and name == POINTING.get(tag):
                self.links.add(value)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", type=Path, help="the folder that mkdocs built")
    site = parser.parse_args().site.resolve()
    pages = {path: read(path) for path in sorted(site.rglob("*.html"))}
    wrong = [f"{page.relative_to(site)}: {link}" for page, link in nowhere(site, pages)]
    print("\n".join([*wrong, f"{len(pages)} pages, {len(wrong)} links lead nowhere"]))
    return 1 if wrong or not pages else 0


def read(page: Path) -> Found:
    found = Found()
    found.feed(page.read_text(encoding="utf-8"))
    return found


def nowhere(site: Path, pages: dict[Path, Found]) -> list[tuple[Path, str]]:
    """Pages and those of their links that lead nowhere."""
    wrong = []
    for page, found in pages.items():
        for link in sorted(found.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or page.name == "404.html":  # that page's links are of the site's address
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            target = target / "index.html" if target.is_dir() else target
            known = target.is_relative_to(site) and target.is_file()
            place = unquote(parts.fragment)
            if not known or (place and target in pages and place not in pages[target].places):
                wrong.append((page, link))
    return wrong


if __name__ == "__main__":
    sys.exit(main())

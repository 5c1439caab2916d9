"""Takes pictures of the site in a real browser, light and dark, wide and narrow, and looks for pages that overflow.

    python scripts/picture_site.py --out build/pictures                    # builds the site first
    python scripts/picture_site.py --out build/pictures --site build/site  # of a site that is built

Writes light-1400.png, dark-1400.png, light-390.png and dark-390.png, each with all `--pages` side by side at full
size, and site.png, a small sheet of the first four of each. A page that is wider than its window is named, with what
makes it so, and the exit status is then 1. Needs Chromium and, to build, the extra `docs`.
"""

import argparse
import contextlib
import functools
import html
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
WIDTHS: Final = {1400: 1000, 390: 844}
"""Of a window, each with its height."""
SCHEMES: Final = {"light": 1, "dark": 0}
"""As chromium numbers what its reader prefers."""
SHOWN: Final = (
    "index.html",
    "tutorials/inside_metamon.html",
    "architecture.html",
    "results/log.html",
    "start/first_agent.html",
    "guides/rl_recipes.html",
    "reference/gin.html",
    "troubleshooting.html",
)
ON_SHEET: Final = 4
SHEET_WIDTH: Final = 860
GAP: Final = 16
DEADLINE_S: Final = 1800
WIDER: Final = """
addEventListener("load", () => setTimeout(() => {
  const found = [];
  for (const frame of document.querySelectorAll("iframe")) {
    const shown = frame.contentDocument, width = shown.documentElement.clientWidth, by = new Set();
    const whole = shown.documentElement.scrollWidth, scrolls = "pre, .md-typeset__scrollwrap, .highlight";
    if (whole > width)
      for (const one of shown.querySelectorAll("article *"))
        if (one.getBoundingClientRect().right > width && !one.closest(scrolls))
          by.add(one.tagName.toLowerCase() + " " + one.textContent.trim().slice(0, 40));
    if (whole > width || !shown.querySelector("h1"))
      found.push({page: frame.dataset.page, width: whole, by: [...by].slice(-3)});
  }
  document.querySelector("output").textContent = JSON.stringify(found);
}, 500));
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a folder for the pictures")
    parser.add_argument("--site", type=Path, help="a built site (default: build/site, built now)")
    parser.add_argument("--pages", nargs="+", default=list(SHOWN), help="pages to show (default: eight of all kinds)")
    args = parser.parse_args()
    if chromium() is None:
        parser.error("there is no chromium; Debian's `apt-get install chromium` has one")
    site = args.site or built()
    if missing := [page for page in args.pages if not (site / page).is_file()]:
        parser.error(f"{site} has no {missing[0]}")
    args.out.mkdir(parents=True, exist_ok=True)
    pictures = []
    for width, height in WIDTHS.items():
        for scheme in SCHEMES:
            pictures.append(args.out / f"{scheme}-{width}.png")
            size = len(args.pages) * (width + GAP) - GAP, height
            photograph(site, side_by_side(args.pages, width, height), pictures[-1], size, scheme)
            print(pictures[-1], flush=True)
    photograph(args.out, sheet(pictures, len(args.pages)), args.out / "site.png", sheet_size(), "light")
    print(args.out / "site.png", flush=True)
    wrong = [found for width, height in WIDTHS.items() for found in wider(site, width, height)]
    print("\n".join([*wrong, f"{len(wrong)} pages are wider than their window"]))
    return 1 if wrong else 0


def built() -> Path:
    """Builds the site, with warnings as errors."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, check=True)
    return ROOT / "build" / "site"


def side_by_side(pages: list[str], width: int, height: int) -> str:
    """A page that shows others as windows of this size would."""
    frames = "".join(
        f'<iframe src="/{html.escape(page)}" data-page="{html.escape(page)}" width="{width}" height="{height}" '
        'scrolling="no"></iframe>'
        for page in pages
    )
    style = f"body {{ margin: 0; display: flex; gap: {GAP}px }} iframe {{ border: 0; flex: none }}"
    return f"<!doctype html><style>{style}</style>{frames}<output></output>"


def wider(site: Path, width: int, height: int) -> list[str]:
    """Pages of the whole site that are wider than such a window, each with what reaches beyond it."""
    pages = [path.relative_to(site).as_posix() for path in sorted(site.rglob("*.html")) if path.name != "404.html"]
    told = Told()
    told.feed(look(site, f"{side_by_side(pages, width, height)}<script>{WIDER}</script>", ["--dump-dom"], "light"))
    if not told.text:
        raise SystemExit("chromium told nothing of the pages' widths")
    return [f"{one['page']} at {width}: {one['width']} px, by {one['by']}" for one in json.loads(told.text)]


class Told(HTMLParser):
    """What a page's script has written into its <output>."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self._within = "", False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._within = tag == "output"

    def handle_endtag(self, tag: str) -> None:
        self._within = False

    def handle_data(self, data: str) -> None:
        self.text += data if self._within else ""


def sheet(pictures: list[Path], pages: int) -> str:
    """The first pages of each picture, a row for each."""
    rows = "".join(
        f'<div style="height:{high}px;background:url(/{picture.name}) 0 0 / {shown}px auto no-repeat"></div>'
        for picture, (high, shown) in zip(pictures, (row for row in rows_of(pages) for _ in SCHEMES), strict=True)
    )
    return f"<!doctype html><style>body{{margin:0;background:#999}}div{{margin-bottom:{GAP}px}}</style>{rows}"


def rows_of(pages: int) -> list[tuple[int, int]]:
    """Of each width the height of its row on the sheet, and how wide the whole picture is drawn, in pixels."""
    found = []
    for width, height in WIDTHS.items():
        scale = SHEET_WIDTH / (ON_SHEET * (width + GAP) - GAP) * (1 if width > 1000 else 0.5)
        found.append((round(height * scale), round((pages * (width + GAP) - GAP) * scale)))
    return found


def sheet_size() -> tuple[int, int]:
    return SHEET_WIDTH, sum(len(SCHEMES) * (high + GAP) for high, _ in rows_of(ON_SHEET)) - GAP


def photograph(folder: Path, page: str, to: Path, size: tuple[int, int], scheme: str) -> None:
    """Writes a picture of a page that shows what is in a folder."""
    to.unlink(missing_ok=True)
    flags = [f"--screenshot={to.resolve()}", f"--window-size={size[0]},{size[1]}", "--hide-scrollbars"]
    look(folder, page, flags, scheme)
    if not to.is_file():
        raise SystemExit(f"chromium made no {to}")


def look(folder: Path, page: str, flags: list[str], scheme: str) -> str:
    """Opens a page in a browser whose reader prefers dark or light; what was printed. Nothing else is reached."""
    with served(folder, page) as address, tempfile.TemporaryDirectory() as own:
        command = [str(chromium()), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
        command += ["--disable-background-networking", "--disable-component-update", "--virtual-time-budget=20000"]
        command += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", f"--user-data-dir={own}"]
        command += [f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}", *flags, address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    return done.stdout


@contextlib.contextmanager
def served(folder: Path, page: str) -> Iterator[str]:
    """The address of a page, beside which the files of a folder are served to this machine."""
    handler = functools.partial(Handler, page.encode(), directory=str(folder.resolve()))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}{Handler.PAGE}"
        server.shutdown()


class Handler(SimpleHTTPRequestHandler):
    """Files of a folder, and one page that is no file."""

    PAGE: Final = "/the-pages-to-be-pictured.html"

    def __init__(self, page: bytes, *args: Any, **options: Any) -> None:
        self.page = page
        super().__init__(*args, **options)

    def do_GET(self) -> None:
        if self.path != self.PAGE:
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(self.page)
        return None

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


def chromium() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


if __name__ == "__main__":
    sys.exit(main())

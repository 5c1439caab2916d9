"""A name or reason that is markup stays text in the page of an evaluation or a service, in a real browser."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support.pages import after_scripts, needs_chromium

from gemma_metamon.reports.evaluation import write_report
from gemma_metamon.results import schema
from gemma_metamon.results.schema import ContestantRow, EvaluationResults, PairRow, counts_of

pytestmark = pytest.mark.slow
HOSTILE = "</title></script><img src=x onerror=alert(1)>"


@needs_chromium
def test_markup_in_names_and_reasons_stays_text(tmp_path: Path) -> None:
    counts = vars(counts_of(wins=1, losses=1, ties=0, turns=40, choices=90, refused=0))
    names = (f"{HOSTILE}a", f"{HOSTILE}b")
    results = EvaluationResults(
        format="gen1ou",
        seed=0,
        seconds=1.0,
        battles_per_pair=2,
        unfinished=HOSTILE,
        contestants=[ContestantRow(name=name, kind="outside", rating=None, **counts) for name in names],
        pairs=[PairRow(player=names[0], opponent=names[1], set_aside={HOSTILE: 1}, **counts)],
    )
    schema.write(tmp_path / "results.json", results)
    (tmp_path / "battles.jsonl").write_text("")
    page = after_scripts(write_report(tmp_path), tmp_path)
    (title,) = [element for element in page.all("title") if "Battles in" in element.text]
    assert title.text == "Battles in gen1ou"
    assert not page.all("img")
    assert any(HOSTILE in element.text for element in page.elements)


@needs_chromium
def test_markup_that_a_service_answers_with_stays_text_in_the_monitors_page(tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="needs the extra: pip install 'gemma-metamon[serve]'")
    from gemma_metamon.commands import main
    from gemma_metamon.serving.metrics import Metrics

    metrics = Metrics()
    metrics.watch(battles=lambda: 1, inside=lambda: 1)
    said = {"/health": json.dumps({"agent": HOSTILE}).encode(), "/ready": b"{}"}

    class Handler(BaseHTTPRequestHandler):
        looks = 0

        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            if self.path == "/metrics":
                metrics.note_request("/act", 200, 0.01)
                Handler.looks += 1
                text = metrics.as_text()
                # from the fourth look on no number, but more markup
                said[self.path] = (
                    text if Handler.looks < 4 else text.replace(b'status="200"', f'status="{HOSTILE}"'.encode())
                )
            self.wfile.write(said[self.path])

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            command = ["monitor", "--server_url", f"http://127.0.0.1:{server.server_port}", "--interval_s", "0.05"]
            assert main([*command, "--polls", "4", "--out", str(tmp_path / "page.html")]) == 1
        finally:
            server.shutdown()
            thread.join()
    page = after_scripts(tmp_path / "page.html", tmp_path)
    assert not page.all("img")
    texts = [element.text for element in page.elements]
    assert any(f"It serves {HOSTILE}." in text for text in texts)
    assert any("it answers as no service of gemma-metamon does" in text and HOSTILE in text for text in texts)
    assert any(text == "Latency" for text in texts)

"""Chat data on its way to Google, against an emulator of its storage and a stand-in of its tuning."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gemma_metamon.commands import main
from gemma_metamon.errors import DataError, ServerError
from gemma_metamon.language.data.rows import as_gemini
from gemma_metamon.language.data.vertex import TuningPlan, look_over, submit

CHAT = [
    {"role": "system", "content": "Choose."},
    {"role": "user", "content": "Choices:\nmove Rest"},
    {"role": "assistant", "content": "<SOLUTION>move Rest</SOLUTION>"},
]
JOB = "projects/p/locations/us-central1/tuningJobs/7"


def data(folder: Path, rows: int = 3, name: str = "x.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(as_gemini(CHAT)) + "\n" for _ in range(rows)), encoding="utf-8")
    return path


@contextmanager
def stand_in(status: int = 200) -> Iterator[tuple[str, list[tuple[str, str, dict[str, Any]]]]]:
    """An endpoint that begins every tuning it is asked for: its address, and (path, authorization, body) of each."""
    asked: list[tuple[str, str, dict[str, Any]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, self.headers.get("Authorization", ""), body))
            answer: dict[str, Any] = {"name": JOB, "state": "JOB_STATE_PENDING"}
            if status != 200:
                answer = {"error": {"code": status, "message": "the quota is used up", "status": "DENIED"}}
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An emulator of Cloud Storage with the bucket "lessons", as Google's client sees it."""
    emulator = pytest.importorskip("gcp_storage_emulator.server", reason="needs gcp-storage-emulator from PyPI")
    client = pytest.importorskip("google.cloud.storage", reason="needs the extra: pip install 'gemma-metamon[vertex]'")
    pytest.importorskip("google.genai", reason="needs the extra: pip install 'gemma-metamon[vertex]'")
    from google.auth.credentials import AnonymousCredentials

    server = emulator.create_server("127.0.0.1", 0, in_memory=True, default_bucket="lessons")
    server.start()
    try:
        port = server._api._httpd.server_port
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
        seen = client.Client(project="p", credentials=AnonymousCredentials())
        yield seen
        seen.close()
    finally:
        server.stop()


# of the present version of google-genai, which says so by a warning at the first tuning
EXPERIMENTAL = pytest.mark.filterwarnings("ignore:The SDK's tuning implementation is experimental")


@EXPERIMENTAL
def test_the_files_are_uploaded_and_a_tuning_is_begun_on_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with storage(monkeypatch) as bucket, stand_in() as (url, asked):
        from google.oauth2.credentials import Credentials

        monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", url)
        train, held_out = look_over(data(tmp_path)), look_over(data(tmp_path, 1, "y.jsonl"))
        plan = TuningPlan(
            train=train, validation=held_out, project="p", bucket="lessons", model="gemini-2.5-flash", epochs=2
        )
        for _ in range(2):  # the second time they are there already
            assert submit(plan, Credentials(token="test-token")) == JOB
        kept = {blob.name: blob.download_as_bytes() for blob in bucket.list_blobs("lessons")}
    assert kept == {file.name: file.path.read_bytes() for file in (train, held_out)}
    path, authorization, body = asked[0]
    assert path.endswith("/projects/p/locations/us-central1/tuningJobs")
    assert authorization == "Bearer test-token"
    assert body["baseModel"] == "gemini-2.5-flash"
    spec = body["supervisedTuningSpec"]
    assert spec["trainingDatasetUri"] == f"gs://lessons/{train.name}"
    assert spec["validationDatasetUri"] == f"gs://lessons/{held_out.name}"
    assert int(spec["hyperParameters"]["epochCount"]) == 2


@EXPERIMENTAL
def test_a_refusal_is_one_sentence_that_says_what_was_done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with storage(monkeypatch), stand_in(403) as (url, _):
        from google.oauth2.credentials import Credentials

        monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", url)
        train = look_over(data(tmp_path))
        plan = TuningPlan(train=train, project="p", bucket="lessons", model="gemini-2.5-flash")
        with pytest.raises(ServerError, match=r"the quota is used up.*is uploaded, and no tuning was begun") as raised:
            submit(plan, Credentials(token="test-token"))
        assert "test-token" not in str(raised.value)


def test_a_dry_run_says_what_would_be_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["chat", "submit", "--to", "vertex", "--data", str(data(tmp_path)), "--project", "p", "--dry_run"]
    assert main([*command, "--bucket", "gs://lessons/", "--model", "gemini-2.5-flash"]) == 0
    said = capsys.readouterr().out
    assert "would upload" in said
    assert "(3 chats, 0.0 MB) to gs://lessons/gemma-metamon/" in said
    assert "would begin the tuning of gemini-2.5-flash in p, us-central1" in said
    assert main([*command, "--bucket", "lessons/folder", "--model", "m"]) == 1
    assert "without a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{}", 'line 2: no list "contents"'),
        ("[1]", "line 2: holds [1]"),
        (json.dumps({"messages": CHAT}), 'line 2: no list "contents"'),
        (json.dumps({"contents": [{"role": "user", "parts": [{"text": "x"}]}]}), "the model last"),
        (
            json.dumps({"contents": [{"role": "user", "parts": []}, {"role": "model", "parts": []}]}),
            '"parts" of "text"',
        ),
    ],
)
def test_data_that_no_gemini_can_be_tuned_on_is_refused_by_its_line(tmp_path: Path, line: str, reason: str) -> None:
    path = data(tmp_path, 1)
    path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    with pytest.raises(DataError) as raised:
        look_over(path)
    assert reason in str(raised.value)

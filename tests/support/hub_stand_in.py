"""A stand-in for the Hugging Face hub in this process: real HTTP, and as much of the hub as push, pull and
hf:// addresses ask for.

The real one cannot be written to from a test. What it answers follows what huggingface_hub's client sends and reads.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit


@dataclass
class Hub:
    """Repositories by name: revision -> file -> content; the tokens that were sent, and what nobody expected.

    Names of data sets have "datasets/" before them.
    """

    url: str = ""
    repos: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    unexpected: list[str] = field(default_factory=list)

    def commit(self, repo: str, lines: list[dict[str, Any]]) -> str:
        files = dict(self.repos[repo].get("main", {}))
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.blobs[value["oid"]]
        told = json.dumps({name: hashlib.sha1(content).hexdigest() for name, content in files.items()}, sort_keys=True)
        oid = hashlib.sha1(told.encode()).hexdigest()
        self.repos[repo]["main"] = self.repos[repo].setdefault(oid, files)
        return oid

    def oid_of(self, repo: str, revision: str) -> str:
        files = self.repos[repo][revision]
        return next(name for name, held in self.repos[repo].items() if held is files and len(name) == 40)


Answer = tuple[int, Any, dict[str, str]]


def create(hub: Hub, match: re.Match[str], body: bytes) -> Answer:
    told = json.loads(body)
    repo = "/".join(filter(None, (told.get("organization"), told["name"])))
    hub.repos.setdefault(repo, {})
    hub.private.setdefault(repo, bool(told.get("private") or told.get("visibility") == "private"))
    return 200, {"url": f"{hub.url}/{repo}", "id": repo, "name": repo}, {}


def preupload(hub: Hub, match: re.Match[str], body: bytes) -> Answer:
    files = [
        {
            "path": each["path"],
            "uploadMode": "lfs" if each["path"].endswith(".safetensors") else "regular",
            "shouldIgnore": False,
            "oid": None,
        }
        for each in json.loads(body)["files"]
    ]
    return 200, {"files": files}, {}


def batch(hub: Hub, match: re.Match[str], body: bytes) -> Answer:
    objects = [
        each | {"actions": {"upload": {"href": f"{hub.url}/blobs/{each['oid']}"}}}
        for each in json.loads(body)["objects"]
    ]
    return 200, {"transfer": "basic", "objects": objects}, {}


def upload(hub: Hub, match: re.Match[str], body: bytes) -> Answer:
    assert hashlib.sha256(body).hexdigest() == match[1]
    hub.blobs[match[1]] = body
    return 200, {}, {}


def commit(hub: Hub, match: re.Match[str], body: bytes) -> Answer:
    oid = hub.commit(match[1], [json.loads(line) for line in body.splitlines()])
    return 200, {"commitUrl": f"{hub.url}/{match[1]}/commit/{oid}", "commitOid": oid}, {}


def tag(hub: Hub, match: re.Match[str], body: bytes) -> Answer:
    name = json.loads(body)["tag"]
    if name in hub.repos[match[1]]:
        return 409, {"error": "it is there"}, {}
    hub.repos[match[1]][name] = hub.repos[match[1]][match[2]]
    return 200, {}, {}


def find_revision(hub: Hub, kind: str, name: str, revision: str) -> tuple[str, dict[str, bytes] | None]:
    repo = name if kind == "models" else f"{kind}/{name}"
    return repo, hub.repos.get(repo, {}).get(revision)


NO_REVISION = (404, {"error": "no"}, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "no"})
NO_REPO = (404, {"error": "no"}, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "no"})


def describe(hub: Hub, match: re.Match[str], body: bytes) -> Answer:
    kind, name, revision = match.groups()
    repo, files = find_revision(hub, kind, name, revision or "main")
    if files is None:
        return NO_REVISION if repo in hub.repos else NO_REPO
    siblings = [{"rfilename": name} for name in files]
    return 200, {"id": name, "sha": hub.oid_of(repo, revision or "main"), "siblings": siblings, "tags": []}, {}


def tree(hub: Hub, match: re.Match[str], body: bytes) -> Answer:
    kind, name, revision, folder, recursive = match.groups()
    _, files = find_revision(hub, kind, name, revision)
    if files is None:
        return NO_REPO
    start = f"{folder}/" if folder else ""
    found: dict[str, dict[str, Any]] = {}
    for path, content in files.items():
        if not path.startswith(start):
            continue
        folders = path[len(start) :].split("/")[:-1]
        for depth in range(1, len(folders) + 1 if recursive else min(len(folders), 1) + 1):
            inner = start + "/".join(folders[:depth])
            found[inner] = {
                "type": "directory",
                "path": inner,
                "size": 0,
                "oid": hashlib.sha1(inner.encode()).hexdigest(),
            }
        if recursive or not folders:
            oid = hashlib.sha1(content).hexdigest()
            found[path] = {"type": "file", "path": path, "size": len(content), "oid": oid}
    if not found:
        return 404, {"error": "no"}, {"X-Error-Code": "EntryNotFound", "X-Error-Message": "no"}
    return 200, list(found.values()), {}


def download(hub: Hub, match: re.Match[str], body: bytes) -> Answer:
    repo, revision, name = match.groups()
    held = hub.repos.get(repo, {}).get(revision, {}).get(name)
    if held is None:
        known = "RevisionNotFound" if revision not in hub.repos.get(repo, {}) else "EntryNotFound"
        code = known if repo in hub.repos else "RepoNotFound"
        return 404, {"error": "no"}, {"X-Error-Code": code, "X-Error-Message": "no"}
    etag = hashlib.sha1(held).hexdigest()
    return 200, held, {"ETag": f'"{etag}"', "X-Repo-Commit": hub.oid_of(repo, revision)}


def valid(hub: Hub, match: re.Match[str], body: bytes) -> Answer:
    return 200, {"errors": [], "warnings": []}, {}


ROUTES: list[tuple[str, Callable[[Hub, re.Match[str], bytes], Answer]]] = [
    (r"POST /api/repos/create", create),
    (r"POST /api/validate-yaml", valid),
    (r"POST /api/models/(.+)/preupload/main", preupload),
    (r"POST /(.+)\.git/info/lfs/objects/batch", batch),
    (r"PUT /blobs/(.+)", upload),
    (r"POST /api/models/(.+)/commit/main", commit),
    (r"POST /api/models/(.+)/tag/(.+)", tag),
    (r"GET /api/(models|datasets)/([^/]+/[^/]+)(?:/revision/([^/]+))?", describe),
    (r"GET /api/(models|datasets)/([^/]+/[^/]+)/tree/([^/?]+)(?:/([^?]+?))?/?(\?recursive)?", tree),
    (r"(?:GET|HEAD) /((?:datasets/)?[^/]+/[^/]+)/resolve/([^/]+)/(.+)", download),
]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: ClassVar[Hub]

    def log_message(self, *_: Any) -> None: ...

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        content = b""
        while length := int(self.rfile.readline().strip(), 16):
            content += self.rfile.read(length)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def handle_request(self) -> None:
        token = self.headers.get("Authorization", "")
        self.hub.tokens |= {token} if token else set()
        url = urlsplit(self.path)
        body, asked = self.body(), f"{self.command} {unquote(url.path)}"
        if "recursive=true" in url.query.lower():
            asked += "?recursive"
        found = [(route, match) for pattern, route in ROUTES if (match := re.fullmatch(pattern, asked))]
        if not found:
            self.hub.unexpected.append(asked)
        status, told, headers = found[0][0](self.hub, found[0][1], body) if found else (404, {"error": "no"}, {})
        content = told if isinstance(told, bytes) else json.dumps(told).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_PUT = handle_request  # noqa: N815 the server calls them so


@contextmanager
def hub_stand_in() -> Iterator[Hub]:
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()

"""A stand-in for the Hugging Face hub in this process: real HTTP, and as much of the hub as push and pull ask for.

The real one cannot be written to from a test. What it answers follows what huggingface_hub's client sends and reads.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass
class Hub:
    """Repositories by name: revision -> file -> content; the tokens that were sent, and what nobody expected."""

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
        self.repos[repo]["main"] = self.repos[repo][oid] = files
        return oid

    def oid_of(self, repo: str, revision: str) -> str:
        files = self.repos[repo][revision]
        return next(name for name, held in self.repos[repo].items() if held is files and len(name) == 40)


@contextmanager
def hub_stand_in() -> Iterator[Hub]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None: ...

        def answer(self, status: int, body: Any = None, headers: dict[str, str] | None = None) -> None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def asked(self) -> tuple[str, bytes]:
            token = self.headers.get("Authorization", "")
            if token:
                hub.tokens.add(token)
            size = int(self.headers.get("Content-Length") or 0)
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = b""
                while length := int(self.rfile.readline().strip(), 16):
                    body += self.rfile.read(length)
                    self.rfile.readline()
                self.rfile.readline()
                return unquote(urlsplit(self.path).path), body
            return unquote(urlsplit(self.path).path), self.rfile.read(size)

        def do_POST(self) -> None:
            path, body = self.asked()
            if path == "/api/repos/create":
                told = json.loads(body)
                repo = "/".join(filter(None, (told.get("organization"), told["name"])))
                hub.repos.setdefault(repo, {})
                hub.private.setdefault(repo, bool(told.get("private") or told.get("visibility") == "private"))
                self.answer(200, {"url": f"{hub.url}/{repo}", "id": repo, "name": repo})
            elif path == "/api/validate-yaml":
                self.answer(200, {"errors": [], "warnings": []})
            elif match := re.fullmatch(r"/api/models/(.+)/preupload/main", path):
                files = [
                    {
                        "path": each["path"],
                        "uploadMode": "lfs" if each["path"].endswith(".safetensors") else "regular",
                        "shouldIgnore": False,
                        "oid": None,
                    }
                    for each in json.loads(body)["files"]
                ]
                self.answer(200, {"files": files})
            elif match := re.fullmatch(r"/(.+)\.git/info/lfs/objects/batch", path):
                objects = [
                    each | {"actions": {"upload": {"href": f"{hub.url}/blobs/{each['oid']}"}}}
                    for each in json.loads(body)["objects"]
                ]
                self.answer(200, {"transfer": "basic", "objects": objects})
            elif match := re.fullmatch(r"/api/models/(.+)/commit/main", path):
                oid = hub.commit(match[1], [json.loads(line) for line in body.splitlines()])
                self.answer(200, {"commitUrl": f"{hub.url}/{match[1]}/commit/{oid}", "commitOid": oid})
            elif match := re.fullmatch(r"/api/models/(.+)/tag/(.+)", path):
                hub.repos[match[1]][json.loads(body)["tag"]] = hub.repos[match[1]][match[2]]
                self.answer(200, {})
            else:
                hub.unexpected.append(f"POST {path}")
                self.answer(404, {"error": "not here"})

        def do_PUT(self) -> None:
            path, body = self.asked()
            digest = path.rpartition("/")[2]
            assert hashlib.sha256(body).hexdigest() == digest
            hub.blobs[digest] = body
            self.answer(200, {})

        def do_GET(self) -> None:
            path, _ = self.asked()
            if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/([^/]+)", path):
                repo, what, revision = match.groups()
                if revision not in hub.repos.get(repo, {}):
                    self.answer(404, {"error": "no"}, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "no"})
                    return
                files, oid = hub.repos[repo][revision], hub.oid_of(repo, revision)
                if what == "tree":
                    rows = [
                        {"type": "file", "path": name, "size": len(held), "oid": hashlib.sha1(held).hexdigest()}
                        for name, held in files.items()
                    ]
                    self.answer(200, rows)
                    return
                siblings = [{"rfilename": name} for name in files]
                self.answer(200, {"id": repo, "modelId": repo, "sha": oid, "siblings": siblings, "tags": []})
            elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                repo, revision, name = match.groups()
                held = hub.repos.get(repo, {}).get(revision, {}).get(name)
                if held is None:
                    code = "EntryNotFound" if repo in hub.repos else "RepoNotFound"
                    self.answer(404, {"error": "no"}, {"X-Error-Code": code, "X-Error-Message": "no"})
                    return
                etag = {"ETag": f'"{hashlib.sha1(held).hexdigest()}"', "X-Repo-Commit": hub.oid_of(repo, revision)}
                self.answer(200, held, etag)
            else:
                hub.unexpected.append(f"{self.command} {path}")
                self.answer(404, {"error": "not here"})

        do_HEAD = do_GET

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()

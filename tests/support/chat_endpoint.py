"""An OpenAI-compatible endpoint in this process: real HTTP, and answers that a test writes."""

import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = str | dict[str, Any] | tuple[int, str, dict[str, str]] | None
"""An answer's text, a whole body, a status with its body and headers; None cuts the connection."""


@dataclass
class Told:
    """What the endpoint was told by one call."""

    body: dict[str, Any]
    key: str
    at: float
    path: str = ""

    @property
    def messages(self) -> list[dict[str, str]]:
        return list(self.body["messages"])

    @property
    def is_greeting(self) -> bool:
        return "ready" in self.messages[-1]["content"]

    @property
    def choices(self) -> list[str]:
        """The legal choices, as the prompt has them; those with terastallising left out."""
        (prompt,) = (each["content"] for each in self.messages[:2] if "Choices:" in each["content"])
        lines = prompt.split("Choices:\n")[1].split("\n")
        return [re.split(r": ", line)[0] for line in lines if not line.startswith("a move may")]


@dataclass
class Endpoint:
    """Where it is, and what it was told."""

    url: str = ""
    calls: list[Told] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    released: threading.Event = field(default_factory=threading.Event)


def first_choice(told: Told) -> Reply:
    """Always the first legal choice, with a thought."""
    if told.is_greeting:
        return "ready"
    choice = told.choices[0]
    return f"<REASONING>I like {choice}.</REASONING><SOLUTION>{choice}</SOLUTION>"


@contextmanager
def endpoint(answer: Callable[[Told], Reply] = first_choice) -> Iterator[Endpoint]:
    """An endpoint that answers each call so. Tests end their waiting calls by `released`."""
    here = Endpoint()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # headers and body in one piece: the second of two would wait for the first to be acknowledged

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told = Told(body, self.headers.get("Authorization", ""), time.monotonic(), self.path)
            with lock:
                here.calls.append(told)
                here.at_once += 1
                here.most_at_once = max(here.most_at_once, here.at_once)
            try:
                self._send(answer(told), told)
            finally:
                with lock:
                    here.at_once -= 1

        def _send(self, reply: Reply, told: Told) -> None:
            if reply is None:
                self.close_connection = True
                # so that the other side sees a connection that is reset
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                return
            status, text, headers = 200, "", {"Content-Type": "application/json"}
            if isinstance(reply, tuple):
                status, text, more = reply
                headers |= more
            else:
                text = json.dumps(reply if isinstance(reply, dict) else completion(reply, told))
            content = text.encode()
            try:
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)
                self.wfile.flush()
            except OSError:  # whoever asked has gone
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.block_on_close = True, False
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    here.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield here
    finally:
        here.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


def completion(text: str, told: Told, **message: Any) -> dict[str, Any]:
    """The body of an answer."""
    n_words = sum(len(each["content"].split()) for each in told.messages)
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": told.body["model"],
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text, **message}}
        ],
        "usage": {
            "prompt_tokens": n_words,
            "completion_tokens": len(text.split()),
            "total_tokens": n_words + len(text.split()),
        },
    }

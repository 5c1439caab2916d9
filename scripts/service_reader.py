"""The readers of what is sent to `gemma-metamon serve`, for fuzz_readers.py. They need the extras `serve` and `vision`.

Each input is a whole request: method, path, headers, and a body in pieces. It goes through the service's own app, in
the form in which uvicorn hands requests over (ASGI). What comes back must have a status below 500 and be JSON, or the
text of /metrics, with finite numbers. One body in fifty is some MB of one thing again and again. None may hold the
event loop, where all others wait, for more than HELD_S: of its thread's processor time, which no other process makes
longer.
"""

import asyncio
import base64
import io
import json
import random
import struct
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import tiny_agent
from mutations import mutate_bytes, mutate_json

from gemma_metamon import sample_battles
from gemma_metamon.battle.replays import find_battles, load_battle
from gemma_metamon.errors import DataError
from gemma_metamon.view import BattleView

TOKEN = "0123456789abcdef-token"
BODY_BYTES = 8 * 2**20  # as of a service that is told nothing else
HELD_S = 1.0
ROUTES = (b"/act", b"/metrics", b"/health", b"/ready", b"/v1/models", b"/v1/chat/completions")
METHODS = ("GET", "GET", "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "post", "", "\xe9")
HEADERS = (
    b"authorization", b"content-length", b"content-type", b"transfer-encoding", b"x-forwarded-for", b"host", b"expect",
    b"cookie", b"content-encoding", b"origin", b"connection", b"", b"x" * 300,
)  # fmt: skip
VALUES = (
    b"", b"0", b"-1", b"1e9", b"9" * 5000, b"chunked", b"gzip", b"Bearer", b"bearer " + TOKEN.encode(), b"Bearer \xff",
    b"Basic Og==", b"Bearer  " + TOKEN.encode() + b" x", b"\x00", b"a\r\nb: c", b"\xd9\xa1", b"[::1]:0", b"a" * 60_000,
)  # fmt: skip
CLIENTS = (("127.0.0.1", 1), ("::1", 0), ("fe80::1%lo", 0), ("2001:db8::1", 65535), ("", 0), ("x", 0), None)


@dataclass(frozen=True)
class Sent:
    """A request, as it comes in. Where it breaks off, the client has gone after the pieces."""

    path: bytes
    pieces: list[bytes]
    method: str = "POST"
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    client: tuple[str, int] | None = ("127.0.0.1", 1)
    breaks_off: bool = False


def sent(rng: random.Random, route: bytes, body: bytes) -> Sent:
    """A body as it should be sent to a route, or, one time in four, otherwise."""
    headers = [(b"host", b"127.0.0.1"), (b"authorization", b"Bearer " + TOKEN.encode())]
    if rng.random() < 0.7:
        headers.append((b"content-length", str(len(body)).encode()))
    asked = Sent(route, _pieces(rng, body), headers=headers)
    for _ in range(rng.choice((0, 0, 0, 0, 0, 0, 1, 2))):
        asked = _otherwise(rng, asked)
    return asked


def large(rng: random.Random, around: tuple[bytes, ...]) -> bytes:
    """A body of some MB: one of these, with many of one thing, or many names, where it has its %s."""
    form, size = rng.choice(around), rng.randrange(2**20, 6 * 2**20)
    if b"{%s}" in form:
        return form.replace(b"%s", b",".join(b'"%d":0' % i for i in range(size // 11)))
    if b'"%s"' in form:
        part = rng.choice(
            (b"x", b"\\n", b"|", b"|-message|x\\n", b"|move|p2a: Tauros|Rest|p1a: Snorlax\\n", b"\\u00e9")
        )
        return form.replace(b"%s", part * (size // len(part)))
    part = rng.choice((b'""', b"{}", b"[]", b"0", b"null", b'"|-message|x"', b'"\\n\\n"', b'{"a":[{}]}', b'"||||||||"'))
    return form.replace(b"%s", b",".join([part] * (size // (len(part) + 1))))


def _pieces(rng: random.Random, body: bytes) -> list[bytes]:
    cuts = sorted(rng.randrange(len(body) + 1) for _ in range(rng.choice((0, 0, 1, 2, 8))))
    return [body[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(body)], strict=True)]


def _otherwise(rng: random.Random, asked: Sent) -> Sent:
    headers = [*asked.headers]
    match rng.randrange(8):
        case 0:
            return replace(asked, path=rng.choice(ROUTES), method=rng.choice(METHODS))
        case 1:
            harmed = mutate_bytes(rng, asked.path)
            more = (harmed, harmed, asked.path + b"/", b"/" + asked.path, b"/%00", b"/%ff%2e%2e/x", b"/" + b"a" * 9000)
            return replace(asked, path=rng.choice(more))
        case 2:
            headers.append((rng.choice(HEADERS), rng.choice(VALUES)))
        case 3:
            headers = [(name, mutate_bytes(rng, value)) for name, value in headers]
        case 4:
            del headers[rng.randrange(len(headers) + 1) :]
        case 5:
            return replace(asked, breaks_off=True, pieces=asked.pieces[: rng.randrange(len(asked.pieces) + 1)])
        case 6:
            return replace(asked, pieces=[*asked.pieces, rng.choice((b" ", b"\0", b" " * BODY_BYTES))])
        case _:
            return replace(asked, client=rng.choice(CLIENTS))
    return replace(asked, headers=headers)


class AppReader:
    """A service's app, given one request after the other."""

    def __init__(self, service: Any) -> None:
        from gemma_metamon.serving import app

        self.service = service
        self.app = app.build_app(service)
        self.loop = asyncio.new_event_loop()
        self.fault: BaseException | None = None
        self.held_s = 0.0

        def note(*_: object) -> None:
            self.fault = sys.exc_info()[1]

        vars(app)["logger"].exception = note  # what the service writes down where it answers with 500

    def answer(self, asked: Sent) -> Iterator[Any]:
        """Every number of an answer. Raises DataError where the request is refused."""
        self.fault = None
        told, content = self.loop.run_until_complete(asyncio.wait_for(self._timed(asked), 600))
        if self.held_s > HELD_S:
            raise RuntimeError(f"the event loop was held for {self.held_s:.2f} s")
        status, headers = told["status"], dict(told["headers"])
        if status >= 500:
            raise self.fault or RuntimeError(f"{status}: {content!r}")
        if int(headers[b"content-length"]) != len(content):
            raise RuntimeError(f"a body of {len(content)} bytes is said to have {headers[b'content-length']!r}")
        if headers[b"content-type"].startswith(b"text/plain"):
            yield _measured(content.decode())
            return
        value = json.loads(content)
        if status >= 300:
            message = value["error"]["message"]
            if not 400 <= status < 500 or value["error"]["code"] != status or len(message) > 1000:
                raise RuntimeError(f"{status}: {content!r}")
            raise DataError(message)
        yield list(_numbers(value))

    async def _timed(self, asked: Sent) -> tuple[dict[str, Any], bytes]:
        """The exchange, and in `held_s` the longest time for which nobody else had his turn."""
        self.held_s, last = 0.0, time.thread_time()

        def look() -> None:
            nonlocal last
            now = time.thread_time()
            self.held_s, last = max(self.held_s, now - last), now

        async def others() -> None:
            while True:
                await asyncio.sleep(0.001)
                look()

        waiting = asyncio.create_task(others())
        try:
            return await self._exchange(asked)
        finally:
            look()
            waiting.cancel()

    async def _exchange(self, asked: Sent) -> tuple[dict[str, Any], bytes]:
        path, _, query = asked.path.decode("ascii", "replace").partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "server": ("127.0.0.1", 8765),
            "client": asked.client,
            "scheme": "http",
            "root_path": "",
            "method": asked.method,
            "path": unquote(path),
            "raw_path": asked.path,
            "query_string": query.encode(),
            "headers": asked.headers,
        }
        coming = [{"type": "http.request", "body": piece, "more_body": True} for piece in asked.pieces]
        if not asked.breaks_off:
            coming.append({"type": "http.request", "body": b"", "more_body": False})
        starts, content = list[dict[str, Any]](), bytearray()

        async def receive() -> dict[str, Any]:
            await asyncio.sleep(0)
            return coming.pop(0) if coming else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                starts.append(message)
            else:
                content.extend(message.get("body", b""))

        await self.app(scope, receive, send)
        (start,) = starts
        return start, bytes(content)


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, (dict, list)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _numbers(each)
    elif isinstance(value, (int, float)):
        yield float(value)


def _measured(text: str) -> list[float]:
    from prometheus_client.parser import text_string_to_metric_families

    return [sample.value for family in text_string_to_metric_families(text) for sample in family.samples]


class ServiceReader:
    """A request to an agent's service: harmed JSON, a harmed log, a harmed request of the simulator, or harmed HTTP."""

    def __init__(self, folder: Path) -> None:
        import torch

        from gemma_metamon.configs.names import EXPERIMENT, configurable
        from gemma_metamon.runs import resolve
        from gemma_metamon.serving.app import Service
        from gemma_metamon.serving.battles import SPARE, Battles
        from gemma_metamon.serving.limits import Gate, Limits
        from gemma_metamon.showdown.players.policy_player import BatchedPolicy

        torch.set_num_threads(1)
        resolve.load("gemma_tiny_multitaskagent.gin", "binary_rl.gin", tiny_agent.OVERRIDES)
        view = BattleView.default()
        experiment: Any = configurable(EXPERIMENT)()
        policy = BatchedPolicy(experiment.build_agent(view).eval(), view, max_battles=4 + SPARE)
        policy.judges = True
        gate = Gate(Limits(rate=1e9, body_bytes=BODY_BYTES), TOKEN)
        self.app = AppReader(Service("x", Battles(policy, 4), gate))
        states = load_battle(find_battles(sample_battles.extract("gen1ou"), ["gen1ou"])[0]).states[:3]
        self.observation = {"observation": {"states": [state.to_dict() for state in states], "actions": [0, 0]}}
        side = {"name": "Ann", "id": "p1", "pokemon": [_pokemon("Snorlax", active=True), _pokemon("Gengar")]}
        moves = [{"move": "Rest", "id": "rest", "pp": 16, "maxpp": 16, "target": "self", "disabled": False}]
        self.request = {"active": [{"moves": moves}], "side": side, "rqid": 3}
        self.log = _LOG

    def harm(self, rng: random.Random) -> None:
        self.asked = sent(rng, b"/act", large(rng, _LARGE) if rng.random() < 0.02 else self._body(rng))

    def _body(self, rng: random.Random) -> bytes:
        name, log, request = f"battle-gen{rng.choice('19')}ou-{rng.randrange(8)}", [*self.log], json.dumps(self.request)
        kind = rng.random()
        if kind < 0.3:
            whole = rng.choice((self.observation, {"battle": name, "log": log, "request": self.request}))
            return mutate_json(rng, json.dumps(whole).encode())
        for _ in range(rng.randrange(6)):
            at = rng.randrange(len(log))
            parts = log[at].split("|") + rng.choice(log).split("|")
            rng.shuffle(parts)
            log.insert(at, "|" + "|".join(parts[: rng.randrange(6)]))
        if kind < 0.6:
            log.append(f"|request|{mutate_json(rng, request.encode()).decode('utf-8', 'replace')}")
            return json.dumps({"battle": name, "log": log}).encode()
        return json.dumps({"battle": name, "log": log, "request": self.request}).encode()

    def read(self) -> Iterator[Any]:
        yield from self.app.answer(self.asked)


class ChatReader:
    """A request for an answer to a chat, of a model that sees: harmed JSON, harmed images, or harmed HTTP.

    All is read, and the images are looked at; what is answered is no model's.
    """

    def __init__(self, folder: Path) -> None:
        import torch
        from PIL import Image

        from gemma_metamon.serving.app import Service
        from gemma_metamon.serving.battles import Battles
        from gemma_metamon.serving.limits import Gate, Limits
        from gemma_metamon.serving.writing import Writer, Written
        from gemma_metamon.vision.forms import Form
        from gemma_metamon.vision.models import SeeingPlan, build
        from gemma_metamon.vision.players.seeing import SeeingPolicy

        class ReadingWriter(Writer):
            def _write(self, prompts: Any) -> list[Written]:
                return [Written("x", len(prompt.ids), cut=False) for prompt in prompts]

        torch.set_num_threads(1)
        model = build(SeeingPlan(), Form(size=112), ["What do you choose? move Rest switch Snorlax"])
        policy = SeeingPolicy(model, name="x")
        gate = Gate(Limits(rate=1e9, body_bytes=BODY_BYTES), TOKEN)
        chats = ReadingWriter(model, policy, "x").complete
        self.app = AppReader(Service("x", Battles(policy, 4), gate, chats=chats))
        picture = Image.linear_gradient("L").resize((24, 20)).convert("RGB")
        self.images = [_saved(picture, "PNG"), _saved(picture.convert("P"), "PNG"), _saved(picture, "JPEG")]
        self.images += [_saved(picture, "JPEG", progressive=True), _saved(picture, "WEBP")]
        self.images += [_saved(picture, "WEBP", lossless=True), _saved(picture.convert("LA"), "PNG")]
        self.images.append(_saved(picture, "PNG", save_all=True, append_images=[picture.rotate(90)]))

    def harm(self, rng: random.Random) -> None:
        words: dict[str, Any] = {"type": "text", "text": "What do you choose?"}
        parts = [words]
        for _ in range(rng.choice((0, 1, 1, 1, 2, 33))):
            kind = rng.choice(("png", "png", "jpeg", "webp"))
            content = base64.b64encode(self._image(rng)).decode()
            parts.insert(0, {"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,{content}"}})
        said: list[dict[str, Any]] = [{"role": "user", "content": parts}]
        if rng.random() < 0.3:
            said = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Yes."}, *said]
        if rng.random() < 0.3:
            said.insert(0, {"role": "system", "content": "You play."})
        more = {"max_tokens": 3, "temperature": 0.5, "top_p": 0.9, "seed": 1, "n": 1, "stream": False, "user": "me"}
        chosen = {name: value for name, value in more.items() if rng.random() < 0.4}
        body = json.dumps({"model": "x", "messages": said, **chosen}).encode()
        body = mutate_json(rng, body) if rng.random() < 0.6 else body
        body = large(rng, _LARGE_CHATS) if rng.random() < 0.02 else body
        self.asked = sent(rng, b"/v1/chat/completions", body)

    def _image(self, rng: random.Random) -> bytes:
        content = rng.choice(self.images)
        match rng.randrange(10):
            case kind if kind < 5:
                return content
            case kind if kind < 8:
                return mutate_bytes(rng, content)
            case kind if kind < 9 and content.startswith(b"\x89PNG"):  # it is as large as it says, or is none
                sides = struct.pack(">II", *(rng.choice((0, 1, 25, 5000, 2**16, 2**31 - 1, 2**32 - 1)) for _ in "wh"))
                header = b"IHDR" + sides + content[24:29]
                return content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]
            case _:
                at = content.rfind(b"\xff\xda")
                return content[:-2] + content[at:-2] * rng.choice((2, 200)) + content[-2:]

    def read(self) -> Iterator[Any]:
        yield from self.app.answer(self.asked)


def _saved(picture: Any, form: str, **options: Any) -> bytes:
    content = io.BytesIO()
    picture.save(content, form, **options)
    return content.getvalue()


_BATTLE = b'{"battle":"battle-gen1ou-9",'
_LARGE = (
    _BATTLE + b'"log":[%s]}', _BATTLE + b'"log":"%s"}', _BATTLE + b'"log":["%s"]}', _BATTLE + b'"log":{%s}}',
    _BATTLE + b'"request":{%s}}', _BATTLE + b'"request":{"side":{"name":"Ann","pokemon":[%s]}}}',
    _BATTLE + b'"request":{"side":{"name":"%s","pokemon":[]}}}', b'{"battle":"%s"}', b"[%s]", b"{%s}",
    b'{"observation":{"states":[%s]}}', b'{"observation":{"states":[{%s}]}}',
    b'{"observation":{"states":[],"actions":[%s]}}', b'{"observation":{"states":[],"legal":[%s]}}',
)  # fmt: skip
_CHAT = b'{"model":"x","messages":'
_LARGE_CHATS = (
    _CHAT + b"[%s]}", _CHAT + b'[{"role":"user","content":[%s]}]}', _CHAT + b'[{"role":"user","content":"%s"}]}',
    _CHAT + b'[{"role":"user","content":{%s}}]}', _CHAT + b'[],"stop":[%s]}', _CHAT + b'[],"metadata":{%s}}',
    b'{"model":"%s","messages":[]}', b"{%s}",
)  # fmt: skip
_LOG = [
    "|player|p1|Ann|1|", "|player|p2|Bob|2|", "|teamsize|p1|2", "|teamsize|p2|2", "|gametype|singles", "|gen|1",
    "|start", "|switch|p1a: Snorlax|Snorlax|300/300", "|switch|p2a: Tauros|Tauros|100/100", "|turn|1",
    "|move|p2a: Tauros|Body Slam|p1a: Snorlax", "|-damage|p1a: Snorlax|250/300 par", "|-status|p1a: Snorlax|par",
    "|move|p1a: Snorlax|Rest|p1a: Snorlax", "|-heal|p1a: Snorlax|300/300 slp", "|-boost|p2a: Tauros|atk|1", "|turn|2",
]  # fmt: skip


def _pokemon(name: str, *, active: bool = False) -> dict[str, Any]:
    stats = dict.fromkeys(("atk", "def", "spa", "spd", "spe"), 100)
    known = {"ident": f"p1: {name}", "details": name, "condition": "300/300", "active": active, "stats": stats}
    return {**known, "moves": ["rest"], "baseAbility": "noability", "item": "", "pokeball": "pokeball"}

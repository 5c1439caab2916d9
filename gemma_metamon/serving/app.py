"""The routes of a service, and what every one of them has in common: bounds, token, counts, and errors in one sentence.

Needs FastAPI, of the extra `serve`. Bodies are read by `strict_json`, as all that others wrote.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from gemma_metamon import __version__
from gemma_metamon.errors import DataError
from gemma_metamon.serving.asked import read_asked
from gemma_metamon.serving.battles import Battles
from gemma_metamon.serving.limits import Gate
from gemma_metamon.serving.metrics import Metrics
from gemma_metamon.serving.refusals import RefusedError
from gemma_metamon.strict_json import on_one_line, shown

logger = logging.getLogger(__name__)
Chats = Callable[[bytes], Awaitable[tuple[dict[str, Any], int, int]]]
"""Answers the body of a chat completion; with its subwords, read and written."""
_SMALL_BYTES: Final = 16 * 1024
"""Of a body that is read in some milliseconds, whatever it holds."""
_LARGE_BYTES: Final = 2**20
"""Of a body that no battle of less than some hundred turns has: it waits for its like alone, and lets others pass."""
_READ_AT_ONCE: Final = 2
"""Bodies between the two; of large ones, one. They take memory, and each slows the others and the event loop."""
_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "overloaded_error",
}


@dataclass
class Service:
    """What is served.

    Attributes:
        name: of the agent, for people.
        battles: answer for it.
        gate: who may ask.
        metrics: of the service.
        chats: answer chat completions; None of an agent that does not write.
        is_ready: whether it takes requests; not any more once it is to end.
    """

    name: str
    battles: Battles
    gate: Gate
    metrics: Metrics = field(default_factory=Metrics)
    chats: Chats | None = None
    is_ready: bool = True

    def __post_init__(self) -> None:
        self.metrics.watch(battles=lambda: len(self.battles), inside=lambda: self.gate.inside)
        self.battles.on_reread = self.metrics.note_reread
        self.battles.policy.on_step = self.metrics.note_step


def build_app(service: Service) -> FastAPI:
    """The service's routes."""
    app = FastAPI(
        title="gemma-metamon",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,  # to an address made of a header that anybody writes
    )
    started_at, reading = int(time.time()), _Reading()

    # these two are never refused: that would cost as much as to answer, and whoever watches a service restarts one
    # that does not say that it is well
    @app.get("/health")
    async def health() -> Response:
        return JSONResponse({"status": "ok", "agent": service.name, "version": __version__})

    @app.get("/ready")
    async def ready() -> Response:
        status = 200 if service.is_ready else 503
        return JSONResponse({"ready": service.is_ready, "agent": service.name}, status)

    @app.get("/metrics")
    async def metrics(request: Request) -> Response:
        return await _answered(service, request, lambda: _metrics(service))

    @app.post("/act")
    async def act(request: Request) -> Response:
        async def answer() -> Response:
            asked = await reading.read(read_asked, await read_body(request, service))
            return JSONResponse(await service.battles.answer(asked))

        return await _answered(service, request, answer)

    if service.chats is not None:
        _add_chats(app, service, service.chats, started_at)

    @app.exception_handler(HTTPException)
    async def not_served(request: Request, error: HTTPException) -> Response:
        asked, why = f"{request.method} {shown(request.url.path)}", HTTPStatus(error.status_code).phrase
        message = f"{asked}: {why.lower()}; there are {_routes(service)}"

        async def answer() -> Response:
            return _refusal(error.status_code, message)

        return await _answered(service, request, answer, is_route=False)

    return app


def _add_chats(app: FastAPI, service: Service, chats: Chats, started_at: int) -> None:
    @app.get("/v1/models")
    async def models(request: Request) -> Response:
        async def answer() -> Response:
            model = {"id": service.name, "object": "model", "created": started_at, "owned_by": "gemma-metamon"}
            return JSONResponse({"object": "list", "data": [model]})

        return await _answered(service, request, answer)

    @app.post("/v1/chat/completions")
    async def completions(request: Request) -> Response:
        async def answer() -> Response:
            body, n_read, n_written = await chats(await read_body(request, service))
            service.metrics.note_tokens(n_read, n_written)
            return JSONResponse(body)

        return await _answered(service, request, answer)


async def _metrics(service: Service) -> Response:
    return Response(service.metrics.as_text(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _answered(
    service: Service, request: Request, answer: Callable[[], Awaitable[Response]], *, is_route: bool = True
) -> Response:
    """The answer, or a refusal with its reason; measured and counted either way. What is no route tells no secret."""
    began = time.perf_counter()
    service.gate.inside += 1
    try:
        response = await _let_in(service, request, answer, needs_token=is_route)
    finally:
        service.gate.inside -= 1
    route = request.url.path if is_route else "other"
    service.metrics.note_request(route, response.status_code, time.perf_counter() - began)
    return response


async def _let_in(
    service: Service, request: Request, answer: Callable[[], Awaitable[Response]], *, needs_token: bool
) -> Response:
    try:
        # first, so that a wrong token counts, too: who guesses is not looked at more often than who asks
        service.gate.require_room(request.client.host if request.client else "")
        service.gate.require_no_foreign_page(request.headers.get("host", ""), request.headers.getlist("origin"))
        if needs_token:
            service.gate.require_token(request.headers.get("authorization", ""))
        return await answer()
    except RefusedError as error:
        return _refusal(error.status, str(error), error.retry_after_s)
    except DataError as error:
        return _refusal(400, on_one_line(error))
    except ClientDisconnect:
        return _refusal(400, "the body ended before it was whole; send it again")
    except Exception:  # whatever it is, others are served on
        logger.exception("a request of %s could not be answered", request.url.path)
        return _refusal(500, "the service failed at this request; its log says how")


class _Reading:
    """Reads large bodies in threads: one takes a second, and the event loop has others to answer meanwhile."""

    def __init__(self) -> None:
        self._places, self._large = asyncio.Semaphore(_READ_AT_ONCE), asyncio.Semaphore(1)

    async def read(self, read: Callable[[bytes], Any], content: bytes) -> Any:
        """What `read` makes of a body, of a small one at once."""
        if len(content) <= _SMALL_BYTES:
            return read(content)
        async with self._places if len(content) <= _LARGE_BYTES else self._large:
            return await asyncio.to_thread(read, content)


async def read_body(request: Request, service: Service) -> bytes:
    """A request's body. Raises RefusedError for one that is too large, or takes too long."""
    limits = service.gate.limits
    too_large = RefusedError(
        413, f"the body has more than {limits.body_bytes} bytes; send less, or serve with another limit"
    )
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > limits.body_bytes:
        raise too_large
    content = bytearray()

    async def read() -> None:
        async for chunk in request.stream():
            content.extend(chunk)
            if len(content) > limits.body_bytes:
                raise too_large

    try:
        await asyncio.wait_for(read(), limits.body_s)
    except (asyncio.TimeoutError, TimeoutError):
        raise RefusedError(408, f"the body did not come within {limits.body_s:g} s; send it faster") from None
    return bytes(content)


def _refusal(status: int, message: str, retry_after_s: float | None = None) -> Response:
    headers = {} if retry_after_s is None else {"Retry-After": str(math.ceil(retry_after_s))}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    kind = _TYPES.get(status, "invalid_request_error")
    return JSONResponse({"error": {"message": message, "type": kind, "code": status}}, status, headers=headers)


def _routes(service: Service) -> str:
    chats = ["POST /v1/chat/completions", "GET /v1/models"] if service.chats is not None else []
    return ", ".join(["POST /act", *chats, "GET /health", "GET /ready", "GET /metrics"])

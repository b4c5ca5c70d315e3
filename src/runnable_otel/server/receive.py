"""`POST /v1/traces` and `/v1/logs`: OTLP over HTTP into the log. See the OTLP specification, section "OTLP/HTTP".

`/v1/metrics` is there so that an SDK that sends all it has to one endpoint sees no error: it keeps none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, Literal

from starlette.requests import Request
from starlette.responses import Response

from runnable_otel import ingest
from runnable_otel.log import StoreUnavailable
from runnable_otel.server import headers
from runnable_otel.server.bodies import Budget, read_body
from runnable_otel.server.options import is_loopback
from runnable_otel.server.replies import as_json
from runnable_otel.server.state import Refused, State

Signal = Literal["traces", "logs", "metrics"]
Endpoint = Callable[[Request], Awaitable[Response]]

SIGNALS: Final[tuple[Signal, ...]] = ("traces", "logs", "metrics")
_HELD: Final = 64 * 1024 * 1024  # of all bodies at once
_INLINE: Final = 32 * 1024  # what is shorter is decoded faster than a thread is woken
_THREADS: Final = 2
_PROTOBUF: Final = "application/x-protobuf"
_TYPES: Final = (_PROTOBUF, "application/json")
_FOR_ANOTHER: Final = (b"forwarded", b"via", b"x-real-ip", b"origin")
"""Headers that say for whom a request is made: by a proxy, or by a browser for a page."""


class Ingest:
    """The routes that write."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._budget = Budget(_HELD)
        self._threads = ThreadPoolExecutor(_THREADS, "runnable-otel-ingest")  # it has none before the first call

    def endpoint(self, signal: Signal) -> Endpoint:
        """The route of one signal."""

        async def receive(request: Request) -> Response:
            kind = headers.media_type(request.scope)
            try:
                return await self._receive(request, signal, kind)
            except Refused as refused:
                return _refusal(refused.status, refused.reason, kind, refused.headers)
            except ingest.Refused as refused:
                return _refusal(refused.status, refused.reason, kind)
            except StoreUnavailable as full:
                return _refusal(503, full.reason, kind, {"Retry-After": str(full.retry_after)})

        return receive

    async def _receive(self, request: Request, signal: Signal, kind: str | None) -> Response:
        self._check_writer(request.scope)
        if kind not in _TYPES:
            raise Refused(415, f"the Content-Type is {' or '.join(_TYPES)}", {"Connection": "close"})
        encoding = (request.headers.get("content-encoding") or "identity").strip().lower()
        if encoding not in ("gzip", "identity"):
            raise Refused(415, "the Content-Encoding is gzip, or there is none", {"Connection": "close"})
        body = await read_body(request.scope, request.receive, ingest.BODY_BYTES, self._budget)
        try:
            if signal == "metrics":
                return Response(b"" if kind == _PROTOBUF else b"{}", media_type=kind)
            work = partial(self._store, body, signal, kind, compressed=encoding == "gzip")
            if self._state.log.blocks or encoding == "gzip" or len(body) > _INLINE:
                answer = await asyncio.get_running_loop().run_in_executor(self._threads, work)
            else:
                answer = work()
        finally:
            self._budget.left += len(body)
        return Response(answer, media_type=kind)

    def _store(self, body: bytes, signal: ingest.Signal, kind: str, *, compressed: bool) -> bytes:
        """Decode and append; the answer, which says what was not taken."""
        log = self._state.log
        decoded = ingest.decode(ingest.inflate(body) if compressed else body, kind, signal)
        if decoded.records:
            log.extend(decoded.records)
        if decoded.alive:
            log.alive(decoded.alive)
        return ingest.reply(signal, kind, decoded.rejected, decoded.reason)

    def _check_writer(self, scope: Any) -> None:
        """Let through who has the writers' token; where there is none, programs of this machine.

        Raises:
            Refused: 401.
        """
        tokens = self._state.tokens
        if tokens.writes(headers.bearer(scope)) or (tokens.ingest_token is None and _is_local(scope)):
            return
        raise Refused(401, "a bearer token is needed to write", {"WWW-Authenticate": "Bearer", "Connection": "close"})


def _is_local(scope: Any) -> bool:
    """Whether both ends of the connection are this machine's own, and no proxy or page is behind the request."""
    ends = [end[0] for end in (scope.get("server"), scope.get("client")) if end]
    behind = any(name in _FOR_ANOTHER or name.startswith(b"x-forwarded-") for name, _ in scope["headers"])
    return len(ends) == 2 and all(map(is_loopback, ends)) and not behind


def _refusal(status: int, reason: str, kind: str | None, more: Any = None) -> Response:
    """An error as OTLP has it: a `google.rpc.Status` in the encoding of the request."""
    if kind == _PROTOBUF:
        text = reason.encode("utf-8", "replace")[:1024].decode("utf-8", "ignore").encode()
        size = bytes([len(text)]) if len(text) < 128 else bytes([len(text) & 127 | 128, len(text) >> 7])
        return Response(b"\x12" + size + text, status, more, _PROTOBUF)  # field 2, `message`
    return as_json({"error": reason, "message": reason}, status, more)

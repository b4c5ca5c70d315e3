"""`GET /events` and `GET /runs/{run}/events`: server-sent events, or a page of them as JSON."""

from __future__ import annotations

import json
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from runnable_otel import sse
from runnable_otel.fanout.outlet import outlet
from runnable_otel.log import OLDEST, EventStream
from runnable_otel.server import headers
from runnable_otel.server.replies import json_text
from runnable_otel.server.state import Refused, State, run_of

MAX_PAGE: Final = 1000
PAGE_BYTES: Final = 1024 * 1024
"""After so many characters of events a page is full."""
_STEP: Final = 100

_HEADERS: Final = headers.secured(
    [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-store, no-transform"),
        (b"x-accel-buffering", b"no"),
        (b"vary", b"Accept"),
    ]
)
_PLAIN: Final = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no", "Vary": "Accept"}


class Events:
    """An ASGI app, not a function that returns a response: fewer frames wait while a stream is open."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        state, request = self._state, Request(scope)
        state.check_reader(scope)
        key, stream = await self._stream(request)
        if "json" in request.headers.get("accept", ""):
            await (await self._page(request, stream))(scope, receive, send)
            return
        position = _asked(request)
        if position != OLDEST and await self._has_all(stream, position):
            await Response(status_code=204, headers=_PLAIN)(scope, receive, send)
        elif scope["method"] == "HEAD":
            await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
            await send({"type": "http.response.body", "body": b""})
        else:
            del request
            give_back = state.take_place(scope)
            await state.fanout.stream(key, stream, position, outlet(scope, receive, send), _HEADERS, give_back)

    async def _stream(self, request: Request) -> tuple[str, EventStream]:
        """The stream that is asked for, and a name for it."""
        state = self._state
        if "run" not in request.path_params:
            return "", state.log.summaries()
        run = run_of(request)
        summary = await state.call(state.log.run, run)
        trace = "" if summary is None else str(summary["trace_id"])
        stream = await state.call(state.log.stream, trace) if trace else None
        if stream is None:
            raise Refused(404, "no such run")
        return trace, stream

    async def _has_all(self, stream: EventStream, position: str) -> bool:
        batch = await self._state.call(stream.read, position, 1)
        return batch.ended and not batch.entries and batch.gap is None

    async def _page(self, request: Request, stream: EventStream) -> Response:
        """At most 1,000 events after a position, or 1 MiB of them: the texts as they are, so that none is parsed."""
        batch = await self._state.call(stream.read, request.query_params.get("position", OLDEST), _STEP)
        gap = None if batch.gap is None else {"reason": batch.gap.reason, "lost": batch.gap.lost}
        texts = [entry.text for entry in batch.entries]
        while batch.entries and not batch.ended and len(texts) < MAX_PAGE and sum(map(len, texts)) < PAGE_BYTES:
            more = await self._state.call(stream.read, batch.position, _STEP)
            if more.gap is not None:  # it is for the next page to say
                break
            texts += [entry.text for entry in more.entries]
            batch = more
        events = ",".join(sse.data_line(text).decode() for text in texts)
        rest = json.dumps({"position": batch.position, "ended": batch.ended, "gap": gap}, separators=(",", ":"))
        return json_text(f'{{"events":[{events}],{rest[1:]}', headers={"Vary": "Accept"})


def _asked(request: Request) -> str:
    """The position that a client asks for: its header wins, as EventSource sends that one by itself."""
    return request.headers.get("last-event-id") or request.query_params.get("last_event_id") or OLDEST

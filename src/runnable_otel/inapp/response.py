"""`sse_response`: the events of a run as a Starlette response."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from runnable_otel import sse
from runnable_otel.inapp.runs import Run
from runnable_otel.log import OLDEST, EventStream, wait_async
from runnable_otel.log.memory import LOG
from runnable_otel.server_end import EndsWithServer

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

HEARTBEAT_SECONDS: Final = 15.0
_CHUNK: Final = 64 * 1024

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]

_HEADERS: Final = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}


def sse_response(run: Run | str, *, request: Request | None = None) -> Response:
    """Stream a run's events to a client, from the first one on, until the run is over; then `event: end`.

    A client that leaves ends its own stream and nothing else; when the server stops, the streams end without
    `event: end`, so that clients come again. uvicorn waits then for a client that has stopped reading, and for ever,
    unless it is told how long: `uvicorn --timeout-graceful-shutdown 3`. Frames and positions follow the HTML standard,
    section 9.2.

    Args:
        run: what `run_pipeline` returned; or a run id or trace id that the log of this process has, which holds every
            run of the process where the sink `memory:` is on.
        request: the request that is answered. With it a client that comes again goes on where it was, by its header
            `Last-Event-ID` or by `?last_event_id=`; `now` means only what comes. One that has had all gets a 204, an
            unknown run a 404.

    Raises:
        ModuleNotFoundError: Starlette is not installed; `pip install 'runnable-otel[serve]'`.
    """
    from starlette.responses import Response

    stream = LOG.stream(run) if isinstance(run, str) else run.stream
    if stream is None:
        return Response("no such run\n", status_code=404, headers=_HEADERS, media_type="text/plain")
    position = _asked(request)
    batch = stream.read(position)
    if batch.ended and position != OLDEST and not batch.entries and batch.gap is None:
        return Response(status_code=204, headers=_HEADERS)

    class EventStreamResponse(Response):
        """Not a StreamingResponse: that one sees that a client has left only when it sends the next time."""

        async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body", "body": b""})
            else:
                await _send_until_gone(frames(stream, position), receive, send)

    response = EventStreamResponse(headers=_HEADERS, media_type=sse.MEDIA_TYPE)
    del response.headers["content-length"]  # Starlette's, of the empty body
    return response


def _asked(request: Request | None) -> str:
    if request is None:
        return OLDEST
    return request.headers.get("last-event-id") or request.query_params.get("last_event_id") or OLDEST


async def frames(stream: EventStream, position: str, heartbeat: float = HEARTBEAT_SECONDS) -> AsyncIterator[bytes]:
    """What a client gets, in pieces of some 64 KiB: a burst of events leaves in one write."""
    yield sse.retry(1000 + secrets.randbelow(2001))  # random, so that not all come again at once
    while True:
        batch = stream.read(position)
        pieces = [] if batch.gap is None else [sse.gap_frame(batch.gap)]
        size = 0
        for entry in batch.entries:
            pieces.append(sse.entry_frame(entry))
            size += len(pieces[-1])
            if size >= _CHUNK:
                yield b"".join(pieces)
                pieces, size = [], 0
        if batch.ended:
            pieces.append(sse.end_frame())
        if pieces:
            yield b"".join(pieces)
        if batch.ended:
            return
        position = batch.position
        while not await wait_async(stream, position, heartbeat):
            yield sse.HEARTBEAT


async def _send_until_gone(pieces: AsyncIterator[bytes], receive: _Receive, send: _Send) -> None:
    """Send until all is sent, the client has left, or the server stops."""

    async def everything() -> None:
        async for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass  # the rest of the request's body

    own: list[asyncio.Task[None]] = [asyncio.create_task(everything()), asyncio.create_task(gone())]
    stopping = asyncio.get_running_loop().create_future()
    with EndsWithServer(partial(stopping.set_result, None)):
        try:
            await asyncio.wait([*own, stopping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in own:
                task.cancel()
            outcomes = await asyncio.gather(*own, return_exceptions=True)
    if isinstance(outcomes[0], Exception) and not isinstance(outcomes[0], OSError):
        raise outcomes[0]
    if not isinstance(outcomes[1], asyncio.CancelledError):
        return  # there is nobody to tell
    await send({"type": "http.response.body", "body": b""})

"""Where a client's bytes go: through ASGI, or, under a server that offers it, straight to the connection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol, cast

from runnable_otel.fanout.frames import LAST_CHUNK, Piece, chunk

EXTENSION: Final = "runnable_otel.connection"
"""The key in the ASGI scope's `extensions` under which a server has its `Offer`."""

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Connection(Protocol):
    """A connection that is one stream's until it is closed: HTTP has no more to do with it.

    One call in a loop over all clients writes to each, without a task for each of them. All methods are for its event
    loop.

    Attributes:
        on_lost: called when the client goes.
    """

    on_lost: Callable[[], None] | None

    @property
    def lost(self) -> bool:
        """The client has gone, or is about to."""
        ...

    @property
    def can_write(self) -> bool:
        """The client is there, and its socket takes data."""
        ...

    async def writable(self) -> None:
        """Wait until the socket takes data, or the client has gone."""
        ...

    def write(self, data: bytes, /) -> None:
        """Write bytes as they are: a chunk of HTTP/1.1."""
        ...

    def end(self) -> None:
        """Close, once all is sent."""
        ...

    def abort(self) -> None:
        """Close, without what is not sent yet."""
        ...


class Offer(Protocol):
    """What a server offers with a request: the connection that it came on."""

    def can_hand_over(self, scope: Scope, /) -> bool:
        """Whether this request's response can have it."""
        ...

    def hand_over(self) -> Connection:
        """Take the connection from HTTP, once the head of the response is sent."""
        ...

    def abort(self) -> None:
        """Close it, without what is not sent yet."""
        ...


class Outlet(Protocol):
    """The way to one client. All methods are for its event loop."""

    needs_request: bool
    """Whether the request must stay open for as long as the stream is, or is over when `start` returns."""

    @property
    def lost(self) -> bool:
        """The client has gone."""
        ...

    async def start(self, headers: Sequence[tuple[bytes, bytes]], on_lost: Callable[[], None]) -> None:
        """Send the head of a response with status 200; from then on call `on_lost` when the client goes."""
        ...

    async def send(self, body: bytes, *, last: bool = False) -> None:
        """Send bytes, once the socket takes some."""
        ...

    def offer(self, pieces: Sequence[Piece]) -> int:
        """Write pieces now, as far as that needs no waiting, and return how many."""
        ...

    def abort(self) -> None:
        """Close the connection, without what is not sent yet."""
        ...

    def close(self) -> None:
        """Nobody is interested any more."""
        ...


def outlet(scope: Scope, receive: Receive, send: Send) -> Outlet:
    """The best way to the client of a request."""
    extensions = cast("dict[str, Any]", scope.get("extensions") or {})
    offer: Offer | None = extensions.get(EXTENSION)
    if offer is not None and offer.can_hand_over(scope):
        return _Direct(offer, send)
    return _Asgi(receive, send, _nothing if offer is None else offer.abort)


class _Direct:
    """On the connection itself. All that HTTP needed for the request is let go: a stream may last for days."""

    __slots__ = ("_connection", "_request")

    needs_request = False

    def __init__(self, offer: Offer, send: Send) -> None:
        self._request: tuple[Offer, Send] | None = (offer, send)
        self._connection: Connection | None = None

    @property
    def lost(self) -> bool:
        return self._connection is not None and self._connection.lost

    async def start(self, headers: Sequence[tuple[bytes, bytes]], on_lost: Callable[[], None]) -> None:
        assert self._request is not None
        offer, send = self._request
        await send({"type": "http.response.start", "status": 200, "headers": [*headers, (b"connection", b"close")]})
        self._connection, self._request = offer.hand_over(), None
        self._connection.on_lost = on_lost

    async def send(self, body: bytes, *, last: bool = False) -> None:
        assert self._connection is not None
        connection = self._connection
        await connection.writable()
        if not connection.lost:
            connection.write((chunk(body) if body else b"") + (LAST_CHUNK if last else b""))
            if last:
                connection.end()

    def offer(self, pieces: Sequence[Piece]) -> int:
        connection = self._connection
        for number, piece in enumerate(pieces):
            if connection is None or not connection.can_write:
                return number
            connection.write(piece.chunk)
        return len(pieces)

    def abort(self) -> None:
        if self._connection is not None:
            self._connection.abort()
        elif self._request is not None:
            self._request[0].abort()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.on_lost = None
            self._connection.end()


class _Asgi:
    """Through `send` alone. It may wait, so that nothing is written without the client's own task."""

    needs_request = True

    def __init__(self, receive: Receive, send: Send, abort: Callable[[], None]) -> None:
        self._receive, self._send = receive, send
        self.abort = abort  # ASGI has no word for it
        self.lost = False
        self._on_lost: Callable[[], None] = _nothing
        self._watcher: asyncio.Task[None] | None = None

    async def start(self, headers: Sequence[tuple[bytes, bytes]], on_lost: Callable[[], None]) -> None:
        self._on_lost = on_lost
        self._watcher = asyncio.create_task(self._watch())
        await self._send({"type": "http.response.start", "status": 200, "headers": list(headers)})

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass  # the rest of the request's body
        self.lost = True
        self._on_lost()

    async def send(self, body: bytes, *, last: bool = False) -> None:
        if self.lost:
            return
        if last and self._watcher is not None:
            self._watcher.cancel()  # to some servers the end of the response is a disconnect
        with suppress(OSError):  # the client has gone; from ASGI 2.4 on `send` says so
            await self._send({"type": "http.response.body", "body": body, "more_body": not last})
            return
        self.lost = True

    def offer(self, pieces: Sequence[Piece]) -> int:
        return 0

    def close(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()


def _nothing() -> None:
    pass

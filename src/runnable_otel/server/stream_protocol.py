"""The connection of a stream, once the head of its response is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class StreamProtocol(asyncio.Protocol):
    """A connection that is a stream's: see `Connection`. It takes the place of the `HttpProtocol` that it began as.

    Args:
        transport: the connection's.
        connections: those of the server, to which this one belongs while it is open.
        paused: its socket takes no data at the moment.
    """

    __slots__ = ("_connections", "_lost", "_paused", "_writable", "on_lost", "transport")

    def __init__(self, transport: asyncio.Transport, connections: set[Any], *, paused: bool) -> None:
        self.transport, self._connections, self._paused = transport, connections, paused
        self._lost = False
        self.on_lost: Callable[[], None] | None = None
        self._writable: asyncio.Future[None] | None = None
        if not self.lost:
            connections.add(self)
            transport.set_protocol(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the stream."""
        self._connections.discard(self)
        self._lost = True
        self.resume_writing()
        on_lost, self.on_lost = self.on_lost, None
        if on_lost is not None:
            on_lost()

    def pause_writing(self) -> None:
        """Note that the socket takes no more."""
        self._paused = True

    def resume_writing(self) -> None:
        """Tell who waits that it does."""
        self._paused = False
        waiting, self._writable = self._writable, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    @property
    def lost(self) -> bool:
        """The client has gone, or is about to."""
        return self._lost or self.transport.is_closing()

    @property
    def can_write(self) -> bool:
        """The client is there, and its socket takes data."""
        return not (self._paused or self.lost)

    async def writable(self) -> None:
        """Wait until the socket takes data, or the client has gone."""
        if self._paused and not self.lost:
            if self._writable is None:
                self._writable = asyncio.get_running_loop().create_future()
            await self._writable

    def write(self, data: bytes) -> None:
        """Write a chunk."""
        self.transport.write(data)

    def end(self) -> None:
        """Close, once all is sent."""
        self.transport.close()

    def abort(self) -> None:
        """Close at once."""
        self.transport.abort()

    def shutdown(self) -> None:
        """Do nothing: the server ends its streams itself."""

"""uvicorn as `serve` uses it: connections that a room writes to directly, bounded requests, an end without waiting."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

import uvicorn
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from runnable_otel.fanout.outlet import EXTENSION
from runnable_otel.server.guard import MAX_HEADERS, MAX_PATH, MAX_QUERY
from runnable_otel.server.stream_protocol import StreamProtocol

WRITE_BUFFER: Final = 16 * 1024
"""Bytes that wait in this process for a socket, before it counts as one that takes nothing."""
SEND_BUFFER: Final = 128 * 1024
"""Bytes that wait in the kernel; Linux takes twice as many."""
IDLE_SECONDS: Final = 30.0
"""How long a connection may take to send the head of a request, the first one or the next: a client on a busy machine,
or behind a slow line, needs a while for either."""
STOP_SECONDS: Final = 0.4
"""How long what is under way may take when the server stops."""
CUT_SECONDS: Final = 0.3
"""How long it may take then to hear that its connection is cut."""
_HEAD: Final = MAX_HEADERS + MAX_PATH + MAX_QUERY + 1024


class HttpProtocol(HttpToolsProtocol):
    """A connection. It offers itself to the responses of its requests, see `Offer`.

    What comes is bounded, whatever it is: uvicorn would keep headers, trailers and requests without end. A request that
    comes before the one before it is answered (pipelining, which no browser does) is not read: that answer is the last.
    """

    _unread = 0
    """Bytes that came since something of a request was whole."""
    _in_head = True
    _deaf = False
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Bound what waits here, and how long the first request may."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=WRITE_BUFFER)
        self._set_patience()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the timer."""
        super().connection_lost(exc)
        self._unset_patience()

    def data_received(self, data: bytes) -> None:
        """Read."""
        if self._deaf or self.transport.is_closing():
            return
        self._unread += len(data)
        super().data_received(data)
        if self._unread > _HEAD and not (self._deaf or self.transport.is_closing()):
            self._refuse()

    def _refuse(self) -> None:
        if self._in_head and not self._is_answering:
            self.transport.write(
                b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
            self.transport.close()
        else:
            self.abort()

    @property
    def _is_answering(self) -> bool:
        cycle: Any = self.cycle  # uvicorn has none before the first request
        return cycle is not None and not cycle.response_complete

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, or comes too early; what is under way is answered first."""
        if self._is_answering:
            self._deaf, self.cycle.keep_alive = True, False
        else:
            super().send_400_response(msg)

    def on_message_begin(self) -> None:
        """Offer the connection to the response."""
        if self._is_answering:
            raise BlockingIOError("the request before this one is not answered")  # the parser stops
        super().on_message_begin()
        self._in_head = True
        self._set_patience()
        scope: Any = self.scope
        scope["extensions"] = {EXTENSION: self}

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, but no trailer: nobody asks for one."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is there: the rest has limits of its own."""
        self._in_head, self._unread = False, 0
        self._unset_patience()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body is there."""
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """All of the request is there."""
        self._unread = 0
        self._unset_patience()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Read the rest of a request that is answered early, so that its client sees the answer; but not for long."""
        super().on_response_complete()
        if self.cycle.more_body and not self.transport.is_closing():
            self._set_patience()

    def _set_patience(self) -> None:
        if self._patience is None:
            self._patience = self.loop.call_later(IDLE_SECONDS, self.transport.abort)

    def _unset_patience(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    # For the response.

    def can_hand_over(self, scope: Scope) -> bool:
        """Whether the response to this request can have the connection."""
        return scope["http_version"] == "1.1" and scope["method"] == "GET"

    def hand_over(self) -> StreamProtocol:
        """Give the connection away, as uvicorn does for a WebSocket; nothing of the request stays behind."""
        self.cycle.disconnected = True  # uvicorn need not wait for the end of the response
        self._unset_patience()
        self._unset_keepalive_if_required()
        self.flow.resume_reading()
        self.connections.discard(self)
        stream = StreamProtocol(self.transport, self.connections, paused=self.flow.write_paused)
        for name in ("cycle", "scope", "headers", "parser"):  # they refer to one another
            setattr(self, name, None)
        return stream

    def abort(self) -> None:
        """Close at once; uvicorn is not to miss the end of the response."""
        if self._is_answering:
            self.cycle.disconnected = True
        self.transport.abort()


class Server(uvicorn.Server):
    """Ends at the first SIGTERM or SIGINT: streams are closed, so that clients come again, and nobody is waited for.

    It does not raise the signal again, as uvicorn does: the exit code is 0, as the user has asked for the end.

    Args:
        close: ends the streams; called in a signal handler.
    """

    def __init__(self, config: uvicorn.Config, close: Callable[[], None]) -> None:
        super().__init__(config)
        self._close = close

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop, at a signal."""
        self.should_exit = True
        self._close()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let go of the ports, let answers that are under way end, and cut what is left."""
        self._close()
        for server in self.servers:
            server.close()
        for each in sockets or []:
            each.close()
        connections = self.server_state.connections
        for connection in list(connections):
            connection.shutdown()
        deadline = asyncio.get_running_loop().time() + STOP_SECONDS
        while connections and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)
        for connection in list(connections):
            connection.transport.abort()
        # Who is cut hears of it, and ends by himself; of a task that is cancelled uvicorn logs a failure.
        tasks = set(self.server_state.tasks)
        if tasks:
            _, tasks = await asyncio.wait(tasks, timeout=CUT_SECONDS)
        logging.getLogger("uvicorn.error").disabled = True  # it takes what is cancelled now for a failure
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)
        await self.lifespan.shutdown()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        OSError: the port is in use, or the address is not this machine's.
    """
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # on Windows it would let two programs have the port
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit these.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000)
        made.bind(address)
        made.listen(2048)
    except OSError:
        made.close()
        raise
    made.setblocking(False)
    return made


def config(app: Any) -> uvicorn.Config:
    """How uvicorn is to run the app."""
    return uvicorn.Config(
        app,
        http=HttpProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # whoever is on the other end of the connection is the client, whatever he says
        timeout_keep_alive=int(IDLE_SECONDS),
        backlog=2048,
    )

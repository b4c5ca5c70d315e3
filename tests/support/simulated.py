"""The live server's own app, its streams and its log, between simulated sockets: one thread, one clock, one seed.

Real: the guard, the routes, the fan-out, the encoder, the store, and the reader of the client. Simulated: the network,
the clock, and the end of processes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from random import Random
from typing import Any

from runnable_otel.fanout.outlet import EXTENSION
from runnable_otel.log import EventLog
from runnable_otel.server.app import build, make_state
from runnable_otel.server.options import Options
from support.serve import TOKEN

_HIGH = 4096  # bytes that wait for a client, before its socket counts as one that takes nothing
_OPTIONS = Options.read({}, token=TOKEN)


class Wire:
    """One connection: what the server writes waits here until the client reads it; either may lose the other.

    `witness` is called when the server sends `event: end`; `ended_with` is what it said, for when the client reads it.
    It is also what `fanout.outlet.Offer` and `Connection` describe, so that rooms write to it directly.
    """

    def __init__(self) -> None:
        self.on_lost: Callable[[], None] | None = None
        self.lost = self.handed_over = False
        self.status = 0
        self.witness: Callable[[], Any] = lambda: None
        self.ended_with: Any = None
        self._buffer = bytearray()
        self._cut = self._ended = False
        self._changed = asyncio.Event()

    # The server's end.

    @property
    def can_write(self) -> bool:
        return not self.lost and len(self._buffer) < _HIGH

    def can_hand_over(self, scope: object) -> bool:
        del scope
        return True

    def hand_over(self) -> Wire:
        self.handed_over = True
        return self

    async def writable(self) -> None:
        while not (self.can_write or self.lost):
            await self._wait()

    def write(self, data: bytes) -> None:
        """Chunks of HTTP/1.1."""
        assert self.can_write
        while data:
            size, _, rest = data.partition(b"\r\n")
            length = int(size, 16)
            body, end, data = rest[:length], rest[length : length + 2], rest[length + 2 :]
            assert (len(body), end) == (length, b"\r\n")
            self._put(body)

    def end(self) -> None:
        self._ended = True
        self._wake()

    def abort(self) -> None:
        self._cut = True
        self.lose()

    async def receive(self) -> MutableMapping[str, Any]:
        while not self.lost:
            await self._wait()
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            while len(self._buffer) >= _HIGH and not self.lost:
                await self._wait()
            self._put(message.get("body", b""))
            self._ended = self._ended or not message.get("more_body", False)
        self._wake()

    def _put(self, body: bytes) -> None:
        if not (self.lost or self._cut):
            self._buffer += body
            if b"event: end" in body:
                self.ended_with = self.witness()
        self._wake()

    # The network.

    def lose(self) -> None:
        """The server finds out that the client has gone."""
        if not self.lost:
            self.lost = True
            on_lost, self.on_lost = self.on_lost, None
            if on_lost is not None:
                on_lost()
            self._wake()

    def cut(self, arrives: int) -> None:
        """The connection breaks: so many of the bytes that are on their way arrive. The server does not know of it."""
        del self._buffer[arrives:]
        self._cut = True
        self._wake()

    @property
    def waiting(self) -> int:
        return len(self._buffer)

    # The client's end.

    async def read(self, most: int) -> bytes:
        """What is there; empty at the end, or where it was cut."""
        while not (self._buffer or self._cut or self._ended):
            await self._wait()
        piece = bytes(self._buffer[:most])
        del self._buffer[:most]
        self._wake()
        return piece

    async def head(self) -> int:
        """The status; 0 where none came."""
        while not (self.status or self._cut or self._ended):
            await self._wait()
        return 0 if self._cut and not self._buffer else self.status

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _wake(self) -> None:
        before, self._changed = self._changed, asyncio.Event()
        before.set()


class Process:
    """One process of the live server, on a log that is its own or that it shares."""

    def __init__(self, log: EventLog) -> None:
        log.blocks = False  # type: ignore[misc] - called in the event loop, so that a seed is a sequence
        self.log = log
        self.state = make_state(log, _OPTIONS)
        self.app = build(self.state, _OPTIONS)
        self.wires: dict[Wire, asyncio.Task[None]] = {}
        self.running = True
        self.problems: list[BaseException] = []

    def connect(self, path: str, position: str, random: Random) -> Wire | None:
        """Ask for a stream; None where nobody listens."""
        if not self.running:
            return None
        wire, headers = Wire(), [(b"host", b"localhost"), (b"authorization", f"Bearer {TOKEN}".encode())]
        if position and random.random() < 0.8:
            headers.append((b"last-event-id", position.encode()))
            query = b"last_event_id=nonsense" if random.random() < 0.2 else b""  # the header wins
        else:
            query = f"last_event_id={position}".encode() if position else b""
        direct = random.random() < 0.7
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query,
            "headers": headers,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8765),
            "extensions": {EXTENSION: wire} if direct else {},
        }
        self.wires[wire] = asyncio.create_task(self._serve(scope, wire))
        return wire

    async def _serve(self, scope: MutableMapping[str, Any], wire: Wire) -> None:
        try:
            await self.app(scope, wire.receive, wire.send)
        except Exception as error:  # not the end of the process: a bug
            self.problems.append(error)
        finally:
            for task in self._streams():
                task.remove_done_callback(self._over)
                task.add_done_callback(self._over)
            if not wire.handed_over:
                wire.end()  # as a server does: an answer that was not finished is cut
                self.wires.pop(wire, None)

    def _streams(self) -> set[asyncio.Task[None]]:
        """Those whose request is over."""
        return self.state.fanout._tasks

    def _over(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.problems.append(error)

    async def kill(self, random: Random) -> None:
        """The process ends where it is. Of what it had written some arrives."""
        self.running = False
        for wire in list(self.wires):
            wire.cut(random.randint(0, wire.waiting))
        await self._gone()

    async def stop(self) -> None:
        """SIGTERM: it ends its streams, and waits a moment."""
        self.running = False
        self.state.fanout.close()
        await asyncio.sleep(0.4)
        await self._gone()

    async def _gone(self) -> None:
        while tasks := [task for task in (*self.wires.values(), *self._streams()) if not task.done()]:
            for task in tasks:  # all, before any other has its turn
                task.cancel()
            await asyncio.wait(tasks)

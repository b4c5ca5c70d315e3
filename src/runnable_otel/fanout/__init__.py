"""One log, many clients: what comes is read and encoded once, and written to each of them.

A client is a cursor in the log. One that is at its head is written to by its run's `Room`; one that is behind, or whose
socket takes nothing, reads the log by itself. So nobody has a queue that could overflow, and nobody waits for another.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

from runnable_otel.fanout.client import Client, Stalled
from runnable_otel.fanout.outlet import Outlet
from runnable_otel.fanout.room import Room
from runnable_otel.log import EventStream
from runnable_otel.server_end import EndsWithServer

logger = logging.getLogger(__name__)

GATHER: Final = 0.005
ANSWER: Final = 2.0
"""Seconds that the log has to say how it is."""
_THREADS: Final = 8
_P = ParamSpec("_P")
_T = TypeVar("_T")


class Fanout:
    """The streams that are open. Event loops of several threads may use it.

    Args:
        blocks: reading the log may wait for a disk or a network, so that it is done in threads.
        gather: seconds in which what comes leaves in one write. 0: an event at a time, if they come so.
    """

    def __init__(self, *, blocks: bool = False, gather: float = GATHER) -> None:
        self.gather = gather
        self._threads = ThreadPoolExecutor(_THREADS, "runnable-otel-log") if blocks else None
        self._aside = ThreadPoolExecutor(1, "runnable-otel-health") if blocks else None
        self._rooms: dict[tuple[asyncio.AbstractEventLoop, Hashable], Room] = {}
        self._clients: dict[Client, asyncio.AbstractEventLoop] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def __len__(self) -> int:
        """How many clients there are."""
        return len(self._clients)

    async def call(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Call the log, in a thread if that may take long."""
        if self._threads is None:
            return function(*args, **kwargs)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: function(*args, **kwargs))

    async def ask(self, function: Callable[[], _T]) -> _T:
        """Call the log for its health, beside the calls that may hang.

        Raises:
            asyncio.TimeoutError: there is no answer.
        """
        if self._aside is None:
            return function()
        return await asyncio.wait_for(asyncio.get_running_loop().run_in_executor(self._aside, function), ANSWER)

    async def stream(
        self,
        key: Hashable,
        stream: EventStream,
        position: str,
        outlet: Outlet,
        headers: Sequence[tuple[bytes, bytes]],
        on_over: Callable[[], None] = lambda: None,
    ) -> None:
        """Answer one request with a stream, from a position on.

        Returns when the stream is over, or, where the outlet has no need of the request, once it is under way.

        Args:
            key: of the stream: whoever names the same one shares a reader.
            on_over: called when the stream is over, whatever its end.
        """
        loop = asyncio.get_running_loop()
        client = Client(self._enter(key, stream), outlet, position)
        self._clients[client] = loop
        if self._closed:
            client.close()
        try:
            await client.start(headers)
        except Stalled:
            self._over(client, on_over)
            return
        except BaseException:
            self._over(client, on_over)
            raise
        if outlet.needs_request:
            # The server may be one that never calls `close`: only those that hand over connections are ours.
            with EndsWithServer(client.close):
                await self._run(client, on_over)
        else:
            task = loop.create_task(self._run(client, on_over))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    async def _run(self, client: Client, on_over: Callable[[], None]) -> None:
        try:
            await client.run()
        finally:
            self._over(client, on_over)

    def _over(self, client: Client, on_over: Callable[[], None]) -> None:
        client.outlet.close()
        del self._clients[client]
        self._leave(client.room)
        on_over()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            logger.error("a stream failed", exc_info=failure)

    def close(self) -> None:
        """End all streams, and those that come, without `event: end`. Any thread and signal handler may call it."""
        self._closed = True
        for client, loop in list(self._clients.items()):
            loop.call_soon_threadsafe(client.close)

    # For rooms.

    def move(self, room: Room, stream: EventStream) -> Room:
        """Another room for a client of one that is over."""
        self._leave(room)
        return self._enter(room.key, stream)

    def forget(self, room: Room) -> None:
        """The room is over: who comes now gets a new one."""
        place = asyncio.get_running_loop(), room.key
        if self._rooms.get(place) is room:
            del self._rooms[place]

    def _enter(self, key: Hashable, stream: EventStream) -> Room:
        place = asyncio.get_running_loop(), key
        room = self._rooms.get(place)
        if room is None:
            room = self._rooms[place] = Room(self, key, stream)
        room.clients += 1
        return room

    def _leave(self, room: Room) -> None:
        room.clients -= 1
        if not room.clients and not room.over:
            self.forget(room)
            room.close()

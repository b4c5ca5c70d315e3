"""The clients of one run in one event loop: one reader of the log for all of them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from runnable_otel import sse
from runnable_otel.fanout.frames import Piece, piece, pieces
from runnable_otel.log import NOW, Batch, EventStream

if TYPE_CHECKING:
    from runnable_otel.fanout import Fanout
    from runnable_otel.fanout.client import Client

logger = logging.getLogger(__name__)

HEARTBEAT: Final = 15.0
"""Seconds after which a stream says that it is alive."""
MOST_GATHER: Final = 0.02
"""Seconds that events may wait for others at most."""
_PAGE: Final = 1000
_AGAIN: Final = 1.0
_SAY_EVERY: Final = 60.0


class Room:
    """Reads one stream from its head on, and writes what comes to the clients that are there too.

    Attributes:
        key: of the stream.
        position: where the room is in the log; empty until that is known.
        members: the clients that are there too.
        clients: how many clients the run has, those that are behind too.
        over: the room is closed. What comes next, if anything does, is for a new one.
    """

    def __init__(self, fanout: Fanout, key: Hashable, stream: EventStream) -> None:
        self.key, self._fanout, self._stream = key, fanout, stream
        self._loop = asyncio.get_running_loop()
        self._moved: asyncio.Future[bool] = self._loop.create_future()
        self._spoke, self._took, self._said_at = self._loop.time(), 0.0, -_SAY_EVERY
        self.position = ""
        self.members: set[Client] = set()
        self.clients = 0
        self.over = False
        self._task = self._loop.create_task(self._run())

    def again(self) -> Room:
        """This room, or the one that has taken its place."""
        return self._fanout.move(self, self._stream) if self.over else self

    async def read(self, position: str, limit: int) -> Batch:
        """Read the log, in a thread if that may take long."""
        return await self._fanout.call(self._stream.read, position, limit)

    async def moved(self) -> bool:
        """Wait until the room has read something new; false if a heartbeat is due first."""
        return self.over or await asyncio.shield(self._moved)

    def troubled(self, error: Exception) -> None:
        """Say that the log can't be read, once a minute at most."""
        now = time.monotonic()
        if now - self._said_at >= _SAY_EVERY:
            self._said_at = now
            logger.warning("the event log can't be read, its streams wait: %s: %s", type(error).__name__, error)

    def close(self) -> None:
        """Stop reading; who is still here finds out with the next read."""
        self.over = True
        self._task.cancel()
        self._tell(new=True)
        for client in list(self.members):
            client.wake()

    # The room's own task.

    async def _run(self) -> None:
        while not self.over:
            try:
                await self._round()
            except Exception as error:  # noqa: BLE001 - a disk or a network: the streams stay, and it is tried again
                self.troubled(error)
                await asyncio.sleep(_AGAIN)
                self._beat()

    async def _round(self) -> None:
        """Wait for something new, gather what comes with it, and write it."""
        if not self.position:
            self.position = (await self.read(NOW, 1)).position
            self._tell(new=True)
        if await self._more() and self._fanout.gather:
            await asyncio.sleep(min(MOST_GATHER, max(self._fanout.gather, self._took)))
        batch = await self.read(self.position, _PAGE)
        began = self._loop.time()
        if batch.entries or batch.gap:
            self._write(list(pieces(batch)) if self.members else [])
            self.position = batch.position
            self._tell(new=True)
        self._took = self._loop.time() - began
        if batch.ended:
            self._fanout.forget(self)
            for client in list(self.members):
                client.wake(None)
            self.close()
        self._beat()

    async def _more(self) -> bool:
        """Wait until there is more; false if a heartbeat is due first."""
        event = asyncio.Event()
        timer = self._loop.call_at(self._spoke + HEARTBEAT, event.set)
        new = left = False
        forget: list[Callable[[], None]] = []

        def wake() -> None:
            nonlocal new
            new = True
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(event.set)

        def register() -> None:
            # Perhaps in a thread, which goes on when this task is cancelled.
            forget.append(self._stream.when_more(self.position, wake))
            if left:
                forget[0]()

        try:
            await self._fanout.call(register)
            await event.wait()
        finally:
            left = True
            timer.cancel()
            for each in forget:
                each()
        return new

    def _write(self, new: Sequence[Piece]) -> None:
        """Write to all members; those that could not take it are none any more."""
        self._spoke = self._loop.time()
        behind = [client for client in self.members if not client.take(new)]
        self.members.difference_update(behind)

    def _beat(self) -> None:
        if self._loop.time() >= self._spoke + HEARTBEAT:
            self._write([piece([sse.HEARTBEAT], self.position)])
            self._tell(new=False)

    def _tell(self, *, new: bool) -> None:
        """Tell those that wait for the room."""
        before, self._moved = self._moved, self._loop.create_future()
        if not before.done():
            before.set_result(new)

"""One client of a stream: a cursor in the log, and the way to a socket."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Final

from runnable_otel import sse
from runnable_otel.fanout.frames import Piece, page
from runnable_otel.fanout.outlet import Outlet

if TYPE_CHECKING:
    from runnable_otel.fanout.room import Room

logger = logging.getLogger(__name__)

STALLED: Final = 30.0
"""Seconds after which a client whose socket takes nothing is cut."""
_HANDED: Final = 2
_LIMITS: Final = 4, 256
_FULL: Final = 12 * 1024


class Client:
    """Sends a run to one client, until the run is over, the client has gone, or the streams are closed.

    A client that is at the log's head is a member of its room, which writes to it; its own task sleeps. One that is
    behind reads the log itself, one piece at a time, so that it holds no more than that.

    Args:
        room: the run's.
        outlet: the way to the client.
        position: where it was.
    """

    __slots__ = ("_closing", "_limit", "_loop", "_next", "_task", "outlet", "position", "room")

    def __init__(self, room: Room, outlet: Outlet, position: str) -> None:
        self.room, self.outlet, self.position = room, outlet, position
        self._loop = asyncio.get_running_loop()
        self._next: asyncio.Future[Sequence[Piece] | None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._limit = 2 * _LIMITS[0]

    # For the room.

    def take(self, pieces: Sequence[Piece]) -> bool:
        """Write pieces now; false if not all of them could be, and the client goes on by itself."""
        number = self.outlet.offer(pieces)
        if number:
            self.position = pieces[number - 1].position
        if number == len(pieces):
            return True
        self.wake(pieces[number : number + _HANDED])
        return False

    def wake(self, pieces: Sequence[Piece] | None = ()) -> None:
        """Let the client's own task go on: it sends these pieces, which follow its position, then reads the log.

        None in their place: the client has all there is, and the run is over.
        """
        if self._next is not None and not self._next.done():
            self._next.set_result(pieces)

    def close(self) -> None:
        """End the stream without `event: end`, so that the client comes again; at once if it is stalled."""
        self._closing = True
        self.wake()
        if self._task is not None:
            self._cut()

    # In the request.

    async def start(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Send the head of the response.

        Raises:
            Stalled: the socket took nothing for too long.
        """
        await self._patiently(self.outlet.start(headers, self.wake))

    # In the client's own task.

    async def run(self) -> None:
        """Send the whole stream."""
        over = False
        try:
            # Random, so that not all come again at once.
            await self._send(sse.retry(1000 + secrets.randbelow(2001)))
            while not (over or self._gone):
                over = await self._catch_up()
                if not (over or self._gone):
                    over = await self._live()
            if not self.outlet.lost:
                await self._send(sse.end_frame() if over else b"", last=True)
        except Stalled:
            return

    @property
    def _gone(self) -> bool:
        return self._closing or self.outlet.lost

    async def _catch_up(self) -> bool:
        """Send what the log has until nothing is left. True: the run is over; false: the room has something to say."""
        while not self._gone:
            room = self.room = self.room.again()
            try:
                batch = await room.read(self.position, self._limit)
            except Exception as error:  # noqa: BLE001 - a disk or a network: the stream stays, and it is tried again
                room.troubled(error)
                if not await room.moved():
                    await self._send(sse.HEARTBEAT)
                continue
            body, taken = page(batch, room.position)
            if taken < len(batch.entries):
                # Read as many again: only a batch's own position knows which holes in it are no news.
                self._limit = taken
                continue
            if body:
                self._limit = max(_LIMITS[0], min(_LIMITS[1], taken * _FULL // len(body)))
                await self._send(body)
                await asyncio.sleep(0)  # others have their turn, and who has gone is heard of
            self.position = batch.position
            if batch.ended:
                return True
            if room.position and self.position == room.position and not room.over:
                return False
            if not batch.entries and not await room.moved():
                await self._send(sse.HEARTBEAT)
        return False

    async def _live(self) -> bool:
        """Sleep as a member of the room until it can't write to this client any more, or the run is over: true."""
        waiter = self._next = self._loop.create_future()
        self.room.members.add(self)
        try:
            pieces = await waiter
        finally:
            self._next = None
            self.room.members.discard(self)
        for piece in pieces or ():
            if self._gone:
                break
            await self._send(piece.body)
            self.position = piece.position
        return pieces is None

    async def _send(self, body: bytes, *, last: bool = False) -> None:
        """Send bytes.

        Raises:
            Stalled: the socket took nothing for too long.
        """
        await self._patiently(self.outlet.send(body, last=last))

    async def _patiently(self, sending: Awaitable[None]) -> None:
        self._task = asyncio.current_task()
        deadline = self._loop.call_later(STALLED, self._cut)
        try:
            await sending
        except asyncio.CancelledError:
            if self._task is None:
                raise Stalled from None
            raise
        finally:
            deadline.cancel()
            self._task = None

    def _cut(self) -> None:
        task, self._task = self._task, None
        self.outlet.abort()
        if task is not None and not self.outlet.lost:
            task.cancel()


class Stalled(Exception):  # noqa: N818 - a state of the client's
    """The client took nothing for too long, or the streams are closed while it does not."""

"""The end of a server that is not ours: streams hear of it, as the server waits until they are over.

uvicorn tells nobody that it stops, but it is the owner of the signal handler, and knows.
"""

from __future__ import annotations

import asyncio
import signal
import weakref
from collections.abc import Callable
from typing import Final

_LOOK_SECONDS: Final = 0.25

_open: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, set[Callable[[], None]]]] = (
    weakref.WeakKeyDictionary()
)


class EndsWithServer:
    """`with EndsWithServer(close):` around a stream.

    While there are any, one timer an event loop looks whether the server stops: a stream costs a place in a set.

    Args:
        close: ends the stream; called once, in its event loop, and not after the block.
    """

    __slots__ = ("_close", "_streams")

    def __init__(self, close: Callable[[], None]) -> None:
        self._close = close

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        streams = _open.get(loop)
        if streams is None:
            streams = _open[loop] = set()
            loop.call_later(_LOOK_SECONDS, _look, loop)
        streams.add(self._close)
        self._streams = streams

    def __exit__(self, *_: object) -> None:
        self._streams.discard(self._close)


def _look(loop: asyncio.AbstractEventLoop) -> None:
    """Look again later, unless the server stops, or no stream is open any more."""
    streams = _open[loop]
    if streams and not _stops():
        loop.call_later(_LOOK_SECONDS, _look, loop)
        return
    del _open[loop]  # streams that come after this are looked after anew
    for close in list(streams):
        close()


def _stops() -> bool:
    owners = [getattr(signal.getsignal(number), "__self__", None) for number in (signal.SIGTERM, signal.SIGINT)]
    return any(getattr(owner, "should_exit", False) is True for owner in owners)

"""Request bodies: no more of one is held than may be, and no more of all together."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from starlette.types import Receive

from runnable_otel.server import headers
from runnable_otel.server.state import Refused

SECONDS: Final = 30.0
"""How long a client may take to send a body."""


class Budget:
    """Bytes of bodies that are held at once, by all requests together."""

    def __init__(self, limit: int) -> None:
        self.left = limit

    def take(self, size: int) -> None:
        """Hold more.

        Raises:
            Refused: 503, too much is held.
        """
        if size > self.left:
            raise Refused(503, "too many requests at once", {"Retry-After": "1"})
        self.left -= size


async def read_body(scope: Any, receive: Receive, limit: int, budget: Budget | None = None) -> bytes:
    """The body of a request. What a budget has given is the caller's to give back: `len` of the body.

    Raises:
        Refused: 413 it is longer than `limit` bytes, 408 it takes too long, 400 the client has gone.
    """
    length = headers.single(scope, b"content-length")
    if length is not None and length.isdigit() and int(length[:20]) > limit:
        raise too_large(limit)
    held = 0
    try:
        async with _Deadline(SECONDS):
            parts: list[bytes] = []
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refused(400, "the request ended before its body did")
                part: bytes = message.get("body", b"")
                if held + len(part) > limit:
                    raise too_large(limit)
                if budget is not None:
                    budget.take(len(part))
                held += len(part)
                parts.append(part)
                if not message.get("more_body", False):
                    return b"".join(parts)
    except BaseException:
        if budget is not None:
            budget.left += held
        raise


def too_large(limit: int) -> Refused:
    """Too large."""
    return Refused(413, f"a body has at most {limit} bytes")


class _Deadline:
    """As `asyncio.timeout` of Python 3.11."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._late = seconds, False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._cancel, task)

    def _cancel(self, task: asyncio.Task[Any]) -> None:
        self._late = True
        task.cancel()

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._timer.cancel()
        if self._late and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise Refused(408, "the body took too long to come", {"Connection": "close"})

"""An event loop whose time is its own: what waits for a second waits for none, and the same things happen each time."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


class Stuck(AssertionError):  # noqa: N818 - says what it is
    """Everybody waits for somebody else."""


class _Selector(selectors.DefaultSelector):
    """Does not wait: it moves the clock."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        found = super().select(0)
        if not found:
            if timeout is None:
                raise Stuck("nothing is going to happen any more")
            self.now += max(timeout, 0)
        return found


class Loop(asyncio.SelectorEventLoop):
    """An event loop that is as fast as what runs in it."""

    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


def run(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run to the end, as `asyncio.run` does."""
    loop = Loop()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.close()

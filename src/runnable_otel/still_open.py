"""What is open in this process: spans that somebody has to end when it ends before they do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from opentelemetry.trace import Span

from runnable_otel.forks import renew_after_fork

LOCK_WAIT: Final = 0.05
"""Seconds to wait for the lock of a span that its own thread may hold for ever, since a signal has stopped it."""


class Open(Protocol):
    """Something that can be ended from outside."""

    def cancel(self, now: int) -> bool:
        """End its span as cancelled, at `now` nanoseconds since 1970; False where its lock is held."""
        ...

    def tell_cancelled(self, now: int) -> None:
        """Send its events."""
        ...


class StillOpen:
    """Keeps what is open, in the order of opening, without a lock: a signal may come at any moment.

    Attributes:
        on_enter: called when the outermost thing of a thread or task opens.
        on_leave: called when it is left.
    """

    def __init__(self) -> None:
        self.on_enter: Callable[[object], None] = _nothing
        self.on_leave: Callable[[object], None] = _nothing
        self.renew()
        renew_after_fork(self.renew)

    def renew(self) -> None:
        """Nothing: what is open in the parent of a forked child is the parent's to end."""
        self._open: dict[int, Open] = {}

    def silence(self) -> None:
        """Tell nobody of what opens here."""
        self.on_enter = self.on_leave = _nothing

    def add(self, thing: Open) -> None:
        self._open[id(thing)] = thing

    def discard(self, thing: Open) -> None:
        self._open.pop(id(thing), None)

    def __contains__(self, thing: Open) -> bool:
        return id(thing) in self._open

    def cancel(self) -> tuple[list[Open], int]:
        """End everything as cancelled, the innermost first: what was ended, and how many could not be."""
        things, now = list(self._open.values())[::-1], time.time_ns()
        self._open.clear()
        ended = [thing for thing in things if thing.cancel(now)]
        return ended, len(things) - len(ended)


def is_free(span: Any) -> bool:
    """Whether a span can be ended now: its lock is not re-entrant, and who holds it may be stopped."""
    inner: Span = getattr(span, "span", span)  # logfire's wrapper
    lock: Any = getattr(inner, "_lock", None)  # the SDK has no public word for it
    if lock is None:
        return True
    if not lock.acquire(timeout=LOCK_WAIT):
        return False
    lock.release()
    return True


def _nothing(thing: object) -> None:
    del thing


OPEN: Final = StillOpen()

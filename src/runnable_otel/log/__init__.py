"""The event log: the one bridge between what runs and what shows it. Writers append; each reader has its own cursor.

A position is an opaque text. Nobody has a queue that could overflow: a slow reader is further behind, no more.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from runnable_otel.events import Event

OLDEST: Final = ""
"""In place of a position: from the oldest event that is kept."""
NOW: Final = "now"
"""In place of a position: only what comes."""


@dataclass(slots=True)
class Entry:
    """One event in a log.

    Attributes:
        position: where it stands.
        text: the event as JSON text.
        frame: a place for the one who sends it to keep it encoded, so that it is encoded once for all clients.
    """

    position: str
    text: str
    frame: bytes | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Gap:
    """A reader asked for what is not there any more.

    Attributes:
        position: where the reader is now; what it reads next comes after it.
        reason: `unknown`, the log never gave out that position, or `trimmed`, events after it have been dropped.
        lost: how many events were dropped after the position that was asked for; None where nobody can know.
    """

    position: str
    reason: Literal["unknown", "trimmed"]
    lost: int | None


@dataclass(frozen=True, slots=True)
class Batch:
    """What lies after a position.

    Attributes:
        entries: the events, in order.
        position: where to read on.
        gap: what is lost before the first of them, if anything is.
        ended: nothing comes after them: the run is over.
    """

    entries: Sequence[Entry]
    position: str
    gap: Gap | None
    ended: bool


class EventStream(Protocol):
    """The events of one run. Any thread and any event loop may read."""

    def read(self, position: str = OLDEST) -> Batch:
        """What lies after a position. Never waits, and never fails: a position that is not one makes a gap."""
        ...

    def when_more(self, position: str, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` once, from any thread, when there is more to read after a position; at once if there is.

        Returns:
            What takes that back.
        """
        ...


class EventLog(Protocol):
    """The events of many runs."""

    def append(self, event: Event) -> str:
        """Add one event, and return its position; one whose uid is there already is not added again."""
        ...

    def stream(self, run: str) -> EventStream | None:
        """The events of a run, which is a trace id or a run id; the newest trace of a run id. None: no such run."""
        ...


def wait(stream: EventStream, position: str, timeout: float | None = None) -> bool:
    """Block this thread until there is more after a position; false when the seconds of `timeout` have passed."""
    event = threading.Event()
    forget = stream.when_more(position, event.set)
    try:
        return event.wait(timeout)
    finally:
        forget()


async def wait_async(stream: EventStream, position: str, timeout: float | None = None) -> bool:
    """As `wait`, for a task of the running event loop."""
    loop, event = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(event.set)

    forget = stream.when_more(position, wake)
    try:
        await asyncio.wait_for(event.wait(), timeout)
    except (TimeoutError, asyncio.TimeoutError):  # two classes in Python 3.10
        return False
    finally:
        forget()
    return True

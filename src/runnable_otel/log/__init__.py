"""The event log: the one bridge between what runs and what shows it. Writers append; each reader has its own cursor.

A position is an opaque text. Nobody has a queue that could overflow: a slow reader is further behind, no more.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

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

    After `trimmed` no event comes again that the reader has had. After `unknown` it may: the reader is told all that
    is kept, or the log lost its newest events in a crash, and who sent them sends them again.

    Attributes:
        position: where the reader is now; what it reads next comes after it. Who comes again there is not told again.
        reason: `unknown`, the log does not know that position, or what it held after it; `trimmed`, events after it
            have been dropped.
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
        gap: what is lost after the position that was asked for, if anything is.
        ended: nothing comes after them: the run is over.
    """

    entries: Sequence[Entry]
    position: str
    gap: Gap | None
    ended: bool


@dataclass(frozen=True, slots=True)
class Record:
    """An event on its way into a log, decoded and encoded once.

    Attributes:
        trace_id: 32 lower-case hexadecimal digits.
        event: type, uid and fields; a custom event has the common fields under `runnable`.
        text: the event as JSON text, which is what readers get.
    """

    trace_id: str
    event: Event
    text: str


class StoreUnavailable(Exception):  # noqa: N818 - a state that passes, not a mistake of the caller's
    """A log can't take events now, or can't be read: it is full, read-only, or out of reach.

    Attributes:
        reason: one sentence.
        retry_after: seconds after which a writer may come again.
    """

    def __init__(self, reason: str, retry_after: int = 5) -> None:
        super().__init__(reason)
        self.reason, self.retry_after = reason, retry_after


class CannotOpen(Exception):  # noqa: N818 - what it says is for people
    """A log can't be opened; the message is one sentence that says why and names the file or server."""


@dataclass(frozen=True, slots=True)
class Health:
    """How a log is.

    Attributes:
        ok: it takes events.
        reason: why it does not.
        numbers: counts, such as `runs`, `events` and `bytes`.
    """

    ok: bool
    reason: str = ""
    numbers: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True)
class RunPage:
    """Summaries of runs, the newest first.

    Attributes:
        runs: a JSON object each.
        before: where the next page begins; empty when this was the last one.
    """

    runs: Sequence[Mapping[str, Any]]
    before: str = ""


class EventStream(Protocol):
    """The events of one run, or the summaries of all. Any thread and any event loop may read."""

    def read(self, position: str = OLDEST, limit: int = 1000) -> Batch:
        """At most `limit` events after a position. Never waits for more; a position that is not one makes a gap."""
        ...

    def when_more(self, position: str, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` once, from any thread, when there is more to read after a position; at once if there is.

        Returns:
            What takes that back.
        """
        ...


class EventLog(Protocol):
    """The events of many runs. All methods may be called from any thread.

    Those that read raise `StoreUnavailable` too where what they need is out of reach; `when_more` never raises, and
    wakes when it is back.
    """

    @property
    def blocks(self) -> bool:
        """Whether its calls may wait for a disk or a network: an event loop calls them in a thread."""
        ...

    def append(self, event: Event) -> str:
        """Add one event, and return its position; one whose uid is there already is not added again."""
        ...

    def extend(self, records: Sequence[Record]) -> int:
        """Add events in their order, and return how many were new; those whose uid is there already are not.

        Raises:
            StoreUnavailable: none was added, or those that were will be taken for known when they come again.
        """
        ...

    def alive(self, traces: Mapping[str, str]) -> None:
        """Move `last_seen` of runs: trace id to a time in RFC 3339. Unknown runs are passed over."""
        ...

    def stream(self, run: str) -> EventStream | None:
        """The events of a run, which is a trace id or a run id; the newest trace of a run id. None: no such run."""
        ...

    def summaries(self) -> EventStream:
        """The summaries of all runs, in the order of their last change: of each run the newest summary only."""
        ...

    def run(self, run: str) -> Mapping[str, Any] | None:
        """The summary of a run, by trace id or run id, as a JSON object."""
        ...

    def runs(self, *, limit: int = 100, before: str = "", status: str = "", text: str = "") -> RunPage:
        """Summaries, the run that started last first.

        Args:
            limit: how many at most.
            before: where the page begins, from the page before it; anything else begins anew.
            status: only runs of this status.
            text: only runs whose name, run id or trace id holds this text, in any case.
        """
        ...

    def health(self) -> Health:
        """How it is; never raises."""
        ...

    def close(self) -> None:
        """Let go of files and connections. What is stored stays."""
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


def open_log(url: str = "", **limits: Any) -> EventLog:
    """Open a log.

    Args:
        url: empty or `memory:` for one in memory; `redis://…`, `rediss://…` or `unix://…` for one on Redis; anything
            else is the path of an SQLite file, which is made if it is not there.
        limits: how much it keeps, by the names of `limits.Limits`.

    Raises:
        CannotOpen: the file is another program's, is in use, or can't be written; Redis is out of reach or not fit.
        ModuleNotFoundError: Redis needs the package redis: `pip install 'runnable-otel[redis]'`.
        ValueError: a limit makes no sense.
    """
    if url in ("", "memory:"):
        from runnable_otel.log.memory import MemoryLog

        return MemoryLog(**limits)
    if url.startswith(("redis://", "rediss://", "unix://")):
        from runnable_otel.log.redis import RedisLog

        return RedisLog(url, **limits)
    from runnable_otel.log.sqlite import SqliteLog

    return SqliteLog(url, **limits)

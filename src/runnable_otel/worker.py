"""One bounded queue and one daemon thread before a sink that is slow: it costs the task microseconds, whatever it does.

What goes in is counted until it is out again: accepted = delivered + dropped, by reason, + pending, at each moment.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.context import (
    _SUPPRESS_INSTRUMENTATION_KEY,  # what opentelemetry.instrumentation sets, which we don't import: see hooks.py
    attach,
    set_value,
)

from runnable_otel.backlog import LIMIT, LIMIT_BYTES, Backlog, Held
from runnable_otel.events import Event
from runnable_otel.forks import renew_after_fork
from runnable_otel.jsontext import fold

if TYPE_CHECKING:
    from runnable_otel.sinks import Sink

logger = logging.getLogger(__name__)

SAY_EVERY: Final = 60.0
"""Seconds between two lines about what was dropped."""
PAUSES: Final = (1.0, 2.0, 4.0, 8.0)
"""Seconds before a sink that is away is called again: the first time, the second, …, each time after that."""


class Unavailable(Exception):  # noqa: N818 - a state that passes, not a mistake of the caller's
    """A sink can't take events now. Those that it was called with are kept, and given to it again."""


class Refused(RuntimeError):  # noqa: N818 - as above
    """A sink, or what is behind it, will never take these events."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of what was given: `accepted == delivered + spooled + sum(dropped.values()) + pending`.

    Attributes:
        accepted: what came, such as events that a worker's `emit` was called with.
        delivered: what the sink, or the endpoint, took.
        dropped: what is lost, by reason; of events: `full`, `too_large`, `not_json`, `unavailable` and `refused` (the
            sink says so), `failed` (it raised something else), `timeout` (time was up when the process or the sink
            ended), `closed` (they came after that).
        pending: what waits, or is on its way now.
        spooled: what could not be delivered, and lies in the spool.
    """

    accepted: int
    delivered: int
    dropped: Mapping[str, int]
    pending: int
    spooled: int = 0


class Worker:
    """Takes events at once, and gives them to a sink in order, on a thread of its own.

    When it is full it drops the oldest event of the lowest rank: a task's own events and logs, then starts, then ends.
    In a forked child it starts empty, with a thread of its own: the events that waited are the parent's.

    Args:
        sink: the slow sink. One with `emit_batch(events)` gets up to 512 at once, any other one at a time.
        limit: events held at most, those that the sink has in hand too.
        limit_bytes: bytes of their JSON text at most.
        on_drop: called with the reason of each event that is lost, on whatever thread loses it; must not block.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        limit: int = LIMIT,
        limit_bytes: int = LIMIT_BYTES,
        on_drop: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self.sink = sink
        self.name = type(sink).__name__
        self._emit_batch: Callable[[Sequence[Event]], None] | None = getattr(sink, "emit_batch", None)
        self._keep: Callable[[Sequence[Event]], str | None] = getattr(sink, "keep", lambda events: None)
        self._takes: Container[str] | None = getattr(sink, "takes", None)
        self._limits, self._on_drop = (limit, limit_bytes), on_drop
        self._closing = self._closed = False
        self.on_finish: Callable[[], None] = lambda: None
        """Called on the worker's thread when it has ended."""
        self._said_at, self._said, self._error = -SAY_EVERY, 0, ""
        self._reset()
        renew_after_fork(self._reset)

    def _reset(self) -> None:
        # Re-entrant, since a garbage collection inside `emit` may run code of the user's that emits. New after a fork:
        # some thread that the child does not have may hold the old one.
        self._changed = threading.Condition(threading.RLock())
        self._backlog = Backlog(*self._limits)
        self._accepted = self._delivered = self._spooled = self._said = 0
        self._dropped: Counter[str] = Counter()
        self._thread: threading.Thread | None = None
        self._finished = self._is_late = False

    # On the user's thread.

    def emit(self, event: Event) -> None:
        """Take one event. Never blocks, never raises; what can't be kept is counted."""
        if self._takes is not None and event.type not in self._takes:
            return
        try:
            size = len(event.to_json().encode("utf-8", "replace"))
        except Exception:  # noqa: BLE001 - a value of a task's: it is no event, and no reason to fail the task
            size = -1
        lost: list[str] = []
        with self._changed:
            self._accepted += 1
            if reason := self._refused(size):
                lost.append(reason)
            else:
                lost += ["full"] * self._backlog.add(Held(self._accepted, size, event))
            self._dropped.update(lost)
            self._start()
            self._changed.notify_all()
        self._tell(lost)

    def _refused(self, size: int) -> str:
        if self._closing:
            return "closed"
        if size < 0:
            return "not_json"
        return "too_large" if size > self._limits[1] else ""

    def _start(self) -> None:
        """Have a thread: it starts with the first event, so that a process without any has none."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name=f"runnable-otel-{self.name}", daemon=True)
            with suppress(RuntimeError):  # no more threads: the next event tries again
                thread.start()
                self._thread = thread

    def _tell(self, lost: list[str]) -> None:
        with suppress(Exception):  # a meter of the user's
            for reason in lost:
                self._on_drop(f"{self.name}.{reason}")

    # On the worker's thread.

    def _run(self) -> None:
        attach(set_value("suppress_instrumentation", True, set_value(_SUPPRESS_INSTRUMENTATION_KEY, True)))
        while batch := self._take():
            self._deliver(batch)
            self._say()
        _guarded(self.sink.close)
        with self._changed:
            self._finished = True
            self._changed.notify_all()
        self.on_finish()

    @property
    def is_finished(self) -> bool:
        """Whether all is delivered or dropped, and the sink is closed."""
        return self._finished

    def _take(self) -> list[Held]:
        """The next events, oldest first, once there are any; none when it is time to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._backlog.waiting)
            return self._backlog.take(batches=self._emit_batch is not None)

    def _deliver(self, batch: list[Held]) -> None:
        events = [held.event for held in batch]
        error = self._hand_over(events)
        with self._changed:
            if self._is_late:  # `close` has counted them
                return
        reason = None if error is None else self._kept(events, error)
        with self._changed:
            self._backlog.done()
            self._count(len(batch), reason)
            self._changed.notify_all()
        self._tell([reason] * len(batch) if reason else [])

    def _kept(self, events: list[Event], error: BaseException | str) -> str:
        """Give the sink what it could not deliver, to keep; why it is lost, the empty string where it is kept."""
        kept: str | None = None
        if events and not isinstance(error, Refused):
            with suppress(Exception):  # a sink of the user's
                kept = self._keep(events)
        return kept if kept is not None else error if isinstance(error, str) else _reason(error)

    def _count(self, number: int, reason: str | None) -> None:
        """So many met this end: None for delivered, the empty string for kept. With the lock."""
        if reason and number:
            self._dropped[reason] += number
        elif reason is None:
            self._delivered += number
        elif not reason:
            self._spooled += number

    def _hand_over(self, events: list[Event]) -> BaseException | None:
        """Call the sink, again as long as it is away; when it is time to end, once more."""
        for pause in chain(PAUSES, repeat(PAUSES[-1])):
            last = self._closing
            error = _guarded(self._emit_batch or self.sink.emit, events if self._emit_batch else events[0])
            self._error = self._error if error is None else fold(_words(error), 256)
            if last or not isinstance(error, Unavailable):
                return error
            self._say(away=True)
            with self._changed:
                self._changed.wait_for(lambda: self._closing, pause)
        return None

    def _say(self, *, now: bool = False, away: bool = False) -> None:
        """One line about what was lost, a minute at most, before the end. Never on the thread of a task that runs."""
        with self._changed:
            lost, moment = sum(self._dropped.values()), time.monotonic()
            if lost == self._said or ((self._closing or moment - self._said_at < SAY_EVERY) and not now):
                return
            self._said, self._said_at = lost, moment
            held = len(self._backlog) if away else 0
            reasons = self._reasons() + (f"; {held} more wait" if held else "")
        with suppress(Exception):  # a logging handler of the user's
            logger.warning("%d %s to %s lost so far (%s)", lost, _events(lost), self._place, reasons)

    # The end.

    def counts(self) -> Counts:
        """What became of the events so far; exact at any moment."""
        with self._changed:
            counted = self._accepted, self._delivered, dict(self._dropped), len(self._backlog)
            return Counts(*counted, self._spooled)

    def flush(self, timeout: float) -> bool:
        """Wait until each event that came before is delivered or dropped, at most `timeout` seconds; whether it is."""
        if threading.current_thread() is self._thread:
            return False  # the sink itself asks: it would wait for itself
        with self._changed:
            last = self._accepted
            if len(self._backlog):
                self._start()
            return self._changed.wait_for(lambda: self._backlog.oldest() > last, timeout)

    def begin_close(self) -> None:
        """Take no more; what is here is delivered, and then the sink is closed, on the worker's thread. Does not wait.

        A sink that has `hurry()` is told so: it need not try again what failed.
        """
        with self._changed:
            first, self._closing = not self._closing, True
            self._start()
            self._changed.notify_all()
        hurry: Any = getattr(self.sink, "hurry", None)
        if first and hurry is not None:
            _guarded(hurry)

    def close(self, timeout: float, *, quiet: bool = False) -> bool:
        """Deliver what is here, close the sink, wait at most `timeout` seconds; whether all of that is done.

        What still waits then is the sink's to `keep`, where it has that method and does, or dropped; what it has in
        hand, too: it may arrive all the same. Calling it again only waits.

        Args:
            quiet: whether somebody else says what was lost.
        """
        self.begin_close()
        with self._changed:
            is_other = self._thread is not threading.current_thread()  # else the sink closes its own worker
            can_wait = is_other and self._thread is not None
            done = can_wait and self._changed.wait_for(lambda: self._finished, timeout)
            late = self._backlog.clear(in_hand=is_other)
            self._is_late = is_other and bool(late)
            first, self._closed = not self._closed, True
        gone = str(getattr(self.sink, "gone", "")) if late else ""
        reason = self._kept(late, "unavailable" if gone else "timeout")
        with self._changed:
            self._error = gone or self._error
            self._count(len(late), reason)
        self._tell([reason] * len(late) if reason else [])
        if first and not quiet:
            self._say(now=True)
        return done

    def undelivered(self) -> Iterator[str]:
        """What was not delivered, in the end; nothing where all was."""
        counts = self.counts()
        lost, all_of_them = sum(counts.dropped.values()), f"{counts.accepted} {_events(counts.accepted)}"
        if lost:
            yield f"{lost} of {all_of_them} to {self._place} lost ({self._reasons()})"
        if counts.spooled:
            yield f"{counts.spooled} of {all_of_them} to {self._place} spooled"

    @property
    def _place(self) -> str:
        """Where the events go: the address of an endpoint, else the name of the sink."""
        return str(getattr(self.sink, "address", "")) or self.name

    def _reasons(self) -> str:
        reasons = ", ".join(f"{reason} {number}" for reason, number in self._dropped.items())
        return f"{reasons}; last error: {self._error}" if self._error else reasons


def _events(number: int) -> str:
    return "event" if number == 1 else "events"


def _reason(error: BaseException) -> str:
    """Why what a sink was called with is lost, in one word."""
    if isinstance(error, Unavailable):
        return "unavailable"
    return "refused" if isinstance(error, Refused) else "failed"


def _words(error: BaseException) -> str:
    """What a sink says; the type too, unless it is one of ours."""
    if isinstance(error, (Unavailable, Refused)) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _guarded(function: Callable[..., object], *arguments: object) -> BaseException | None:
    """Call a sink, and give back what it raised: on our thread nothing it raises, not even SystemExit, is anybody's."""
    try:
        function(*arguments)
    except BaseException as error:  # noqa: BLE001 - see above
        return error
    return None

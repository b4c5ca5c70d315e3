"""One bounded queue and one daemon thread before a sink that is slow: it costs the task microseconds, whatever it does.

What goes in is counted until it is out again: accepted = delivered + dropped, by reason, + pending, at each moment.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from opentelemetry.context import (
    _SUPPRESS_INSTRUMENTATION_KEY,  # what opentelemetry.instrumentation sets, which we don't import: see hooks.py
    attach,
    set_value,
)

from runnable_otel.events import OURS, PIPELINE_COMPLETED, TASK_COMPLETED, TASK_ERROR, TASK_LOG, Event

if TYPE_CHECKING:
    from runnable_otel.sinks import Sink

logger = logging.getLogger(__name__)

LIMIT: Final = 2048
"""Events that a worker holds at most."""
LIMIT_BYTES: Final = 8 * 2**20
"""Bytes of JSON text that they are at most."""
BATCH: Final = 512
"""Events that a sink with `emit_batch` gets at once, at most."""
BATCH_BYTES: Final = 2**20
"""Bytes of JSON text of a batch of several events: OTLP receivers refuse a gRPC message of more than 4 MiB."""
SAY_EVERY: Final = 60.0
"""Seconds between two lines about what was dropped."""

_ENDS: Final = frozenset({TASK_COMPLETED, TASK_ERROR, PIPELINE_COMPLETED})


def _rank(kind: str) -> int:
    """Which events go first when there is no room: 0 a task's own and logs, 1 starts and the like, 2 ends."""
    if kind in _ENDS:
        return 2
    return 1 if kind in OURS and kind != TASK_LOG else 0


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the events that a worker was given: `accepted == delivered + sum(dropped.values()) + pending`.

    Attributes:
        accepted: events that `emit` was called with.
        delivered: events that the sink took.
        dropped: events lost, by reason: `full`, `too_large`, `not_json`, `failed` (the sink raised), `timeout` (time
            was up when the process or the sink ended), `closed` (they came after that).
        pending: events that wait, or are with the sink now.
    """

    accepted: int
    delivered: int
    dropped: Mapping[str, int]
    pending: int


class _Held(NamedTuple):
    number: int
    size: int
    event: Event


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
        self._limit, self._limit_bytes, self._on_drop = limit, limit_bytes, on_drop
        self._closing = self._closed = False
        self._said_at, self._said, self._error = -SAY_EVERY, 0, ""
        self._reset()
        if hasattr(os, "register_at_fork"):
            renew = weakref.WeakMethod(self._reset)
            os.register_at_fork(after_in_child=lambda: (again := renew()) and again())

    def _reset(self) -> None:
        # Re-entrant, since a garbage collection inside `emit` may run code of the user's that emits. New after a fork:
        # some thread that the child does not have may hold the old one.
        self._changed = threading.Condition(threading.RLock())
        self._queues: tuple[deque[_Held], ...] = (deque(), deque(), deque())  # by rank
        self._in_hand: list[_Held] = []
        self._bytes = 0
        self._accepted = self._delivered = self._said = 0
        self._dropped: Counter[str] = Counter()
        self._thread: threading.Thread | None = None
        self._finished = False

    # On the user's thread.

    def emit(self, event: Event) -> None:
        """Take one event. Never blocks, never raises; what can't be kept is counted."""
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
                held, rank = _Held(self._accepted, size, event), _rank(event.type)
                if self._make_room(size, rank, lost):
                    self._queues[rank].append(held)
                    self._bytes += size
            self._dropped.update(lost)
            self._start()
            self._changed.notify_all()
        self._tell(lost)

    def _refused(self, size: int) -> str:
        if self._closing:
            return "closed"
        if size < 0:
            return "not_json"
        return "too_large" if size > self._limit_bytes else ""

    def _make_room(self, size: int, rank: int, lost: list[str]) -> bool:
        """Whether there is room now. Of one rank the oldest goes: the end of a run is the last to come."""
        while self._pending() >= self._limit or self._bytes + size > self._limit_bytes:
            victims = next((queue for queue in self._queues[: rank + 1] if queue), None)
            lost.append("full")
            if victims is None:
                return False
            self._bytes -= victims.popleft().size
        return True

    def _pending(self) -> int:
        return len(self._in_hand) + sum(map(len, self._queues))

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

    def _take(self) -> list[_Held]:
        """The next events, oldest first, once there are any; none when it is time to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or any(self._queues))
            size = 0
            while queues := [queue for queue in self._queues if queue]:
                queue = min(queues, key=lambda queue: queue[0].number)
                size += queue[0].size
                many = self._emit_batch is not None and len(self._in_hand) < BATCH and size <= BATCH_BYTES
                if self._in_hand and not many:
                    break
                self._in_hand.append(queue.popleft())
            return list(self._in_hand)

    def _deliver(self, batch: list[_Held]) -> None:
        if self._emit_batch is not None:
            error = _guarded(self._emit_batch, [held.event for held in batch])
        else:
            error = _guarded(self.sink.emit, batch[0].event)
        with self._changed:
            self._in_hand.clear()
            self._bytes -= sum(held.size for held in batch)
            if error is None:
                self._delivered += len(batch)
            else:
                self._dropped["failed"] += len(batch)
                self._error = f"{type(error).__name__}: {error}"[:256]
            self._changed.notify_all()
        self._tell(["failed"] * len(batch) if error is not None else [])

    def _say(self, *, now: bool = False) -> None:
        """One line about what was lost, a minute at most. Never on the user's thread while a task runs."""
        with self._changed:
            lost, moment = sum(self._dropped.values()), time.monotonic()
            held = len(self._in_hand) if now else 0
            if (lost == self._said and not held) or (moment - self._said_at < SAY_EVERY and not now):
                return
            self._said, self._said_at = lost, moment
            reasons = ", ".join(f"{reason} {number}" for reason, number in self._dropped.items())
            reasons += f"; last error: {self._error}" if self._error else ""
            reasons += f"; {held} more are still with it" if held else ""
        with suppress(Exception):  # a logging handler of the user's
            logger.warning("%s lost %d events so far (%s)", self.name, lost, reasons.lstrip("; "))

    # The end.

    def counts(self) -> Counts:
        """What became of the events so far; exact at any moment."""
        with self._changed:
            return Counts(self._accepted, self._delivered, dict(self._dropped), self._pending())

    def flush(self, timeout: float) -> bool:
        """Wait until each event that came before is delivered or dropped, at most `timeout` seconds; whether it is."""
        if threading.current_thread() is self._thread:
            return False  # the sink itself asks: it would wait for itself
        with self._changed:
            last = self._accepted
            if self._pending():
                self._start()
            return self._changed.wait_for(lambda: self._oldest() > last, timeout)

    def _oldest(self) -> float:
        heads = chain(self._in_hand[:1], *(list(queue)[:1] for queue in self._queues))
        return min((held.number for held in heads), default=float("inf"))

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

    def close(self, timeout: float) -> bool:
        """Deliver what is here, close the sink, wait at most `timeout` seconds; whether all of that is done.

        What still waits then is dropped. Calling it again only waits.
        """
        self.begin_close()
        with self._changed:
            can_wait = self._thread not in (None, threading.current_thread())
            done = can_wait and self._changed.wait_for(lambda: self._finished, timeout)
            late = sum(map(len, self._queues))
            for queue in self._queues:
                self._bytes -= sum(held.size for held in queue)
                queue.clear()
            if late:
                self._dropped["timeout"] += late
            first, self._closed = not self._closed, True
        self._tell(["timeout"] * late)
        if first:
            self._say(now=True)
        return done


def _guarded(function: Callable[..., object], *arguments: object) -> BaseException | None:
    """Call a sink, and give back what it raised: on our thread nothing it raises, not even SystemExit, is anybody's."""
    try:
        function(*arguments)
    except BaseException as error:  # noqa: BLE001 - see above
        return error
    return None

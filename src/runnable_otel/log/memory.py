"""The event log in memory: a stream for each run, and `LOG`, the log of this process, which `memory:` writes."""

from __future__ import annotations

import json
import os
import re
import secrets
import threading
from bisect import bisect_right
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, Final, cast

from runnable_otel.events import CUSTOM, OURS, PIPELINE_COMPLETED, PIPELINE_STARTED, TASK_LOG, Event
from runnable_otel.jsontext import clip
from runnable_otel.log import NOW, OLDEST, Batch, Entry, Gap

MAX_RUNS: Final = 1000
MAX_BYTES: Final = 64 * 1024 * 1024
MAX_EXPENDABLE: Final = 10_000

_SEQUENCE = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)


def json_text(event: Mapping[str, Any]) -> str:
    """An event as one line of JSON; what JSON can't hold shows as `<unserializable: Type>`.

    No code of a value's own class runs: neither its `__repr__` nor its `__str__`.
    """
    try:
        return json.dumps(event, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_placeholder)
    except (TypeError, ValueError, RecursionError):
        pass  # a key that is no text, NaN, a cycle, or nesting without end
    kind = event.get("type")
    stand_in = {"type": kind if isinstance(kind, str) else CUSTOM, "data": _placeholder(event)}
    return json.dumps(stand_in, ensure_ascii=False, separators=(",", ":"))


def _placeholder(value: object) -> str:
    return f"<unserializable: {clip(type(value).__name__, 128)}>"


class MemoryStream:
    """The events of one run, in memory. Threads write; threads and event loops read.

    A position is `{epoch}-{sequence}`. The epoch belongs to this stream alone, so that a position of another run, or of
    this run before the process was started anew, is seen to be none. Sequences have no holes, so that what is missing
    after a position is what was dropped.

    Args:
        max_expendable: how many custom events and logs are kept; the oldest are dropped, in batches of an eighth.
        max_bytes: how many characters of those are kept.
    """

    def __init__(self, *, max_expendable: int = MAX_EXPENDABLE, max_bytes: int = MAX_BYTES) -> None:
        self._epoch = secrets.token_hex(8)
        self._max_expendable, self._max_bytes = max_expendable, max_bytes
        self._lock = threading.Lock()
        self._head = 0
        self._sequences: list[int] = []
        self._entries: list[Entry] = []
        self._sequence_of: dict[str, int] = {}
        self._expendable: dict[int, tuple[int, str]] = {}  # sequence to size and uid, oldest first
        self._expendable_size = 0
        self._waiters: dict[int, Callable[[], None]] = {}
        self._numbers = count()
        self._ended = False
        self.size: int = 0

    @property
    def ended(self) -> bool:
        """Whether the run is over."""
        return self._ended

    def append(self, text: str, *, uid: str = "", expendable: bool = False) -> str:
        """Add an event, and return its position.

        Args:
            text: the event as JSON text.
            uid: names the fact; the second event of a uid is not added. Empty: a fact of its own.
            expendable: it may be dropped before the run is.
        """
        with self._lock:
            if uid and uid in self._sequence_of:
                return self._position(self._sequence_of[uid])
            self._head += 1
            position = self._position(self._head)
            self._sequences.append(self._head)
            self._entries.append(Entry(position, text))
            self.size += len(text)
            if uid:
                self._sequence_of[uid] = self._head
            if expendable:
                self._expendable[self._head] = len(text), uid
                self._expendable_size += len(text)
                self._trim()
            waiters = self._take_waiters()
        for wake in waiters:
            wake()
        return position

    def end(self, *, ended: bool = True) -> None:
        """Nothing more comes; or, with false, something does after all."""
        with self._lock:
            self._ended = ended
            waiters = self._take_waiters() if ended else []
        for wake in waiters:
            wake()

    def read(self, position: str = OLDEST) -> Batch:
        """What lies after a position; see `EventStream`."""
        with self._lock:
            after = self._resolve(position)
            known, start = after is not None, after or 0
            entries = self._entries[bisect_right(self._sequences, start) :]
            lost = self._head - start - len(entries)
            gap = None
            if not known:
                gap = Gap(self._position(0), "unknown", None)
            elif lost and position != OLDEST:
                gap = Gap(self._position(start), "trimmed", lost)
            return Batch(entries, self._position(self._head), gap, self._ended)

    def when_more(self, position: str, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` when there is more; see `EventStream`."""
        with self._lock:
            after = self._resolve(position)
            number = next(self._numbers)
            waits = after is not None and after >= self._head and not self._ended
            if waits:
                self._waiters[number] = wake
        if not waits:
            wake()
        return lambda: self._forget(number)

    def _forget(self, number: int) -> None:
        with self._lock:
            self._waiters.pop(number, None)

    def _take_waiters(self) -> list[Callable[[], None]]:
        waiters = list(self._waiters.values())
        self._waiters.clear()
        return waiters

    def _position(self, sequence: int) -> str:
        return f"{self._epoch}-{sequence}"

    def _resolve(self, position: str) -> int | None:
        """The sequence of a position; None if this stream never gave it out."""
        if position == OLDEST:
            return 0
        if position == NOW:
            return self._head
        epoch, _, sequence = position.partition("-")
        if epoch != self._epoch or not _SEQUENCE.fullmatch(sequence):
            return None
        number = int(sequence)
        return number if number <= self._head else None

    def _trim(self) -> None:
        """Drop the oldest expendable events, many at a time: each time the lists are made anew."""
        most, size = self._max_expendable, self._max_bytes
        if len(self._expendable) <= most + most // 8 and self._expendable_size <= size + size // 8:
            return
        gone: set[int] = set()
        for sequence, (length, uid) in self._expendable.items():
            if len(self._expendable) - len(gone) <= most and self._expendable_size <= size:
                break
            gone.add(sequence)
            self._expendable_size -= length
            self.size -= length
            self._sequence_of.pop(uid, None)
        for sequence in gone:
            del self._expendable[sequence]
        kept = [pair for pair in zip(self._sequences, self._entries, strict=True) if pair[0] not in gone]
        self._sequences, self._entries = [pair[0] for pair in kept], [pair[1] for pair in kept]


class MemoryLog:
    """An `EventLog` in memory: the newest runs of this process.

    Whole finished runs are dropped, oldest first; inside a run only custom events and logs are.

    Args:
        max_runs: how many runs are kept.
        max_bytes: how many characters of JSON are kept.
        max_expendable: how many custom events and logs of one run are kept.
    """

    def __init__(
        self, *, max_runs: int = MAX_RUNS, max_bytes: int = MAX_BYTES, max_expendable: int = MAX_EXPENDABLE
    ) -> None:
        self._limits = max_runs, max_bytes, max_expendable
        self.renew()

    def renew(self) -> None:
        """Forget all; a process forked from this one starts so, for another thread may have held the lock."""
        self._lock = threading.Lock()
        self._streams: dict[str, MemoryStream] = {}
        self._open: dict[str, set[str]] = {}  # trace to the span ids of its runs that are not over
        self._traces: dict[str, str] = {}  # run id to its newest trace
        self._size = 0

    def append(self, event: Event) -> str:
        """Add one event, and return its position; one whose uid is there already is not added again."""
        trace, span, run_id = _whose(event)
        text = json_text(event.to_dict())
        with self._lock:
            stream = self._streams.get(trace)
            if stream is None:
                stream = self._streams[trace] = MemoryStream(max_expendable=self._limits[2], max_bytes=self._limits[1])
            if event.type == PIPELINE_STARTED:
                self._open.setdefault(trace, set()).add(span)
                self._traces.pop(run_id, None)
                self._traces[run_id] = trace
                stream.end(ended=False)  # a trace may hold several runs, one after the other
        before = stream.size
        position = stream.append(text, uid=event.uid, expendable=event.type not in OURS or event.type == TASK_LOG)
        ended = event.type == PIPELINE_COMPLETED and self._is_over(trace, span)
        if ended:
            stream.end()
        self._retain(stream.size - before)
        return position

    def stream(self, run: str) -> MemoryStream | None:
        """The events of a run, which is a trace id or a run id; None: no such run is kept."""
        with self._lock:
            return self._streams.get(run) or self._streams.get(self._traces.get(run, ""))

    def run(self, run_id: str) -> str | None:
        """The newest trace id of a run id."""
        with self._lock:
            return self._traces.get(run_id)

    def runs(self) -> list[str]:
        """The trace ids that are kept, oldest first."""
        with self._lock:
            return list(self._streams)

    def _is_over(self, trace: str, span: str) -> bool:
        with self._lock:
            runs = self._open.get(trace, set())
            runs.discard(span)
            return not runs

    def _retain(self, grown: int) -> None:
        """Count what has come, and drop the oldest finished runs while there is too much."""
        max_runs, max_bytes, _ = self._limits
        with self._lock:
            self._size += grown
            if len(self._streams) <= max_runs and self._size <= max_bytes:
                return
            for trace in [trace for trace, stream in self._streams.items() if stream.ended]:
                if len(self._streams) <= max_runs and self._size <= max_bytes:
                    break
                self._size -= self._streams.pop(trace).size
                self._open.pop(trace, None)
            self._traces = {run_id: trace for run_id, trace in self._traces.items() if trace in self._streams}


def _whose(event: Event) -> tuple[str, str, str]:
    """Trace, span and run id of an event; a custom event has them under `runnable`."""
    more: object = event.fields.get("runnable")
    nested = cast("dict[str, Any]", more) if isinstance(more, dict) else dict[str, Any]()
    trace, span, run_id = (
        str(event.fields.get(key) or nested.get(key) or "") for key in ("trace_id", "span_id", "run_id")
    )
    return trace, span, run_id


LOG: Final = MemoryLog()
"""The log of this process: what `memory:` writes and the web half reads."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=LOG.renew)

"""The event log in memory, and `LOG`, the log of this process, which `memory:` writes."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from runnable_otel.events import Event
from runnable_otel.log import NOW, OLDEST, Batch, Entry, Gap, Health, Record, RunPage, StoreUnavailable, positions
from runnable_otel.log.limits import Limits
from runnable_otel.log.pages import page_key, page_of, start_of_page
from runnable_otel.log.records import expendable, json_text, record, rfc3339, signs_of_life, worth
from runnable_otel.log.run_ids import is_news, said_by
from runnable_otel.log.stream import MAX_EXPENDABLE, MAX_EXPENDABLE_BYTES, MemoryStream
from runnable_otel.log.summary import RunState, code_of, other_edge
from runnable_otel.log.waiting import Alarm, Waiters, Wake

__all__ = ["LOG", "MAX_BYTES", "MAX_EXPENDABLE", "MAX_EXPENDABLE_BYTES", "MAX_RUNS", "MemoryLog", "MemoryStream"]
__all__ += ["json_text"]

MAX_RUNS: Final = 1000
MAX_BYTES: Final = 64 * 1024 * 1024


class _Run:
    """One run: its events, what is known of it, and its place in the order of changes."""

    __slots__ = ("change", "created", "entry", "ids", "state", "stream", "trace")

    def __init__(self, trace: str, stream: MemoryStream, now: float) -> None:
        self.trace, self.stream, self.created = trace, stream, rfc3339(now)
        self.state = RunState()
        self.state.touched = now
        self.change = 0
        self.ids: dict[str, int] = {}  # the run ids that mean it, and how new it is by each
        self.entry: Entry | None = None  # its summary, until it changes

    @property
    def key(self) -> str:
        return page_key(self.state.started or self.created, self.trace)


class MemoryLog:
    """An `EventLog` in memory: the newest runs of this process. See `Limits` for the arguments."""

    blocks: bool = False

    def __init__(self, *, max_runs: int = MAX_RUNS, max_bytes: int = MAX_BYTES, **limits: Any) -> None:
        self._limits = Limits(max_runs=max_runs, max_bytes=max_bytes, **limits)
        self.renew()

    def renew(self) -> None:
        """Forget all; a process forked from this one starts so, for another thread may have held the lock."""
        self._lock = threading.RLock()
        self._alarm = Alarm()
        self._waiters = Waiters()  # for summaries
        self._epoch = secrets.token_hex(8)
        self._runs: dict[str, _Run] = {}
        self._changed: dict[str, _Run] = {}  # in the order of their last change
        self._change = 0
        self._traces: dict[str, dict[str, int]] = {}  # run id to its traces, and how new each is
        self._named = 0
        self._size = self._refused = 0
        self._nothing_free_before = 0.0

    # Writing.

    def append(self, event: Event) -> str:
        """Add one event, and return its position; one whose uid is there already is not added again."""
        each = record(event)
        self.extend([each])
        with self._lock:
            run = self._runs.get(each.trace_id)
            return "" if run is None else run.stream.position_of(event.uid) or run.stream.head

    def extend(self, records: Sequence[Record]) -> int:
        """Add events; see `EventLog`."""
        kept = list(records)
        alive, wakes, new, now = signs_of_life(kept), list[Wake](), 0, time.time()
        reason = ""
        with self._lock:
            touched: dict[str, _Run] = {}
            text = rfc3339(now)
            for each in kept:
                run = self._runs.get(each.trace_id) or self._make(each, now)
                if run is None:
                    reason = self._limits.full(len(self._runs), self._size)
                    continue
                refusal = self._refusal(run, each)
                if not refusal and self._add(run, each, now, text):
                    new += 1
                    touched[each.trace_id] = run
                reason = refusal or reason
            for run in touched.values():
                wakes += self._follow(run, now)
            if touched:
                wakes += self._waiters.take()
        for wake in wakes:
            wake()
        self.alive(alive)
        if reason:
            raise StoreUnavailable(reason)
        return new

    def _make(self, each: Record, now: float) -> _Run | None:
        """A new run, if there is room for one."""
        if len(self._runs) >= self._limits.max_runs or self._size >= self._limits.max_bytes:
            self._retain(now)
            if self._limits.full(len(self._runs), self._size):
                return None
        stream = MemoryStream(max_expendable=self._limits.max_expendable, max_bytes=self._limits.max_expendable_bytes)
        self._runs[each.trace_id] = run = _Run(each.trace_id, stream, now)
        return run

    def _refusal(self, run: _Run, each: Record) -> str:
        """Why an event of a known run can't be taken now."""
        if self._size < self._limits.max_bytes or each.event.uid in run.stream:
            return ""
        self._retain(time.time())
        return self._limits.too_much(self._size, worth(each.event))

    def _add(self, run: _Run, each: Record, now: float, text: str) -> bool:
        """Add an event; whether it was new."""
        event, stream, state = each.event, run.stream, run.state
        if event.uid and event.uid in stream:
            return False
        spare = expendable(event)
        if spare and state.counts.get("events", 0) >= self._limits.max_events:
            state.counts["refused"] = state.counts.get("refused", 0) + 1
            self._refused += 1
            run.entry = None
            return False
        code, before = code_of(event), stream.size
        state.see(event, text)
        state.count(code, bool(code) and other_edge(event.uid) in stream, now)
        stream.add(each.text, event.uid, expendable=spare)
        self._size += stream.size - before
        self._name(run, event)
        return True

    def _name(self, run: _Run, event: Event) -> None:
        """From now on the run is found by the run id that an event of it says."""
        run_id, begins = said_by(event)
        if is_news(run.ids, run_id, begins):
            self._named += 1
            run.ids[run_id] = self._named if begins else -self._named
            self._traces.setdefault(run_id, {})[run.trace] = run.ids[run_id]

    def _follow(self, run: _Run, now: float) -> list[Wake]:
        """A run has changed: it goes to the end of the order, and may be over; who is to be called."""
        self._change += 1
        run.change, run.entry = self._change, None
        self._changed.pop(run.trace, None)
        self._changed[run.trace] = run
        self._settle(run, now)
        return run.stream.wakes()

    def _settle(self, run: _Run, now: float) -> None:
        over = run.state.over_at(self._limits.linger)
        run.stream.mark(ended=over is not None and over <= now)
        if over is None or over <= now:
            self._alarm.unset(run.trace)
        else:
            self._alarm.set(run.trace, over - now, lambda: self._lingered(run))
        if over is not None:
            self._nothing_free_before = 0.0

    def _lingered(self, run: _Run) -> None:
        with self._lock:
            self._settle(run, time.time())
            wakes = run.stream.wakes() if run.stream.ended else []
        for wake in wakes:
            wake()

    def _retain(self, now: float) -> None:
        """Drop finished runs, the one that has been over for longest first, until there is some room."""
        if now < self._nothing_free_before:
            return
        limits = self._limits
        free = sorted((run.state.free_at(limits.linger, limits.abandoned), run.trace) for run in self._runs.values())
        for at, trace in free:
            if len(self._runs) < limits.runs_after_retention and self._size < limits.bytes_after_retention:
                return
            if at > now:
                self._nothing_free_before = at
                return
            run = self._runs.pop(trace)
            self._size -= run.stream.size
            self._changed.pop(trace, None)
            self._alarm.unset(trace)
            for run_id in run.ids:
                del self._traces[run_id][trace]
                if not self._traces[run_id]:
                    del self._traces[run_id]

    def _next_free(self) -> float:
        return min(run.state.free_at(self._limits.linger, self._limits.abandoned) for run in self._runs.values())

    def alive(self, traces: Mapping[str, str]) -> None:
        """Move `last_seen`; see `EventLog`."""
        if not traces:
            return
        now = time.time()
        with self._lock:
            known = [(self._runs[trace], at) for trace, at in traces.items() if trace in self._runs]
            for run, at in known:
                run.state.alive(at, now)
                self._change += 1
                run.change, run.entry = self._change, None
                self._changed.pop(run.trace, None)
                self._changed[run.trace] = run
        if known:
            self._waiters.wake()

    # Reading.

    def stream(self, run: str) -> MemoryStream | None:
        """The events of a run, which is a trace id or a run id; None: no such run is kept."""
        found = self._find(run)
        return None if found is None else found.stream

    def run(self, run: str) -> Mapping[str, Any] | None:
        """The summary of a run; see `EventLog`."""
        with self._lock:
            found = self._find(run)
            return None if found is None else found.state.summary(found.trace)

    def _find(self, run: str) -> _Run | None:
        with self._lock:
            traces = self._traces.get(run)
            return self._runs.get(run) or (self._runs[max(traces, key=traces.__getitem__)] if traces else None)

    def runs(self, *, limit: int = 100, before: str = "", status: str = "", text: str = "") -> RunPage:
        """Summaries of runs; see `EventLog`."""
        start = start_of_page(before)
        with self._lock:
            keys = sorted(((run.key, run) for run in self._runs.values()), key=lambda pair: pair[0], reverse=True)
            rows = ((key, run.state.summary(run.trace)) for key, run in keys if not start or key < start)
            return page_of(rows, limit, status, text)

    def summaries(self) -> SummaryStream:
        """The summaries of all runs; see `EventLog`."""
        return SummaryStream(self)

    def health(self) -> Health:
        """How it is; see `EventLog`."""
        with self._lock:
            events = sum(run.stream.events for run in self._runs.values())
            numbers = {"runs": len(self._runs), "events": events, "bytes": self._size, "refused": self._refused}
            reason = self._limits.full(len(self._runs), self._size)
            if reason and self._next_free() <= time.time():
                reason = ""  # there will be room when it is needed
        return Health(not reason, reason, numbers)

    def close(self) -> None:
        """Nothing to let go: what the log holds stays readable."""
        self._alarm.close()

    # For `SummaryStream`.

    def changed_after(self, position: str, limit: int) -> Batch:
        """Summaries of the runs that changed after a position."""
        with self._lock:
            after = self._resolve(position)
            gap = None if after is not None else Gap(positions.text(self._epoch, 0), "unknown", None)
            newest: list[_Run] = []
            for run in reversed(self._changed.values()):
                if run.change <= (after or 0):
                    break
                newest.append(run)
            newest.reverse()
            entries = [self._entry(run) for run in islice(newest, limit)]
            last = newest[limit - 1].change if limit < len(newest) else self._change
            return Batch(entries, positions.text(self._epoch, last), gap, ended=False)

    def when_changed(self, position: str, wake: Wake) -> Callable[[], None]:
        """Call `wake` when a run has changed after a position."""
        with self._lock:
            after = self._resolve(position)
            if after is not None and after >= self._change:
                return self._waiters.add(wake)
        wake()
        return lambda: None

    def _entry(self, run: _Run) -> Entry:
        if run.entry is None:
            run.entry = Entry(positions.text(self._epoch, run.change), json_text(run.state.summary(run.trace)))
        return run.entry

    def _resolve(self, position: str) -> int | None:
        if position in (OLDEST, NOW):
            return self._change if position else 0
        cursor = positions.parse(position)
        if cursor is None or cursor.epoch != self._epoch or cursor.sequence > self._change:
            return None
        return cursor.sequence


class SummaryStream:
    """The summaries of all runs of a log in memory, as an `EventStream`."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    def read(self, position: str = OLDEST, limit: int = 1000) -> Batch:
        """The runs that changed after a position; see `EventLog.summaries`."""
        return self._log.changed_after(position, limit)

    def when_more(self, position: str, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` when one has changed; see `EventStream`."""
        return self._log.when_changed(position, wake)


LOG: Final = MemoryLog()
"""The log of this process: what `memory:` writes and the web half reads."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=LOG.renew)

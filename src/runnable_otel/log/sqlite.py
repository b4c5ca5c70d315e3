"""The event log in an SQLite file, for one process."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from queue import Empty, LifoQueue
from typing import Any, Final

from runnable_otel.events import Event
from runnable_otel.log import NOW, OLDEST, Batch, Entry, Gap, Health, Record, RunPage, StoreUnavailable, positions
from runnable_otel.log.limits import Limits
from runnable_otel.log.pages import page_of, start_of_page
from runnable_otel.log.records import json_text, record, signs_of_life, storable
from runnable_otel.log.sqlite_file import LogFile
from runnable_otel.log.sqlite_rows import BASE, summary_of
from runnable_otel.log.sqlite_writer import Writer
from runnable_otel.log.waiting import Alarm, KeyedWaiters

MAX_RUNS: Final = 10_000
MAX_BYTES: Final = 1024**3
_SUMMARIES: Final = ""  # the key of who waits for summaries
_IDLE_READERS: Final = 4


class SqliteLog:
    """An `EventLog` in a file. See `Limits` for the arguments.

    A kill of the process loses nothing that `extend` returned for. A loss of power may: then no position that was given
    out before is known any more.

    Raises:
        CannotOpen: the file can't be had; the message says why.
    """

    blocks: bool = True

    def __init__(self, path: str, *, max_runs: int = MAX_RUNS, max_bytes: int = MAX_BYTES, **limits: Any) -> None:
        self._limits = Limits(max_runs=max_runs, max_bytes=max_bytes, **limits)
        self.file = LogFile(path)
        self.epoch = self.file.epoch
        self._writer = Writer(self.file, self._limits)
        self._readers: LifoQueue[sqlite3.Connection] = LifoQueue()
        self._closed = False
        self.waiters = KeyedWaiters()
        self.alarm = Alarm()

    # Writing.

    def append(self, event: Event) -> str:
        """Add one event; see `EventLog`."""
        each = record(event)
        self.extend([each])
        found = self._writer.sequence_of(each.trace_id, event.uid)
        return "" if found is None else positions.text(self.epoch_of(found[0]), found[1])

    def extend(self, records: Sequence[Record]) -> int:
        """Add events; see `EventLog`. All of them, and what follows from them, or nothing."""
        kept = list(records)
        alive = signs_of_life(kept)
        written = self._writer.extend(kept, alive)
        if written.dropped:
            self.waiters.wake_all()
        for number in written.grown:
            self.waiters.wake(number)
        if written.changed:
            self.waiters.wake(_SUMMARIES)
        if written.reason:
            raise StoreUnavailable(f"{self.file.path}: {written.reason}")
        return written.new

    def alive(self, traces: Mapping[str, str]) -> None:
        """Move `last_seen`; see `EventLog`."""
        if traces and self._writer.extend((), traces).changed:
            self.waiters.wake(_SUMMARIES)

    # Reading.

    @contextmanager
    def reading(self) -> Generator[sqlite3.Connection]:
        """A connection on which all reads see the same moment."""
        if self._closed:
            raise StoreUnavailable(f"{self.file.path}: is closed")
        connection: sqlite3.Connection | None = None
        try:
            try:
                connection = self._readers.get_nowait()
            except Empty:
                connection = self.file.reader()
            connection.execute("BEGIN")
            yield connection
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection is not None:
                connection.close()
                connection = None
            raise StoreUnavailable(f"{self.file.path}: can't be read: {error}") from None
        finally:
            if connection is not None:
                self._give_back(connection)

    def _give_back(self, connection: sqlite3.Connection) -> None:
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        if self._closed or self._readers.qsize() >= _IDLE_READERS:
            connection.close()
        else:
            self._readers.put(connection)

    def epoch_of(self, number: int) -> str:
        """The epoch of a run's positions."""
        return f"{self.epoch}.{number:x}"

    def stream(self, run: str) -> SqliteStream | None:
        """The events of a run; see `EventLog`."""
        with self.reading() as db:
            found = self._find(db, run)
        return None if found is None else SqliteStream(self, found[0])

    def run(self, run: str) -> Mapping[str, Any] | None:
        """The summary of a run; see `EventLog`."""
        with self.reading() as db:
            found = self._find(db, run)
        return None if found is None else summary_of(found[1], found[2])

    def _find(self, db: sqlite3.Connection, run: str) -> tuple[int, str, str] | None:
        run = storable(run)
        found = db.execute("SELECT number, trace, row FROM runs WHERE trace = ?", (run,)).fetchone()
        by_id = (
            "SELECT number, trace, row FROM runs JOIN run_ids USING (number) "
            "WHERE run_ids.run_id = ? ORDER BY run_ids.named DESC LIMIT 1"
        )
        return found or db.execute(by_id, (run,)).fetchone()

    def runs(self, *, limit: int = 100, before: str = "", status: str = "", text: str = "") -> RunPage:
        """Summaries of runs; see `EventLog`."""
        start = start_of_page(before)
        where = " AND ".join(part for part in ("key < ?" if start else "", "status = ?" if status else "") if part)
        asked = [value for value in (start, storable(status)) if value]
        with self.reading() as db:
            rows: Iterator[tuple[str, str, str]] = db.execute(
                f"SELECT key, trace, row FROM runs {where and 'WHERE ' + where} ORDER BY key DESC",  # noqa: S608
                asked,
            )
            return page_of(((key, summary_of(trace, row)) for key, trace, row in rows), limit, status, text)

    def summaries(self) -> SqliteSummaries:
        """The summaries of all runs; see `EventLog`."""
        return SqliteSummaries(self)

    @property
    def change(self) -> int:
        """The number of the last change of a run."""
        return self._writer.change

    def health(self) -> Health:
        """How it is; see `EventLog`. After a failure it tries to write again."""
        if self._writer.reason:
            with suppress(StoreUnavailable):
                self._writer.extend((), {})
        writer = self._writer
        numbers = {"runs": writer.runs, "bytes": writer.size, "refused": writer.refused}
        reason = f"{self.file.path}: is closed" if self._closed else writer.reason
        with suppress(StoreUnavailable), self.reading() as db:
            found = db.execute("SELECT count(*) FROM runs WHERE free_at <= ?", (time.time(),)).fetchone()
            reason = reason or ("" if found[0] else self._limits.full(writer.runs, writer.size))
        return Health(not reason, reason, numbers)

    def close(self) -> None:
        """Close the file; see `EventLog`."""
        self._closed = True
        self.alarm.close()
        with suppress(Empty):
            while True:
                self._readers.get_nowait().close()
        self._writer.close()
        self.waiters.wake_all()


class SqliteStream:
    """The events of one run, as an `EventStream`."""

    def __init__(self, log: SqliteLog, number: int) -> None:
        self._log, self._number, self._epoch = log, number, log.epoch_of(number)
        self._first = number << BASE

    def read(self, position: str = OLDEST, limit: int = 1000) -> Batch:
        """What lies after a position; see `EventStream`."""
        with self._log.reading() as db:
            found = db.execute("SELECT head, trimmed, over_at FROM runs WHERE number = ?", (self._number,)).fetchone()
            if found is None:  # it was over, and dropped
                return Batch([], position, Gap(positions.text(self._epoch, 0), "unknown", None), ended=True)
            head, trimmed, over_at = found
            cursor = self._resolve(position, head, trimmed)
            start, known = cursor or (0, trimmed)
            gap = None if cursor else Gap(positions.text(self._epoch, 0, known), "unknown", None)
            if lost := self._lost(db, max(start, known), trimmed):
                known = trimmed
                gap = Gap(positions.text(self._epoch, start, known), "trimmed", lost)
            rows = db.execute(
                "SELECT id, text FROM events WHERE id > ? AND id <= ? ORDER BY id LIMIT ?",
                (self._first | start, self._first | head, limit),
            ).fetchall()
        entries = [Entry(f"{self._epoch}-{number - self._first}", text) for number, text in rows]
        last = rows[-1][0] - self._first if len(rows) == limit else head
        over = over_at is not None and over_at <= time.time()
        return Batch(entries, positions.text(self._epoch, last, known), gap, over and last == head)

    def when_more(self, position: str, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` when there is more; see `EventStream`."""
        waiting = self._log.waiters.add(self._number, wake)  # first, so that nothing comes unnoticed after the look
        with suppress(StoreUnavailable):
            with self._log.reading() as db:
                found = db.execute(
                    "SELECT head, trimmed, over_at FROM runs WHERE number = ?", (self._number,)
                ).fetchone()
            head, trimmed, over_at = found or (0, 0, 0.0)
            cursor, now = self._resolve(position, head, trimmed), time.time()
            if cursor is None or cursor[0] < head or (over_at is not None and over_at <= now):
                waiting.wake()
            elif over_at is not None:
                self._log.alarm.set(self._number, over_at - now, lambda: self._log.waiters.wake(self._number))
        return waiting

    def _resolve(self, position: str, head: int, trimmed: int) -> tuple[int, int] | None:
        """Sequence of a position, and holes that are no news there; None if this run never gave it out."""
        if position == OLDEST:
            return 0, trimmed
        if position == NOW:
            return head, 0
        cursor = positions.parse(position)
        if cursor is None or cursor.epoch != self._epoch or max(cursor.sequence, cursor.known) > head:
            return None
        return cursor.sequence, cursor.known

    def _lost(self, db: sqlite3.Connection, start: int, trimmed: int) -> int:
        if start >= trimmed:
            return 0
        between = self._first | start, self._first | trimmed
        kept = db.execute("SELECT count(*) FROM events WHERE id > ? AND id <= ?", between).fetchone()[0]
        return trimmed - start - kept


class SqliteSummaries:
    """The summaries of all runs, as an `EventStream`."""

    def __init__(self, log: SqliteLog) -> None:
        self._log = log

    def read(self, position: str = OLDEST, limit: int = 1000) -> Batch:
        """The runs that changed after a position; see `EventLog.summaries`."""
        epoch = self._log.epoch
        with self._log.reading() as db:
            head = self._log.change  # of before what is read now: it may be passed, never missed
            after = self._resolve(position, head)
            rows = db.execute(
                "SELECT change, trace, row FROM runs WHERE change > ? ORDER BY change LIMIT ?", (after or 0, limit)
            ).fetchall()
        gap = None if after is not None else Gap(positions.text(epoch, 0), "unknown", None)
        entries = [
            Entry(positions.text(epoch, change), json_text(summary_of(trace, row))) for change, trace, row in rows
        ]
        last = rows[-1][0] if len(rows) == limit else max([head, *(row[0] for row in rows[-1:])])
        return Batch(entries, positions.text(epoch, last), gap, ended=False)

    def when_more(self, position: str, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` when one has changed; see `EventStream`."""
        waiting = self._log.waiters.add(_SUMMARIES, wake)
        after = self._resolve(position, self._log.change)
        if after is None or after < self._log.change:
            waiting.wake()
        return waiting

    def _resolve(self, position: str, head: int) -> int | None:
        if position in (OLDEST, NOW):
            return head if position else 0
        cursor = positions.parse(position)
        if cursor is None or cursor.epoch != self._log.epoch or cursor.sequence > head:
            return None
        return cursor.sequence

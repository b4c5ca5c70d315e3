"""The one that writes a log in SQLite: a batch is one transaction, and nothing counts before it is committed."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from runnable_otel.log import Record, StoreUnavailable
from runnable_otel.log.limits import Limits
from runnable_otel.log.records import digest, expendable, rfc3339, storable, worth
from runnable_otel.log.run_ids import is_news, said_by
from runnable_otel.log.sqlite_file import LogFile
from runnable_otel.log.sqlite_rows import BASE, Row
from runnable_otel.log.summary import code_of, other_edge

_CACHED: Final = 2000
_ROWS_AT_A_TIME: Final = 5000


class Written(NamedTuple):
    """What became of a batch.

    Attributes:
        new: how many events were.
        grown: the numbers of their runs.
        changed: whether there are new summaries.
        dropped: whether runs were dropped.
        reason: why not all was taken; empty if it was.
    """

    new: int
    grown: Sequence[int]
    changed: bool
    dropped: bool
    reason: str


class Writer:
    """Writes batches, from any thread, one after the other.

    Attributes:
        change: the number of the last change of a run.
        named: how new the newest run is, see `run_ids`.
        reason: why the last write failed; empty if it did not.
        runs, size: how many runs there are, and of how many characters.
        refused: events that were one too many for their run, since the log was opened.
    """

    def __init__(self, file: LogFile, limits: Limits) -> None:
        self._file, self._limits, self._db = file, limits, file.writer
        self._lock = threading.Lock()
        self._rows: OrderedDict[str, Row] = OrderedDict()  # as they are committed
        one = self._db.execute
        self.runs, self.size = one("SELECT count(*), coalesce(sum(size), 0) FROM runs").fetchone()
        noted = one("SELECT value FROM meta WHERE name = 'change'").fetchone() or (0,)
        self.change: int = max(int(noted[0]), one("SELECT coalesce(max(change), 0) FROM runs").fetchone()[0])
        newest, oldest = one("SELECT coalesce(max(named), 0), coalesce(min(named), 0) FROM run_ids").fetchone()
        self.named: int = max(newest, -oldest)
        self.reason, self.refused, self._closed = "", 0, False

    def extend(self, records: Sequence[Record], alive: Mapping[str, str]) -> Written:
        """Write a batch.

        Raises:
            StoreUnavailable: nothing was written.
        """
        with self._lock:
            if self._closed:
                raise StoreUnavailable(f"{self._file.path}: is closed")
            batch = _Batch(self._db, self._limits, self._rows, self)
            try:
                self._db.execute("BEGIN IMMEDIATE")
                batch.write(records, alive)
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                self._give_up()
                self.reason = f"{self._file.path}: {_sentence(error)}"
                raise StoreUnavailable(self.reason) from None
            except BaseException:
                self._give_up()
                raise
            self._keep(batch)
        return Written(
            batch.new, list(batch.grown.values()), bool(batch.grown or batch.changed), batch.dropped, batch.reason
        )

    def _keep(self, batch: _Batch) -> None:
        """What was written counts now."""
        self.reason, self.change, self.named = "", batch.change, batch.named
        self.runs, self.size = batch.runs, batch.size
        self.refused += batch.refused
        for trace, row in batch.rows.items():
            self._rows[trace] = row
            self._rows.move_to_end(trace)
        for trace in batch.gone:
            self._rows.pop(trace, None)
        while len(self._rows) > _CACHED:
            self._rows.popitem(last=False)

    def _give_up(self) -> None:
        if self._db.in_transaction:
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")

    def sequence_of(self, trace: str, uid: str) -> tuple[int, int] | None:
        """The number of a run and the sequence of an event in it."""
        with self._lock:
            return self._db.execute(
                "SELECT number, sequence FROM runs JOIN uids USING (number) WHERE trace = ? AND digest = ?",
                (trace, digest(uid)),
            ).fetchone()

    def close(self) -> None:
        """Write nothing any more."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._file.close()


class _Batch:
    """One transaction."""

    def __init__(self, db: sqlite3.Connection, limits: Limits, known: Mapping[str, Row], writer: Writer) -> None:
        self._db, self._limits, self._known = db, limits, known
        self.change, self.named, self.runs, self.size = writer.change, writer.named, writer.runs, writer.size
        self.rows: dict[str, Row] = {}
        self.gone: list[str] = []
        self.grown: dict[str, int] = {}  # with new events: trace to number
        self.changed: set[str] = set()  # in another way
        self.new = self.refused = 0
        self.reason = ""
        self.dropped = False
        self._nothing_free = False
        self._events: list[tuple[int, bool, str]] = []
        self._now = time.time()
        self._text = rfc3339(self._now)

    def write(self, records: Sequence[Record], alive: Mapping[str, str]) -> None:
        """Write all of it; nothing at all is a try whether there is room."""
        if not records and not alive:
            self._db.execute("REPLACE INTO meta VALUES ('try', zeroblob(65536))")
            self._db.execute("DELETE FROM meta WHERE name = 'try'")
        for each in records:
            row = self.rows.get(each.trace_id) or self._open(each.trace_id)
            if row is None:
                self.reason = self._limits.full(self.runs, self.size)
                continue
            refusal = self._refusal(row, each)
            if not refusal and self._add(row, each):
                self.new += 1
                self.grown[row.trace] = row.number
            self.reason = refusal or self.reason
        self._db.executemany("INSERT INTO events VALUES (?, ?, ?)", self._events)
        for trace, at in alive.items():
            row = self.rows.get(trace) or self._load(trace)
            if row is not None:
                row.state.alive(at, self._now)
                self.changed.add(trace)
        for row in (self.rows[trace] for trace in self.rows if trace in self.grown or trace in self.changed):
            self._trim(row)
            self.change += 1
            row.store(self._db, self.change, self._limits)
        self._clear()

    def _open(self, trace: str) -> Row | None:
        row = self._load(trace)
        if row is not None:
            return row
        if self.runs >= self._limits.max_runs or self.size >= self._limits.max_bytes:
            self._retain()
            if self._limits.full(self.runs, self.size):
                return None
        row = self.rows[trace] = Row.insert(self._db, trace, self._now)
        self.runs += 1
        return row

    def _load(self, trace: str) -> Row | None:
        cached = None if trace in self.gone else self._known.get(trace)
        row = cached.copy() if cached else Row.load(self._db, trace)
        if row is not None:
            self.rows[trace] = row
        return row

    def _refusal(self, row: Row, each: Record) -> str:
        if self.size < self._limits.max_bytes or self._sequence(row, each.event.uid):
            return ""
        self._retain()
        return self._limits.too_much(self.size, worth(each.event))

    def _sequence(self, row: Row, uid: str) -> bool:
        if not uid:
            return False
        asked = row.number, digest(uid)
        return self._db.execute("SELECT 1 FROM uids WHERE number = ? AND digest = ?", asked).fetchone() is not None

    def _add(self, row: Row, each: Record) -> bool:
        """Add an event; whether it was new."""
        event, state, spare = each.event, row.state, expendable(each.event)
        if spare and state.counts.get("events", 0) >= self._limits.max_events:
            if not self._sequence(row, event.uid):
                state.counts["refused"] = state.counts.get("refused", 0) + 1
                self.refused += 1
                self.changed.add(row.trace)
            return False
        head = row.head + 1
        if event.uid:
            added = self._db.execute(
                "INSERT OR IGNORE INTO uids VALUES (?, ?, ?)", (row.number, digest(event.uid), head)
            )
            if not added.rowcount:
                return False
        row.head = head
        code, size = code_of(event), len(each.text) + len(event.uid)
        state.see(event, self._text)
        state.count(code, bool(code) and self._sequence(row, other_edge(event.uid)), self._now)
        self._events.append((row.number << BASE | head, spare, storable(each.text)))
        row.size += size
        self.size += size
        if spare:
            row.spare += 1
            row.spare_size += len(each.text)
        run_id, begins = said_by(event)
        if is_news(row.ids, run_id, begins):
            self.named += 1
            row.ids[run_id] = self.named if begins else -self.named
            row.unwritten.add(run_id)
            row.named = max(row.named, row.ids[run_id])
        return True

    def _trim(self, row: Row) -> None:
        """Drop the oldest expendable events of a run, many at a time."""
        most, size = self._limits.max_expendable, self._limits.max_expendable_bytes
        if row.spare <= most + most // 8 and row.spare_size <= size + size // 8:
            return
        first = row.number << BASE
        oldest = self._db.execute(
            "SELECT id, length(text) FROM events WHERE id > ? AND id <= ? AND spare ORDER BY id",
            (first | row.trimmed, first | row.head),
        )
        gone: list[tuple[int]] = []
        for number, length in oldest:
            if row.spare <= most and row.spare_size <= size:
                break
            gone.append((number,))
            row.trimmed = number - first
            row.spare -= 1
            row.spare_size -= length
            row.size -= length
            self.size -= length
        self._db.executemany("DELETE FROM events WHERE id = ?", gone)

    def _retain(self) -> None:
        """Drop finished runs, the one that has been over for longest first, until there is some room."""
        limits, oldest = self._limits, "SELECT number, trace, size FROM runs WHERE free_at <= ? ORDER BY free_at"
        if self._nothing_free:
            return
        for number, trace, size in self._db.execute(oldest, (self._now,)).fetchmany(self._limits.max_runs):
            if self.runs < limits.runs_after_retention and self.size < limits.bytes_after_retention:
                return
            if trace in self.rows:
                continue  # this batch has more of it
            self._db.execute("DELETE FROM runs WHERE number = ?", (number,))
            self._db.execute("DELETE FROM run_ids WHERE number = ?", (number,))
            self._db.execute("INSERT INTO dropped VALUES (?)", (number,))
            self._db.execute("REPLACE INTO meta VALUES ('change', ?)", (self.change,))
            self.gone.append(trace)
            self.dropped = True
            self.runs -= 1
            self.size -= size
        self._nothing_free = True

    def _clear(self) -> None:
        """Delete some of what dropped runs left: not all at once, so that no batch waits for long."""
        found = self._db.execute("SELECT number FROM dropped LIMIT 1").fetchone()
        if found is None:
            return
        first, after = found[0] << BASE, (found[0] + 1) << BASE
        few = "SELECT id FROM events WHERE id > ? AND id < ? ORDER BY id LIMIT ?"
        gone = self._db.execute(few, (first, after, _ROWS_AT_A_TIME)).fetchall()
        events = self._db.executemany("DELETE FROM events WHERE id = ?", gone).rowcount
        few = "SELECT number, digest FROM uids WHERE number = ? LIMIT ?"
        gone = self._db.execute(few, (found[0], _ROWS_AT_A_TIME)).fetchall()
        uids = self._db.executemany("DELETE FROM uids WHERE number = ? AND digest = ?", gone).rowcount
        if max(events, uids) < _ROWS_AT_A_TIME:
            self._db.execute("DELETE FROM dropped WHERE number = ?", found)


def _sentence(error: sqlite3.Error) -> str:
    text = str(error)
    if "full" in text:
        return "the disk is full"
    if "readonly" in text:
        return "is read-only"
    return f"can't be written: {text}"

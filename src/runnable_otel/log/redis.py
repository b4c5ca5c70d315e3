"""The event log on Redis Streams, for any number of processes that write and read.

Keys, with the prefix in front; they belong together, so they live on one server (with replicas, not on a cluster):

- `run:{trace}`: a hash, the run's `RunState`, and how much of it there is; `l:` the least, `m:` the most, `c:` counts,
  `i:` by each run id how new it is
- `events:{trace}`: a stream, field `t`: the JSON; its ids are the positions
- `uids:{trace}`: a hash, digest of a uid to id; `spare:{trace}`: a list, ids and sizes of what is expendable
- `keys` and `keys:{status}`: sorted by text, start and trace; `changes`, `free`: scores by trace
- `id:{run id}`: traces, sorted by how new they are; `ids`: run id, trace, of logs of before there was more than one
- `meta`: a hash: epoch, server, change, size and more; `wake`: a channel, the trace of each run that changed

An id's first half is a number that no other run has, and that is new after Redis may have lost its end; its second half
counts the run's events. So positions of others, positions of what was lost, and how many were dropped can be told.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from runnable_otel.events import PIPELINE_COMPLETED, PIPELINE_STARTED, Event
from runnable_otel.log import NOW, OLDEST, Batch, Entry, Gap, Health, Record, RunPage, StoreUnavailable, positions
from runnable_otel.log.limits import Limits
from runnable_otel.log.pages import page_of, start_of_page
from runnable_otel.log.records import digest, json_text, record, rfc3339, signs_of_life, storable, worth
from runnable_otel.log.redis_link import Link, Listener, Script
from runnable_otel.log.run_ids import MAX_RUN_IDS, said_by
from runnable_otel.log.summary import COUNTS, SERVICES, STATUS_NAMES, RunState, code_of, other_edge
from runnable_otel.log.waiting import Alarm, KeyedWaiters

MAX_RUNS: Final = 10_000
MAX_BYTES: Final = 1024**3
PREFIX: Final = "runnable-otel:"
_SUMMARIES: Final = ""  # the key of who waits for summaries
_LETTERS: Final = {code: chr(ord("a") + number) for number, code in enumerate(COUNTS)}
_PAGE: Final = 200


class RedisLog:
    """An `EventLog` on Redis. See `Limits` for the arguments, which all that share the log should have alike.

    Args:
        url: `redis://…`, `rediss://…` or `unix://…`; it may hold credentials.
        prefix: what the names of its keys begin with: another one is another log.

    Raises:
        CannotOpen: the server can't be had, or is not fit; the message says why.
        ModuleNotFoundError: the package redis is not installed.
    """

    blocks: bool = True

    def __init__(
        self, url: str, *, prefix: str = PREFIX, max_runs: int = MAX_RUNS, max_bytes: int = MAX_BYTES, **limits: Any
    ) -> None:
        self.limits = Limits(max_runs=max_runs, max_bytes=max_bytes, **limits)
        self._append, self.reads, self.changed = Script("append"), Script("read"), Script("changed")
        self.link = Link(url, prefix)
        self._limits_json = json.dumps(_limits(self.limits))
        self.waiters, self.alarm = KeyedWaiters(), Alarm()
        self._lock = threading.Lock()
        self._listener: Listener | None = None
        self._closed = False

    # Writing.

    def append(self, event: Event) -> str:
        """Add one event; see `EventLog`."""
        each = record(event)
        self.extend([each])
        with self.link.talking() as client:
            found: bytes | None = client.hget(f"{self.link.prefix}uids:{each.trace_id}", digest(event.uid))
        return "" if found is None else found.decode()

    def extend(self, records: Sequence[Record]) -> int:
        """Add events; see `EventLog`. Those of one run, and what follows from them, or none of that run."""
        kept = list(records)
        alive = signs_of_life(kept)
        runs: dict[str, list[Record]] = {}
        for each in kept:
            runs.setdefault(each.trace_id, []).append(each)
        now = rfc3339(time.time())
        answers = self._run_all([_batch(trace, each, now, self._limits_json) for trace, each in runs.items()])
        self.alive(alive)
        full = [answer[2] for answer in answers if answer[2]]
        if full:
            raise StoreUnavailable(f"{self.link.shown}: {_FULL[full[0]]}")
        return sum(answer[0] for answer in answers)

    def alive(self, traces: Mapping[str, str]) -> None:
        """Move `last_seen`; see `EventLog`."""
        calls: list[list[Any]] = []
        now = time.time()
        for trace, at in traces.items():
            said = RunState()
            said.alive(at, now)
            calls.append([self._limits_json, _said(trace, said, rfc3339(now))])
        self._run_all(calls)

    def _run_all(self, calls: list[list[Any]]) -> list[Any]:
        return self.link.run_all(self._append, calls) if calls else []

    # Reading.

    def stream(self, run: str) -> RedisStream | None:
        """The events of a run; see `EventLog`."""
        found = self._find(run)
        return None if found is None else RedisStream(self, found[0])

    def run(self, run: str) -> Mapping[str, Any] | None:
        """The summary of a run; see `EventLog`."""
        found = self._find(run)
        return None if found is None else state_of(found[1]).summary(found[0])

    def _find(self, run: str) -> tuple[str, Any] | None:
        with self.link.talking() as client:
            if found := client.hgetall(f"{self.link.prefix}run:{storable(run)}"):
                return run, found
            newest: list[bytes] = client.zrevrange(f"{self.link.prefix}id:{storable(run)}", 0, 0)
            trace: bytes | None = newest[0] if newest else client.hget(self.link.prefix + "ids", storable(run))
            if trace is None:
                return None
            name = trace.decode()
            found = client.hgetall(f"{self.link.prefix}run:{name}")
            return (name, found) if found else None

    def runs(self, *, limit: int = 100, before: str = "", status: str = "", text: str = "") -> RunPage:
        """Summaries of runs; see `EventLog`."""
        return page_of(self._rows(start_of_page(before), status), limit, status, text)

    def _rows(self, start: str, status: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        names = f"{self.link.prefix}keys" + (f":{storable(status)}" if status else "")
        top = f"({start}" if start else "+"
        while True:
            with self.link.talking() as client:
                keys = [key.decode() for key in client.zrevrangebylex(names, top, "-", 0, _PAGE)]
                with client.pipeline(transaction=False) as pipeline:
                    for key in keys:
                        pipeline.hgetall(f"{self.link.prefix}run:{key.partition('~')[2]}")
                    found = pipeline.execute()
            for key, fields in zip(keys, found, strict=True):
                if fields:  # else it was dropped just now
                    yield key, state_of(fields).summary(key.partition("~")[2])
            if len(keys) < _PAGE:
                return
            top = f"({keys[-1]}"

    def summaries(self) -> RedisSummaries:
        """The summaries of all runs; see `EventLog`."""
        return RedisSummaries(self)

    def health(self) -> Health:
        """How it is; see `EventLog`. It tries to write: a server that is full, or a replica, can still be read."""
        try:
            with self.link.talking() as client:
                names = [self.link.prefix + name for name in ("meta", "changes", "free")]
                client.hset(names[0], "tried", "")
                size, refused = client.hmget(names[0], "size", "refused")
                runs, free = client.zcard(names[1]), client.zcount(names[2], "-inf", time.time())
        except StoreUnavailable as error:
            return Health(False, error.reason)
        numbers = {"runs": int(runs), "bytes": int(size or 0), "refused": int(refused or 0)}
        reason = "" if free else self.limits.full(numbers["runs"], numbers["bytes"])
        return Health(not reason, reason, numbers)

    def close(self) -> None:
        """Let go of all connections; see `EventLog`."""
        with self._lock:
            self._closed = True
            listener, self._listener = self._listener, None
        if listener is not None:
            listener.stop()
        self.alarm.close()
        self.link.close()
        self.waiters.wake_all()

    # For the streams.

    def listen(self) -> None:
        """Have the reader that wakes who waits."""
        with self._lock:
            if self._listener is None and not self._closed:
                self._listener = self.link.listener(self.waiters.wake_all, self._heard)
            listener = self._listener
        if listener is not None:
            listener.ready()

    def _heard(self, trace: str) -> None:
        self.waiters.wake(trace)
        self.waiters.wake(_SUMMARIES)


class RedisStream:
    """The events of one run, as an `EventStream`."""

    def __init__(self, log: RedisLog, trace: str) -> None:
        self._log, self._trace = log, trace

    def read(self, position: str = OLDEST, limit: int = 1000) -> Batch:
        """What lies after a position; see `EventStream`."""
        return self._look(position, limit)[0]

    def when_more(self, position: str, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` when there is more; see `EventStream`."""
        log, trace = self._log, self._trace
        waiting = log.waiters.add(trace, wake)  # first, so that nothing comes unnoticed after the look
        log.listen()
        with suppress(StoreUnavailable):
            batch, rest = self._look(position, 1)
            if batch.entries or batch.gap or batch.ended:
                waiting.wake()
            elif rest is not None:
                log.alarm.set(trace, rest, lambda: log.waiters.wake(trace))
        return waiting

    def _look(self, position: str, limit: int) -> tuple[Batch, float | None]:
        answer = self._log.link.run(self._log.reads, *self._asked(position), limit, self._log.limits.linger)
        after, reason, gap_position, lost, ended, rest, found = answer
        gap = None
        if reason:
            kind = "trimmed" if reason == b"trimmed" else "unknown"
            gap = Gap(gap_position.decode(), kind, None if lost < 0 else lost)
        entries = [Entry(each.decode(), text.decode()) for each, text in zip(found[::2], found[1::2], strict=True)]
        return Batch(entries, after.decode(), gap, bool(ended)), float(rest) if rest else None

    def _asked(self, position: str) -> tuple[str, str, str, int, int]:
        if position in (OLDEST, NOW):
            return self._trace, "now" if position else "oldest", "0", 0, 0
        cursor = positions.parse(position)
        if cursor is None or not cursor.epoch.isdigit():
            return self._trace, "bad", "0", 0, 0
        return self._trace, "at", cursor.epoch, cursor.sequence, cursor.known


class RedisSummaries:
    """The summaries of all runs, as an `EventStream`."""

    def __init__(self, log: RedisLog) -> None:
        self._log = log

    def read(self, position: str = OLDEST, limit: int = 1000) -> Batch:
        """The runs that changed after a position; see `EventLog.summaries`."""
        cursor = positions.parse(position)
        asked: tuple[Any, ...] = ("0", 0)
        if position in (OLDEST, NOW):
            asked = ("now" if position else "oldest", 0)
        elif cursor is not None:
            asked = (cursor.epoch, cursor.sequence)
        epoch, last, bad, found = self._log.link.run(self._log.changed, *asked, limit)
        name = epoch.decode()
        entries: list[Entry] = []
        for trace, change, flat in found:
            row = state_of(dict(zip(flat[::2], flat[1::2], strict=True))).summary(trace.decode())
            entries.append(Entry(positions.text(name, int(change)), json_text(row)))
        gap = Gap(positions.text(name, 0), "unknown", None) if bad else None
        return Batch(entries, positions.text(name, int(last)), gap, ended=False)

    def when_more(self, position: str, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` when one has changed; see `EventStream`."""
        waiting = self._log.waiters.add(_SUMMARIES, wake)
        self._log.listen()
        with suppress(StoreUnavailable):
            batch = self.read(position, 1)
            if batch.entries or batch.gap:
                waiting.wake()
        return waiting


_FULL: Final = {1: "the log is full of runs, and none of them is over", 2: "the log is full, and no run is over"}


def _limits(limits: Limits) -> dict[str, Any]:
    """The limits as `append.lua` reads them."""
    return {
        "max_runs": limits.max_runs,
        "runs_after": limits.runs_after_retention,
        "max_size": limits.max_bytes,
        "reserve": limits.max_bytes // 8,
        "size_after": limits.bytes_after_retention,
        "max_spare": limits.max_expendable,
        "max_spare_size": limits.max_expendable_bytes,
        "max_events": limits.max_events,
        "linger": limits.linger,
        "abandoned": limits.abandoned,
        "services": SERVICES,
        "ids": MAX_RUN_IDS,
        "statuses": STATUS_NAMES,
        "counts": {letter: COUNTS[code] for code, letter in _LETTERS.items()},
        "begins": _LETTERS[PIPELINE_STARTED],
        "over": _LETTERS[PIPELINE_COMPLETED],
    }


def _batch(trace: str, records: Sequence[Record], now: str, limits: str) -> list[Any]:
    """The arguments of `append.lua` for the events of one run."""
    said = RunState()
    arguments: list[Any] = [limits, b""]
    for each in records:
        event = each.event
        said.see(event, now)
        code, uid = code_of(event), event.uid
        other = other_edge(uid) if code else ""
        header = f"{_LETTERS[code]}{worth(event)}".encode()
        arguments.append(header + (digest(uid) if uid else b"") + (digest(other) if other else b""))
        arguments += said_by(event)[0], storable(each.text)
    arguments[1] = _said(trace, said, now)
    return arguments


def _said(trace: str, said: RunState, now: str) -> str:
    return json.dumps({"trace": trace, "now": now, "least": said.least, "most": said.most, "services": said.services})


def state_of(fields: Mapping[bytes, bytes]) -> RunState:
    """What is known of a run, from its hash."""
    state = RunState()
    parts: dict[str, Callable[[str, str], None]] = {
        "l": state.least.__setitem__,
        "m": state.most.__setitem__,
        "c": lambda name, value: state.counts.__setitem__(name, int(value)),
    }
    for name, value in fields.items():
        part, _, rest = name.decode().partition(":")
        if rest and part in parts:
            parts[part](rest, value.decode())
    state.services = fields.get(b"services", b"").decode().split("\n")[:-1]
    state.touched, state.completed = (float(fields.get(name, b"0")) for name in (b"touched", b"completed"))
    return state

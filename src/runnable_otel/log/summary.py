"""What is known of a run, folded from its events: one row of the list of runs. Pure.

Two parts, so that three stores can share it, one of which folds in Lua with several writers at once. What an event
says, as texts of which the least or the greatest wins: any order and any repetition gives the same. And what it counts
as, which is counted once for each uid.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from runnable_otel.events import (
    LOG_RECORD,
    PIPELINE_COMPLETED,
    PIPELINE_STARTED,
    SPAN,
    TASK_COMPLETED,
    TASK_ERROR,
    TASK_SKIPPED,
    TASK_STARTED,
    Event,
)
from runnable_otel.log.records import common, rfc3339

_AGAIN: Final = "+"

LINGER: Final = 10.0
"""Seconds that a finished run with open tasks, or a finished trace, waits for what is still on its way."""
ABANDONED: Final = 3600.0
"""Seconds without an event or a sign of life after which a run that is not over may be dropped."""

COUNTS: Final[Mapping[str, tuple[str, str]]] = {
    TASK_STARTED: ("", "started"),
    TASK_COMPLETED: ("completed", "started"),
    TASK_ERROR: ("failed", "started"),
    f"{TASK_STARTED}{_AGAIN}": ("", "again"),
    f"{TASK_COMPLETED}{_AGAIN}": ("completed", "again"),
    f"{TASK_ERROR}{_AGAIN}": ("failed", "again"),
    TASK_SKIPPED: ("skipped", ""),
    PIPELINE_STARTED: ("", "runs"),
    PIPELINE_COMPLETED: ("over", "runs"),
    "root": ("roots", ""),
    "": ("", ""),
}
"""What a kind of event counts as: always, and unless the other edge of its span has been counted.

A further attempt of a task counts as one that was tried again: the one before it has failed, and is not the last word.
"""

_STATUS: Final = {"success": "1", "cancelled": "2", "error": "3"}  # the worst of several runs in a trace shows
STATUS_NAMES: Final = {rank: name for name, rank in _STATUS.items()}
_KINDS: Final = ("trace", "pipeline", "job")
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z", re.ASCII)
_KEY: Final = 28  # characters of a rank and a time, which stand before a text of which the least wins
_TEXT: Final = 256
SERVICES: Final = 32


class RunState:
    """What is known of a run.

    Attributes:
        least: texts with a rank and a time in front, of which the least wins: what the first event of the best kind
            says; and `lead`, that rank and time alone.
        most: texts of which the greatest wins.
        services: names of what the spans come from, as many as 32.
        counts: events, tasks, runs and roots by the names of `COUNTS`.
        touched: when the last event or sign of life came, in seconds since 1970, by the log's clock.
        completed: when the last `pipeline_completed` came.
    """

    __slots__ = ("completed", "counts", "least", "most", "services", "touched")

    def __init__(self) -> None:
        self.least: dict[str, str] = {}
        self.most: dict[str, str] = {}
        self.services: list[str] = []
        self.counts: dict[str, int] = {}
        self.touched = self.completed = 0.0

    def copy(self) -> RunState:
        """Another one that says the same."""
        made = RunState()
        made.least, made.most, made.services = self.least.copy(), self.most.copy(), self.services.copy()
        made.counts, made.touched, made.completed = self.counts.copy(), self.touched, self.completed
        return made

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RunState:
        """Read what `to_json` wrote."""
        made = cls()
        for name in cls.__slots__:
            setattr(made, name, data[name])
        return made

    # What an event says.

    def see(self, event: Event, now: str) -> None:
        """Take what an event says. `now` is RFC 3339: nothing has been seen later, whatever a host's clock says."""
        fields, kind = common(event), event.type
        time = fields.get("time")
        at = time if isinstance(time, str) and _TIME.fullmatch(time) else ""
        self.seen(at if at and at < now else now)
        started = fields.get("started")
        begin = started if isinstance(started, str) and _TIME.fullmatch(started) else at
        root = kind == SPAN and not fields.get("parent_span_id")
        rank = _rank(kind, root)
        if begin:
            self._least("lead", rank + begin, "")
        key = rank + (begin or now)
        for name in ("run_id", "host", "executor"):
            self._text(name, key, fields.get(name))
        if rank in "02":
            self._text("name", key, fields.get("name"))
        self._kind(kind, fields)
        if kind == SPAN:
            self._service(fields.get("service"))
        if kind == PIPELINE_COMPLETED or root:
            self._end(kind, fields, at or now)

    def alive(self, time: str, now: float) -> None:
        """There was a sign of life at that time; it came now, by the log's clock."""
        self.seen(min(time, rfc3339(now)) if _TIME.fullmatch(time) else rfc3339(now))
        self.touched = max(self.touched, now)

    def seen(self, time: str) -> None:
        """Something was seen at that time."""
        if time > self.most.get("last_seen", ""):
            self.most["last_seen"] = time

    def _kind(self, kind: str, fields: Mapping[str, Any]) -> None:
        foreign = kind in (SPAN, LOG_RECORD) and not fields.get("run_id")
        job = kind in (PIPELINE_STARTED, PIPELINE_COMPLETED) and fields.get("kind") == "job"
        rank = "0" if foreign else "2" if job else "1"
        if rank > self.most.get("kind", ""):
            self.most["kind"] = rank

    def _end(self, kind: str, fields: Mapping[str, Any], time: str) -> None:
        said = fields.get("status")
        status = said if kind == PIPELINE_COMPLETED else "error" if said == "error" else "success"
        rank = _STATUS.get(status, "3") if isinstance(status, str) else "3"
        own = "trace_status" if kind == SPAN else "status"
        self.most[own] = max(self.most.get(own, ""), rank)
        own = "trace_ended" if kind == SPAN else "ended"
        self.most[own] = max(self.most.get(own, ""), time)
        if rank == "3":
            self._text("error", ("0" if kind == PIPELINE_COMPLETED else "2") + time, fields.get("error"))

    def _service(self, service: object) -> None:
        if isinstance(service, str) and service and len(self.services) < SERVICES:
            name = shown(service[:_TEXT].replace("\n", " "))
            if name not in self.services:
                self.services.append(name)

    def _text(self, name: str, key: str, value: object) -> None:
        if isinstance(value, str) and value:
            self._least(name, key, shown(value))

    def _least(self, name: str, key: str, value: str) -> None:
        text = key + value
        known = self.least.get(name)
        if known is None or text < known:
            self.least[name] = text

    # What it counts as.

    def count(self, code: str, other_edge: bool, now: float) -> None:
        """Count an event that is new; `other_edge` says whether the other end of its span has been counted."""
        always, first = COUNTS[code]
        counts = self.counts
        counts["events"] = counts.get("events", 0) + 1
        if always:
            counts[always] = counts.get(always, 0) + 1
        if first and not other_edge:
            counts[first] = counts.get(first, 0) + 1
        self.touched = now
        if code == PIPELINE_COMPLETED:
            self.completed = now

    # What follows from it.

    @property
    def open(self) -> int:
        """Attempts that have started and not ended: while the run is under way they run."""
        get = self.counts.get
        return max(0, get("started", 0) + get("again", 0) - get("completed", 0) - get("failed", 0))

    def over_at(self, linger: float) -> float | None:
        """From when on the run is over, in seconds since 1970; None if it is not going to be without more events."""
        runs = self.counts.get("runs", 0)
        if runs:
            if self.counts.get("over", 0) < runs:
                return None
            return self.completed + (linger if self.open else 0.0)
        return self.touched + linger if self.counts.get("roots") else None

    def free_at(self, linger: float, abandoned: float) -> float:
        """From when on the run may be dropped as a finished one."""
        runs = self.counts.get("runs", 0)
        if runs and self.counts.get("over", 0) >= runs:
            return self.completed
        over = self.over_at(linger)
        return self.touched + abandoned if over is None else over

    @property
    def status(self) -> str:
        """`running`, `success`, `error` or `cancelled`."""
        runs = self.counts.get("runs", 0)
        if runs:
            over = self.counts.get("over", 0) >= runs
            return STATUS_NAMES.get(self.most.get("status", ""), "error") if over else "running"
        if self.most.get("kind", "0") == "0" and self.counts.get("roots"):
            return STATUS_NAMES.get(self.most.get("trace_status", ""), "success")
        return "running"

    @property
    def started(self) -> str:
        """When it started, in RFC 3339; empty if no event says so."""
        return self.least.get("lead", "")[1:]

    def said(self, name: str) -> str:
        """What the first event of the best kind says; empty if none does."""
        return self.least.get(name, "")[_KEY:]

    def summary(self, trace: str) -> dict[str, Any]:
        """The row of the run: a JSON object, without what is not known."""
        status, kind = self.status, _KINDS[int(self.most.get("kind", "0"))]
        over = status != "running"
        ended = self.most.get("trace_ended" if kind == "trace" else "ended", "") if over else ""
        get = self.counts.get
        row: dict[str, Any] = {
            "type": "run",
            "trace_id": trace,
            "run_id": self.said("run_id"),
            "name": self.said("name"),
            "kind": kind,
            "status": status,
            "started": self.started,
            "ended": ended,
            "duration_ms": _milliseconds(self.started, ended),
            "last_seen": self.most.get("last_seen", ""),
            "error": self.said("error") if status == "error" else "",
            "tasks": None
            if kind == "trace"
            else {
                "started": get("started", 0) + get("again", 0),
                "retried": get("again", 0),
                "running": 0 if over else self.open,
                **{name: get(name, 0) for name in ("completed", "failed", "skipped")},
                **({"lost": self.open} if over and self.open else {}),  # the run is over, and no end of theirs came
            },
            "executor": self.said("executor"),
            "host": self.said("host"),
            "events": get("events", 0),
            "services": self.services,
            "refused": get("refused", 0) or None,
        }
        return {name: value for name, value in row.items() if value not in ("", None, [])}


def _rank(kind: str, root: bool) -> str:
    """Whose word counts first: runs, their tasks, the root of a trace, other spans, all else."""
    if kind in (PIPELINE_STARTED, PIPELINE_COMPLETED):
        return "0"
    if kind in (TASK_STARTED, TASK_COMPLETED, TASK_ERROR, TASK_SKIPPED):
        return "1"
    if kind == SPAN:
        return "2" if root else "3"
    return "4"


def code_of(event: Event) -> str:
    """What an event counts as, as a name of `COUNTS`."""
    if event.type in COUNTS and event.type not in ("root", ""):
        attempt, again = event.fields.get("attempt"), f"{event.type}{_AGAIN}"
        return again if again in COUNTS and isinstance(attempt, int) and attempt > 1 else event.type
    return "root" if event.type == SPAN and not event.fields.get("parent_span_id") else ""


def other_edge(uid: str) -> str:
    """The uid of the other end of the same span; empty if the uid names no edge."""
    if uid.endswith(":start"):
        return uid[:-5] + "end"
    return uid[:-3] + "start" if uid.endswith(":end") else ""


def shown(text: str) -> str:
    """A text as a summary shows it: not too long, and such that UTF-8 can hold it."""
    text = text[:_TEXT]
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _milliseconds(started: str, ended: str) -> float | None:
    try:
        begin, end = (datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%f%z") for text in (started, ended))
    except ValueError:
        return None  # not known, or digits that are no date
    return round((end - begin).total_seconds() * 1000, 3)

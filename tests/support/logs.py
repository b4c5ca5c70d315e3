"""Events for logs, as producers send them, and short ways to look into a log."""

from __future__ import annotations

import json
from itertools import count
from types import MappingProxyType
from typing import Any

from runnable_otel.events import PIPELINE_COMPLETED, PIPELINE_STARTED, TASK_COMPLETED, TASK_STARTED, Event
from runnable_otel.log import Batch, EventLog, EventStream, Record
from runnable_otel.log.records import record

_EDGES = {"pipeline_started": "start", "task_started": "start", "task_skipped": "start", "pipeline_completed": "end"}
_EDGES |= {"task_completed": "end", "task_error": "end", "span": "end"}
_numbers = count(1)


def trace(number: int) -> str:
    return f"{number:032x}"


def at(second: float) -> str:
    """A time of day on one day."""
    minutes, rest = divmod(second, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"2026-01-02T{hours:02}:{minutes:02}:{rest:09.6f}Z"


def event(kind: str, run: str, span: int = 1, *, uid: str = "", **fields: Any) -> Event:
    """An event of span `span` of a run; kinds that are not ours are custom events."""
    where = {"time": at(span), "run_id": f"run-{run[-4:]}", "trace_id": run, "span_id": f"{span:016x}", "host": "h"}
    where |= {name: fields.pop(name) for name in list(fields) if name in where or name == "parent_span_id"}
    where = {name: value for name, value in where.items() if value is not None}
    edge = _EDGES.get(kind)
    uid = uid or (f"{run}:{span:016x}:{edge}" if edge else f"nonce:{next(_numbers)}")
    ours = edge or kind in ("task_log", "log_record", "sign_of_life")
    return Event(kind, uid, MappingProxyType({**fields, **where} if ours else {**fields, "runnable": where}))


def whole_run(run: str, tasks: int = 1, **fields: Any) -> list[Event]:
    """The events of a run from its start to its end."""
    inside = [
        event(kind, run, 2 + number, name=f"task {number}")
        for number in range(tasks)
        for kind in (TASK_STARTED, TASK_COMPLETED)
    ]
    last = {"time": at(2 + tasks), "started": fields.pop("time", at(1))}
    return [
        event(PIPELINE_STARTED, run, name="flow", time=last["started"], **fields),
        *inside,
        event(PIPELINE_COMPLETED, run, name="flow", **{"status": "success", **last, **fields}),
    ]


def records(*events: Event) -> list[Record]:
    return [record(each) for each in events]


def extend(log: EventLog, *events: Event) -> int:
    return log.extend(records(*events))


def stream(log: EventLog, run: str) -> EventStream:
    """The events of a run that is there."""
    found = log.stream(run)
    assert found is not None
    return found


def all_after(stream: EventStream, position: str = "", limit: int = 1000) -> Batch:
    """What lies after a position, read page by page: one batch, with the first gap."""
    batch = stream.read(position, limit)
    entries, gap = list(batch.entries), batch.gap
    while batch.entries and not batch.ended:
        batch = stream.read(batch.position, limit)
        entries += batch.entries
        gap = gap or batch.gap
    return Batch(entries, batch.position, gap, batch.ended)


def uids(batch: Batch) -> list[str]:
    return [json.loads(entry.text)["uid"] for entry in batch.entries]


def kinds(batch: Batch) -> list[str]:
    return [json.loads(entry.text)["type"] for entry in batch.entries]

"""What a worker tells the process that made the pool: `(kind, body)`, pickled as all that a pool ships is.

A task's thread waits while it is pickled, so bodies are plain tuples: ten times faster than the objects that they are.

| kind | body |
|---|---|
| `start` | the fields of `Started`: a span has begun |
| `end` | those of `Ended`: the rest of it |
| `event` | `((type, uid, fields), whether the caller's queue gets it too)` |
| `put` | an item for the caller's queue, as the task made it |
| `metric` | `(method of Metrics, arguments)` |
| `secrets` | values to mask from now on |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from opentelemetry.trace import SpanContext, TraceFlags, TraceState

from runnable_otel.errors import Failure

Place = Literal["own", "global", "logfire"]
"""Which provider a span was made by: the one of runnable's spans, the global one, or the user's logfire."""

Kind = Literal["start", "end", "event", "put", "metric", "secrets"]
Message = tuple[Kind, Any]
Attributes = Mapping[str, Any]
Key = tuple[int, int]
"""Trace id and span id."""
Where = tuple[int, int, int, str]
"""A span's context: trace id, span id, flags, and the trace state as its header."""


class Started(NamedTuple):
    """A span as it is when it begins."""

    place: Place
    scope: tuple[str, str | None, str | None, Attributes | None]
    name: str
    context: Where
    parent: Where | None
    kind: int
    attributes: Attributes
    links: Sequence[tuple[Where, Attributes]]
    start: int


class Ended(NamedTuple):
    """The same when it has ended: all of it that may have changed."""

    key: Key
    name: str
    attributes: Attributes
    events: Sequence[tuple[str, Attributes, int]]
    links: Sequence[tuple[Where, Attributes]]
    status: tuple[int, str | None]
    end: int


class Report(NamedTuple):
    """What became of a branch: whether it failed, and of what."""

    failed: bool
    failure: Failure | None


def where(context: SpanContext) -> Where:
    """A context as plain values."""
    state = context.trace_state
    return context.trace_id, context.span_id, int(context.trace_flags), state.to_header() if state else ""


def context_of(place: Where) -> SpanContext:
    """The inverse, of a span that is somewhere else."""
    trace_id, span_id, flags, state = place
    found = TraceState.from_header([state]) if state else None
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags), trace_state=found)

"""Spans as events. What a span of ours says is the very fact that its live event says: same uid, same fields."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from runnable_otel import semconv
from runnable_otel.capture import capture, clip
from runnable_otel.events import (
    PIPELINE_COMPLETED,
    PIPELINE_STARTED,
    SPAN,
    TASK_COMPLETED,
    TASK_ERROR,
    TASK_SKIPPED,
    TASK_STARTED,
    rfc3339,
    run_fields,
)
from runnable_otel.ingest import events
from runnable_otel.ingest.limits import (
    ATTRIBUTES_BYTES,
    EVENTS_PARTS,
    MESSAGE_BYTES,
    NAME_CHARACTERS,
    BadRecord,
    too_dense,
)
from runnable_otel.ingest.model import ERROR, KINDS, STATUSES, Decoded, Span, Values
from runnable_otel.log import Record


class Spans:
    """Gathers the spans of one request."""

    def __init__(self) -> None:
        self.decoded = Decoded()
        self._parts = 0

    def span(self, span: Span) -> None:
        """Take a span.

        Raises:
            BadRecord: its event would be too large.
            Refused: the texts of the request's spans hold too many values.
        """
        for key in (semconv.INPUTS, semconv.OUTPUTS):
            self._parts += events.parts_of(_text(span.attributes, key))
        if self._parts > EVENTS_PARTS:
            raise too_dense()
        self.decoded.records += records(span)


def records(span: Span) -> list[Record]:
    """What a span says: a task or a run its start and its end, any other span one event of type `span`."""
    attributes = span.attributes
    if _text(attributes, "logfire.span_type") == "pending_span":
        return []  # logfire's copy of a span that is still open; the span itself follows
    if _text(attributes, semconv.TASK_NAME) and _text(attributes, semconv.TASK_TYPE):
        return _task(span)
    if semconv.STEP_NAME in attributes and _text(attributes, semconv.STATUS) == semconv.SKIPPED:
        return [_start(span, TASK_SKIPPED, span.name.partition(":")[2])]
    for key in (semconv.PIPELINE_NAME, semconv.JOB_NAME):
        is_run = isinstance(attributes.get(key), str) and _text(attributes, semconv.RUN_ID)
        if is_run and not span.name.startswith("submit:"):
            name = _text(attributes, key) or span.name.partition(":")[2]
            return _run(span, name, job=key == semconv.JOB_NAME)
    return [_other(span)]


def _task(span: Span) -> list[Record]:
    attributes = span.attributes
    name = _text(attributes, semconv.TASK_NAME, NAME_CHARACTERS)
    status = _text(attributes, semconv.STATUS)
    if status == semconv.SKIPPED:
        return [_start(span, TASK_SKIPPED, name)]
    inputs = _object(attributes.get(semconv.INPUTS))
    failed = span.code == ERROR or status not in (semconv.SUCCESS, semconv.UNKNOWN, "")
    own: dict[str, Any]
    if failed:
        trace = _stack_trace(span) if span.code == ERROR else None
        own = {"error": status or _error(span), "stack_trace": trace}
    elif status == semconv.UNKNOWN:
        own = {"status": status}
    else:
        own = {"outputs": _object(attributes.get(semconv.OUTPUTS))}
    own["inputs"] = inputs
    kind = TASK_ERROR if failed else TASK_COMPLETED
    return [_start(span, TASK_STARTED, name, {"inputs": inputs}), _end(span, kind, name, own)]


def _run(span: Span, name: str, *, job: bool) -> list[Record]:
    status = _text(span.attributes, semconv.STATUS) or (_error(span) if span.code == ERROR else semconv.SUCCESS)
    failed = span.code == ERROR or status not in (semconv.SUCCESS, semconv.CANCELLED)
    known = run_fields(_text(span.attributes, semconv.EXECUTOR, NAME_CHARACTERS), job=job)
    own = {**known, "status": "error" if failed else status, "error": status if failed else None}
    return [_start(span, PIPELINE_STARTED, name, known), _end(span, PIPELINE_COMPLETED, name, own)]


def _other(span: Span) -> Record:
    attributes = span.attributes
    failed = span.code == ERROR
    own = {
        "status": STATUSES[span.code] if 0 <= span.code < len(STATUSES) else STATUSES[0],
        "error": clip(_error(span), MESSAGE_BYTES) if failed else None,
        "kind": KINDS[span.kind] if 0 <= span.kind < len(KINDS) else KINDS[0],
        "service": _text(span.resource, "service.name", NAME_CHARACTERS) or None,
        "attributes": json.loads(capture(attributes, ATTRIBUTES_BYTES).text),
    }
    fields = {
        "name": span.name,
        "time": rfc3339(span.ended),
        "started": rfc3339(span.started),
        "duration_ms": _milliseconds(span),
        **_present(own),
        **_common(span),
    }
    return events.make(span.trace_id, SPAN, _uid(span, "end"), fields)


def _start(span: Span, kind: str, name: str, own: Mapping[str, Any] | None = None) -> Record:
    fields = {"name": name, **_present(own or {}), "time": rfc3339(span.started), **_common(span)}
    return events.make(span.trace_id, kind, _uid(span, "start"), fields)


def _end(span: Span, kind: str, name: str, own: Mapping[str, Any]) -> Record:
    fields = {
        "name": name,
        **_present(own),
        "time": rfc3339(span.ended),
        **_common(span),
        "started": rfc3339(span.started),
        "duration_ms": _milliseconds(span),
    }
    return events.make(span.trace_id, kind, _uid(span, "end"), fields)


def _common(span: Span) -> dict[str, Any]:
    """The common fields, those that the span knows, in the order in which its live event has them."""
    attributes, resource = span.attributes, span.resource

    def text(key: str) -> str | None:
        return _text(attributes, key, NAME_CHARACTERS) or None

    attempt = attributes.get(semconv.STEP_ATTEMPT)
    pid = attributes.get(semconv.PROCESS_PID, resource.get(semconv.PROCESS_PID))
    known = {
        "run_id": text(semconv.RUN_ID),
        "trace_id": span.trace_id,
        "span_id": span.span_id,
        "parent_span_id": span.parent_id or None,
        "step": text(semconv.STEP_NAME),
        "attempt": attempt if type(attempt) is int else None,
        "task_type": text(semconv.TASK_TYPE),
        "branch": text(semconv.BRANCH_NAME),
        "pid": pid if type(pid) is int else None,
        "host": _text(resource, "host.name", NAME_CHARACTERS)
        or _text(resource, "k8s.pod.name", NAME_CHARACTERS)
        or None,
    }
    return _present(known)


def _uid(span: Span, edge: str) -> str:
    return f"{span.trace_id}:{span.span_id}:{edge}"


def _milliseconds(span: Span) -> float:
    return round((span.ended - span.started) / 1e6, 3)


def _error(span: Span) -> str:
    """Why a span failed: its status' message, else its last exception."""
    if span.message or not span.exceptions:
        return span.message
    exception = span.exceptions[-1]
    kind, message = _text(exception, semconv.EXCEPTION_TYPE), _text(exception, semconv.EXCEPTION_MESSAGE)
    return f"{kind}: {message}" if kind and message else kind or message


def _stack_trace(span: Span) -> str | None:
    """That of the exception that the span failed of: a task may have written others, which it handled."""
    kind = span.attributes.get(semconv.ERROR_TYPE)
    for exception in reversed(span.exceptions):
        if kind is None or exception.get(semconv.EXCEPTION_TYPE) == kind:
            return clip(_text(exception, semconv.EXCEPTION_STACKTRACE), MESSAGE_BYTES) or None
    return None


def _object(value: object) -> dict[str, Any] | None:
    """The JSON object that an attribute's text holds; None where it is none, or was cut on the way."""
    if isinstance(value, dict):
        return json.loads(capture(value, ATTRIBUTES_BYTES).text)  # pyright: ignore[reportUnknownArgumentType]
    try:
        return events.json_object(value) if isinstance(value, str) else None
    except BadRecord:
        return None


def _text(values: Values, key: str, limit: int = MESSAGE_BYTES * 4) -> str:
    value = values.get(key)
    return value[:limit] if isinstance(value, str) else ""


def _present(own: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in own.items() if value is not None}

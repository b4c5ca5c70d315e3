"""An event as an OTLP log record."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace
from opentelemetry.context import Context

from runnable_otel._version import __version__
from runnable_otel.events import PIPELINE_COMPLETED, TASK_ERROR, Event, nanoseconds
from runnable_otel.semconv import SCOPE

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadableLogRecord

_ATTRIBUTES: Final = ("run_id", "step")


def record(event: Event, resource: Any) -> ReadableLogRecord:
    """An event as a log record of the SDK's."""
    from opentelemetry._logs import LogRecord, SeverityNumber
    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    fields = event.fields
    failed = event.type == TASK_ERROR or (event.type == PIPELINE_COMPLETED and fields.get("status") == "error")
    known = {name: _text(fields[name]) for name in _ATTRIBUTES if fields.get(name)}
    made = LogRecord(
        timestamp=_nanoseconds(fields.get("time")),
        observed_timestamp=time.time_ns(),
        context=_context(fields),
        severity_number=SeverityNumber.ERROR if failed else SeverityNumber.INFO,
        body=_text(event.to_json()),
        attributes={"uid": _text(event.uid), **known},
        event_name=_text(f"runnable.{event.type}"),
    )
    return ReadableLogRecord(made, resource, InstrumentationScope(SCOPE, __version__))


def _text(value: object) -> str:
    """Text that protobuf takes: a lone surrogate would cost the whole batch."""
    return str(value).encode("utf-8", "replace").decode()


def _nanoseconds(text: object) -> int:
    known = nanoseconds(text)
    return time.time_ns() if known is None else known


def _context(fields: Mapping[str, Any]) -> Context:
    """A context with the event's span in it, which is where a log record has its trace id from."""
    try:
        ids = int(str(fields["trace_id"]), 16), int(str(fields["span_id"]), 16)
    except (KeyError, ValueError):
        ids = 0, 0
    span = trace.NonRecordingSpan(trace.SpanContext(*ids, is_remote=False))
    return trace.set_span_in_context(span, Context({"runnable_otel": True}))  # an empty one would be taken for none

"""OTLP requests as OTLP JSON and back: protobuf's own JSON, but for ids, which are hexadecimal.

See the OTLP specification, "JSON Protobuf Encoding". The encoder is protobuf's, on what the exporters encode: so the
spool holds what would have been sent. (The SDK's JSON encoder is bound to one version of the SDK, and does the same.)
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from opentelemetry import trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

_IDS = ("traceId", "spanId", "parentSpanId")
_IS_REMOTE = 0x200  # SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK

Object = Mapping[str, Any]
_T = TypeVar("_T")


def line_of(request: Message) -> bytes:
    """A request of the trace or log service as OTLP JSON on one line."""
    made: dict[str, Any] = MessageToDict(request, use_integers_for_enums=True)
    for _, _, span in _each(made, "resourceSpans", "scopeSpans", "spans"):
        _write_ids(span)
        for link in span.get("links", ()):
            _write_ids(link)
    for _, _, record in _each(made, "resourceLogs", "scopeLogs", "logRecords"):
        _write_ids(record)
    return json.dumps(made, ensure_ascii=False, separators=(",", ":")).encode()


def _write_ids(of: Any) -> None:
    for name in _IDS:
        if name in of:
            of[name] = base64.b64decode(of[name]).hex()


def spans_of(line: bytes) -> list[ReadableSpan]:
    """The spans of a request; none where it holds other things.

    Raises:
        ValueError: it is no OTLP JSON.
    """
    return _read(line, ("resourceSpans", "scopeSpans", "spans"), _span)


def records_of(line: bytes) -> list[Any]:
    """The log records of a request, as `ReadableLogRecord`; none where it holds other things.

    Raises:
        ValueError: it is no OTLP JSON.
    """
    return _read(line, ("resourceLogs", "scopeLogs", "logRecords"), _record)


def _read(line: bytes, names: tuple[str, str, str], make: Callable[..., _T]) -> list[_T]:
    try:
        return [make(each, _resource(outer), _scope(inner)) for outer, inner, each in _each(json.loads(line), *names)]
    except (ValueError, AttributeError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"no OTLP JSON: {error}") from None


def _each(request: Object, first: str, second: str, third: str) -> Iterator[tuple[Object, Object, Object]]:
    for outer in request.get(first, ()):
        for inner in outer.get(second, ()):
            for each in inner.get(third, ()):
                yield outer, inner, each


def _span(span: Object, resource: Resource, scope: InstrumentationScope | None) -> ReadableSpan:
    context = _context(span)
    parent = span.get("parentSpanId")
    status = span.get("status", {})
    code = StatusCode(int(status.get("code", 0)))
    return ReadableSpan(
        name=str(span.get("name", "")),
        context=context,
        parent=SpanContext(context.trace_id, int(parent, 16), is_remote=_is_remote(span)) if parent else None,
        resource=resource,
        attributes=_attributes(span),
        events=[
            Event(str(event.get("name", "")), _attributes(event), int(event.get("timeUnixNano", 0)))
            for event in span.get("events", ())
        ],
        links=[Link(_context(link, is_remote=_is_remote(link)), _attributes(link)) for link in span.get("links", ())],
        kind=SpanKind(max(0, int(span.get("kind", 1)) - 1)),
        status=Status(code, status.get("message") if code is StatusCode.ERROR else None),
        start_time=int(span.get("startTimeUnixNano", 0)),
        end_time=int(span.get("endTimeUnixNano", 0)),
        instrumentation_scope=scope,
    )


def _record(record: Object, resource: Resource, scope: InstrumentationScope | None) -> Any:
    from opentelemetry._logs import LogRecord, SeverityNumber
    from opentelemetry.sdk._logs import ReadableLogRecord

    # An empty context would be taken for none.
    context = trace.set_span_in_context(trace.NonRecordingSpan(_context(record)), Context({"runnable_otel": True}))
    made = LogRecord(
        timestamp=int(record.get("timeUnixNano", 0)),
        observed_timestamp=int(record.get("observedTimeUnixNano", 0)),
        context=context,
        severity_number=SeverityNumber(int(record.get("severityNumber", 0))),
        severity_text=record.get("severityText"),
        body=_value(record.get("body", {})),
        attributes=_attributes(record),
        event_name=record.get("eventName"),
    )
    return ReadableLogRecord(made, resource, scope)


def _context(of: Object, *, is_remote: bool = False) -> SpanContext:
    state = TraceState.from_header([of["traceState"]]) if of.get("traceState") else None
    trace_id, span_id = (int(of.get(name) or "0", 16) for name in ("traceId", "spanId"))
    return SpanContext(trace_id, span_id, is_remote, TraceFlags(int(of.get("flags", 0)) & 0xFF), state)


def _is_remote(of: Object) -> bool:
    """Whether a span's parent, or what a link names, was in another process."""
    return bool(int(of.get("flags", 0)) & _IS_REMOTE)


def _resource(outer: Object) -> Resource:
    return Resource(_plain(outer.get("resource", {}).get("attributes", ())), outer.get("schemaUrl", ""))


def _scope(inner: Object) -> InstrumentationScope | None:
    scope = inner.get("scope")
    if scope is None:
        return None
    known = _plain(scope.get("attributes", ()))
    return InstrumentationScope(
        scope.get("name", ""), scope.get("version") or None, inner.get("schemaUrl") or None, known or None
    )


def _attributes(of: Object) -> BoundedAttributes:
    made = BoundedAttributes(attributes=_plain(of.get("attributes", ())), immutable=False)
    made.dropped = int(of.get("droppedAttributesCount", 0))
    return made


def _plain(pairs: Sequence[Object]) -> dict[str, Any]:
    return {str(pair.get("key", "")): _value(pair.get("value", {})) for pair in pairs}


def _value(value: Object) -> Any:
    """An AnyValue as the SDK's encoder takes it."""
    for name, given in value.items():
        if name == "arrayValue":
            return [_value(each) for each in given.get("values", ())]
        if name == "kvlistValue":
            return _plain(given.get("values", ()))
        convert = {"intValue": int, "doubleValue": float, "bytesValue": base64.b64decode}.get(name)
        return convert(given) if convert else given
    return None

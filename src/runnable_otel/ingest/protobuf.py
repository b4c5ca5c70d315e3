"""Spans and log records out of protobuf, one at a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

from runnable_otel.ingest import model, wire
from runnable_otel.ingest.limits import ATTRIBUTES, VALUE_CHARACTERS, BadRecord, malformed
from runnable_otel.ingest.logs import PREFIX, Logs
from runnable_otel.ingest.model import Decoded, LogLine, Span, Values, valid
from runnable_otel.ingest.spans import Spans

_LARGE = 64 * 1024  # what is smaller can't become large: a message of two bytes becomes some fifty


def traces(body: bytes) -> Decoded:
    """Decode a request of traces."""
    taken, meter = Spans(), wire.Meter()
    for group in wire.groups(body):
        resource = _resource(group.resource, meter)
        for piece in group.records:
            meter.read(piece, wire.SPAN, 4)
            message = _parsed(SpanMessage, piece)
            try:
                taken.span(_span(message, resource))
            except BadRecord as error:
                taken.decoded.reject(str(error))
    return taken.decoded


def logs(body: bytes) -> Decoded:
    """Decode a request of log records."""
    taken, meter = Logs(), wire.Meter()
    for group in wire.groups(body):
        resource: Values | None = None
        for piece in group.records:
            if len(piece) > _LARGE:
                meter.read(piece, wire.LOG, 4)
            message: LogRecord = _parsed(LogRecord, piece)
            text, name = message.body.string_value, message.event_name
            try:
                if text and name.startswith(PREFIX):
                    taken.event(name, text, message.trace_id.hex())
                    continue
                meter.read(piece, wire.LOG, 4)
                if resource is None:
                    resource = _resource(group.resource, meter)
                taken.line(_line(message, resource))
            except BadRecord as error:
                taken.decoded.reject(str(error))
    return taken.decoded


def _parsed(kind: Any, piece: bytes) -> Any:
    try:
        return kind.FromString(piece)
    except DecodeError:
        raise malformed(wire.PROTOBUF) from None


def _resource(piece: bytes, meter: wire.Meter) -> Values:
    if not piece:
        return {}
    meter.read(piece, wire.RESOURCE, 3)
    return _attributes(_parsed(Resource, piece).attributes)


def _span(message: SpanMessage, resource: Values) -> Span:
    trace_id = model.hex_id(message.trace_id, 16, "trace")
    span_id = model.hex_id(message.span_id, 8, "span")
    model.needed(trace_id, span_id)
    exceptions = [_attributes(event.attributes) for event in message.events if event.name == "exception"]
    return Span(
        trace_id,
        span_id,
        model.hex_id(message.parent_span_id, 8, "span"),
        valid(message.name),
        message.kind,
        *model.times(message.start_time_unix_nano, message.end_time_unix_nano),
        message.status.code,
        valid(message.status.message, VALUE_CHARACTERS),
        _attributes(message.attributes),
        exceptions[-1:] if len(exceptions) > ATTRIBUTES else exceptions,
        resource,
    )


def _line(message: LogRecord, resource: Values) -> LogLine:
    return LogLine(
        model.hex_id(message.trace_id, 16, "trace"),
        model.hex_id(message.span_id, 8, "span"),
        message.time_unix_nano or message.observed_time_unix_nano,
        model.severity(message.severity_number, message.severity_text),
        valid(message.event_name),
        _value(message.body),
        _attributes(message.attributes),
        resource,
    )


def _attributes(pairs: Iterable[KeyValue]) -> Values:
    found: dict[str, object] = {}
    for pair in pairs:
        if len(found) >= ATTRIBUTES:
            break
        found[valid(pair.key)] = _value(pair.value)
    return found


def _value(message: AnyValue) -> object:
    which = message.WhichOneof("value")
    if which == "string_value":
        return valid(message.string_value, VALUE_CHARACTERS)
    if which == "array_value":
        return [_value(each) for each in message.array_value.values[:ATTRIBUTES]]
    if which == "kvlist_value":
        return _attributes(message.kvlist_value.values)
    return getattr(message, which) if which else None

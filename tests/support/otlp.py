"""Export requests of OTLP: messages from a few words, and the bytes of those that no library would write."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList

from runnable_otel.events import Event, rfc3339

PROTOBUF, JSON = "application/x-protobuf", "application/json"
TRACE, SPAN = "5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174"
TIME = 1_795_470_000_123_456_000


def any_value(value: Any) -> AnyValue:
    if value is None:
        return AnyValue()
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, bytes):
        return AnyValue(bytes_value=value)
    if isinstance(value, Mapping):
        return AnyValue(kvlist_value=KeyValueList(values=pairs(value)))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return AnyValue(array_value=ArrayValue(values=[any_value(each) for each in value]))
    return AnyValue(string_value=value)


def pairs(attributes: Mapping[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=any_value(value)) for key, value in attributes.items()]


def traces(*spans: Mapping[str, Any], resource: Mapping[str, Any] | None = None) -> ExportTraceServiceRequest:
    """A request of spans: members of the message, ids in hexadecimal digits, attributes as a mapping."""
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.extend(pairs(resource or {}))
    scope = group.scope_spans.add()
    scope.scope.name = "a library"
    for span in spans:
        given = {
            "trace_id": TRACE,
            "span_id": SPAN,
            "start_time_unix_nano": TIME,
            "end_time_unix_nano": TIME + 1,
            **span,
        }
        status, events, links = given.pop("status", {}), given.pop("events", ()), given.pop("links", ())
        attributes = given.pop("attributes", {})
        for name in ("trace_id", "span_id", "parent_span_id"):
            if isinstance(given.get(name), str):
                given[name] = bytes.fromhex(given[name])
        message = scope.spans.add(**given, attributes=pairs(attributes))
        message.status.code, message.status.message = status.get("code", 0), status.get("message", "")
        for event_name, event_attributes in events:
            message.events.add(name=event_name, attributes=pairs(event_attributes), time_unix_nano=TIME)
        for trace_id, span_id in links:
            message.links.add(trace_id=bytes.fromhex(trace_id), span_id=bytes.fromhex(span_id))
    return request


def logs(*records: Mapping[str, Any], resource: Mapping[str, Any] | None = None) -> ExportLogsServiceRequest:
    """A request of log records, in the same way."""
    request = ExportLogsServiceRequest()
    group = request.resource_logs.add()
    group.resource.attributes.extend(pairs(resource or {}))
    scope = group.scope_logs.add()
    for record in records:
        given = {"trace_id": TRACE, "span_id": SPAN, "time_unix_nano": TIME, **record}
        body, attributes = given.pop("body", None), given.pop("attributes", {})
        for name in ("trace_id", "span_id"):
            if isinstance(given[name], str):
                given[name] = bytes.fromhex(given[name])
        scope.log_records.add(**given, body=any_value(body), attributes=pairs(attributes))
    return request


def event_log(event: Event, **changed: Any) -> dict[str, Any]:
    """The log record of an event, as our own sink sends it."""
    fields = event.fields.get("runnable", event.fields)
    record = {
        "trace_id": fields.get("trace_id", ""),
        "span_id": fields.get("span_id", ""),
        "severity_number": 9,
        "body": event.to_json(),
        "event_name": f"runnable.{event.type}",
        "attributes": {"uid": event.uid, "run_id": "nightly", "step": "one"},
        "observed_time_unix_nano": TIME,
        "flags": 1,
    }
    return {**record, **changed}


def event(number: int = 0, kind: str = "task_completed", **fields: Any) -> Event:
    """An event of ours, of usual size."""
    edge = "start" if kind.endswith(("started", "skipped")) else "end"
    ids = {"trace_id": TRACE, "span_id": f"{number + 1:016x}", "parent_span_id": SPAN}
    common = {
        "name": "module.compute",
        "outputs": {"result": number, "name": "a short text"},
        "inputs": {"x": 10, "y": [1, 2, 3]},
        "time": rfc3339(TIME + 1000 * number),
        "run_id": "nightly",
        **ids,
        "step": "process.one.compute",
        "attempt": 1,
        "task_type": "python",
        "branch": "process.one",
        "pid": 4711,
        "host": "worker-17",
        "started": rfc3339(TIME),
        "duration_ms": 12.345,
    }
    return Event(kind, f"{TRACE}:{number + 1:016x}:{edge}", {**common, **fields})


def custom(number: int = 0, **fields: Any) -> Event:
    """An event of a task's own, as it leaves the process."""
    where = {"time": rfc3339(TIME), "run_id": "nightly", "trace_id": TRACE, "span_id": SPAN}
    return Event("progress", f"0123456789abcdef:{number}", {"done": number, **fields, "runnable": where})


def json_of(request: Any) -> bytes:
    """A request in OTLP's JSON: protobuf's mapping, with ids in hexadecimal digits and enums as numbers."""
    made = json_format.MessageToDict(request, use_integers_for_enums=True)
    return json.dumps(_with_hex(made)).encode()


def _with_hex(value: Any) -> Any:
    import base64

    if isinstance(value, list):
        return [_with_hex(each) for each in value]
    if not isinstance(value, dict):
        return value
    ids = ("traceId", "spanId", "parentSpanId")
    return {key: base64.b64decode(each).hex() if key in ids else _with_hex(each) for key, each in value.items()}


def encoded(request: Any, content_type: str) -> bytes:
    return json_of(request) if content_type == JSON else request.SerializeToString()


def field(number: int, content: bytes) -> bytes:
    """A field with a length, as it is on the wire."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])

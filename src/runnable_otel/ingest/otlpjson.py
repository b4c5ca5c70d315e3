"""Spans and log records out of OTLP's JSON: protobuf's JSON mapping, but ids are hexadecimal digits, not base64.

See "JSON Protobuf Encoding" in the OTLP specification. Names are in camel case; those that are not known are ignored.
"""

from __future__ import annotations

import binascii
import json
import re
from typing import Any, Final, cast

from runnable_otel.ingest import model, wire
from runnable_otel.ingest.limits import ATTRIBUTES, RECORDS, VALUE_CHARACTERS, BadRecord, malformed, too_many
from runnable_otel.ingest.logs import PREFIX, Logs
from runnable_otel.ingest.model import Decoded, LogLine, Span, Values, valid
from runnable_otel.ingest.spans import Spans

_INTEGER: Final = re.compile(r"-?[0-9]{1,20}", re.ASCII)
_HEX: Final = re.compile(r"(?:[0-9a-fA-F]{2})*", re.ASCII)
_NUMBERS: Final = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}

Object = dict[str, Any]


def traces(body: bytes) -> Decoded:
    """Decode a request of traces."""
    taken = Spans()
    for resource, messages in _groups(body, "resourceSpans", "scopeSpans", "spans"):
        for message in messages:
            try:
                taken.span(_span(_object(message), resource))
            except BadRecord as error:
                taken.decoded.reject(str(error))
    return taken.decoded


def logs(body: bytes) -> Decoded:
    """Decode a request of log records."""
    taken = Logs()
    for resource, messages in _groups(body, "resourceLogs", "scopeLogs", "logRecords"):
        for message in messages:
            try:
                _log(taken, _object(message), resource)
            except BadRecord as error:
                taken.decoded.reject(str(error))
    return taken.decoded


def _log(taken: Logs, message: Object, resource: Values) -> None:
    name, body = message.get("eventName"), message.get("body")
    text = cast("Object", body).get("stringValue") if isinstance(body, dict) else None
    if text and isinstance(text, str) and isinstance(name, str) and name.startswith(PREFIX):
        taken.event(valid(name), valid(text, len(text)), _id(message, "traceId", 16, "trace"))
    else:
        taken.line(_line(message, resource))


def _groups(body: bytes, outer: str, scopes: str, inner: str) -> list[tuple[Values, list[object]]]:
    """The records of each resource."""
    wire.scan_json(body)
    try:
        parsed: object = json.loads(body.decode("utf-8-sig"))
        if parsed is None:  # as a member it would be one that is missing
            raise malformed(wire.JSON)
        request = _object(parsed)
        groups = [
            (
                _attributes(_object(group.get("resource")).get("attributes")),
                [record for scope in _list(group.get(scopes)) for record in _list(_object(scope).get(inner))],
            )
            for group in map(_object, _list(request.get(outer)))
        ]
    except (ValueError, RecursionError, BadRecord):  # UnicodeDecodeError is a ValueError
        raise malformed(wire.JSON) from None
    if sum(len(records) for _, records in groups) > RECORDS:
        raise too_many()
    return groups


def _span(message: Object, resource: Values) -> Span:
    trace_id, span_id = _id(message, "traceId", 16, "trace"), _id(message, "spanId", 8, "span")
    model.needed(trace_id, span_id)
    status = _object(message.get("status"))
    events = map(_object, _list(message.get("events")))
    exceptions = [_attributes(event.get("attributes")) for event in events if event.get("name") == "exception"]
    return Span(
        trace_id,
        span_id,
        _id(message, "parentSpanId", 8, "span"),
        _text(message, "name"),
        _enum(
            message.get("kind"), "SPAN_KIND_", ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
        ),
        *model.times(_time(message, "startTimeUnixNano"), _time(message, "endTimeUnixNano")),
        _enum(status.get("code"), "STATUS_CODE_", ("UNSET", "OK", "ERROR")),
        _text(status, "message", VALUE_CHARACTERS),
        _attributes(message.get("attributes")),
        exceptions[-1:] if len(exceptions) > ATTRIBUTES else exceptions,
        resource,
    )


def _line(message: Object, resource: Values) -> LogLine:
    number = message.get("severityNumber")
    return LogLine(
        _id(message, "traceId", 16, "trace"),
        _id(message, "spanId", 8, "span"),
        _time(message, "timeUnixNano") or _time(message, "observedTimeUnixNano"),
        model.severity(number if isinstance(number, int) else 0, _text(message, "severityText")),
        _text(message, "eventName"),
        _value(message.get("body")),
        _attributes(message.get("attributes")),
        resource,
    )


def _attributes(pairs: object) -> Values:
    found: dict[str, object] = {}
    for pair in map(_object, _list(pairs)[:ATTRIBUTES]):
        found[_text(pair, "key")] = _value(pair.get("value"))
    return found


def _value(value: object) -> object:
    for kind, content in _object(value).items():
        if content is None:
            continue
        if kind == "stringValue":
            return valid(content, VALUE_CHARACTERS) if isinstance(content, str) else None
        if kind == "boolValue":
            return bool(content)
        if kind == "intValue":
            return _integer(content)
        if kind == "doubleValue":
            return _NUMBERS.get(content) if isinstance(content, str) else _float(content)
        if kind == "arrayValue":
            return [_value(each) for each in _list(_object(content).get("values"))[:ATTRIBUTES]]
        if kind == "kvlistValue":
            return _attributes(_object(content).get("values"))
        if kind == "bytesValue":
            return _bytes(content)
    return None


def _float(content: object) -> float | None:
    try:
        return float(content) if isinstance(content, (int, float)) else None
    except OverflowError:
        return None


def _bytes(content: object) -> bytes:
    try:
        return binascii.a2b_base64(content) if isinstance(content, str) else b""
    except ValueError:
        raise BadRecord("A value of bytes is not base64.") from None


def _integer(content: object) -> int:
    """A number of 64 bits, which JSON has as a text."""
    if isinstance(content, str) and _INTEGER.fullmatch(content):
        content = int(content)
    if not isinstance(content, int) or not -(2**63) <= content < 2**64:
        raise BadRecord("A number is not one of 64 bits.")
    return int(content)


def _time(message: Object, name: str) -> int:
    value = message.get(name)
    return model.nanoseconds(_integer(value)) if value not in (None, "") else 0


def _id(message: Object, name: str, size: int, what: str) -> str:
    value = message.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > 64 or not _HEX.fullmatch(value):
        raise BadRecord(f"A {what} id is not hexadecimal digits.")
    return model.hex_id(bytes.fromhex(value), size, what)


def _enum(value: object, prefix: str, names: tuple[str, ...]) -> int:
    if isinstance(value, str) and value.removeprefix(prefix) in names:
        return names.index(value.removeprefix(prefix))
    return value if isinstance(value, int) else 0


def _text(message: Object, name: str, limit: int = 1024) -> str:
    value = message.get(name)
    return valid(value, limit) if isinstance(value, str) else ""


def _object(value: object) -> Object:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadRecord("What should be an object is none.")
    return cast("Object", value)


def _list(value: object) -> list[object]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadRecord("What should be an array is none.")
    return cast("list[object]", value)

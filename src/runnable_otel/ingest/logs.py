"""Log records: events of ours, which come as such, and any other record of a trace."""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Final

from runnable_otel.capture import capture, clip
from runnable_otel.events import LOG_RECORD, SIGN_OF_LIFE, rfc3339
from runnable_otel.ingest import events
from runnable_otel.ingest.limits import (
    ATTRIBUTES_BYTES,
    EVENTS_PARTS,
    MESSAGE_BYTES,
    VALUE_CHARACTERS,
    BadRecord,
    too_dense,
)
from runnable_otel.ingest.model import Decoded, LogLine, Values
from runnable_otel.log import Record

PREFIX: Final = "runnable."
"""Before the type of an event, in the name of a log record that is one."""


class Logs:
    """Gathers the log records of one request."""

    def __init__(self) -> None:
        self.decoded = Decoded()
        self._parts = 0

    def event(self, name: str, text: str, trace_id: str) -> None:
        """Take an event whose JSON is the record's body.

        Raises:
            BadRecord: it is none.
            Refused: the events of the request hold too many values.
        """
        parts = events.parts_of(text)
        self._parts += parts
        if self._parts > EVENTS_PARTS:
            raise too_dense()
        record = events.read(text, trace_id, parts)
        if record.event.type != name[len(PREFIX) :]:
            raise BadRecord("The type of an event is not that of its record.")
        if record.event.type == SIGN_OF_LIFE:
            moment = str(record.event.fields["time"])
            self.decoded.alive[record.trace_id] = max(moment, self.decoded.alive.get(record.trace_id, ""))
        else:
            self.decoded.records.append(record)

    def line(self, line: LogLine) -> None:
        """Take a record that is put together of values; without a trace it belongs to no run.

        Raises:
            BadRecord: it has the name of an event, and is none.
        """
        name = line.name or _text(line.attributes, "event.name")
        if name.startswith(PREFIX):
            body = line.body if isinstance(line.body, str) else capture(_members(line.body), VALUE_CHARACTERS).text
            self.event(name, body, line.trace_id)
        elif line.trace_id:
            self.decoded.records.append(_log_record(line, name))
        else:
            self.decoded.passed += 1


def _members(body: object) -> dict[str, object]:
    if not isinstance(body, dict):
        raise BadRecord("An event is no object.")
    return body  # pyright: ignore[reportUnknownVariableType] - our own, whose keys are texts


def _log_record(line: LogLine, name: str) -> Record:
    """A record as an event. Its uid is made of what it says: a record that is sent again is the same fact."""
    if isinstance(line.body, str):
        text = clip(line.body, MESSAGE_BYTES)
    else:
        text = "" if line.body is None else capture({"body": line.body}, MESSAGE_BYTES).text
    attributes = capture(line.attributes, ATTRIBUTES_BYTES).text
    time = rfc3339(line.time)
    said = "\0".join((line.severity, name, text, attributes))
    digest = blake2b(f"{line.time}\0{said}".encode(), digest_size=8).hexdigest()
    known = {
        "name": name,
        "time": time,
        "text": text,
        "severity": line.severity,
        "attributes": json.loads(attributes),
        "trace_id": line.trace_id,
        "span_id": line.span_id,
        "service": _text(line.resource, "service.name"),
    }
    fields = {key: value for key, value in known.items() if value != ""}
    return events.make(line.trace_id, LOG_RECORD, f"{line.trace_id}:{line.span_id}:log:{digest}", fields)


def _text(values: Values, name: str) -> str:
    value = values.get(name)
    return value if isinstance(value, str) else ""

"""A span and a log record as both encodings of OTLP have them, in plain values of bounded size."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from runnable_otel.ingest.limits import NAME_CHARACTERS, BadRecord
from runnable_otel.log import Record

Values = Mapping[str, object]
"""Attributes: texts, numbers, flags, bytes, and lists and dicts of these."""

SEVERITIES: Final = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
KINDS: Final = ("internal", "internal", "server", "client", "producer", "consumer")
"""Names of `SpanKind`; one that is not said may be taken for internal, says OTLP."""
ERROR: Final = 2
STATUSES: Final = ("unset", "ok", "error")

_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_MAX_NS: Final = 2**64
_ZEROS: Final = bytes(16)


@dataclass(slots=True)
class Span:
    """A span that has ended.

    Attributes:
        trace_id, span_id: lower-case hexadecimal digits; `parent_id` is empty for a root.
        started, ended: nanoseconds since 1970.
        exceptions: the attributes of its `exception` events.
    """

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: int
    started: int
    ended: int
    code: int
    message: str
    attributes: Values
    exceptions: list[Values]
    resource: Values


@dataclass(slots=True)
class LogLine:
    """A log record that belongs to a trace; its `time` is nanoseconds since 1970."""

    trace_id: str
    span_id: str
    time: int
    severity: str
    name: str
    body: object
    attributes: Values
    resource: Values


@dataclass(slots=True)
class Decoded:
    """What a request holds.

    Attributes:
        records: events for the log, in order.
        alive: signs of life: trace id to a time in RFC 3339.
        rejected: how many spans or log records were not taken.
        reason: why the first of them was not.
        passed: how many log records were taken, and belong to no run.
    """

    records: list[Record] = field(default_factory=list[Record])
    alive: dict[str, str] = field(default_factory=dict[str, str])
    rejected: int = 0
    reason: str = ""
    passed: int = 0

    def reject(self, reason: str) -> None:
        """Count one record that is not taken."""
        self.rejected += 1
        self.reason = self.reason or reason


def valid(text: str, limit: int = NAME_CHARACTERS) -> str:
    """A text of at most `limit` characters that can be encoded: a lone surrogate becomes U+FFFD."""
    text = text[:limit]
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


def hex_id(raw: bytes, size: int, what: str) -> str:
    """An id as hexadecimal digits; empty where there is none, or it is all zero.

    Raises:
        BadRecord: it has another size.
    """
    if len(raw) != size:
        if raw:
            raise BadRecord(f"A {what} id is not of {size} bytes.")
        return ""
    return raw.hex() if raw != _ZEROS[:size] else ""


def needed(trace_id: str, span_id: str) -> None:
    """See that a span has its ids.

    Raises:
        BadRecord: it has not.
    """
    if not (trace_id and span_id):
        raise BadRecord("A span has no trace id, or no span id.")


def nanoseconds(value: int) -> int:
    """A time that 64 bits hold.

    Raises:
        BadRecord: it is beyond that.
    """
    if not 0 <= value < _MAX_NS:
        raise BadRecord("A time is beyond 64 bits.")
    return value


def times(started: int, ended: int) -> tuple[int, int]:
    """Start and end of a span; one that is missing is the other.

    Raises:
        BadRecord: both are missing.
    """
    if not (started or ended):
        raise BadRecord("A span has no time.")
    return started or ended, ended or started


def severity(number: int, text: str) -> str:
    """The name of a severity: the sender's own, else that of its number."""
    if text:
        return valid(text, 32)
    return SEVERITIES[(number - 1) // 4] if 1 <= number <= 24 else ""

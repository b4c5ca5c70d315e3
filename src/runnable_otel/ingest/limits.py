"""What one request may be, and why it is refused, whole or in part, where it is more."""

from __future__ import annotations

from typing import Final

BODY_BYTES: Final = 4 * 2**20
"""Bytes of a request's body, before and after it is decompressed."""
PATIENCE: Final = 30.0
"""Seconds that a request's message may take to come over gRPC: as a body over HTTP."""
RECORDS: Final = 10_000
"""Spans or log records of a request; its resources, and its scopes, are as many at most."""
NESTING: Final = 32
"""Messages inside one another, the request itself counted; in JSON objects, and arrays, inside one another."""
PARTS: Final = 100_000
"""Messages inside one record; of all records four times as many. In JSON: twice as many objects and arrays."""
EVENTS_PARTS: Final = 200_000
"""Objects and arrays in the JSON texts that the records of a request hold."""
ATTRIBUTES: Final = 128
"""Attributes of a record, a span or a resource that are kept: the SDK's own limit for a span."""
VALUE_CHARACTERS: Final = 64 * 1024
"""Of a text that is kept of a value: what `RUNNABLE_OTEL_MAX_VALUE_BYTES` may be."""
ATTRIBUTES_BYTES: Final = 16 * 1024
"""Of all attributes of a span or log record that is shown, as JSON."""
NAME_CHARACTERS: Final = 1024
"""Of a name or an id."""
UID_CHARACTERS: Final = 128
MESSAGE_BYTES: Final = 16 * 1024
"""Of a log record's text, an error, or a stack trace."""
EVENT_BYTES: Final = (64 + 16) * 1024
"""Of an event's JSON text: 64 KiB, and a stack trace."""


class Refused(Exception):  # noqa: N818 - an answer, which the sender gets
    """A request that is not taken at all; nothing of it is stored.

    Attributes:
        status: the HTTP status: 400 malformed, 413 too large, too many or too deep, 415 of a kind that is not known.
        reason: one sentence, with nothing of the request in it.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class BadRecord(Exception):  # noqa: N818 - an answer too
    """One record that is not taken; the others of its request are. Its text is the reason."""


def malformed(what: str) -> Refused:
    return Refused(400, f"The body is not {what}.")


def too_large() -> Refused:
    return Refused(413, f"The body is larger than {BODY_BYTES} bytes.")


def too_many() -> Refused:
    return Refused(413, f"The request holds more than {RECORDS} records.")


def too_dense() -> Refused:
    return Refused(413, "The request holds too many values.")


def too_deep() -> Refused:
    return Refused(413, f"The request is nested more than {NESTING} deep.")

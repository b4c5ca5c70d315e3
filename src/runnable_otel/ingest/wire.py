"""The wire, before anything is made of it: records are found and counted, and nesting is measured, without objects.

Two bytes can be a record, and become fifty: what is parsed first and counted then is too late. See "Message structure"
in the encoding of protocol buffers, and RFC 8259.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any, Final, NamedTuple

from runnable_otel.ingest.limits import NESTING, PARTS, RECORDS, malformed, too_deep, too_dense, too_many

PROTOBUF: Final = "OTLP in protobuf"
JSON: Final = "OTLP in JSON"

_VARINT_BYTES: Final = 10

# Which fields of a message are messages: what can be nested, and what costs more than its bytes once it is parsed.
_Kind = Mapping[int, Any]
_ANY: dict[int, Any] = {}
_PAIR: Final[_Kind] = {2: _ANY}
_ANY.update({5: {1: _ANY}, 6: {1: _PAIR}})
SPAN: Final[_Kind] = {9: _PAIR, 11: {3: _PAIR}, 13: {4: _PAIR}, 15: {}}
LOG: Final[_Kind] = {5: _ANY, 6: _PAIR}
RESOURCE: Final[_Kind] = {1: _PAIR, 3: {}}

_NOT_STRUCTURE: Final = re.compile(r'"[^"]*"?|[^"\[\]{},]+')


class Group(NamedTuple):
    """The records of one resource, in bytes: each is parsed alone.

    Attributes:
        resource: the resource's message; empty where there is none.
        records: spans or log records.
    """

    resource: bytes
    records: list[bytes]


class _BadWire(Exception):  # noqa: N818 - does not leave this module
    pass


def groups(body: bytes) -> list[Group]:
    """The records of an export request, of traces or of logs: they are numbered alike.

    Raises:
        Refused: 400, these are no messages; 413, there are too many records.
    """
    found: list[Group] = []
    scopes = count = 0
    try:
        for number, start, end in _fields(body, 0, len(body)):
            if number != 1:
                continue
            resource, records = (0, 0), list[bytes]()
            for inner, at, stop in _fields(body, start, end):
                if inner == 2:
                    scopes += 1
                    for innermost, first, last in _fields(body, at, stop):
                        if innermost == 2:
                            count += 1
                            if count > RECORDS:
                                raise too_many()
                            records.append(body[first:last])
                elif inner == 1:
                    resource = at, stop
            found.append(Group(body[slice(*resource)], records))
            if scopes > RECORDS or len(found) > RECORDS:
                raise too_many()
    except (IndexError, _BadWire):
        raise malformed(PROTOBUF) from None
    return found


class Meter:
    """Counts the messages inside the records of one request."""

    def __init__(self) -> None:
        self._parts = 0

    def read(self, message: bytes, kind: _Kind, depth: int) -> None:
        """Count those of one record; see `measure`."""
        self._parts += measure(message, kind, depth)
        if self._parts > 4 * PARTS:
            raise too_dense()


def measure(message: bytes, kind: _Kind, depth: int) -> int:
    """Walk a message to its leaves, and return how many messages it holds.

    Args:
        message: the bytes of a span, a log record or a resource.
        kind: `SPAN`, `LOG` or `RESOURCE`.
        depth: how deep it lies in the request: 4 for a record, 3 for a resource.

    Raises:
        Refused: 400, it is no message; 413, it is nested too deep, or holds too many messages.
    """
    parts = 0
    todo = [(kind, depth, 0, len(message))]
    try:
        while todo:
            kind, depth, start, end = todo.pop()
            if depth > NESTING:
                raise too_deep()
            for number, at, stop in _fields(message, start, end):
                inner = kind.get(number)
                if inner is not None:
                    parts += 1
                    if parts > PARTS:
                        raise too_dense()
                    todo.append((inner, depth + 1, at, stop))
    except (IndexError, _BadWire):
        raise malformed(PROTOBUF) from None
    return parts


def _fields(body: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of each field of a message that has a length."""
    while at < end:
        tag = body[at]
        at += 1
        if tag > 127:
            tag, at = _varint(body, at - 1)
        wire = tag & 7
        if wire == 2:
            size = body[at]
            at += 1
            if size > 127:
                size, at = _varint(body, at - 1)
            start = at
            at += size
            if at > end:
                raise _BadWire
            yield tag >> 3, start, at
        elif wire == 0:
            _, at = _varint(body, at)
        elif wire == 1:
            at += 8
        elif wire == 5:
            at += 4
        else:  # groups, which OTLP has none of, and what is not defined
            raise _BadWire
    if at != end:
        raise _BadWire


def _varint(body: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    for _ in range(_VARINT_BYTES):
        byte = body[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise _BadWire


def scan_json(text: bytes) -> None:
    """Measure JSON text; whether it is JSON at all its parser says.

    Raises:
        Refused: 413, it is nested too deep, or holds too many values.
    """
    # Without escapes a string ends at the next quote. A run of backslashes is paired from its left.
    plain = text.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in text else text
    # As text, a character for each byte: to join pieces of bytes takes 80 bytes for each, and they may be millions.
    structure = _NOT_STRUCTURE.sub("", plain.decode("latin-1")).encode("latin-1")
    opened = structure.count(b"{") + structure.count(b"[")
    if opened > 2 * PARTS or structure.count(b",") > 5 * PARTS:
        raise too_dense()
    objects, arrays = structure.translate(None, b"[],"), structure.translate(None, b"{},")
    # The codes of the brackets are 123 and 125, 91 and 93.
    deepest = max(accumulate(map((124).__sub__, objects)), default=0)
    if max(deepest, max(accumulate(map((92).__sub__, arrays)), default=0)) > NESTING:
        raise too_deep()

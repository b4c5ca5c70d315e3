"""The reading side of server-sent events: bytes in, events out, by the HTML standard, section 9.2.6. Pure.

It knows nothing of connections: who holds one feeds it what comes, and takes `last_id` and `retry` to the next one.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

LIMIT: Final = 16 * 2**20
"""Bytes that one event may have at most: a stream without a blank line must not fill the memory."""

_BOM: Final = b"\xef\xbb\xbf"
_BREAK: Final = re.compile(rb"\r\n|\n|\r")
_DIGITS: Final = re.compile("[0-9]+")


class TooLarge(ValueError):  # noqa: N818 - says what it is
    """An event of more bytes than the reader takes."""


class ServerSentEvent(NamedTuple):
    """One event of a stream: its type, `message` where it has none, its data, and the last id up to here."""

    event: str
    data: str
    id: str


class SseReader:
    """Takes a stream in pieces of any size and gives the events in it; what is not complete at its end is none.

    Args:
        last_id: the id that the connection was made with: events without an id of their own have it.
        limit: bytes of an event.

    Attributes:
        last_id: what to ask for as `Last-Event-ID` when the connection is lost.
        retry: milliseconds to wait before that; None as long as the stream has not said.
    """

    def __init__(self, last_id: str = "", limit: int = LIMIT) -> None:
        self.last_id = last_id
        self.retry: int | None = None
        self._limit = limit
        self._open: list[bytes] = []  # pieces of a line whose end has not come
        self._size = 0  # of the event, up to the open line
        self._begun = False  # past the place where a byte order mark may stand
        self._after_cr = False  # a line feed now would belong to the carriage return before it
        self._id = last_id
        self._event = ""
        self._data: list[str] = []

    def feed(self, piece: bytes) -> list[ServerSentEvent]:
        """The events that end in this piece.

        Raises:
            TooLarge: an event has more than `limit` bytes.
        """
        events: list[ServerSentEvent] = []
        for line in self._lines(piece):
            if self._size + len(line) > self._limit:
                raise TooLarge(f"an event of more than {self._limit} bytes")
            if line:
                self._size += 0 if line.startswith(b":") else len(line)  # heartbeats may come for ever
                self._field(line.decode("utf-8", "replace"))
            elif (event := self._dispatch()) is not None:
                events.append(event)
        if self._size + sum(map(len, self._open)) > self._limit:
            raise TooLarge(f"an event of more than {self._limit} bytes")
        return events

    def _lines(self, piece: bytes) -> list[bytes]:
        """The lines that end in this piece, without their ends."""
        if not self._begun:
            piece = b"".join(self._open) + piece
            self._open = [piece]
            if len(piece) < len(_BOM) and _BOM.startswith(piece):
                return []
            self._begun, self._open, piece = True, [], piece.removeprefix(_BOM)
        if self._after_cr and piece:
            self._after_cr, piece = False, piece.removeprefix(b"\n")
        first, *others = _BREAK.split(piece)
        self._open.append(first)
        if not others:
            return []
        lines = [b"".join(self._open), *others[:-1]]
        self._open = others[-1:]
        self._after_cr = piece.endswith(b"\r")
        return lines

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and _DIGITS.fullmatch(value):
            self.retry = int(value[:18])

    def _dispatch(self) -> ServerSentEvent | None:
        self.last_id, self._size = self._id, 0
        event, self._event = self._event, ""
        data, self._data = self._data, []
        # Without any line of data there is no event; one that is empty makes an event with empty data.
        return ServerSentEvent(event or "message", "\n".join(data), self.last_id) if data else None

"""Server-sent events: values in, bytes out. See "Server-sent events" in the HTML standard, section 9.2.

A frame's data is one line of JSON, so no reader needs to put lines together, and no value can end a frame.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from runnable_otel.log import Entry, Gap

MEDIA_TYPE: Final = "text/event-stream"
HEARTBEAT: Final = b": \n"
"""A comment, without the blank line that ends a frame: it may stand between the lines of one."""

_BREAKS = re.compile(r"[\r\n]+")
# What some reader takes for the end of a line (str.splitlines does), or for nothing, and what UTF-8 has no bytes for.
# JSON text holds these inside strings only, where an escape means the same.
_RISKY = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f\\x85\\u2028\\u2029\\ufeff\\ud800-\\udfff]")


def data_line(text: str) -> bytes:
    """JSON text as one line of UTF-8 that a JSON parser reads as the same value."""
    if text.isprintable():  # nearly all of them, and looked at faster than by an expression
        return text.encode()
    line = _BREAKS.sub(" ", text)  # outside of strings, where JSON allows them, they are blanks
    return _RISKY.sub(lambda found: f"\\u{ord(found[0]):04x}", line).encode()


def frame(position: str, text: str) -> bytes:
    """One event as an unnamed frame, for `EventSource.onmessage`.

    Args:
        position: the frame's id; what a reader would not take as one is left out of it.
        text: the event as JSON text.
    """
    return b"id: %b\ndata: %b\n\n" % (_id(position), data_line(text))


def entry_frame(entry: Entry) -> bytes:
    """The frame of an entry of a log, encoded once for all readers."""
    encoded = entry.frame
    if encoded is None:
        encoded = entry.frame = frame(entry.position, entry.text)
    return encoded


def named(event: str, data: Mapping[str, Any], position: str = "") -> bytes:
    """A named frame: `event: gap` or `event: end`."""
    first = b"id: %b\n" % _id(position) if position else b""
    return first + b"event: %b\ndata: %b\n\n" % (_id(event), data_line(json.dumps(data, separators=(",", ":"))))


def gap_frame(gap: Gap) -> bytes:
    """What says that events are lost; its id is where the stream goes on."""
    return named("gap", {"reason": gap.reason, "lost": gap.lost}, gap.position)


def end_frame() -> bytes:
    """What says that the run is over. It has no id: the last event's stays the reader's position."""
    return named("end", {})


def comment(text: str = "") -> bytes:
    """A line that readers pass over."""
    return b": %b\n" % data_line(text)


def retry(milliseconds: int) -> bytes:
    """How long a reader waits before it comes again: a line, which is part of the frame that follows.

    A frame of its own would be none to the standard; but httpx-sse, for one, hands out an event without data for it.
    """
    return b"retry: %d\n" % milliseconds


def _id(text: str) -> bytes:
    """An id or name on one line; a reader ignores an id with a NUL in it."""
    return re.sub(r"[\x00\r\n]", "", text).encode("utf-8", "replace")

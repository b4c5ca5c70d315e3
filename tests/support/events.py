"""A reader of server-sent events, by the letter of the HTML standard, section 9.2.6, for the encoder's tests."""

from __future__ import annotations

import re
from typing import NamedTuple


class Frame(NamedTuple):
    event: str
    data: str
    id: str


def decode(stream: bytes) -> list[Frame]:
    """The events that a reader dispatches."""
    frames: list[Frame] = []
    event, data, last_id = "", "", ""
    lines = re.split(r"\r\n|\r|\n", stream.decode().removeprefix("\ufeff"))
    for line in lines[:-1]:
        if not line:
            if data:
                frames.append(Frame(event or "message", data.removesuffix("\n"), last_id))
            event, data = "", ""
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            event = value
        elif field == "data":
            data += value + "\n"
        elif field == "id" and "\0" not in value:
            last_id = value
    return frames

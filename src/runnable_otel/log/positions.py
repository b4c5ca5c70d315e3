"""Positions as text: `{epoch}-{sequence}`, and with `~{known}` behind it where a reader knows what was dropped. Pure.

Sequences have no holes when they are given out, so that what is missing after a position is what was dropped.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_POSITION: Final = re.compile(r"([0-9a-z.]{1,64})-(0|[1-9][0-9]{0,17})(?:~([1-9][0-9]{0,17}))?", re.ASCII)


class Cursor(NamedTuple):
    """A position that was given out, or that looks like one.

    Attributes:
        epoch: the life of the stream that it belongs to.
        sequence: the number of the last event that has been read; 0 before the first.
        known: holes up to this number are no news to the reader: it was told, or began after they were made.
    """

    epoch: str
    sequence: int
    known: int


def parse(position: str) -> Cursor | None:
    """What a position says; None if it is none."""
    found = _POSITION.fullmatch(position)
    return Cursor(found[1], int(found[2]), int(found[3] or 0)) if found else None


def text(epoch: str, sequence: int, known: int = 0) -> str:
    """A position as text."""
    return f"{epoch}-{sequence}~{known}" if known > sequence else f"{epoch}-{sequence}"

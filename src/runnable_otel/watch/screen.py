"""A region of lines at the end of a terminal, drawn anew in place, below what a program writes there."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Final

from runnable_otel.tree import Line, cells, cut, encodable
from runnable_otel.watch.cursor import Cursor

OFTEN: Final = 0.1
"""Seconds between two drawings."""

_COLOURS: Final = {"red": "31", "yellow": "33", "dim": "2"}


class Screen:
    """Writes to a terminal; what a write to it raises is for the caller.

    Args:
        descriptor: of the terminal.
        encoding: of its text.
        environ: `NO_COLOR` in it means no colours.
    """

    def __init__(self, descriptor: int, encoding: str, environ: Mapping[str, str] = os.environ) -> None:
        self._descriptor = descriptor
        self._encoding = encoding
        self._colours = not environ.get("NO_COLOR")
        self._cursor = Cursor()
        self._lines: list[Line] = []  # what is to be seen
        self._widths: list[int] = []  # of the lines that are there now
        self._lowered = False  # they begin on the line below the cursor's
        self._column = 0
        self._shown: list[Line] = []
        self._drawn_at = 0.0
        size = self.size()
        self.width: int = size[0]
        self.height: int = size[1]

    def size(self) -> tuple[int, int]:
        """Columns and lines of the terminal now."""
        try:
            columns, rows = os.get_terminal_size(self._descriptor)
        except OSError:
            return 80, 24
        return columns or 80, rows or 24

    @property
    def room(self) -> int:
        """How many lines there may be: one less than the terminal has, and one for the program's own."""
        return max(self.height - 2, 1)

    def show(self, lines: Sequence[Line]) -> None:
        """From now on these lines are to be seen, as many as there is room for; `draw` brings them there."""
        self._lines = list(lines)[: self.room]

    def draw(self) -> None:
        """Draw what has changed, unless that was done a moment ago, or the program is in the middle of something."""
        self._resize()
        if time.monotonic() - self._drawn_at >= OFTEN and (self._lines != self._shown or not self._widths):
            self._put(self._erasure() + self._drawing())

    def write(self, data: bytes) -> None:
        """Pass on what the program writes; the lines stay below it."""
        self._resize()
        out = self._erasure() + data
        self._cursor.write(data, self.width)
        if time.monotonic() - self._drawn_at >= OFTEN:
            out += self._drawing()
        self._put(out)

    def close(self, lines: Sequence[Line] = ()) -> None:
        """Leave these lines there for good, and the cursor below them."""
        self._resize()
        out = self._erasure()
        if lines:
            begin = b"\r\n" * (self._cursor.below + (self._cursor.column != 0 or self._cursor.written))
            plain = b"\x1b[m" if self._cursor.style else b""
            out += plain + begin + b"".join(self._encode(line) + b"\r\n" for line in lines) + self._cursor.style
            self._cursor = Cursor()
        self._lines = []
        self._put(out)

    def _resize(self) -> None:
        size = self.size()
        if size == (self.width, self.height):
            return
        self.width, self.height = size
        if max(self._widths, default=0) >= self.width or len(self._widths) > self.room:
            # The terminal has wrapped them, or not: nobody can know how far up they begin. They stay.
            self._widths = []
            self._put(b"\r\n")
            self._cursor.column, self._cursor.written = 0, False
        self._shown = []
        self._drawn_at = 0.0

    def _erasure(self) -> bytes:
        """Take the lines away, and bring the cursor to where the program left it."""
        if not self._widths:
            return b""
        up = len(self._widths) - 1
        self._widths, self._shown = [], []
        out = b"\r" + (b"\x1b[%dA" % up if up else b"") + b"\x1b[J"
        if self._lowered:
            out += b"\x1b[A" + (b"\x1b[%dC" % self._column if self._column else b"")
        return out + self._cursor.style

    def _drawing(self) -> bytes:
        """The lines, where they may stand now."""
        if not self._lines or not self._cursor.free:
            return b""
        self._column = self._cursor.column or 0
        self._lowered = self._column > 0 or self._cursor.written
        lines = self._lines[: self.room]
        self._widths = [cells(line.guide + line.text) for line in lines]
        self._shown, self._drawn_at = self._lines, time.monotonic()
        begin = (b"\x1b[m" if self._cursor.style else b"") + (b"\r\n" if self._lowered else b"\r")
        return begin + b"\r\n".join(map(self._encode, lines))

    def _encode(self, line: Line) -> bytes:
        # One cell less than there are: what a terminal does with a full line is its own affair.
        guide = cut(line.guide, self.width - 1)
        text = cut(line.text, max(self.width - 1 - cells(guide), 0)) if cells(guide) < self.width - 1 else ""
        colour = _COLOURS.get(line.style, "") if self._colours else ""
        shown = f"{guide}\x1b[{colour}m{text}\x1b[m" if colour and text else guide + text
        return encodable(shown, self._encoding).encode(self._encoding, "replace")

    def _put(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._descriptor, data) :]

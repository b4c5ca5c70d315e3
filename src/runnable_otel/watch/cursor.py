"""Where a program that writes to a terminal has left the cursor: whether lines of ours may stand below. Pure."""

from __future__ import annotations

import re
from typing import Final

from runnable_otel.tree import cells

_TOKEN: Final = re.compile(
    rb"\x1b\[(?P<parameters>[0-?]*)[ -/]*(?P<final>[@-~])"  # a control sequence
    rb"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)"  # a string: a title, a link
    rb"|\x1b[ -/]*(?P<escape>[0-~])"
    rb"|(?P<control>[\x00-\x1f\x7f])"
    rb"|(?P<text>[^\x00-\x1f\x7f]+)"
)
_UNFINISHED: Final = re.compile(
    rb"(?:\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)?"
    rb"|[\xc2-\xf4]|[\xe0-\xf4][\x80-\xbf]|[\xf0-\xf4][\x80-\xbf]{2})\Z"  # of a character in UTF-8
)
_LONGEST: Final = 4096
_STYLES: Final = 32


class Cursor:
    """Follows what is written, byte by byte, as far as it has to know.

    Attributes:
        column: where the cursor is, from 0; None where it is anybody's guess until the next line begins.
        written: whether there may be something in its line, before or behind it: `50%\r`.
        below: how many lines of the program's stand below it: a progress bar goes up to draw itself anew.
        full_screen: the program has the whole screen (as an editor or pager does).
        style: the sequences that bring back the program's colours after ours.
    """

    def __init__(self) -> None:
        self.column: int | None = 0
        self.written = False
        self.below = 0
        self.full_screen = False
        self._styles: list[bytes] = []
        self._rest = b""  # the beginning of a sequence, or of a character

    @property
    def style(self) -> bytes:
        return b"".join(self._styles)

    @property
    def free(self) -> bool:
        """Whether lines may be written below the cursor, and it can be brought back."""
        return self.column is not None and not self.below and not self.full_screen and not self._rest

    def write(self, data: bytes, width: int) -> None:
        """Take in what is written to a terminal of so many columns."""
        data = self._rest + data
        unfinished = _UNFINISHED.search(data)
        self._rest = unfinished[0][:_LONGEST] if unfinished and len(unfinished[0]) < _LONGEST else b""
        data = data[: len(data) - len(self._rest)]
        for token in _TOKEN.finditer(data):
            if token["text"] is not None:
                self._text(token["text"].decode("utf-8", "replace"), width)
            elif token["control"] is not None:
                self._control(token["control"], width)
            elif token["final"] is not None:
                self._sequence(token[0], token["parameters"], token["final"], width)
            elif token["escape"] is not None and token["escape"] not in b"=>\\":
                self.column = None

    def _text(self, text: str, width: int) -> None:
        self.written = True
        if self.column is None:
            return
        for piece in [text] if text.isascii() and self.column + len(text) < width else text:
            taken = cells(piece)
            self.column = taken if self.column + taken > width else self.column + taken
        if self.column >= width:
            self.column = None  # some terminals wrap now, most with the next character

    def _control(self, control: bytes, width: int) -> None:
        if control == b"\n":
            self.column, self.written, self.below = 0, self.below > 0, max(0, self.below - 1)
        elif control == b"\r":
            self.column = 0
        elif control == b"\b" and self.column:
            self.column -= 1
        elif control == b"\t" and self.column is not None:
            self.column = min(self.column // 8 * 8 + 8, width - 1)

    def _sequence(self, whole: bytes, parameters: bytes, final: bytes, width: int) -> None:
        if final == b"m":
            if parameters.strip(b"0;") == b"" or parameters.startswith((b"0;", b"00;")):
                self._styles.clear()
            if parameters.strip(b"0;"):
                self._styles = [*self._styles[1 - _STYLES :], whole]
        elif final in b"hl" and parameters in (b"?1049", b"?47", b"?1047"):
            self.full_screen, self.column = final == b"h", None
        elif final == b"A":
            self.below += _number(parameters)
        elif final == b"B":
            self.below = max(0, self.below - _number(parameters))
        elif final == b"G" or (final in b"CD" and self.column is not None):
            number = _number(parameters)
            column = number - 1 if final == b"G" else (self.column or 0) + (number if final == b"C" else -number)
            self.column = min(max(0, column), width - 1)
        elif final in b"Kcnhlqrtsu@PX" or (final == b"J" and parameters in (b"", b"0")):
            self.column = None if final in b"rsu" else self.column  # erases, asks, switches: the cursor stays
            if final in b"JK" and (parameters == b"2" or (self.column == 0 and parameters in (b"", b"0"))):
                self.written = False
        else:
            self.column = None


def _number(parameters: bytes) -> int:
    """How far a sequence moves; no terminal has as many cells as six digits can say."""
    return int(parameters.lstrip(b"0")[:6] or b"0") if parameters.isdigit() else 1

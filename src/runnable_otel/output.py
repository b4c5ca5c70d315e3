"""What a task writes, as text that may leave: whole lines, masked, bounded in size and rate. See `RUNNABLE_OTEL_LOGS`.

The task's own thread only notes a line. What it wrote leaves four times a second at most, on whichever thread comes
first, and of more than fits into one record the newest lines: they are what somebody who watches wants, and what
stands before a failure.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, get_value

from runnable_otel.jsontext import clip
from runnable_otel.pulse import Pulse
from runnable_otel.redact import MASK, Redactor
from runnable_otel.scopes import harmless

RECORD: Final = 8192
"""Characters of one record at most, its first line not counted, which says how many are left out."""
LINE: Final = 2048
"""Bytes of one line at most."""
TASK: Final = 2**20
"""Characters that are sent while a task runs; after that only the last record, at its end."""
SECONDS: Final = 0.25
"""Between two records of a stream of a task."""

_PULSE: Final = Pulse(SECONDS)
_AHEAD: Final = 1024  # characters beyond a cut that tell whether a secret is cut in two
_KEY: Final = 16384  # of a private key, which comes line by line: its middle looks like nothing


class Lines:
    """The newest lines of one stream, whole ones. Not for several threads at once.

    Args:
        redactor: gives what masks secrets; the run learns more of them as it goes.
    """

    def __init__(self, redactor: Callable[[], Redactor]) -> None:
        self._redactor = redactor
        self._lines: deque[str] = deque()
        self._part = ""  # of a line that has no end yet
        self._size = self._left_out = self._key = 0

    def add(self, text: str) -> bool:
        """Take what was written; whether there are whole lines now. Costs no more than the limits, whatever it is."""
        if len(text) > RECORD:
            text = self._newest(text)
        *lines, self._part = (self._part + text).split("\n")
        for line in lines:
            self._push(line)
        if len(self._part) > LINE + _AHEAD:
            part = _shown(self._part)
            self._part = part[: LINE + _AHEAD]
            self._left_out += len(part) - len(self._part)
        return bool(self._lines)

    def _newest(self, text: str) -> str:
        """Of a text that is too long its last lines, or the beginning of the one line that it seems to be."""
        at = text.find("\n", len(text) - RECORD)
        kept = text[: LINE + _AHEAD] if at < 0 else text[at + 1 :]
        self._left_out += len(text) - len(kept)
        if at >= 0:
            self._left_out += len(self._part)
            self._part = ""
        return kept

    def _push(self, line: str) -> None:
        line = _shown(line)
        if self._key > 0:
            self._key = 0 if "-----END " in line else self._key - len(line) - 1
            return
        if "-----BEGIN " in line and "PRIVATE KEY" in line and "-----END " not in line:
            line = line[: line.find("-----BEGIN ")] + MASK
            self._key = _KEY
        if len(line) > LINE // 4:
            line = clip(self._redactor().head(line, LINE)[0], LINE)
        self._lines.append(line)
        self._size += len(line) + 1
        while self._size > RECORD:
            gone = len(self._lines.popleft()) + 1
            self._size -= gone
            self._left_out += gone

    def end(self) -> None:
        """Nothing comes any more: a line that has no end is whole."""
        if self._part:
            self._push(self._part)
            self._part = ""

    def take(self) -> str:
        """What came since the last time, masked; empty where nothing did."""
        if not (self._lines or self._left_out):
            return ""
        text = self._redactor().text("\n".join(self._lines))
        if self._left_out:
            text = f"… {self._left_out} characters left out\n{text}"
        self._lines.clear()
        self._size = self._left_out = 0
        return text


def _shown(line: str) -> str:
    """Of a line that was written over and over, as progress bars do, what a terminal shows last."""
    return line.rstrip("\r").rpartition("\r")[2]


class _Here(threading.local):
    """How often this thread is in here already: what we do for a line must not make another one."""

    depth = 0

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *_: object) -> None:
        self.depth -= 1


_here = _Here()


class Output:
    """What one task writes, from whatever threads.

    Args:
        send: gets the stream's name and a text; must not raise.
        redactor: as for `Lines`.
        one_thread: `send` may be called only on the thread that made this object.
    """

    def __init__(
        self, send: Callable[[str, str], None], redactor: Callable[[], Redactor], *, one_thread: bool = False
    ) -> None:
        self._send = send
        self._streams = {"stdout": Lines(redactor), "stderr": Lines(redactor)}
        self._thread = threading.get_ident() if one_thread else 0
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._sent, self._at, self._over = 0, 0.0, False
        if not one_thread:
            _PULSE.begin(id(self), self._beat)

    @harmless
    def write(self, stream: str, text: str) -> None:
        """Note what was written to `stdout` or `stderr`."""
        # A child that the task forked has this object too, with a lock that may be held for ever.
        if self._over or os.getpid() != self._pid or get_value(_SUPPRESS_INSTRUMENTATION_KEY):
            return
        with _here, self._lock:
            if self._streams[stream].add(text) and time.monotonic() - self._at >= SECONDS:
                self._flush()

    @harmless
    def _beat(self) -> None:
        with _here, self._lock:
            if not self._over:
                self._flush()

    def _flush(self) -> None:
        if self._sent >= TASK or self._thread not in (0, threading.get_ident()):
            return
        for name, lines in self._streams.items():
            text = lines.take()
            if text:
                self._at = time.monotonic()
                self._sent += len(text)
                self._send(name, text)

    @harmless
    def close(self) -> None:
        """The task is over: send the rest."""
        _PULSE.end(id(self))
        if os.getpid() != self._pid:
            return
        with _here, self._lock:
            self._over, self._sent = True, 0
            for lines in self._streams.values():
                lines.end()
            self._flush()


class Copy:
    """A stream that notes what goes through it.

    Streams of tasks that run at once lie on one another, since there is but one `sys.stdout`: the first to see a text
    notes it.

    Args:
        stream: where it goes to.
        name: `stdout` or `stderr`.
        output: whose text this is, or None where it is nobody's.
    """

    def __init__(self, stream: Any, name: str, output: Callable[[], Output | None]) -> None:
        self.stream = stream
        self._name, self._output = name, output

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> Any:
        """Write to the stream, and note it."""
        if _here.depth:
            return self.stream.write(text)
        with _here:
            written = self.stream.write(text)
            output = self._output()
            if output is not None:
                output.write(self._name, text)
            return written


def before(mark: str, pieces: Iterator[str]) -> Iterator[str]:
    """Pieces of a text up to a mark, which may lie across them; the rest of them is not asked for."""
    held = ""
    for piece in pieces:
        held += piece
        at = held.find(mark)
        if at >= 0:
            yield held[:at]
            return
        # What may be the beginning of the mark waits for the next piece.
        kept = next((n for n in range(min(len(held), len(mark) - 1), 0, -1) if mark.startswith(held[-n:])), 0)
        yield held[: len(held) - kept]
        held = held[len(held) - kept :]
    yield held

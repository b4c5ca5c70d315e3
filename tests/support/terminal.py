"""A terminal: a program in a pseudo-terminal of its own, and the screen as an emulator shows it."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import pyte
from wcwidth import wcwidth

from support.waiting import LONG

_SCROLLED: Final = 10_000  # lines that are kept above the screen


class Emulator(pyte.HistoryScreen):
    """pyte's, but a character of two cells goes to the next line where there is but one left, as terminals do it."""

    def __init__(self, columns: int, rows: int) -> None:
        super().__init__(columns, rows, history=_SCROLLED, ratio=0.5)

    def draw(self, data: str) -> None:
        for char in data:
            if self.cursor.x == self.columns - 1 and wcwidth(char) == 2:
                super().draw(" ")
            super().draw(char)


class Terminal:
    """`with Terminal(command, folder, environ) as terminal:`; it is the program's controlling terminal.

    Args:
        command: the words of the program.
        folder: where it runs.
        environ: all of its environment.
        columns: cells of a line.
        rows: lines of the screen.
        streams: what does not lead to the terminal, as for `Popen`: `stdout=file`.

    Attributes:
        raw: each byte that came.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        environ: dict[str, str],
        *,
        columns: int = 100,
        rows: int = 30,
        **streams: Any,
    ) -> None:
        self._command, self._folder, self._environ = command, folder, environ
        self._size, self._streams = (rows, columns), streams
        self._screen = Emulator(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self.raw = b""

    def __enter__(self) -> Terminal:
        self._leader, follower = os.openpty()
        self._tell()

        def own() -> None:
            os.setsid()
            fcntl.ioctl(follower, termios.TIOCSCTTY, 0)

        streams = {"stdin": follower, "stdout": follower, "stderr": follower, **self._streams}
        self.process = subprocess.Popen(
            self._command, cwd=self._folder, env=self._environ, preexec_fn=own, pass_fds=[follower], **streams
        )
        os.close(follower)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._leader)

    def _tell(self) -> None:
        fcntl.ioctl(self._leader, termios.TIOCSWINSZ, struct.pack("HHHH", *self._size, 0, 0))

    @property
    def screen(self) -> list[str]:
        """The lines that are to be seen, without the blanks at their ends and the empty lines at the bottom."""
        return lines_of(self._screen, scrolled=False)

    @property
    def scrolled(self) -> list[str]:
        """All lines: those that have left the screen at its top, and then those that are to be seen."""
        return lines_of(self._screen, scrolled=True)

    @property
    def cursor(self) -> tuple[int, int]:
        """Column and line of the cursor, from 0."""
        return self._screen.cursor.x, self._screen.cursor.y

    def colours(self, line: int) -> set[str]:
        """The colours of the text in a line of the screen."""
        cells = self._screen.buffer[line]
        return {cells[at].fg for at in range(self._screen.columns) if cells[at].data.strip()}

    def until(self, fact: str | Callable[[], object]) -> None:
        """Take in what comes until that text is on the screen, or that is so.

        Raises:
            AssertionError: it was not so for a minute, or the program has ended before.
        """
        met = (lambda: fact in "\n".join(self.screen)) if isinstance(fact, str) else fact
        end = time.monotonic() + LONG
        while not met():
            assert time.monotonic() < end, f"{fact}: {self.screen}"
            assert self._take(0.05) or met(), f"{fact}: {self.scrolled}"

    def wait(self) -> int:
        """Take in all that comes until the end; the program's exit code."""
        end = time.monotonic() + LONG
        while self._take(0.05):
            assert time.monotonic() < end, self.screen
        return self.process.wait(LONG)

    def press(self, keys: str) -> None:
        """What somebody types: `\\x03` is Ctrl-C."""
        os.write(self._leader, keys.encode())

    def resize(self, columns: int, rows: int) -> None:
        """Another size, as by the mouse."""
        self._size = rows, columns
        self._screen.resize(rows, columns)
        self._tell()
        self.process.send_signal(signal.SIGWINCH)

    def _take(self, seconds: float) -> bool:
        """Take in what comes within that time; whether more can come."""
        if select.select([self._leader], [], [], seconds)[0]:
            try:
                data = os.read(self._leader, 65536)
            except OSError:  # Linux says so at the end
                return False
            self.raw += data
            self._stream.feed(data)
            return bool(data)
        return True


def lines_of(screen: pyte.HistoryScreen, *, scrolled: bool) -> list[str]:
    """The lines of a screen, and those that have left it at its top, without blanks at their ends and below.

    Not `screen.display`, which fails where something is written over one half of a wide character.
    """
    cells = [*(screen.history.top if scrolled else ()), *(screen.buffer[row] for row in range(screen.lines))]
    lines = ["".join(line[at].data for at in range(screen.columns)).rstrip() for line in cells]
    while lines and not lines[-1]:
        lines.pop()
    return lines

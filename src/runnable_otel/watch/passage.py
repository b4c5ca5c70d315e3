"""What a command writes to the terminal passes through here, where something of ours stands below it."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

_PIECE: Final = 2**16


class Passage:
    """A pseudo-terminal in place of the terminal, for what the command writes.

    It changes no byte, has the terminal's size, and is nobody's controlling terminal.
    """

    def __init__(self, terminals: tuple[int, ...], write: Callable[[bytes], None]) -> None:
        self._terminals = terminals
        self._write: Callable[[bytes], None] | None = write
        self._ours = self._theirs = -1
        self._size = os.terminal_size((0, 0))
        self.streams: dict[str, Any] = {}
        self.on_failure: Callable[[Exception], None] = lambda error: None
        """Called when `write` has failed by a mistake of ours: what comes passes as it is from then on."""

    def __enter__(self) -> Passage:
        if self._terminals:
            import termios

            self._ours, self._theirs = os.openpty()
            attributes = termios.tcgetattr(self._theirs)
            attributes[1] &= ~termios.OPOST  # the terminal itself turns a line feed into a new line
            attributes[3] &= ~termios.ECHO
            termios.tcsetattr(self._theirs, termios.TCSANOW, attributes)
            self._resize()
            self.streams = {{1: "stdout", 2: "stderr"}[each]: self._theirs for each in self._terminals}
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in {self._ours, self._theirs} - {-1}:
            os.close(descriptor)
        self._ours = self._theirs = -1

    def begin(self) -> None:
        """The command has its own copy by now."""
        if self._theirs >= 0:
            os.close(self._theirs)
            self._theirs = -1

    def wait(self, seconds: float) -> bool:
        """Pass on what comes within that time: the first piece of it, and the rest next time.

        Returns:
            Whether anything may come at all.
        """
        if self._ours < 0:
            return False
        self._resize()
        if select.select([self._ours], [], [], seconds)[0]:
            self._pass()
        return True

    def drain(self) -> None:
        """The command has ended: pass on what it has left there."""
        while self._ours >= 0 and select.select([self._ours], [], [], 0)[0]:
            self._pass()

    def _pass(self) -> None:
        try:
            data = os.read(self._ours, _PIECE)
        except OSError:  # Linux says so when nobody has the other side any more
            data = b""
        if not data:
            os.close(self._ours)
            self._ours = -1
        elif self._write is not None:
            try:
                self._draw(self._write, data)
            except OSError:  # the terminal has gone; the command must not wait for us
                self._write = None

    def _draw(self, write: Callable[[bytes], None], data: bytes) -> None:
        try:
            write(data)
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001 - a mistake of ours costs the drawing, and nothing of the command's
            self.plain()
            _write_all(self._terminals[0], data)  # all of it: what had passed before the mistake comes twice
            self.on_failure(error)

    def plain(self) -> None:
        """From now on pass on what comes as it is."""
        if self._terminals:
            self._write = lambda data: _write_all(self._terminals[0], data)

    def _resize(self) -> None:
        with suppress(OSError):
            size = os.get_terminal_size(self._terminals[0])
            if size != self._size:
                import fcntl
                import struct
                import termios

                self._size = size
                fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", size.lines, size.columns, 0, 0))


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]

"""`file:PATH`: each event as one line of JSON."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from runnable_otel.events import Event


class FileSink:
    """Appends events to a file as JSON lines.

    One unbuffered append an event: a line is whole or absent, also when several processes write, or one is killed.
    (Where there is room for a part of a line only, and another process writes at that moment, the part stays.)

    Args:
        url: `file:events.jsonl`, `file:/var/log/events.jsonl` or `file:///var/log/events.jsonl`.

    Raises:
        OSError: the file can't be opened.
    """

    slow = True

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.netloc not in ("", "localhost") or not parts.path:
            raise ValueError("expected file:PATH")
        path = Path(unquote(parts.path))
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0), 0o600)

    def emit(self, event: Event) -> None:
        """Append one line.

        Raises:
            OSError: it can't be written; what there was room for is taken back.
        """
        line = event.to_json().encode("utf-8", "replace") + b"\n"
        written = os.write(self._file, line)
        if written < len(line):
            self._take_back(written)
            raise OSError(errno.ENOSPC, f"room for {written} of {len(line)} bytes")

    def _take_back(self, size: int) -> None:
        end = os.lseek(self._file, 0, os.SEEK_CUR)
        if os.fstat(self._file).st_size == end:  # else another process has written behind it
            os.ftruncate(self._file, end - size)

    def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

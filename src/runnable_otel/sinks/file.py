"""`file:PATH`: each event as one line of JSON."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from runnable_otel.events import Event


class FileSink:
    """Appends events to a file as JSON lines.

    One unbuffered append an event: a line is whole or absent, also when several processes write, or one is killed.

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
        """Append one line."""
        os.write(self._file, event.to_json().encode("utf-8", "replace") + b"\n")

    def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

"""What the processes of one run tell each other: an endpoint that the first of them found dead holds no other one.

The process that starts the others makes a private folder, and names it to them in a variable. A file in it stands for
an endpoint, and is believed for half a minute: it may come back.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Final

VARIABLE: Final = "_RUNNABLE_OTEL_AWAY"
"""Names the folder. It does not begin with RUNNABLE_, so runnable gives it to no shell task, and prints it nowhere."""
BELIEVED: Final = 30.0
"""Seconds."""


class RunFolder:
    """The folder of the run that this process leads, or takes part in; nothing is noted where there is none."""

    def __init__(self) -> None:
        self._made = ""
        self._pid = 0

    def inject(self, environ: MutableMapping[str, str]) -> None:
        """Put the folder into the environment of a process that executes a part of the run.

        Raises:
            OSError: no folder can be made.
        """
        found = self._folder()
        if not found:
            found = self._made = tempfile.mkdtemp(prefix="runnable-otel-")
            self._pid = os.getpid()
        environ[VARIABLE] = found

    def _folder(self) -> str:
        if self._made:
            return self._made
        named = os.environ.get(VARIABLE, "")
        with suppress(OSError, AttributeError, ValueError):  # it is gone, or the system has no owners
            seen = os.lstat(named)
            if stat.S_ISDIR(seen.st_mode) and seen.st_uid == os.geteuid():
                return named
        return ""

    def _file(self, address: str) -> str:
        folder = self._folder()
        name = hashlib.sha256(address.encode("utf-8", "replace")).hexdigest()[:32]
        return os.path.join(folder, name) if folder else ""

    def knows(self, address: str) -> bool:
        """Whether a process of the run has just found that endpoint dead."""
        file = self._file(address)
        with suppress(OSError):
            return bool(file) and 0 <= time.time() - os.stat(file).st_mtime < BELIEVED
        return False

    def note(self, address: str) -> None:
        """That endpoint is dead."""
        file = self._file(address)
        if file:
            with suppress(OSError):  # who is not told finds out for itself
                os.close(os.open(file, os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600))
                os.utime(file)

    def forget(self, address: str) -> None:
        """That endpoint takes something."""
        file = self._file(address)
        if file:
            with suppress(OSError):
                os.unlink(file)

    def close(self) -> None:
        """The run is over: the folder goes with the process that made it."""
        if self._made and self._pid == os.getpid():
            shutil.rmtree(self._made, ignore_errors=True)
            self._made = ""


RUN: Final = RunFolder()

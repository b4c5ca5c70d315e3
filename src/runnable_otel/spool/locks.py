"""A file that one process at a time has open; the system lets go of it when the process dies."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from io import BufferedRandom
from pathlib import Path
from typing import Final

try:
    import fcntl
except ImportError:  # no such locks here: who sends a batch that another one sends, sends it twice
    fcntl = None

_PAUSE: Final = 0.002


@contextmanager
def locked(file: Path, *, wait: float) -> Generator[BufferedRandom, None, None]:
    """Open a file for reading and writing, and hold its lock. A `.lock` is made where it is not there.

    Args:
        wait: seconds to wait for another process.

    Raises:
        BlockingIOError: another process has it.
        FileNotFoundError: it is not there, or was removed meanwhile.
        OSError: it can't be opened.
    """
    flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    flags |= os.O_CREAT if file.name == ".lock" else 0
    with os.fdopen(os.open(file, flags, 0o600), "r+b") as stream:
        _lock(stream.fileno(), time.monotonic() + wait)
        if os.stat(file).st_ino != os.fstat(stream.fileno()).st_ino:
            raise FileNotFoundError(str(file))  # another one by the same name
        yield stream


def _lock(descriptor: int, until: float) -> None:
    if fcntl is None:
        return
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise
            time.sleep(_PAUSE)
        else:
            return

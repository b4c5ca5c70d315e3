"""The spool: a bounded folder in which what could not be delivered lies as OTLP JSON, a file a batch, a line a request.

Several processes may write and replay at once. A file is complete when it has its name; who replays one holds a lock on
it, and removes it when all of it is taken: so it arrives at least once.
"""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, Literal

from runnable_otel.spool.locks import locked

Signal = Literal["traces", "logs"]

LIMIT: Final = 64 * 2**20
"""Bytes of all files of a spool."""
LIMIT_FILES: Final = 4096
"""Files of a spool: they are counted each time that one is added."""
SUFFIX: Final = ".jsonl"
_UNFINISHED: Final = ".part"
_ABANDONED: Final = 60.0
"""Seconds after which an unfinished file is that of a process which was killed."""
_LOCK_WAIT: Final = 2.0

_number = itertools.count()


class SpoolFull(Exception):  # noqa: N818 - a state, not a mistake
    """There is no room for this."""


class Spool:
    """A folder with the batches that could not be delivered.

    Args:
        folder: made when it is first written to; only its owner can look into it.
        limit: bytes of all files.
    """

    def __init__(self, folder: str | os.PathLike[str], *, limit: int = LIMIT) -> None:
        self.folder = Path(folder).expanduser()
        self._limit = limit

    def add(self, signal: Signal, address: str, line: bytes) -> None:
        """Keep one request.

        Args:
            signal: what it holds.
            address: where it was to go: only a process that sends there replays it by itself.
            line: OTLP JSON on one line.

        Raises:
            SpoolFull: the folder would be larger than it may be.
            OSError: it can't be written.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = f"{signal}-{_plain(address)}-{time.time_ns():020d}-{os.getpid()}-{next(_number)}"
        part = self.folder / f".{name}{_UNFINISHED}"
        with locked(self.folder / ".lock", wait=_LOCK_WAIT):
            files, size = self._held()
            if size + len(line) + 1 > self._limit or files >= LIMIT_FILES:
                raise SpoolFull(f"{self.folder} holds {size} bytes in {files} files")
            try:
                _write(part, line + b"\n")
                part.rename(self.folder / f"{name}{SUFFIX}")
            except OSError:
                with suppress(OSError):
                    part.unlink()
                raise

    def _held(self) -> tuple[int, int]:
        """Number and bytes of all files that are here; what a killed process left unfinished goes."""
        files, size, now = 0, 0, time.time()
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with suppress(OSError):  # another process has just sent it
                    seen = entry.stat(follow_symlinks=False)
                    if entry.name.endswith(_UNFINISHED) and now - seen.st_mtime > _ABANDONED:
                        os.unlink(entry.path)
                    else:
                        files, size = files + 1, size + seen.st_size
        return files, size

    def files(self, signal: Signal | None = None, address: str | None = None) -> list[Path]:
        """The batches, the oldest first.

        Args:
            signal: only those that hold this.
            address: only those that were to go there.
        """
        start = "" if signal is None else f"{signal}-" if address is None else f"{signal}-{_plain(address)}-"
        with suppress(OSError):
            names = [name for name in os.listdir(self.folder) if name.endswith(SUFFIX) and name.startswith(start)]
            return [self.folder / name for name in sorted(names, key=_age)]
        return []


@contextmanager
def claimed(file: Path) -> Generator[Iterator[bytes] | None, None, None]:
    """The lines of a batch, for one process at a time; None where another one has it, or has sent it.

    Raises:
        OSError: it can't be read.
    """
    with ExitStack() as stack:
        try:
            lines = stack.enter_context(locked(file, wait=0))
        except (FileNotFoundError, BlockingIOError):
            lines = None
        yield None if lines is None else (line for line in lines if line.strip())


def _write(file: Path, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    with os.fdopen(os.open(file, flags, 0o600), "wb") as stream:
        stream.write(data)


def _plain(address: str) -> str:
    """An address as a part of a file's name."""
    return re.sub(r"[^A-Za-z0-9.]", "_", address)[:100] or "unknown"


def _age(name: str) -> tuple[str, str]:
    """What sorts file names by the time that is in them."""
    found = re.search(r"-(\d{20})-", name)
    return (found[1] if found else "", name)

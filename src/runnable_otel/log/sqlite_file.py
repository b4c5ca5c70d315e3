"""The file of a log in SQLite: whose it is, that one process has it, its tables, whether it may have lost its end."""

from __future__ import annotations

import errno
import os
import secrets
import sqlite3
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from runnable_otel.log import CannotOpen

APPLICATION_ID: Final = 0x724F7445
"""`rOtE`: what `file(1)` and other programs know our files by (SQLite, `PRAGMA application_id`)."""
VERSION: Final = 1

_MAGIC: Final = b"SQLite format 3\x00"
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_TABLES: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE runs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, trace TEXT NOT NULL UNIQUE, run_id TEXT NOT NULL, named INTEGER NOT NULL,
    key TEXT NOT NULL, status TEXT NOT NULL, change INTEGER NOT NULL, free_at REAL NOT NULL, over_at REAL,
    head INTEGER NOT NULL, trimmed INTEGER NOT NULL, size INTEGER NOT NULL, row TEXT NOT NULL
);
CREATE INDEX runs_key ON runs (key);
CREATE INDEX runs_status ON runs (status, key);
CREATE INDEX runs_change ON runs (change);
CREATE INDEX runs_free_at ON runs (free_at);
CREATE INDEX runs_run_id ON runs (run_id, named);
CREATE TABLE events (id INTEGER PRIMARY KEY, spare INTEGER NOT NULL, text TEXT NOT NULL);
CREATE TABLE uids (
    number INTEGER NOT NULL, digest BLOB NOT NULL, sequence INTEGER NOT NULL, PRIMARY KEY (number, digest)
) WITHOUT ROWID;
CREATE TABLE dropped (number INTEGER PRIMARY KEY);
"""
_ADDED: Final = """
CREATE TABLE IF NOT EXISTS run_ids (
    number INTEGER NOT NULL, run_id TEXT NOT NULL, named INTEGER NOT NULL, PRIMARY KEY (number, run_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS run_ids_named ON run_ids (run_id, named);
DELETE FROM run_ids WHERE number NOT IN (SELECT number FROM runs);
INSERT INTO run_ids SELECT number, run_id, named FROM runs
    WHERE run_id != '' AND NOT EXISTS (SELECT 1 FROM run_ids WHERE run_ids.number = runs.number);
"""
"""What files of this version did not have at first, when a trace had one run id. A program of then can open them."""


class LogFile:
    """An SQLite file of ours, open in this process and in no other.

    Args:
        path: where it is; made if it is not there.

    Raises:
        CannotOpen: it is another program's, of a newer version, in use, no file, or can't be written.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path).expanduser().resolve()
        _refuse_others(self.path)  # before there is a lock of ours beside it
        self._lock = _Lock(self.path)
        try:
            _refuse_others(self.path)
            self.writer = self._open()
        except BaseException:
            self._lock.release(forget=not self.path.exists())
            raise

    def _open(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = None
        try:
            # Made by us, since SQLite would let everybody read it; the files that it puts beside it are as this one.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=5)
            made = connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
            if not made:
                self._make(connection)
            connection.executescript(f"BEGIN IMMEDIATE;{_ADDED}COMMIT;")
            # In WAL mode a kill loses nothing, whatever `synchronous`; a loss of power may lose the last commits.
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA cache_size = -16000")
            self.epoch = self._life(connection)
        except (sqlite3.Error, OSError) as error:
            if connection is not None:
                connection.close()
            raise CannotOpen(f"{self.path}: can't be opened as a log: {error}") from None
        except BaseException:
            if connection is not None:
                connection.close()
            raise
        return connection

    def _make(self, connection: sqlite3.Connection) -> None:
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise CannotOpen(f"{self.path}: is a database of another program")
        connection.executescript(
            f"BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};"
            f"{_TABLES}COMMIT;"
        )

    def _life(self, connection: sqlite3.Connection) -> str:
        """The epoch: a new one where the file may have lost the end of what it gave out positions for."""
        meta: dict[str, str] = dict(connection.execute("SELECT name, value FROM meta"))
        boot = boot_id()
        kept = meta.get("clean") == "1" or (boot != "" and meta.get("boot") == boot)
        epoch = meta["epoch"] if kept and "epoch" in meta else secrets.token_hex(6)
        connection.execute("PRAGMA synchronous = FULL")
        self._note(connection, {"epoch": epoch, "boot": boot, "clean": "0"})
        connection.execute("PRAGMA synchronous = NORMAL")
        return epoch

    def _note(self, connection: sqlite3.Connection, values: dict[str, str]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("REPLACE INTO meta VALUES (?, ?)", values.items())
        connection.execute("COMMIT")

    def reader(self) -> sqlite3.Connection:
        """A connection that only reads, for one thread at a time."""
        return sqlite3.connect(
            f"{self.path.as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False, timeout=5
        )

    def close(self) -> None:
        """Write down that nothing is lost, and let others have it."""
        with suppress(sqlite3.Error):  # a full disk: what is open now will look like an unclean end, which is safe
            self.writer.execute("PRAGMA synchronous = FULL")
            self._note(self.writer, {"clean": "1"})
            self.writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.writer.close()
        self._lock.release()


def boot_id() -> str:
    """What the kernel calls the time since it was started; empty where it does not say."""
    try:
        return _BOOT_ID.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _refuse_others(path: Path) -> None:
    """Look at the file before SQLite does, which would write beside it.

    Raises:
        CannotOpen: it is not one of ours, or can't be written.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise CannotOpen(f"{path}: {error.strerror}") from None
    if not stat.S_ISREG(mode):
        raise CannotOpen(f"{path}: is a folder" if stat.S_ISDIR(mode) else f"{path}: is no file")
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except OSError as error:
        raise CannotOpen(f"{path}: {error.strerror}") from None
    if not header:
        return
    if not header.startswith(_MAGIC) or len(header) < 100:
        raise CannotOpen(f"{path}: is no SQLite file; it is left as it is")
    # SQLite's file format, section 1.3: the user version at offset 60, the application id at offset 68.
    if int.from_bytes(header[68:72], "big") != APPLICATION_ID:
        raise CannotOpen(f"{path}: is a database of another program; it is left as it is")
    version = int.from_bytes(header[60:64], "big")
    if version > VERSION:
        raise CannotOpen(f"{path}: is of version {version}, this program knows {VERSION}; it is left as it is")
    if not os.access(path, os.W_OK):
        raise CannotOpen(f"{path}: is read-only")


class _Lock:
    """A file beside the log that one process holds. It ends with the process, however that ends."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(path.name + "-lock")
        try:
            self._file: int | None = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise CannotOpen(f"{path}: can't be written beside: {error.strerror}") from None
        try:
            _lock(self._file)
        except OSError as error:
            os.close(self._file)
            if error.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
                raise CannotOpen(f"{self.path}: can't be locked: {error.strerror}") from None
            raise CannotOpen(f"{path}: another process has it open; one file is for one server") from None
        if hasattr(os, "register_at_fork"):
            # A forked child has it too: the lock would outlive the parent.
            os.register_at_fork(after_in_child=self._close)

    def release(self, *, forget: bool = False) -> None:
        if forget:
            with suppress(OSError):
                self.path.unlink()
        if self._file is not None:
            # A child that has only just been forked has not closed its own yet, and a lock lasts until all are closed.
            _unlock(self._file)
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


if sys.platform == "win32":
    import msvcrt

    def _lock(file: int) -> None:
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)

    def _unlock(file: int) -> None:
        msvcrt.locking(file, msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def _lock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)

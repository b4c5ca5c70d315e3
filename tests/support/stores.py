"""The three stores of the event log, real ones, for tests that are the same for all."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from runnable_otel.log import EventLog, open_log, sqlite_file
from runnable_otel.log.memory import MemoryLog
from runnable_otel.log.redis import RedisLog
from runnable_otel.log.sqlite import SqliteLog
from support.redis import RedisServer

NAMES = ("memory", "sqlite", "redis")
_numbers = count(1)


class Store:
    """One store, under a name of its own.

    Attributes:
        keeps: what is in it is there again after a restart.
        log: the one that was opened last.
    """

    def __init__(self, name: str, folder: Path, server: RedisServer | None) -> None:
        self.name, self._server = name, server
        self.keeps = name != "memory"
        self.path = folder / f"{next(_numbers)}.db"
        self._prefix = f"{next(_numbers)}:"
        self._limits: dict[str, Any] = {}
        self._abandoned: list[Any] = []
        self._saved: dict[bytes, bytes] = {}
        self._boot_id = sqlite_file._BOOT_ID
        self.replicas: list[RedisLog] = []
        self.log: EventLog = open_log()

    def open(self, **limits: Any) -> EventLog:
        """Open a log; what is in the store is in it."""
        self.log.close()
        self._limits = limits
        if self.name == "memory":
            self.log = open_log("memory:", **limits)
        elif self.name == "sqlite":
            self.log = open_log(str(self.path), **limits)
        else:
            assert self._server is not None
            self.log = open_log(self._server.url, prefix=self._prefix, **limits)
        return self.log

    def replica(self) -> EventLog:
        """A second process's log, of a store that may have several."""
        assert self._server is not None
        self.replicas.append(RedisLog(self._server.url, prefix=self._prefix, **self._limits))
        return self.replicas[-1]

    def restart(self) -> EventLog:
        """End the log's process properly, and start it again."""
        return self.open(**self._limits)

    def kill(self) -> EventLog:
        """End the log's process as SIGKILL does, and start it again."""
        if isinstance(self.log, SqliteLog):
            self._abandoned.append(self.log)
            self.log.file._lock._close()  # what the kernel does
            self.log = open_log()
        return self.restart()

    def run_ids(self) -> int:
        """How many run ids it has by heart."""
        if isinstance(self.log, MemoryLog):
            return len(self.log._traces)
        if isinstance(self.log, SqliteLog):
            with self.log.reading() as db:
                return db.execute("SELECT count(*) FROM run_ids").fetchone()[0]
        assert isinstance(self.log, RedisLog)
        with self.log.link.talking() as client:
            return len(client.keys(self._prefix + "id:*"))

    def age(self) -> EventLog:
        """Make it what a version wrote that knew one run id for each trace."""
        self.log.close()
        if self.name == "sqlite":
            with closing(sqlite3.connect(self.path)) as db:
                db.execute("DROP TABLE run_ids")
        log = self.restart()
        if isinstance(log, RedisLog):
            with log.link.talking() as client:
                for key in client.keys(self._prefix + "id:*"):
                    run_id, newest = key.decode().partition("id:")[2], client.zrevrange(key, 0, 0)[0]
                    client.hset(self._prefix + "ids", run_id, newest)
                    for trace in client.zrange(key, 0, -1):
                        client.hdel(f"{self._prefix}run:{trace.decode()}", f"i:{run_id}")
                    client.unlink(key)
                client.hdel(self._prefix + "meta", "named")
        return log

    # What a store loses at its end: the last that it took, where that was not on a disk yet.

    def save(self) -> None:
        """From here on all may be lost: see `lose`."""
        if isinstance(self.log, SqliteLog):
            with closing(sqlite3.connect(self._copy)) as copy:
                self.log.file.writer.backup(copy)
        elif isinstance(self.log, RedisLog):
            with self.log.link.talking() as client:
                self._saved = {key: client.dump(key) for key in client.keys(self._prefix + "*")}

    def lose(self) -> EventLog:
        """Put it back to how it was at `save`, as a loss of power does, or a Redis that had no time to write."""
        if isinstance(self.log, RedisLog):
            self._lose_redis(self.log)
            return self.log
        if isinstance(self.log, SqliteLog):
            self._abandoned.append(self.log)
            self.log.file._lock._close()
            self.log = open_log()
            for path in self._files():
                path.unlink()
            self._copy.replace(self.path)
            sqlite_file._BOOT_ID = self.path.with_suffix(".boot")
            sqlite_file._BOOT_ID.write_text(f"{next(_numbers)}")
        return self.restart()

    def _lose_redis(self, log: RedisLog) -> None:
        """The server is another one then, as far as its own id says."""
        with log.link.talking() as client:
            server: bytes = client.hget(self._prefix + "meta", "server")
            if keys := client.keys(self._prefix + "*"):
                client.unlink(*keys)
            for key, dumped in self._saved.items():
                client.restore(key, 0, dumped)
            log.link.run(log.link._connected, "another", 0)
            client.hset(self._prefix + "meta", "server", server)

    @property
    def _copy(self) -> Path:
        return self.path.with_suffix(".saved")

    def _files(self) -> list[Path]:
        return [path for path in self.path.parent.glob(f"{self.path.name}*") if not path.name.endswith("-lock")]

    def close(self) -> None:
        self.log.close()
        for log in (*self.replicas, *self._abandoned):
            log.close()
        sqlite_file._BOOT_ID = self._boot_id
        for path in self.path.parent.glob(f"{self.path.stem}.*"):
            path.unlink(missing_ok=True)


@contextmanager
def store(name: str, folder: Path, server: RedisServer | None) -> Iterator[Store]:
    """A store, empty at first."""
    made = Store(name, folder, server)
    try:
        yield made
    finally:
        made.close()


def full_mode() -> bool:
    """Whether the long form of the tests is asked for."""
    return os.environ.get("RUNNABLE_OTEL_FAULTS") == "full"

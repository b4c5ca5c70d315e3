"""A run as a row of a log in SQLite."""

from __future__ import annotations

import json
import sqlite3
from typing import Any, Final

from runnable_otel.log.limits import Limits
from runnable_otel.log.pages import page_key
from runnable_otel.log.records import rfc3339
from runnable_otel.log.summary import RunState

BASE: Final = 32
"""The id of an event is its run's number, shifted by so many bits, and its sequence in the run."""

_STORE: Final = (
    "UPDATE runs SET run_id = ?, named = ?, key = ?, status = ?, change = ?, free_at = ?, over_at = ?, "
    "head = ?, trimmed = ?, size = ?, row = ? WHERE number = ?"
)


class Row:
    """What is written of a run beside its events.

    Attributes:
        spare: how many expendable events it has, and `spare_size` how many characters.
        trimmed: all that was expendable up to that sequence is gone.
        named: how new its newest run is; programs that knew one run id for a trace read it.
        ids: the run ids that mean it, and how new it is by each; `unwritten` are those of them that changed.
    """

    __slots__ = (
        "created",
        "head",
        "ids",
        "named",
        "number",
        "size",
        "spare",
        "spare_size",
        "state",
        "trace",
        "trimmed",
        "unwritten",
    )

    def __init__(self, number: int, trace: str, now: float) -> None:
        self.number, self.trace, self.created = number, trace, rfc3339(now)
        self.state = RunState()
        self.state.touched = now
        self.ids: dict[str, int] = {}
        self.unwritten: set[str] = set()
        self.head = self.trimmed = self.size = self.spare = self.spare_size = self.named = 0

    def copy(self) -> Row:
        """Another one: a change counts once it is committed."""
        made = Row.__new__(Row)
        for name in self.__slots__:
            setattr(made, name, getattr(self, name))
        made.state, made.ids, made.unwritten = self.state.copy(), self.ids.copy(), self.unwritten.copy()
        return made

    @classmethod
    def load(cls, connection: sqlite3.Connection, trace: str) -> Row | None:
        """Read the row of a trace; None if there is none."""
        found = connection.execute(
            "SELECT number, named, head, trimmed, size, row FROM runs WHERE trace = ?", (trace,)
        ).fetchone()
        if found is None:
            return None
        made = cls(found[0], trace, 0)
        made.named, made.head, made.trimmed, made.size = found[1:5]
        made.ids = dict(connection.execute("SELECT run_id, named FROM run_ids WHERE number = ?", (made.number,)))
        data = json.loads(found[5])
        made.created, made.spare, made.spare_size = data["created"], data["spare"], data["spare_size"]
        made.state = RunState.from_json(data["state"])
        return made

    @classmethod
    def insert(cls, connection: sqlite3.Connection, trace: str, now: float) -> Row:
        """Make a new one."""
        cursor = connection.execute(
            "INSERT INTO runs (trace, run_id, named, key, status, change, free_at, head, trimmed, size, row) "
            "VALUES (?, '', 0, '', 'running', 0, ?, 0, 0, 0, '{}')",
            (trace, now),
        )
        assert cursor.lastrowid is not None
        return cls(cursor.lastrowid, trace, now)

    def store(self, connection: sqlite3.Connection, change: int, limits: Limits) -> None:
        """Write it."""
        state = self.state
        row = {
            "created": self.created,
            "spare": self.spare,
            "spare_size": self.spare_size,
            "state": state.to_json(),
        }
        key = page_key(state.started or self.created, self.trace)
        free_at, over_at = state.free_at(limits.linger, limits.abandoned), state.over_at(limits.linger)
        first = state.said("run_id"), self.named, key, state.status, change, free_at, over_at
        connection.execute(_STORE, (*first, self.head, self.trimmed, self.size, json.dumps(row), self.number))
        ids = [(self.number, run_id, self.ids[run_id]) for run_id in self.unwritten]
        connection.executemany("REPLACE INTO run_ids VALUES (?, ?, ?)", ids)
        self.unwritten.clear()


def summary_of(trace: str, row: str) -> dict[str, Any]:
    """The summary that a stored row holds."""
    return RunState.from_json(json.loads(row)["state"]).summary(trace)

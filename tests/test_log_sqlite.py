"""A log in an SQLite file: whose file it is, who has it open, and what a loss of power or of space costs."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runnable_otel.log import CannotOpen, StoreUnavailable, open_log
from runnable_otel.log import sqlite_file as sqlite_file_module
from runnable_otel.log.sqlite import SqliteLog
from runnable_otel.log.sqlite_file import APPLICATION_ID
from support.logs import event, extend, stream, trace, uids, whole_run

A, B = trace(0xA), trace(0xB)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
def log(file: Path) -> Iterator[SqliteLog]:
    made = SqliteLog(str(file))
    yield made
    made.close()


def other_program(file: Path) -> None:
    with sqlite3.connect(file) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE accounts (name TEXT)")
        db.execute("INSERT INTO accounts VALUES ('theirs')")
    db.close()


def empty_of_another_program(file: Path) -> None:
    with sqlite3.connect(file) as db:
        db.execute("PRAGMA application_id = 1196444487")
        db.execute("PRAGMA user_version = 1")
    db.close()


def newer(file: Path) -> None:
    SqliteLog(str(file)).close()
    with sqlite3.connect(file) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()


def text(file: Path) -> None:
    file.write_text("step,seconds\ncompute,12\n" * 100)


def nearly(file: Path) -> None:
    file.write_bytes(b"SQLite format 3\x00 and no more")


OTHERS: list[tuple[Callable[[Path], object], str]] = [
    (other_program, "another program"),
    (empty_of_another_program, "another program"),
    (newer, "version 99"),
    (text, "is no SQLite file"),
    (nearly, "is no SQLite file"),
    (Path.mkdir, "is a folder"),
    (os.mkfifo, "is no file"),
]


@pytest.mark.parametrize(("make", "said"), OTHERS, ids=lambda value: getattr(value, "__name__", value))
def test_what_is_not_ours(file: Path, make: Callable[[Path], object], said: str) -> None:
    """What is another program's, newer, or no file is refused by name; nothing changes in it or beside it."""
    make(file)
    before = looks(file.parent)
    with pytest.raises(CannotOpen, match=said) as caught:
        open_log(str(file))
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert looks(file.parent) == before


def looks(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Each file of a folder: its size, when it was written to, and what is in it."""
    found = {each.name: (each.stat(), each.read_bytes() if each.is_file() else b"") for each in folder.iterdir()}
    return {name: (stat.st_size, stat.st_mtime_ns, content) for name, (stat, content) in found.items()}


def test_an_empty_file_becomes_a_log(file: Path) -> None:
    """A file that is there and empty, as `mktemp` makes one, is taken; other programs can see whose it is then."""
    file.touch()
    SqliteLog(str(file)).close()
    assert int.from_bytes(file.read_bytes()[68:72], "big") == APPLICATION_ID


def test_nobody_else_reads_it(file: Path) -> None:
    """What is made is for this user only, whatever the umask; a file that was there keeps its mode."""
    before = os.umask(0)
    try:
        log = SqliteLog(str(file))
        extend(log, *whole_run(A))
        modes = {each.name: each.stat().st_mode & 0o777 for each in file.parent.iterdir()}
        assert set(modes) >= {"runs.db", "runs.db-wal", "runs.db-shm", "runs.db-lock"}
        assert set(modes.values()) == {0o600}
        log.close()
        file.chmod(0o640)
        SqliteLog(str(file)).close()
        assert file.stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)


@pytest.mark.parametrize("where", ["nowhere/runs.db", "\x00"])
def test_no_such_place(tmp_path: Path, where: str) -> None:
    """A path that can't be one of a file is refused."""
    with pytest.raises((CannotOpen, ValueError)):
        open_log(str(tmp_path / where))
    assert list(tmp_path.iterdir()) == []


def test_only_one_has_it(file: Path, log: SqliteLog) -> None:
    """A file that another process has open, or this one has, is refused; who comes when it is closed gets it."""
    with pytest.raises(CannotOpen, match="another process has it open"):
        SqliteLog(str(file))
    program = f"from runnable_otel.log import open_log; open_log({str(file)!r})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "another process has it open" in done.stderr
    extend(log, *whole_run(A))
    log.close()
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_forked_child_does_not_hold_it(file: Path, log: SqliteLog) -> None:
    """A child that outlives the server does not keep the file from the next one."""
    child = os.fork()
    if not child:
        try:
            sys.stdin.read()
        finally:
            os._exit(0)
    try:
        log.close()
        SqliteLog(str(file)).close()
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_a_child_that_has_only_just_been_forked_does_not_hold_it(file: Path, log: SqliteLog) -> None:
    """The parent may close the log before the child has come to let go of it."""
    other = os.dup(log.file._lock._file)  # pyright: ignore[reportPrivateUsage, reportArgumentType]
    try:
        log.close()
        SqliteLog(str(file)).close()
    finally:
        os.close(other)


@pytest.mark.parametrize(("how", "lost"), [("close", False), ("kill", False), ("power", True), ("close, power", False)])
def test_what_a_loss_of_power_costs(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, lost: bool
) -> None:
    """A loss of power may lose the last commits: no position of before is known then, a gap. A kill loses nothing."""
    boot = tmp_path / "boot_id"
    boot.write_text("first\n")
    monkeypatch.setattr(sqlite_file_module, "_BOOT_ID", boot)
    log = SqliteLog(str(file))
    position = log.append(event("pipeline_started", A))
    position, after = log.append(event("task_started", A, 2)), position
    if "close" in how:
        log.close()
    else:
        log.file._lock._close()  # what the kernel does when a process ends
    if "power" in how:
        boot.write_text("second\n")
    again = SqliteLog(str(file))
    batch, rest = stream(again, A).read(position), stream(again, A).read(after)
    assert (batch.gap is not None) == (rest.gap is not None) == lost
    assert len(rest.entries) == (2 if lost else 1)
    again.close()
    log.close()


def test_read_only_for_a_while(log: SqliteLog) -> None:
    """While it can't be written nothing is taken, reading goes on, it says why; and then it goes on by itself."""
    extend(log, event("pipeline_started", A))
    read = stream(log, A)
    position = read.read().position
    log.file.writer.execute("PRAGMA query_only = 1")  # SQLite refuses each write as it does on a read-only disk
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="is read-only") as caught:
            extend(log, event("task_started", A, 2), *whole_run(B))
        assert caught.value.retry_after > 0
        assert (log.health().ok, "is read-only" in log.health().reason) == (False, True)
        assert len(uids(read.read())) == 1
        assert log.run(B) is None
    log.file.writer.execute("PRAGMA query_only = 0")
    assert log.health().ok
    assert extend(log, event("task_started", A, 2), *whole_run(B)) == 5
    assert len(uids(read.read(position))) == 1


def test_full_in_the_middle_of_a_batch(log: SqliteLog, file: Path) -> None:
    """A batch for which there is no room leaves nothing behind, not even in what the log knows of the run by heart."""
    extend(log, event("pipeline_started", A))
    row = log.run(A)
    pages = log.file.writer.execute("PRAGMA page_count").fetchone()[0]
    log.file.writer.execute(f"PRAGMA max_page_count = {pages + 8}")
    many = [event("task_log", A, 2, text="x" * 10_000) for _ in range(50)]
    with pytest.raises(StoreUnavailable, match="the disk is full"):
        extend(log, *many, *whole_run(B))
    assert log.run(A) == row
    assert "the disk is full" in log.health().reason
    log.file.writer.execute("PRAGMA max_page_count = 1000000")
    assert log.health().ok
    assert extend(log, *many, *whole_run(B)) == 54
    log.close()
    again = SqliteLog(str(file))
    assert len(uids(stream(again, A).read())) == 51
    again.close()

"""Runs a cell of the fault matrix, with this package and without, and measures what was promised."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from support.endpoint import Endpoint
from support.fault_cells import APP, FAULTS, Cell
from support.project import environment
from support.receiver import Received, ReceivedLog
from support.runlog import attempts, run_logs
from support.waiting import wait_until

TIMEOUT: Final = 100
"""Seconds after which a process hangs."""
KILL_AFTER: Final = 10.0
"""Seconds that a killed process has, at most, to send what had ended before."""
JOBS: Final = int(os.environ.get("RUNNABLE_OTEL_FAULTS_JOBS", "0")) or 2 * (os.cpu_count() or 1)

_NO_GIT: Final = "fatal: not a git repository (or any of the parent directories): .git\n"
_LOST: Final = re.compile(r"(\d+) of \d+ spans(?: to \S+)? lost")
_CLOCK: Final = re.compile(r"\[\d\d:\d\d:\d\d\]")  # rich shows it where a second has passed, and else as many spaces
_MOVING: Final = re.compile(
    r"(?<=/faults-)\w{8}(?=/)"  # the folder, before an address: a name may begin as one does
    r"|\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?"  # a moment
    r"|\d+:\d\d:\d\d(\.\d+)?"  # a duration; as a moment it may end with the second
    r"|0x[0-9a-f]+"  # an address
    r"|\b[a-z]+-[a-z]+-\d{4}\b"  # a run id that runnable made
    r"|(?<=\w)[A-Z0-9]{3}(?=\.execution\.log)"  # of the name of a task's log
    r"|\d+(?= frames hidden)"  # of a recursion to the interpreter's limit: our own frames count, too
)


@dataclass
class Ran:
    """What one process did.

    Attributes:
        code: exit code; negative for a signal, None where it hangs.
        seconds: from the pipeline's end (or the strike) to the end of the process.
        report: what it said of itself.
        census: the spans that were made, as `what`, `trace`, `span`, `name`.
        files: run logs and logs of tasks, without what moves from run to run.
    """

    code: int | None
    stdout: str
    stderr: str
    seconds: float
    report: list[dict[str, Any]]
    census: list[dict[str, Any]]
    files: dict[str, str]
    logs: list[dict[str, Any]]
    events: list[dict[str, Any]]
    spool: list[str]
    spans: list[Received] = field(default_factory=list)
    records: list[ReceivedLog] = field(default_factory=list)

    @cached_property
    def marks(self) -> dict[str, dict[str, Any]]:
        """What it said of itself, by name of the mark."""
        return {line["mark"]: line for line in self.report}

    @property
    def sight(self) -> dict[str, Any]:
        """What the user sees: result, exception, exit code, standard output and run log."""
        ended = self.marks.get("ended", {})
        outcome = {name: ended.get(name) for name in ("streamed", "run", "raised")}
        return {"code": self.code, "outcome": still(json.dumps(outcome)), "stdout": still(self.stdout), **self.files}

    @cached_property
    def made(self) -> set[tuple[str, str]]:
        """Spans that ended."""
        return self._of("end")

    def _of(self, what: str) -> set[tuple[str, str]]:
        gone = {line["pid"] for line in self.report if line["mark"] == "left"}  # nobody knows what these had
        return {
            (line["trace"], line["span"]) for line in self.census if line["what"] == what and line["pid"] not in gone
        }

    @property
    def arrived(self) -> Counter[tuple[str, str]]:
        return Counter((span.trace, span.span) for span in self.spans)

    @property
    def open(self) -> set[tuple[str, str]]:
        """Spans that began and did not end."""
        return self._of("start") - self.made

    @property
    def spooled(self) -> set[tuple[str, str]]:
        """Spans that lie in the spool, as OTLP JSON lines."""
        lines = [json.loads(line) for text in self.spool for line in text.splitlines()]
        groups = [group for line in lines for each in line.get("resourceSpans", ()) for group in each["scopeSpans"]]
        return {(span["traceId"].lower(), span["spanId"].lower()) for group in groups for span in group["spans"]}

    @property
    def said(self) -> int:
        """How many spans this package says, in its line at the end, that it dropped."""
        return sum(int(number) for number in _LOST.findall(self.stderr))

    @property
    def dropped(self) -> int:
        """How many it has counted; where a signal ended the process nobody can ask its metric, but it has said it."""
        if "dropped" not in self.marks:
            return self.said
        reasons = self.marks["dropped"]["reasons"]
        return sum(number for reason, number in reasons.items() if reason.startswith("spans."))


def still(text: str) -> str:
    """A text without what moves from run to run."""
    return _MOVING.sub("…", _CLOCK.sub(" " * 10, text))


def run(cell: Cell, *, absent: bool = False) -> Ran:
    """One process."""
    promise = cell.promise
    with tempfile.TemporaryDirectory(prefix="faults-") as above, Endpoint(promise.endpoint, cell.protocol) as endpoint:
        folder = Path(above, "cell")
        shutil.copytree(APP, folder, ignore=shutil.ignore_patterns("__pycache__"))
        code, stdout, stderr, ended = _process(cell, folder, endpoint, absent)
        ran = _look(folder, code, stdout, stderr, ended)
        ran.spans, ran.records = list(endpoint.spans), list(endpoint.logs)
        return ran


def _variables(cell: Cell, endpoint: Endpoint) -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint.url,
        "OTEL_EXPORTER_OTLP_PROTOCOL": cell.protocol,
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "RUNNABLE_OTEL_SINKS": "file:events.jsonl",
        **dict(cell.promise.variables),
    }


def _process(cell: Cell, folder: Path, endpoint: Endpoint, absent: bool) -> tuple[int | None, str, str, float]:
    variables = {
        "INPUT": cell.input,
        "FAULT": cell.fault,
        "WAY": "absent" if absent else cell.way,
        "REPORT": str(folder / "report.jsonl"),
        "CENSUS": str(folder / "census.jsonl"),
        **({} if absent else _variables(cell, endpoint)),
    }
    command = [sys.executable, "app.py"]
    if cell.way == "instrument" and not absent:
        command = [str(Path(sys.executable).with_name("opentelemetry-instrument")), *command]
    if cell.fault in _DISKS and not absent:
        command = ["unshare", "-Urm", "sh", "-c", f'{_DISKS[cell.fault]} && exec "$@"', "sh", *command]
    env = environment(folder, **variables)
    with subprocess.Popen(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        reader = _Reader(process)
        if cell.fault == "sigkill":
            _kill(process, folder, endpoint, absent)
        try:
            code: int | None = process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            code = None
        ended = time.monotonic()
        _end_group(process)
        stdout, stderr = reader.texts()
    return code, stdout, stderr, ended


def _kill(process: subprocess.Popen[bytes], folder: Path, endpoint: Endpoint, absent: bool) -> None:
    """Kill it where it strikes, once the endpoint has what had ended by then: that is what it may take its time for."""
    report = folder / "report.jsonl"
    wait_until(lambda: process.poll() is not None or "strike" in (report.read_text() if report.exists() else ""))
    end = time.monotonic() + KILL_AFTER
    while not absent and not endpoint.spans and time.monotonic() < end:
        time.sleep(0.005)
    process.kill()


class _Reader:
    """Reads both streams of a process while somebody waits for its end."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._parts: list[list[bytes]] = [[], []]
        self._threads = [
            threading.Thread(target=lambda s=stream, p=parts: p.append(s.read()), daemon=True)
            for stream, parts in zip((process.stdout, process.stderr), self._parts, strict=True)
        ]
        for thread in self._threads:
            thread.start()

    def texts(self) -> tuple[str, str]:
        for thread in self._threads:
            thread.join(10)
        out, err = (b"".join(parts).decode(errors="replace") for parts in self._parts)
        return out, err


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Whatever a process that was killed has left behind: it is in a session of its own."""
    import contextlib
    import signal

    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


# A file system of its own for the spool, in name spaces of the process's own, so that it needs no rights.
_DISKS: Final = {
    "spool_full": "mkdir disk && mount -t tmpfs -o size=4k none disk && head -c 4096 /dev/zero > disk/filler",
    "spool_read_only": "mkdir disk && mount -t tmpfs -o ro none disk",
}


def disks_can_be_made() -> bool:
    """Whether this user may make a file system."""
    command = ["unshare", "-Urm", "sh", "-c", "mount -t tmpfs none /tmp"]
    return shutil.which("unshare") is not None and not subprocess.run(command, check=False).returncode


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _whole_logs(folder: Path) -> list[dict[str, Any]]:
    """Run logs, but for those that runnable itself could not finish, and those that lie where a run id led them."""
    try:
        return run_logs(folder) + [json.loads(file.read_text()) for file in folder.parent.glob("*.json")]
    except json.JSONDecodeError:
        return []


def _look(folder: Path, code: int | None, stdout: str, stderr: str, ended: float) -> Ran:
    report = _lines(folder / "report.jsonl")
    marks = {line["mark"]: line for line in report}
    since = marks.get("ended") or marks.get("strike") or {"at": ended}
    kept = [*folder.glob(".run_log_store/**/*"), *folder.glob(".catalog/**/*"), *folder.parent.glob("*.json")]
    files = {
        still(str(file.relative_to(folder.parent))): still(file.read_text(errors="replace"))
        for file in sorted(kept)
        if file.is_file() and file.suffix in (".json", ".log")
    }
    return Ran(
        code=code,
        stdout=stdout,
        stderr="".join(line for line in stderr.splitlines(keepends=True) if line != _NO_GIT),
        seconds=ended - since["at"],
        report=report,
        census=_lines(folder / "census.jsonl"),
        files=files,
        logs=_whole_logs(folder),
        events=_lines(folder / "events.jsonl"),
        spool=[file.read_text(errors="replace") for file in sorted(folder.glob("spool/**/*")) if file.is_file()],
    )


class Board:
    """All cells that are asked for, run side by side in a few processes at once; each result is there when it is."""

    def __init__(self, cells: list[Cell]) -> None:
        self._pool = ThreadPoolExecutor(JOBS)
        self._without: dict[tuple[str, str], Future[Ran]] = {}
        self._with: dict[Cell, Future[Ran]] = {}
        for cell in cells:
            self._start_without(cell)
            self._with[cell] = self._pool.submit(run, cell)

    def _start_without(self, cell: Cell) -> None:
        key = self._key(cell)
        if key not in self._without:
            self._without[key] = self._pool.submit(run, Cell(key[0], key[1], "plain"), absent=True)

    @staticmethod
    def _key(cell: Cell) -> tuple[str, str]:
        """What the run without us depends on."""
        return cell.input, cell.fault if FAULTS[cell.fault].strikes else "none"

    def both(self, cell: Cell) -> tuple[Ran, Ran]:
        """The run with this package, and the same without."""
        return self._with[cell].result(), self._without[self._key(cell)].result()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def executed(ran: Ran) -> tuple[int, int]:
    """Attempts of tasks that the run logs hold; and steps that began, but whose attempt runnable could not write."""
    held = sum(len(list(attempts(log["steps"]))) for log in ran.logs)
    return held, sum(_unwritten(log["steps"]) for log in ran.logs)


def _unwritten(steps: dict[str, Any]) -> int:
    inner = [branch["steps"] for step in steps.values() for branch in step["branches"].values()]
    own = [step for step in steps.values() if step["step_type"] == "task" and not step["attempts"]]
    return len(own) + sum(map(_unwritten, inner))

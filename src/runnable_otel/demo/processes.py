"""The demo's real processes: a working folder, an environment, and what each process left behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import site
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from runnable_otel import run
from runnable_otel.demo.agreement import Attempt, Execution, SentSpan

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runnable_otel.demo.receiver import Receiver

PROJECT: Final = Path(__file__).parent / "project"
"""The demo's pipelines; each process runs in a copy."""

_SECONDS: Final = 60
_EVENTS: Final = "events.jsonl"
_STRANGERS: Final = ("OTEL_", "RUNNABLE_", "LOGFIRE_", "TRACEPARENT", "TRACESTATE", "PYTHONWARNINGS")


@dataclass(frozen=True)
class Done:
    """A process that has ended.

    Attributes:
        command: its command line, as a user would type it.
        returncode: its exit code; None where it was ended because it took too long.
        output: what it wrote, without what the second exporter wrote.
        execution: what it left behind.
    """

    command: str
    returncode: int | None
    output: str
    execution: Execution


class Stage:
    """A working folder with a copy of the demo's pipelines, and the processes that run there.

    Telemetry is switched on by variables only: the endpoint, a file sink for the events, and
    `OTEL_TRACES_EXPORTER=otlp,console`. The second exporter writes each span that ends to standard output, on a way of
    its own: that is what "sent" means, and what does not arrive is missed.

    Args:
        folder: is made.
        receiver: gets the spans.
        live: the OTLP/gRPC endpoint that gets the events, too; empty for none.
    """

    def __init__(self, folder: Path, receiver: Receiver, live: str = "") -> None:
        shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns("__pycache__"))
        self.folder = folder
        self._receiver = receiver
        self._environ = environment(folder, receiver.endpoint, os.environ, live)
        self._known_attempts: set[Attempt] = set()
        self._known_events = 0

    def python(self, *arguments: str) -> Done:
        """Run this interpreter with these arguments, to its end."""
        self._receiver.take()
        returncode, stdout, stderr = self._process(sys.executable, *arguments)
        spans, rest = split(stdout)
        attempts, success = self._run_log()
        execution = Execution(
            sent=[SentSpan(s["context"]["trace_id"][2:], s["context"]["span_id"][2:], s["name"]) for s in spans],
            received=self._receiver.take(),
            events=self._events(),
            attempts=attempts,
            success=success,
        )
        return Done(" ".join(("python", *arguments)), returncode, rest + stderr, execution)

    def run_id(self) -> str:
        """The id of the run that the folder's run log is of; empty where there is none."""
        return next((log["run_id"] for log in self._run_logs()), "")

    def _process(self, *command: str) -> tuple[int | None, str, str]:
        # Files, not pipes: where a process is ended for its time, what it wrote until then is there all the same.
        with (self.folder / "stdout").open("wb") as stdout, (self.folder / "stderr").open("wb") as stderr:
            try:
                returncode = subprocess.run(  # noqa: S603 - this interpreter, with arguments of ours
                    command,
                    cwd=self.folder,
                    env=self._environ,
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=stderr,
                    timeout=_SECONDS,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                returncode = None
        return returncode, self._text("stdout"), self._text("stderr")

    def _text(self, name: str) -> str:
        return (self.folder / name).read_text("utf-8", "replace")

    def _events(self) -> list[dict[str, Any]]:
        """The events that the process added."""
        file = self.folder / _EVENTS
        lines = file.read_text("utf-8").splitlines() if file.exists() else []
        fresh, self._known_events = lines[self._known_events :], len(lines)
        return [json.loads(line) for line in fresh]

    def _run_logs(self) -> Iterator[dict[str, Any]]:
        for file in sorted(self.folder.glob(".run_log_store/*.json")):
            yield json.loads(file.read_text("utf-8"))

    def _run_log(self) -> tuple[list[Attempt], bool]:
        """The attempts that the process added to the run log, and whether the run is a success there."""
        logs = list(self._run_logs())
        fresh = [a for log in logs for a in attempts(log["steps"]) if a not in self._known_attempts]
        self._known_attempts.update(fresh)
        return fresh, bool(logs) and all(log["status"] == "SUCCESS" for log in logs)


def environment(folder: Path, endpoint: str, environ: Mapping[str, str], live: str = "") -> dict[str, str]:
    """The environment of a process: the user's own, without what would send its spans elsewhere, and ours."""
    child = {name: value for name, value in environ.items() if not name.startswith(_STRANGERS)}
    child |= {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_TRACES_EXPORTER": "otlp,console",
        "RUNNABLE_OTEL_SINKS": f"file:{_EVENTS}",
        # A slow machine must not make the demo fail; a run waits no longer than its last spans take.
        "RUNNABLE_OTEL_EXIT_TIMEOUT": "20",
        # grpc would ask a proxy for this machine too.
        "no_grpc_proxy": "127.0.0.1",
        "PYTHONIOENCODING": "utf-8",
        # What runs leave in a user's home stays in the folder; the packages that lie in that home are still found.
        "HOME": str(folder),
        "USERPROFILE": str(folder),
        "XDG_STATE_HOME": str(folder / "state"),
        "PYTHONUSERBASE": site.getuserbase(),
    }
    if live:
        child |= {"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": live, "RUNNABLE_OTEL_SINKS": f"file:{_EVENTS},otlp:"}
    if not _has_startup_file():
        run.watch(child)
    return child


def _has_startup_file() -> bool:
    """Whether this environment reads `runnable_otel.pth`: not where the package is only on PYTHONPATH."""
    folders = [*site.getsitepackages(), site.getusersitepackages()]
    return any(os.path.exists(os.path.join(folder, "runnable_otel.pth")) for folder in folders)


def split(stdout: str) -> tuple[list[dict[str, Any]], str]:
    """The spans that the console exporter wrote to standard output, and all else that stands there."""
    spans: list[dict[str, Any]] = []
    rest: list[str] = []
    position = 0
    for match in re.finditer(r'\{\s+"name": ', stdout):
        if match.start() < position:
            continue  # inside the span before: its events have names too
        try:
            value, end = json.JSONDecoder().raw_decode(stdout, match.start())
        except ValueError:
            continue
        if "context" in value:
            spans.append(value)
            rest.append(stdout[position : match.start()])
            position = end + stdout.startswith("\n", end)
    return spans, "".join((*rest, stdout[position:]))


def attempts(steps: Mapping[str, Any]) -> Iterator[Attempt]:
    """Each executed attempt of each task step of a run log, those in branches too."""
    for step in steps.values():
        if step["step_type"] == "task":
            for each in step["attempts"]:
                yield Attempt(step["internal_name"], each["attempt_number"], each["status"] == "SUCCESS")
        for branch in step["branches"].values():
            yield from attempts(branch["steps"])

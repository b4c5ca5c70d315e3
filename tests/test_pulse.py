"""The sign of life: a silent task is told from a dead process."""

from __future__ import annotations

import json
import os
import threading
from typing import Any

import pytest

from runnable_otel.pulse import Pulse
from runnable_otel.sinks import Hub
from support.project import Project
from support.receiver import Receiver

SECONDS = 0.01

SCRIPT = """
import threading
from runnable_otel.telemetry import TELEMETRY
from runnable_otel.pulse import Pulse

TELEMETRY.pulse = Pulse(0.01)
seen = []
told = TELEMETRY.hub.emit_sign
def emit_sign(event):
    told(event)
    seen.append(event)
    enough.set()
TELEMETRY.hub.emit_sign = emit_sign
enough = threading.Event()

from runnable import Pipeline, PythonTask

def waits():
    assert enough.wait(30), "no sign of life"

def main():
    pipeline = Pipeline(steps=[PythonTask(function=waits, name="waits")])
    pipeline.execute()
    return pipeline

if __name__ == "__main__":
    main()
    beating = [each for each in threading.enumerate() if "pulse" in each.name]
    for each in beating:
        each.join(30)
    print("THREADS", [each.name for each in beating if each.is_alive()])
"""


def test_a_run_gives_signs_of_life_over_otlp(project: Project, receiver: Receiver) -> None:
    """While a task is silent an OTLP sink gets the sign, with the ids of the run; a file, which keeps all, does not."""
    (project.folder / "silent.py").write_text(SCRIPT)
    done = project.command(
        project.python,
        "silent.py",
        RUNNABLE_OTEL_SINKS=f"otlp:{receiver.http},file:events.jsonl",
        OTEL_TRACES_EXPORTER="none",
    )
    assert done.returncode == 0, done.stderr
    events: list[dict[str, Any]] = [json.loads(log.body) for log in receiver.logs]
    signs = [event for event in events if event["type"] == "sign_of_life"]
    start = next(event for event in events if event["type"] == "pipeline_started")
    assert signs
    assert {sign["trace_id"] for sign in signs} == {start["trace_id"]}
    assert {sign["run_id"] for sign in signs} == {start["run_id"]}
    assert {sign["span_id"] for sign in signs} == {start["span_id"]}
    assert "sign_of_life" not in (project.folder / "events.jsonl").read_text()
    assert "THREADS []" in done.stdout


def test_signs_as_long_as_something_is_open() -> None:
    """Each thing that is open gives signs, until it is closed; the thread ends with the last."""
    pulse, told = Pulse(SECONDS), {1: threading.Semaphore(0), 2: threading.Semaphore(0)}
    for key, signs in told.items():
        pulse.begin(key, signs.release)
    for signs in told.values():
        assert signs.acquire(timeout=30)
        assert signs.acquire(timeout=30)
    (thread,) = [each for each in threading.enumerate() if each.name == "runnable-otel-pulse"]
    pulse.end(1)
    assert told[2].acquire(timeout=30)
    pulse.end(2)
    thread.join(30)
    assert not thread.is_alive()
    pulse.end(2)  # once more is no error


def test_opened_and_closed_at_once() -> None:
    """No thread stays behind, however fast things open and close."""
    pulse = Pulse(3600)
    for _ in range(200):
        pulse.begin(1, lambda: None)
        pulse.end(1)
    for thread in threading.enumerate():
        if thread.name == "runnable-otel-pulse":
            thread.join(30)
            assert not thread.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_forked_child_starts_anew() -> None:
    """The child has not the thread: what it opens gives signs; what the parent has open does not."""
    pulse = Pulse(SECONDS)
    parents = threading.Event()
    pulse.begin(1, parents.set)
    assert parents.wait(30)
    child = os.fork()
    if child == 0:
        told = threading.Event()
        parents.clear()
        pulse.begin(2, told.set)
        ok = told.wait(30) and not parents.is_set()
        os._exit(0 if ok else 1)
    _, status = os.waitpid(child, 0)
    pulse.end(1)
    assert os.waitstatus_to_exitcode(status) == 0


def test_nobody_asks() -> None:
    """A hub whose sinks ask for no signs says so: no thread is started for it."""
    hub = Hub()
    assert not hub.wants_signs
    hub.add([hub.open("file:/dev/null")])
    assert not hub.wants_signs
    hub.add([hub.open("memory:")])
    assert hub.wants_signs
    hub.close(1)

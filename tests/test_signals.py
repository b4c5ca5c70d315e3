"""A signal during a run: what ended is delivered, what runs ends as cancelled, the process dies as it would have."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from support.hole import Hole, refusing
from support.project import Project, environment
from support.receiver import Received, Receiver
from support.waiting import LONG

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs signals")


def signalled(
    project: Project, way: str, number: int = signal.SIGTERM, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run signalled.py, and send it a signal once it says that it is where it should be."""
    process = subprocess.Popen(
        [project.python, "signalled.py"],
        cwd=project.folder,
        env=environment(project.folder, WAY=way, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if line == "READY\n":
            process.send_signal(number)
            break
    stdout, stderr = process.communicate(timeout=LONG)
    return subprocess.CompletedProcess([], process.returncode, stdout, said + stderr)


def states(spans: list[Received]) -> dict[str, object]:
    return {span.name: span.attributes.get("status") for span in spans}


CANCELLED = {"task:signalled.quick": "success", "task:signalled.forever": "cancelled", "pipeline:run": "cancelled"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal(project: Project, receiver: Receiver, number: int) -> None:
    """Ended spans arrive, running ones are cancelled, each with its end event; the signal's exit status is kept."""
    done = signalled(
        project,
        "main",
        number,
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc,
        RUNNABLE_OTEL_SINKS="otlp:,file:events.jsonl",
    )
    assert done.returncode == -number
    assert states(receiver.spans) == CANCELLED
    assert {span.status for span in receiver.spans} == {0}
    run = next(span for span in receiver.spans if span.kind == "pipeline")
    assert run.attributes["cicd.pipeline.result"] == "cancellation"
    events = [json.loads(log.body) for log in receiver.logs]
    assert Counter(event["type"] for event in events) == Counter(
        pipeline_started=1, task_started=2, task_completed=1, task_error=1, pipeline_completed=1
    )
    assert events[-1]["status"] == events[-2]["error"] == "cancelled"
    assert [json.loads(line) for line in (project.folder / "events.jsonl").read_text().splitlines()] == events
    assert "not delivered" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_task_in_an_event_loop(project: Project, receiver: Receiver, number: int) -> None:
    """The same for an async pipeline."""
    done = signalled(project, "async", number, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    assert done.returncode == -number
    assert states(receiver.spans) == {"task:__main__.forever_async": "cancelled", "pipeline:run": "cancelled"}


def test_a_run_in_another_thread(project: Project, receiver: Receiver) -> None:
    """Ctrl-C in the main thread while a daemon thread runs the pipeline: what is open there is cancelled at the end."""
    done = signalled(project, "thread", signal.SIGINT, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    assert done.returncode == -signal.SIGINT
    assert states(receiver.spans) == CANCELLED


@pytest.mark.parametrize("way", ["thread", "handler"])
def test_a_signal_that_is_not_ours(project: Project, receiver: Receiver, way: str) -> None:
    """A handler that the user set stays and is called; where the run is in another thread, SIGTERM is as without us."""
    done = signalled(project, way, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    if way == "handler":
        assert (done.returncode, done.stdout.count("mine")) == (7, 1)
        assert states(receiver.spans) == CANCELLED
    else:
        assert done.returncode == -signal.SIGTERM


def test_the_disposition_is_as_before(project: Project, receiver: Receiver) -> None:
    """After a run nothing handles the signal that was not there before."""
    done = project.command(project.python, "signalled.py", WAY="after", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    assert "as before True" in done.stdout


def test_a_span_whose_lock_is_held(project: Project, receiver: Receiver) -> None:
    """A span that the signal stopped in the middle of a change stays open, is counted, and costs no other."""
    done = signalled(project, "lock", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    assert done.returncode == -signal.SIGTERM
    assert states(receiver.spans) == {"task:signalled.quick": "success", "pipeline:run": "cancelled"}
    assert "not delivered: 1 open spans lost (locked 1)" in done.stderr


def test_a_forked_child(project: Project, receiver: Receiver) -> None:
    """A child that a task forks dies of the signal at once, and ends nothing of its parent's."""
    done = project.command(project.python, "signalled.py", WAY="fork", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    assert f"child {signal.SIGTERM}" in done.stdout
    assert states(receiver.spans) == {
        "task:signalled.quick": "success", "task:signalled.forks": "success", "pipeline:run": "success"
    }  # fmt: skip


def test_a_dead_endpoint(project: Project) -> None:
    """Neither a refused connection nor one that is never answered keeps a process from dying of the signal."""
    patient = {"OTEL_EXPORTER_OTLP_TIMEOUT": "1000"}
    done = signalled(
        project, "main", OTEL_EXPORTER_OTLP_ENDPOINT=refusing(), RUNNABLE_OTEL_EXIT_TIMEOUT="1000", **patient
    )
    assert done.returncode == -signal.SIGTERM
    assert "3 of 3 spans" in done.stderr
    with Hole() as hole:
        done = signalled(project, "main", OTEL_EXPORTER_OTLP_ENDPOINT=hole, **patient)
    assert done.returncode == -signal.SIGTERM
    assert "lost (timeout 3; last error: no answer in time)" in done.stderr


@pytest.mark.parametrize("tries", [20, pytest.param(1000, marks=pytest.mark.faults)])
def test_any_moment(receiver: Receiver, tmp_path: Path, tries: int) -> None:
    """SIGTERM at any moment of a run of short tasks: no deadlock, its exit status kept, 99 % of ended spans arrive."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "support" / "storm.py"), receiver.http, str(tries)],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=LONG + 2 * tries,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [line.rsplit(",", 3) for line in done.stdout.splitlines()]
    assert len(lines) == tries
    assert Counter(how for how, *_ in lines) == {f"signal {int(signal.SIGTERM)}": tries}
    ended = sum(int(tasks) for *_, tasks in lines)
    seen = Counter(span.trace for span in receiver.spans if span.attributes.get("status") == "success")
    delivered = sum(min(seen[trace], int(tasks)) for _, _, trace, tasks in lines)
    waits = sorted(float(seconds) for _, seconds, _, _ in lines)
    print(f"{tries} tries: {delivered} of {ended} spans; {waits[tries // 2]:.3f} s median, {waits[-1]:.3f} s at most")
    assert ended > 0
    assert delivered >= 0.99 * ended
    runs = [span for span in receiver.spans if span.kind == "pipeline"]
    assert {span.attributes["status"] for span in runs} == {"cancelled"}
    assert len(runs) >= 0.99 * tries

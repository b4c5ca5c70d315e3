"""Processes that runnable starts for a run, threads and event loops of a task: each of them in the run's one trace."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.project import Project
from support.receiver import Receiver
from support.runlog import run_logs
from support.told import in_their_places, of_file
from test_oracle import ERROR, compare

STATE = "vendor=one,other=two"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_shell_has_the_trace_state(project: Project, receiver: Receiver) -> None:
    """A shell task's child gets the TRACESTATE that the run has; nothing of it is printed."""
    variables = {"TRACEPARENT": f"00-{TRACE}-{PARENT}-01", "TRACESTATE": STATE}
    done = project.pipeline("shell_state", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc, **variables)
    (task,) = [span for span in receiver.spans if span.kind == "task"]
    assert json.loads(task.attributes["outputs"])["seen"] == STATE
    assert task.trace == TRACE
    assert "TRACESTATE=" not in done.stdout


def test_notebooks_own_spans_nest(project: Project, receiver: Receiver) -> None:
    """Spans that a cell makes lie below the notebook task."""
    project.pipeline("notebook_spans", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    (log,) = run_logs(project.folder)
    tasks = compare(log, receiver.spans)
    own = [span for span in receiver.spans if span.name == "in a cell"]
    assert own, "runnable runs the cells a second time to read the values, so there may be two"
    assert {span.parent for span in own} == {tasks["note", 1].span}


@pytest.mark.parametrize("name", ["python", "mapped", "parallel_fails", "shell_fails"])
def test_emulator(project: Project, receiver: Receiver, name: str) -> None:
    """The emulator's processes send one trace with the run log's attempts, and each event once; one run begins."""
    project.pipeline(
        name,
        CONFIGURATION="emulator.yaml",
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc,
        RUNNABLE_OTEL_SINKS="file:events.jsonl",
    )
    (log,) = run_logs(project.folder)
    tasks = compare(log, receiver.spans)
    in_their_places(receiver.spans)
    run = next(span for span in receiver.spans if span.kind == "pipeline")
    assert (run.status == ERROR) == (log["status"] == "FAIL")
    pids = {span.attributes["process.pid"] for span in tasks.values()}
    assert len(pids) == len(tasks), "a process for each node"
    events = of_file(project.folder)
    assert len({event["uid"] for event in events}) == len(events) == 2 + 2 * len(tasks)
    assert [event["type"] for event in events].count("pipeline_started") == 1
    assert (events[0]["type"], events[-1]["type"]) == ("pipeline_started", "pipeline_completed")
    assert {event["run_id"] for event in events} == {log["run_id"]}


def test_emulated_steps_have_the_ids_of_any_other(project: Project, receiver: Receiver) -> None:
    """The id of an attempt is derived from the run's root, whichever process executes it."""
    from runnable_otel.propagation import RunRoot

    project.pipeline("mapped", CONFIGURATION="emulator.yaml", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    run = next(span for span in receiver.spans if span.kind == "pipeline")
    root = RunRoot(int(run.trace, 16), int(run.span, 16))
    for task in (span for span in receiver.spans if span.kind == "task"):
        step, attempt = task.attributes["runnable.step.name"], task.attributes["runnable.step.attempt"]
        assert int(task.span, 16) == root.attempt_span_id(step, attempt)


@pytest.mark.parametrize(("name", "success"), [("job", True), ("job_fails", False), ("job_shell", True)])
def test_emulated_job(project: Project, receiver: Receiver, name: str, success: bool) -> None:
    """An emulated job is one span of the process that submits it, and one task below, of the process that runs it."""
    project.pipeline(
        name,
        CONFIGURATION="emulated_job.yaml",
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc,
        RUNNABLE_OTEL_SINKS="file:events.jsonl",
    )
    job, task = sorted(receiver.spans, key=lambda span: span.kind)
    assert (job.kind, task.kind) == ("job", "task")
    assert (task.trace, task.parent) == (job.trace, job.span)
    assert (job.status == ERROR, task.status == ERROR) == (not success, not success)
    kinds = [event["type"] for event in of_file(project.folder)]
    assert kinds == ["pipeline_started", "task_started", kinds[2], "pipeline_completed"]
    assert kinds[2] == ("task_completed" if success else "task_error")


@pytest.mark.parametrize(
    "told", ["", "nonsense", "[]", '["a", "b", {}, ""]', '["0", "0", {}, ""]', '["7", "9", 3, ""]']
)
def test_a_word_on_the_run_that_is_damaged(told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a sound word on the run its parent span stands for the root, and nothing fails."""
    from runnable_otel.propagation import RunRoot, run_from_environment

    monkeypatch.setenv("_RUNNABLE_OTEL_RUN", told)
    assert run_from_environment(7, 8) == (RunRoot(7, 8), {}, "")


def test_threads_and_event_loops_of_a_task(project: Project, receiver: Receiver) -> None:
    """What a task starts has the task for its parent, in a pool that tasks share, too."""
    project.pipeline("threads", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    parents = {span.name: span.parent for span in receiver.spans}
    (threads, again, loop) = (
        next(span.span for span in receiver.spans if span.name == f"task:tasks.{name}")
        for name in ("in_threads", "again_in_threads", "in_asyncio")
    )
    around = next(span.span for span in receiver.spans if span.name == "around")
    assert {parents[name] for name in ("submit", "submit with a context", "map")} == {around}
    pool = ("pool.map", "pool.imap", "pool.apply", "pool.starmap")
    assert {parents[name] for name in (*pool, "a thread", "a thread's run", "shared, first")} == {threads}
    assert (parents["shared, second"], parents["of nobody"]) == (again, "")
    assert {parents[name] for name in ("one", "two", "to_thread")} == {loop}


@pytest.mark.parametrize(
    ("runs", "variables"),
    [
        (50, {}),
        # runnable's own console can hang in a fork of a process with threads, so not that start method.
        (4, {"START_METHOD": "forkserver", "CONFIGURATION": "pool.yaml"}),
        (4, {"START_METHOD": "spawn", "CONFIGURATION": "pool.yaml"}),
    ],
    ids=["threads", "threads with forkserver pools", "threads with spawn pools"],
)
def test_runs_at_once(project: Project, receiver: Receiver, runs: int, variables: dict[str, str]) -> None:
    """Runs at once in the threads of one process, as a web service has them: each has its own trace, queue and log."""
    done = project.command(
        project.python, "at_once.py", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc, RUNS=str(runs), **variables
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("EVENTS "))
    found: dict[str, list[dict[str, Any]]] = json.loads(line.removeprefix("EVENTS "))
    logs = {log["run_id"]: log for log in run_logs(project.folder)}
    assert set(found) == set(logs) == {f"run-{number}" for number in range(runs)}
    assert len({span.trace for span in receiver.spans}) == runs
    for run, events in found.items():
        (trace,) = {event["trace_id"] for event in events}
        tasks = compare(logs[run], [span for span in receiver.spans if span.trace == trace])
        assert {event["run_id"] for event in events} == {run}
        assert len(events) == 2 + 2 * len(tasks)

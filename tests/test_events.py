"""Events from the same facts as the spans: each start and end once, at the caller's queue and at every sink."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runnable_otel.events import OURS, Event, new_uid, rfc3339
from support import environments
from support.project import Project
from support.receiver import Received, ReceivedLog, Receiver
from support.runlog import Attempt, attempts, bounded, run_logs
from test_oracle import FAILING, SUCCESSFUL, is_mocked

ENDS = {"task_completed", "task_error", "pipeline_completed"}
JOBS = {"job": "", "job_shell": "", "job_notebook": "", "job_fails": "ValueError: kaput"}
OUTSIDE_OF_A_TASK = {"map_reducer_fails": "ZeroDivisionError: division by zero"}
KINDS = {**dict.fromkeys([*SUCCESSFUL, "map_nested"], ""), **FAILING, **OUTSIDE_OF_A_TASK, **JOBS}
"""Every kind of pipeline, and what its failure begins with."""
QUICK = ("python", "parallel_fails", "mapped", "shell_fails", "import_fails")
POOLED = ("parallel", "parallel_fails", "mapped", "map_fails", "mapped_speaks")
CONFIGURED = ("python", "fails", "mapped", "shell_fails", "async_sequence", "notebook_fails", "job")
USERS_LOGFIRE = """
import logfire, os, runpy
head = float(os.environ["OTEL_TRACES_SAMPLER"] == "always_on")
logfire.configure(send_to_logfire=False, console=False, sampling=logfire.SamplingOptions(head=head))
runpy.run_path(os.path.abspath("pipelines.py"), run_name="__main__")
"""


def cells() -> Iterator[Any]:
    """Kind of pipeline, logfire, start method of its pool of processes."""
    for name in KINDS:
        for logfire in ("none", "installed"):
            quick = logfire == "none" and name in QUICK
            yield pytest.param(name, logfire, "", marks=() if quick else pytest.mark.live)
    for name in CONFIGURED:
        yield pytest.param(name, "configured", "", marks=pytest.mark.live)
    for name in POOLED:
        for start in multiprocessing.get_all_start_methods():
            yield pytest.param(name, "none", start, marks=pytest.mark.live)


@dataclass
class Ran:
    """What came of a run.

    Attributes:
        log: the run log.
        queued: what the caller's queue got.
        in_file: what `file:` got.
        spans, logs: what the OTLP receiver got, but for signs of life.
    """

    log: dict[str, Any]
    queued: list[dict[str, Any]]
    in_file: list[dict[str, Any]]
    spans: list[Received]
    logs: list[ReceivedLog]


def run(folder: Path, name: str, logfire: str, start: str, sampler: str) -> Ran:
    folder.mkdir()
    project = Project(folder)
    if logfire != "none":
        project.python = str(environments.python("logfire"))
    variables = {
        "PIPELINE": name,
        "QUEUE": "1",
        "OTEL_TRACES_SAMPLER": sampler,
        "RUNNABLE_OTEL_SINKS": "file:events.jsonl,otlp:",
        "LOGFIRE_SEND_TO_LOGFIRE": "false",
    }
    if start:
        variables |= {"START_METHOD": start, "CONFIGURATION": "pool.yaml"}
    script = "pipelines.py"
    if logfire == "configured":
        script = "script.py"
        (folder / script).write_text(USERS_LOGFIRE)
    with Receiver() as receiver:
        # The exporter that logfire adds for the user speaks HTTP.
        http = logfire == "configured"
        variables["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver.http if http else receiver.grpc
        variables["OTEL_EXPORTER_OTLP_PROTOCOL"] = "http/protobuf" if http else "grpc"
        done = project.command(project.python, script, **variables)
    (log,) = run_logs(folder)
    in_file = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    logs = [each for each in receiver.logs if each.name != "runnable.sign_of_life"]
    return Ran(log, queued(done), in_file, receiver.spans, logs)


def queued(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    line = next(line for line in done.stdout.splitlines() if line.startswith("EVENTS "))
    return json.loads(line.removeprefix("EVENTS "))


def expected(log: dict[str, Any]) -> dict[tuple[str, int], Attempt]:
    """The executed attempts of the run log, that of a job under its name."""
    if log.get("job"):
        job = {**log["job"], "step_type": "task", "internal_name": "pipelines.main", "branches": {}}
        return {(each.step, each.number): each for each in attempts({"": job})}
    return {(each.step, each.number): each for each in attempts(log["steps"]) if not is_mocked(log, each)}


def check_against(log: dict[str, Any], events: list[dict[str, Any]], *, pool: bool = False) -> None:
    """Start and end of each attempt of the run log, once, in order, with the same content."""
    assert max(Counter(event["uid"] for event in events).values()) == 1
    assert events[0]["type"] == "pipeline_started"
    assert events[-1]["type"] == "pipeline_completed"
    assert events[-1]["status"] == ("success" if log["status"] == "SUCCESS" else "error")
    assert pool or [event["time"] for event in events] == sorted(event["time"] for event in events)
    tasks = [event for event in events if event["type"].startswith("task_")]
    starts = {(e["step"], e["attempt"]): i for i, e in enumerate(tasks) if e["type"] == "task_started"}
    ends = {(e["step"], e["attempt"]): i for i, e in enumerate(tasks) if e["type"] in ENDS}
    wanted = expected(log)
    assert set(starts) == set(ends) == set(wanted)
    assert len(tasks) == 2 * len(wanted)
    for key, attempt in wanted.items():
        start, end = tasks[starts[key]], tasks[ends[key]]
        assert starts[key] < ends[key]
        assert (end["type"] == "task_completed") == attempt.success
        assert start["uid"] == f"{start['trace_id']}:{start['span_id']}:start"
        assert end["uid"] == f"{start['trace_id']}:{start['span_id']}:end"
        assert end["started"] == start["time"]
        assert end["duration_ms"] >= 0
        assert end.get("inputs") == start.get("inputs")
        if attempt.success:
            assert end["inputs"] == bounded(attempt.inputs)
            assert end.get("outputs", {}) == bounded(attempt.outputs)
        else:
            assert end["error"]


def check_same_as_spans(events: list[dict[str, Any]], spans: list[Received]) -> None:
    """An end says what its span says."""
    by_id = {span.span: span for span in spans}
    ends = [event for event in events if event["type"] in ENDS]
    assert {event["span_id"] for event in ends} == {s.span for s in spans if s.kind in ("pipeline", "job", "task")}
    for event in ends:
        span = by_id[event["span_id"]]
        assert (event["trace_id"], event.get("parent_span_id", "")) == (span.trace, span.parent)
        assert (event["started"], event["time"]) == (rfc3339(span.start), rfc3339(span.end))
        for name in ("inputs", "outputs"):
            assert event.get(name) == (json.loads(span.attributes[name]) if name in span.attributes else None)
        if event.get("error"):
            assert event["error"] == span.attributes["status"]
        if event.get("stack_trace"):
            (exception,) = [attributes for name, attributes in span.events if name == "exception"]
            assert event["stack_trace"] == exception["exception.stacktrace"]


def check_cause(cause: str, events: list[dict[str, Any]], *, in_a_task: bool) -> None:
    """The root cause that the user's code raised is that of a task, and that of the run."""
    errors = [event["error"].rstrip(",") for event in events if event["type"] == "task_error"]
    assert not in_a_task or cause in errors
    assert events[-1]["error"].startswith(cause)


def check_custom(ran: Ran) -> None:
    """A task's own events are unchanged in the queue, and at a sink they say where they are from."""
    mine = [event for event in ran.queued if "uid" not in event]
    theirs = [event for event in ran.in_file if "runnable" in event]
    assert [{key: each for key, each in event.items() if key not in ("uid", "runnable")} for event in theirs] == [
        {"type": "custom", "data": event} if event["type"] in OURS else event for event in mine
    ]
    assert len({event["uid"] for event in theirs}) == len(theirs)


@pytest.mark.parametrize(("name", "logfire", "start"), list(cells()))
def test_events_are_the_run_logs_attempts(tmp_path: Path, name: str, logfire: str, start: str) -> None:
    """The events at a queue, in a file and at an OTLP receiver are the run log's attempts, sampled or not.

    Each start and end is there once, the start before the end, and says what the span says.
    """
    with ThreadPoolExecutor(2) as pool:
        samplers = ("always_on", "always_off")
        sampled, unsampled = pool.map(lambda each: run(tmp_path / each, name, logfire, start, each), samplers)
    assert unsampled.spans == []
    for ran in (sampled, unsampled):
        ours = [event for event in ran.queued if "uid" in event]
        check_against(ran.log, ours, pool=bool(start))
        assert [event for event in ran.in_file if "runnable" not in event] == ours
        assert [json.loads(log.body) for log in ran.logs] == ran.in_file
        if name != "mapped_speaks":  # what it puts into the queue itself is for the queue alone
            check_custom(ran)
        if KINDS.get(name):
            check_cause(KINDS[name], ours, in_a_task=name not in OUTSIDE_OF_A_TASK)
    check_same_as_spans([event for event in sampled.queued if "uid" in event], sampled.spans)


def test_without_a_provider(project: Project) -> None:
    """Without any provider the events still go out, with ids of our own that belong together."""
    events = queued(project.pipeline("mapped", QUEUE="1", RUNNABLE_OTEL_SINKS="file:events.jsonl"))
    (log,) = run_logs(project.folder)
    check_against(log, events)
    assert len({event["trace_id"] for event in events}) == 1
    assert all(int(event["span_id"], 16) for event in events)


def test_async_stream(project: Project, receiver: Receiver) -> None:
    """A task's own events reach the queue unchanged, between its start and its end, and the consumer too."""
    done = project.pipeline("async_sequence", check=False, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc, QUEUE="1")
    assert [event["type"] for event in queued(done)] == [
        "pipeline_started",
        "task_started",
        "task_completed",
        "task_started",
        "chunk",
        "chunk",
        "done",
        "task_completed",
        "pipeline_completed",
    ]
    assert {"type": "chunk", "text": "a"} in queued(done)
    assert "event {'type': 'chunk', 'text': 'a'}" in done.stdout


def test_an_event_that_calls_itself_ours(project: Project, receiver: Receiver) -> None:
    """A task that yields `task_completed` does not end its own span, nor does its event take the place of ours."""
    events = queued(project.pipeline("async_imposter", QUEUE="1", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc))
    completed = [event for event in events if event["type"] == "task_completed"]
    assert [("uid" in event) for event in completed] == [False, True]
    assert completed[0] == {"type": "task_completed", "name": "mine"}


def test_custom_events_at_a_sink(project: Project) -> None:
    """At a sink a task's own event is bounded and redacted, and says where it comes from; an imposter is `custom`."""
    project.pipeline("async_imposter", RUNNABLE_OTEL_SINKS="file:e.jsonl")
    events = [json.loads(line) for line in (project.folder / "e.jsonl").read_text().splitlines()]
    assert [event["type"] for event in events] == [
        "pipeline_started",
        "task_started",
        "custom",
        "done",
        "task_completed",
        "pipeline_completed",
    ]
    imposter, done = events[2], events[3]
    assert imposter["data"] == {"type": "task_completed", "name": "mine"}
    assert done["value"] == 1
    assert done["runnable"]["span_id"] == imposter["runnable"]["span_id"] == events[1]["span_id"]
    assert len({event["uid"] for event in events}) == 6


def test_hostile_custom_events(project: Project, receiver: Receiver) -> None:
    """What a task yields that is no JSON, is 10 MB, or calls itself ours: bounded, masked, `custom`, never ours."""
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.grpc, "RUNNABLE_OTEL_SINKS": "file:e.jsonl,otlp:"}
    done = project.pipeline("async_hostile", **variables)
    assert done.stdout.splitlines()[-1] == "events 12"
    assert "Traceback" not in done.stderr
    assert "lost" not in done.stderr
    lines = (project.folder / "e.jsonl").read_text().splitlines()
    assert max(len(line.encode()) for line in lines) <= 64 * 1024
    events = [json.loads(line) for line in lines]
    assert [json.loads(log.body) for log in receiver.logs if log.name != "runnable.sign_of_life"] == events
    assert [event["type"] for event in events] == [
        *("pipeline_started", "task_started", "large", "no json", "cycle", "deep", *["custom"] * 6, "fields", "done"),
        *("task_completed", "pipeline_completed"),
    ]
    mine = events[2:-2]
    (trace,) = {event["trace_id"] for event in (*events[:2], *events[-2:])}
    assert {event["runnable"]["trace_id"] for event in mine} == {trace}
    assert not {key for event in mine for key in event} & {"trace_id", "span_id", "status", "name"}
    assert len({event["uid"] for event in events}) == len(events)
    large, no_json, fields = mine[0], mine[1], mine[10]
    assert large["text"].startswith("xxx")
    assert large["after"] == 1
    assert no_json["object"] == "<unserializable: Hostile>"
    assert fields["run_id"] == "mine"
    assert fields["password"] == "[redacted]"
    assert mine[6]["data"]["type"] == "pipeline_completed"
    assert events[-1]["status"] == "success"
    assert events[-2]["outputs"] == {"value": 1}


def test_full_queue(project: Project, receiver: Receiver) -> None:
    """A queue that is full costs the task nothing; what it did not take is counted and said once."""
    done = project.pipeline("python", QUEUE="1", QUEUE_SIZE="2", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    assert len(queued(done)) == 2
    assert "raised" not in done.stdout
    assert [line for line in done.stderr.splitlines() if "took no event" in line] == [
        "queue took no event (Full); 1 dropped so far"
    ]


def test_skipped(project: Project, receiver: Receiver) -> None:
    """A retry sends `task_skipped` for what it does not run again."""
    project.pipeline("flagged", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    (project.folder / "flag").touch()
    project.command(
        project.python, "-m", "runnable.cli", "retry", "flagged", PIPELINE="flagged", RUNNABLE_OTEL_SINKS="file:e.jsonl"
    )
    events = [json.loads(line) for line in (project.folder / "e.jsonl").read_text().splitlines()]
    assert [(event["type"], event["name"]) for event in events] == [
        ("pipeline_started", "pipelines.main"),
        ("task_skipped", "tasks.give"),
        ("task_skipped", "both"),
        ("task_started", "tasks.needs_flag"),
        ("task_completed", "tasks.needs_flag"),
        ("task_started", "tasks.take"),
        ("task_completed", "tasks.take"),
        ("pipeline_completed", "pipelines.main"),
    ]


def test_event_to_json_and_back() -> None:
    """An event is the same after its JSON, and is not changed by who reads it."""
    event = Event("task_started", new_uid(), {"name": "näme", "inputs": {"x": 1}})
    assert Event.from_json(event.to_json()) == event
    event.to_dict()["name"] = "other"
    assert event.fields["name"] == "näme"
    assert "\n" not in event.to_json()


@pytest.mark.parametrize("text", ["[]", "{}", '{"type": 1, "uid": "x"}', '{"type": "x"}', "nonsense", ""])
def test_what_is_no_event(text: str) -> None:
    """What is not an event is refused."""
    with pytest.raises(ValueError, match=r"event|Expecting"):
        Event.from_json(text)


def test_rfc3339() -> None:
    """Times are RFC 3339 in UTC with microseconds, always as long, so that they sort as text."""
    assert rfc3339(0) == "1970-01-01T00:00:00.000000Z"
    assert rfc3339(1_795_470_000_000_001_999) == "2026-11-23T21:40:00.000001Z"

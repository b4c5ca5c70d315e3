"""Events from the same facts as the spans: each start and end once, at the caller's queue and at every sink."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from typing import Any

import pytest

from runnable_otel.events import Event, new_uid, rfc3339
from support.project import Project
from support.receiver import Receiver
from support.runlog import attempts, bounded, run_logs

ENDS = {"task_completed", "task_error", "pipeline_completed"}


def queued(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    line = next(line for line in done.stdout.splitlines() if line.startswith("EVENTS "))
    return json.loads(line.removeprefix("EVENTS "))


def check_against(log: dict[str, Any], events: list[dict[str, Any]]) -> None:
    """Start and end of each attempt of the run log, once, in order, with the same content."""
    assert max(Counter(event["uid"] for event in events).values()) == 1
    assert events[0]["type"] == "pipeline_started"
    assert events[-1]["type"] == "pipeline_completed"
    assert events[-1]["status"] == ("success" if log["status"] == "SUCCESS" else "error")
    assert [event["time"] for event in events] == sorted(event["time"] for event in events)
    tasks = [event for event in events if event["type"].startswith("task_")]
    starts = {(e["step"], e["attempt"]): i for i, e in enumerate(tasks) if e["type"] == "task_started"}
    ends = {(e["step"], e["attempt"]): i for i, e in enumerate(tasks) if e["type"] in ENDS}
    expected = {(each.step, each.number): each for each in attempts(log["steps"])}
    assert set(starts) == set(ends) == set(expected)
    assert len(tasks) == 2 * len(expected)
    for key, attempt in expected.items():
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


@pytest.mark.parametrize("sampler", ["always_on", "always_off"])
@pytest.mark.parametrize("name", ["python", "parallel_fails", "mapped", "recovers", "shell_fails", "import_fails"])
def test_queue_and_file(project: Project, receiver: Receiver, name: str, sampler: str) -> None:
    """The caller's queue and a file get the run log's attempts, whether or not the sampler takes the run."""
    done = project.pipeline(
        name,
        QUEUE="1",
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc,
        OTEL_TRACES_SAMPLER=sampler,
        RUNNABLE_OTEL_SINKS="file:events.jsonl",
    )
    events = queued(done)
    (log,) = run_logs(project.folder)
    check_against(log, events)
    in_file = [json.loads(line) for line in (project.folder / "events.jsonl").read_text().splitlines()]
    assert in_file == events
    assert bool(receiver.spans) == (sampler == "always_on")
    for span in receiver.spans:
        assert span.trace == events[0]["trace_id"]


def test_without_a_provider(project: Project) -> None:
    """Without any provider the events still go out, with ids of our own that belong together."""
    events = queued(project.pipeline("mapped", QUEUE="1", RUNNABLE_OTEL_SINKS="file:events.jsonl"))
    (log,) = run_logs(project.folder)
    check_against(log, events)
    assert len({event["trace_id"] for event in events}) == 1
    assert all(int(event["span_id"], 16) for event in events)


def test_same_as_the_span(project: Project, receiver: Receiver) -> None:
    """An event says what its span says."""
    events = queued(project.pipeline("parallel_fails", QUEUE="1", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc))
    by_id = {span.span: span for span in receiver.spans}
    for event in (event for event in events if event["type"] in ENDS):
        span = by_id[event["span_id"]]
        assert event["parent_span_id"] == span.parent if span.parent else "parent_span_id" not in event
        assert event["started"] == rfc3339(span.start)
        assert event["time"] == rfc3339(span.end)
        if "inputs" in event:
            assert event["inputs"] == json.loads(span.attributes["inputs"])
        if event["type"] == "task_error":
            assert event["error"] == span.attributes["status"]
            (exception,) = [attributes for name, attributes in span.events if name == "exception"]
            assert event["stack_trace"] == exception["exception.stacktrace"]


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

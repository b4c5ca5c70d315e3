"""No frame of ours stands where a user reads what failed: in runnable's own output, in a span, in an event."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from support.project import Project
from support.receiver import Receiver

_CHANGES = re.compile(r"\[\d\d:\d\d:\d\d\]|(?<=run id: ).*|(?<=run_id=').*(?=')|(?<=execution id': ').*(?=')")


def said(text: str) -> str:
    """What runnable prints, without what is another one in each run."""
    return re.sub(r"^ +(?=\S)", "", _CHANGES.sub("", text), flags=re.MULTILINE)


@pytest.mark.parametrize("pipeline", ["missing_parameter", "thread_fails"])
def test_the_same_output(tmp_path: Path, receiver: Receiver, pipeline: str) -> None:
    """A failure reads on standard output as without us, and its stack trace has the user's frames and runnable's."""
    ours, theirs = Project(tmp_path / "with"), Project(tmp_path / "less")  # as long: runnable wraps what it prints
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.grpc, "RUNNABLE_OTEL_SINKS": "file:events.jsonl"}
    done = ours.pipeline(pipeline, **variables)
    plain = theirs.pipeline(pipeline, **variables, RUNNABLE_OTEL_ENABLED="false")
    assert "Traceback" in plain.stdout
    assert said(done.stdout).replace(f"{tmp_path}/with", f"{tmp_path}/less") == said(plain.stdout)
    failed = [span for span in receiver.spans if span.kind == "task"]
    traces = [
        attributes["exception.stacktrace"] for span in failed for name, attributes in span.events if name == "exception"
    ]
    events = [json.loads(line) for line in (ours.folder / "events.jsonl").read_text().splitlines()]
    traces += [event["stack_trace"] for event in events if event["type"] == "task_error"]
    assert len(traces) >= 2
    for trace in traces:
        assert "runnable_otel" not in trace
        assert '  File "' in trace

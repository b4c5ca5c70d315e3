"""Live events of every kind of pipeline: at a queue, in a file and at an OTLP receiver they are what the run log has.

`RUNNABLE_OTEL_MATRIX=full` runs each kind in every cell of logfire x sampler, as CI does; else each kind in one.
"""

from __future__ import annotations

import json
import os
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from support import environments
from support.project import Project
from support.receiver import Receiver
from support.runlog import run_logs
from test_events import check_against, queued
from test_oracle import FAILING, SUCCESSFUL

MOCKED = ("mocked", "stub")  # the run log counts attempts that were not executed: test_oracle.py
KINDS = [kind for kind in (*SUCCESSFUL, *FAILING) if kind not in MOCKED]
CELLS = list(product(["logfire", "plain"], ["always_on", "always_off"]))


def cases() -> list[tuple[str, str, str]]:
    if os.environ.get("RUNNABLE_OTEL_MATRIX") == "full":
        return [(kind, *cell) for kind in KINDS for cell in CELLS]
    return [(kind, *CELLS[number % len(CELLS)]) for number, kind in enumerate(KINDS)]


@cache
def interpreter(kind: str) -> str:
    return str(environments.python("logfire") if kind == "logfire" else environments.python())


@pytest.mark.parametrize(("kind", "logfire", "sampler"), cases())
def test_events_are_the_run_log(tmp_path: Path, receiver: Receiver, kind: str, logfire: str, sampler: str) -> None:
    """Each start and end once, start before end, the same at all three, and what the span says where there is one."""
    project = Project(tmp_path, interpreter(logfire))
    done = project.pipeline(
        kind,
        QUEUE="1",
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc,
        OTEL_TRACES_SAMPLER=sampler,
        RUNNABLE_OTEL_SINKS="file:events.jsonl,otlp:",
    )
    (log,) = run_logs(project.folder)
    in_queue = [event for event in queued(done) if "uid" in event]  # without what tasks yield
    check_against(log, in_queue)
    in_file = [json.loads(line) for line in (project.folder / "events.jsonl").read_text().splitlines()]
    over_otlp = [json.loads(record.body) for record in receiver.logs]
    assert over_otlp == in_file
    assert [event for event in in_file if "runnable" not in event] == in_queue
    assert [record.name for record in receiver.logs] == [f"runnable.{event['type']}" for event in in_file]
    assert bool(receiver.spans) == (sampler == "always_on")
    if receiver.spans:
        same_as_spans(in_queue, receiver)


def same_as_spans(events: list[dict[str, Any]], receiver: Receiver) -> None:
    spans = {span.span: span.attributes for span in receiver.spans}
    for event in events:
        attributes = spans[event["span_id"]]
        if event["type"] == "task_completed":
            assert json.loads(attributes["inputs"]) == event["inputs"]
            assert json.loads(attributes.get("outputs", "{}")) == event.get("outputs", {})
        elif event["type"] in ("task_error", "pipeline_completed"):
            assert attributes["status"] == event.get("error", "success")

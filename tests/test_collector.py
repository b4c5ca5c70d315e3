"""Each file of collector-config/, and each combination that is documented, in the real Collector with a real pipeline.

`make collector` builds the Collector; `make test-collector` runs these tests and prints the table.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from support import environments
from support.collector import COMBINATIONS, NEEDED, Collector, validate
from support.project import Project
from support.receiver import Receiver
from support.runlog import run_logs
from support.table import TABLE
from support.waiting import wait_until
from test_oracle import compare

pytestmark = pytest.mark.collector

# Layer: the variable with its endpoint, the protocol, a header that must come with each request.
DESTINATIONS: dict[str, tuple[str, str, tuple[str, str] | None]] = {
    "base": ("ONWARD_ENDPOINT", "http", None),
    "jaeger": ("JAEGER_ENDPOINT", "grpc", None),
    "tempo-grafana": ("TEMPO_ENDPOINT", "grpc", None),
    "datadog": ("DATADOG_OTLP_ENDPOINT", "http", ("dd-api-key", "a-key")),
    "honeycomb": ("HONEYCOMB_API_ENDPOINT", "http", ("x-honeycomb-team", "a-key")),
    "elastic": ("ELASTIC_OTLP_ENDPOINT", "http", ("authorization", "ApiKey a-key")),
    "logfire": ("LOGFIRE_BASE_URL", "http", ("authorization", "a-token")),
    "live": ("LIVE_ENDPOINT", "http", None),
    "gateway/agent": ("GATEWAY_RESOLVER", "grpc", None),
}
WITH_EVENTS = ("base", "live", "gateway/agent")
"""Destinations that get the live events too; the others get the spans, which say the same."""
SPANS, EVENTS = 8, 10  # of the pipeline `parallel`: the run, four tasks and what is around them; a start and an end


def destination(target: str, receiver: Receiver) -> tuple[str, str]:
    """The variable that sends a layer's data to a receiver, and its value."""
    name, protocol, _ = DESTINATIONS[target]
    address = receiver.grpc.removeprefix("http://")
    if target == "gateway/agent":
        return name, f'{{static: {{hostnames: ["{address}"]}}}}'
    return name, receiver.http if protocol == "http" else address


def run(project: Project, name: str, collector: Collector, **variables: str) -> Any:
    """Run a pipeline under opentelemetry-instrument, with its telemetry to the Collector; its run log."""
    python = environments.python()
    given = {
        "PIPELINE": name,
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.grpc,
        "OTEL_METRICS_EXPORTER": "none",
        "RUNNABLE_OTEL_SINKS": "otlp:",
    }
    script = [str(python.parent / "opentelemetry-instrument"), str(python), "pipelines.py"]
    project.command(*script, **{**given, **variables})
    (log,) = run_logs(project.folder)
    return log


@pytest.mark.parametrize("layers", COMBINATIONS, ids=lambda layers: "+".join(("base", *layers)))
def test_combination(tmp_path: Path, layers: tuple[str, ...]) -> None:
    """It validates, runs without a warning, and each destination gets the whole trace once, as the run log has it."""
    row = TABLE.row(", ".join(layers) or "nothing")
    with ExitStack() as stack:
        targets = [layer for layer in layers if layer in DESTINATIONS] or ["base"] * ("file" not in layers)
        receivers = {target: stack.enter_context(Receiver()) for target in targets}
        variables = {"OTELCOL_FILE": str(tmp_path / "out.jsonl"), "CHATTER_WAIT": "1s", "GATEWAY_LISTEN": "127.0.0.1"}
        variables |= dict(destination(target, receiver) for target, receiver in receivers.items())
        collector = Collector(tmp_path / "collector", *layers, **variables)
        checked = validate(*layers, **collector.variables)
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
        row.validates = True
        with collector:
            log = run(Project(tmp_path / "project"), "parallel", collector)
            for target, receiver in receivers.items():
                wait_until(lambda receiver=receiver: len(receiver.spans) >= SPANS, collector.said())
                if target in WITH_EVENTS:
                    wait_until(lambda receiver=receiver: len(receiver.logs) >= EVENTS, collector.said())
        assert collector.complaints() == []
        row.runs = True
        for target, receiver in receivers.items():
            compare(log, receiver.spans)
            assert len(receiver.logs) == (EVENTS if target in WITH_EVENTS else 0)
            header = DESTINATIONS[target][2]
            assert header is None or {sent.get(header[0]) for sent in receiver.headers} == {header[1]}
            row.held.append(f"{target}: {len(receiver.spans)} spans, {len(receiver.logs)} events")
    if "file" in layers:
        row.held.append(in_file(tmp_path / "out.jsonl"))


def in_file(file: Path) -> str:
    """Each span and each event once, one request a line."""
    spans, events = [], []
    for line in map(json.loads, file.read_text().splitlines()):
        for group in line.get("resourceSpans", ()):
            spans += [span["spanId"] for scope in group["scopeSpans"] for span in scope["spans"]]
        for group in line.get("resourceLogs", ()):
            events += [each["eventName"] for scope in group["scopeLogs"] for each in scope["logRecords"]]
    assert len(set(spans)) == len(spans) == SPANS
    assert len(events) == EVENTS
    assert (events[0], events[-1]) == ("runnable.pipeline_started", "runnable.pipeline_completed")
    return f"file: {len(spans)} spans, {len(events)} events"


@pytest.mark.parametrize(
    ("layer", "variable"), [(layer, variable) for layer, needs in NEEDED.items() for variable in needs]
)
def test_missing_variable(layer: str, variable: str) -> None:
    """The Collector's own error names a variable that is not set, and no value of another one."""
    variables = {name: value for name, value in NEEDED[layer].items() if name != variable}
    checked = validate(layer, **variables)
    assert checked.returncode == 1
    assert variable in checked.stderr
    assert not any(value in checked.stderr for value in variables.values())
    assert validate(layer, **NEEDED[layer]).returncode == 0
    TABLE.held(layer, f"names {variable} where it is missing")

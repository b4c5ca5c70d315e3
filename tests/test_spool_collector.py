"""What lies in a spool, as the Collector reads it: with the decoder that its receiver for files of OTLP JSON has."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from runnable_otel.spool.otlpjson import line_of, records_of, spans_of
from support.hole import refusing
from support.project import Project
from test_spool import spans

pytestmark = pytest.mark.collector

SOURCE = Path(__file__).parent / "spoolreader"
REQUESTS: dict[str, Any] = {"traces": ExportTraceServiceRequest, "logs": ExportLogsServiceRequest}


@pytest.fixture(scope="session")
def reader(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A program around the Collector's decoder: what it reads it writes as protobuf."""
    if shutil.which("go") is None:
        pytest.skip("needs go: 1.26 or later")
    program = tmp_path_factory.mktemp("spoolreader") / "spoolreader"
    subprocess.run(["go", "build", "-mod=readonly", "-o", str(program), "."], cwd=SOURCE, check=True)
    return str(program)


def read(reader: str, lines: bytes) -> list[tuple[str, Any]]:
    done = subprocess.run([reader], input=lines, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found = [line.split() for line in done.stdout.decode().splitlines()]
    return [(signal, REQUESTS[signal].FromString(base64.b64decode(data))) for signal, data in found]


def test_every_kind_of_value(reader: str) -> None:
    """Each thing that a span can hold is read as the exporters encode it."""
    request = encode_spans(spans())
    ((signal, seen),) = read(reader, line_of(request))
    assert signal == "traces"
    # Protobuf and the Collector write the sign of a number that is none in two ways: as text it is the same.
    assert str(seen) == str(request)


def test_the_spool_of_a_run(project: Project, reader: str) -> None:
    """All spans and events of a failed run, the exceptions too."""
    project.pipeline(
        "parallel_fails",
        OTEL_EXPORTER_OTLP_ENDPOINT=refusing(),
        RUNNABLE_OTEL_SINKS="otlp:",
        RUNNABLE_OTEL_SPOOL="spool",
    )
    signals: set[str] = set()
    for file in (project.folder / "spool").glob("*.jsonl"):
        for line in file.read_bytes().splitlines():
            ((signal, seen),) = read(reader, line)
            assert seen == (encode_spans(spans_of(line)) if signal == "traces" else encode_logs(records_of(line)))
            signals.add(signal)
    assert signals == {"traces", "logs"}

"""OTLP from other SDKs and tools: each shows as a run of the live server."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.environments import ROOT, made
from support.serve import Serve
from support.waiting import wait_until

NODE = ROOT / "tests" / "node"
PYTHON = """
import sys
from opentelemetry.exporter.otlp.proto.{protocol}.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import StatusCode

provider = TracerProvider(resource=Resource.create({{"service.name": "shop"}}))
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=sys.argv[1])))
tracer = provider.get_tracer("checkout")
with tracer.start_as_current_span("GET /cart") as root:
    with tracer.start_as_current_span("SELECT", attributes={{"rows": 3}}) as span:
        span.set_status(StatusCode.ERROR, "deadlock")
provider.shutdown()
print(f"{{root.get_span_context().trace_id:032x}}")
"""


METRICS = """
import sys
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

provider = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter(endpoint=sys.argv[1]))])
provider.get_meter("checkout").create_counter("carts").add(1)
provider.shutdown()
"""


def node_modules() -> Path:
    """The packages of the lock file, installed once."""
    if shutil.which("npm") is None:
        pytest.skip("needs node")

    def fill(folder: Path) -> None:
        shutil.copytree(NODE, folder)
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"needs npm: node packages, which it can't install: {done.stderr[-200:]}")

    return made("node", [NODE / "package-lock.json"], fill)


def run_of(server: Serve, trace: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Summary and events of a run, as soon as its root has come."""
    with server.client() as client:
        wait_until(lambda: client.get(f"/runs/{trace}").json().get("name") == "GET /cart")
        page = client.get(f"/runs/{trace}/events", headers={"Accept": "application/json"}).json()
        return client.get(f"/runs/{trace}").json(), page["events"]


def check(server: Serve, trace: str, *, service: str) -> None:
    summary, events = run_of(server, trace)
    assert summary["kind"] == "trace"
    assert summary["trace_id"] == trace
    assert summary["services"] == [service]
    by_name = {event["name"]: event for event in events if event["type"] == "span"}
    assert set(by_name) == {"GET /cart", "SELECT"}
    child, root = by_name["SELECT"], by_name["GET /cart"]
    assert child["parent_span_id"] == root["span_id"]
    assert child["status"] == "error"
    assert child["error"] == "deadlock"
    assert child["attributes"]["rows"] == 3
    assert len({event["uid"] for event in events}) == len(events)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Serve]:
    with Serve(tmp_path) as server:
        yield server


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_python(tmp_path: Path, protocol: str) -> None:
    """Python's SDK, over gRPC and HTTP."""
    (tmp_path / "send.py").write_text(PYTHON.format(protocol=protocol))
    # Its first line of OTLP names the port of gRPC, where that is open.
    with Serve(tmp_path, "--otlp-grpc-port", "0" if protocol == "grpc" else "off") as server:
        url = server.otlp if protocol == "grpc" else f"{server.otlp}/v1/traces"
        command = [sys.executable, "send.py", url]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        check(server, done.stdout.strip(), service="shop")


def test_node(server: Serve) -> None:
    """Node's SDK, which sends JSON."""
    folder = node_modules()
    command = ["node", "send.mjs", server.otlp]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    check(server, done.stdout.strip(), service="unknown_service:node")


def test_curl(server: Serve) -> None:
    """curl with JSON by hand, compressed or not, sent twice: shown once."""
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    trace = "c0ffee00000000000000000000000001"
    spans = [
        {
            "traceId": trace,
            "spanId": span,
            **({"parentSpanId": parent} if parent else {}),
            "name": name,
            "kind": 1,
            "startTimeUnixNano": "1795495622000000000",
            "endTimeUnixNano": "1795495622500000000",
            "attributes": [{"key": "rows", "value": {"intValue": "3"}}],
            "status": status,
        }
        for span, parent, name, status in (
            ("00000000000000aa", "", "GET /cart", {}),
            ("00000000000000bb", "00000000000000aa", "SELECT", {"code": 2, "message": "deadlock"}),
        )
    ]
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "by hand"}}]}
    body = json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]})
    for _ in range(2):
        command = ["curl", "-sS", "-f", "-H", "Content-Type: application/json", "-d", body, f"{server.otlp}/v1/traces"]
        subprocess.run(command, check=True, capture_output=True)
    check(server, trace, service="by hand")


def test_metrics_are_taken_and_not_kept(tmp_path: Path) -> None:
    """An SDK that sends all it has to one endpoint sees no error."""
    with Serve(tmp_path) as server, server.client() as client:
        command = [sys.executable, "-c", METRICS, f"{server.otlp}/v1/metrics"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        assert client.get("/runs").json()["runs"] == []
        answer = client.post(f"{server.otlp}/v1/metrics", json={"resourceMetrics": []})
        assert (answer.status_code, answer.json()) == (200, {})

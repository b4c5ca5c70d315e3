"""The end of a process: no endpoint holds it longer than the budget, and a reachable one gets everything.

The exporters' own time-outs are longer here than any test may take: a process that waited for them would fail it.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import environments
from support.hole import Answering, Hole, refusing
from support.project import Project
from support.receiver import Receiver

PATIENT = {"OTEL_EXPORTER_OTLP_TIMEOUT": "1000", "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT": "1000"}
PROTOCOLS = {"grpc": "grpc", "http": "http/protobuf"}


@pytest.fixture
def hole() -> Iterator[str]:
    with Hole() as url:
        yield url


def undelivered(done: subprocess.CompletedProcess[str]) -> str:
    """The one line about what was not delivered."""
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("not delivered: ")] or [""]
    return line


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("way", ["ours", "theirs"])
def test_an_endpoint_that_never_answers(project: Project, hole: str, way: str, protocol: str) -> None:
    """Whoever made the provider, the process ends, with its own exit code, and one line says what was lost and why."""
    if way == "ours":
        done = project.pipeline(
            "python", OTEL_EXPORTER_OTLP_ENDPOINT=hole, OTEL_EXPORTER_OTLP_PROTOCOL=PROTOCOLS[protocol], **PATIENT
        )
    else:
        done = project.command(
            project.python, "ending.py", check=False, ENDPOINT=hole, PROTOCOL=protocol, WAY="exit", **PATIENT,
        )  # fmt: skip
    assert done.returncode == (0 if way == "ours" else 3)
    address = hole.removeprefix("http://")
    assert undelivered(done) == (
        f"not delivered: 4 of 4 spans to {address} lost (timeout 4; last error: no answer in time)"
    )


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_endpoint_that_refuses(project: Project, protocol: str) -> None:
    """A refused connection is found out at once, however large the budget."""
    endpoint = refusing()
    done = project.pipeline(
        "python",
        OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
        OTEL_EXPORTER_OTLP_PROTOCOL=PROTOCOLS[protocol],
        RUNNABLE_OTEL_EXIT_TIMEOUT="1000",
        **PATIENT,
    )
    address = endpoint.removeprefix("http://")
    assert undelivered(done) == (
        f"not delivered: 4 of 4 spans to {address} lost (unavailable 4; last error: connection refused)"
    )


def test_what_waited_before_the_run(project: Project) -> None:
    """Spans of the user's that wait when the run begins are among those that the line counts."""
    endpoint = refusing()
    done = project.command(project.python, "ending.py", ENDPOINT=endpoint, BEFORE="5", **PATIENT)
    assert undelivered(done) == (
        f"not delivered: 9 of 9 spans to {endpoint.removeprefix('http://')} lost"
        " (unavailable 9; last error: connection refused)"
    )


@pytest.mark.parametrize(("status", "headers"), [(503, {}), (429, {"Retry-After": "900"})])
def test_an_endpoint_that_is_busy(project: Project, status: int, headers: dict[str, str]) -> None:
    """Neither an exporter's own retries nor a server's Retry-After hold the process."""
    with Answering(status, headers=headers) as server:
        done = project.pipeline(
            "python",
            OTEL_EXPORTER_OTLP_ENDPOINT=server.url,
            OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
            RUNNABLE_OTEL_SINKS="otlp:",
            **PATIENT,
        )
        assert "/v1/traces" in server.requests
    assert re.search(r"not delivered: 4 of 4 spans to .* lost .* 8 of 8 events to .* lost", undelivered(done))


@pytest.mark.parametrize("way", ["", "exit", "raise"])
def test_a_slow_endpoint_gets_everything_from_a_user(project: Project, way: str) -> None:
    """On a provider of the user's the budget loses nothing that an endpoint takes in its own time."""
    with Answering(200, after=0.4) as server:
        done = project.command(
            project.python, "ending.py", check=False,
            ENDPOINT=server.url, PROTOCOL="http", BATCH="2", MORE="12", WAY=way, RUNNABLE_OTEL_EXIT_TIMEOUT="2.5",
        )  # fmt: skip
        assert server.requests == ["/v1/traces"] * 8  # 16 spans, 3.2 seconds
    assert undelivered(done) == ""
    assert done.returncode == {"": 0, "exit": 3, "raise": 1}[way]


LATE = """
import threading
import tasks
from runnable import Pipeline, PythonTask

def main():
    threading.main_thread().join()
    pipeline = Pipeline(steps=[PythonTask(name="late", function=tasks.give, returns=["given"])])
    pipeline.execute()
    return pipeline

if __name__ == "__main__":
    threading.Thread(target=main).start()
"""


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_run_that_begins_when_the_main_thread_is_over(project: Project, receiver: Receiver, protocol: str) -> None:
    """No thread can begin any more, so neither does the SDK's; the spans are sent all the same, and nothing is said."""
    endpoint = receiver.grpc if protocol == "grpc" else receiver.http
    done = project.script(LATE, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_EXPORTER_OTLP_PROTOCOL=PROTOCOLS[protocol])
    assert [span.kind for span in receiver.spans] == ["task", "pipeline"]
    assert {line for line in done.stderr.splitlines() if not line.startswith("fatal: not a git")} == set()


def test_healthy(project: Project, receiver: Receiver) -> None:
    """A healthy endpoint gets all, and nothing is said."""
    done = project.pipeline("python", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc, RUNNABLE_OTEL_SINKS="otlp:")
    assert len(receiver.spans) == 4
    assert len(receiver.logs) == 8
    assert undelivered(done) == ""


def test_traces_metrics_and_logs_under_the_launcher(tmp_path: Path, hole: str) -> None:
    """Under opentelemetry-instrument three signals go to a dead endpoint, and wait for it together, not in turn."""
    python = environments.python("distro")
    project = Project(tmp_path, str(python))
    done = project.command(
        str(python.parent / "opentelemetry-instrument"), str(python), "pipelines.py",
        PIPELINE="python", OTEL_EXPORTER_OTLP_ENDPOINT=hole, **PATIENT,
    )  # fmt: skip
    assert "Pipeline executed successfully!" in done.stdout
    assert "4 of 4 spans" in undelivered(done)


def test_a_run_of_many_processes_pays_once(project: Project, hole: str) -> None:
    """An emulated run's processes export for themselves: the first that finds the endpoint dead tells the others."""
    done = project.pipeline("mapped", CONFIGURATION="emulator.yaml", OTEL_EXPORTER_OTLP_ENDPOINT=hole, **PATIENT)
    lines = re.findall("not delivered: .*", done.stdout + done.stderr)
    assert len(lines) == 5
    assert [line for line in lines if "no answer in time" in line] == lines[:1]
    assert [line for line in lines if "no answer, as another process of the run has found" in line] == lines[1:]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs mkfifo")
def test_a_home_that_hangs(project: Project, receiver: Receiver) -> None:
    """Where the file that remembers runs can't be opened, a run begins and the process ends: a pipe is such a file."""
    folder = project.folder / "state" / "runnable-otel"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "runs.jsonl")
    project.pipeline("python", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    assert [span.kind for span in receiver.spans].count("pipeline") == 1
    recall = "from runnable_otel.propagation import LEDGER; print(LEDGER.recall('a-run'))"
    assert project.command(project.python, "-c", recall).stdout == "[]\n"

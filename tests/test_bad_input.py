"""What is wrong outside costs one line, and never the pipeline."""

from __future__ import annotations

import re
import socket
from importlib.metadata import distribution
from pathlib import Path

import pytest

from support.project import Project
from support.receiver import Receiver


def normal(text: str) -> str:
    """A pipeline's output without what differs between two runs."""
    text = re.sub(r"[a-z]+-[a-z]+-\d{4}", "RUN", text)
    text = re.sub(r"\d{4}-\d\d-\d\d|\d+\.\d+|0x[0-9a-f]+|:\d+\b", "N", re.sub(r"\[\d\d:\d\d:\d\d\]", "", text))
    return re.sub(r"\s+", " ", text)  # rich shows the time of a second once


def without(text: str, folder: Path) -> str:
    """What a pipeline wrote in a folder, without what differs between two runs."""
    return normal(text.replace(str(folder), "FOLDER"))


def dead_endpoint() -> str:
    """An endpoint that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("RUNNABLE_OTEL_MAX_VALUE_BYTES", "7", "a whole number of bytes from 32 to 65536"),
        ("RUNNABLE_OTEL_CAPTURE", "everything", "values, keys or none"),
        ("RUNNABLE_OTEL_EXIT_TIMEOUT", "soon", "seconds from 0 to 3600"),
    ],
)
def test_setting_out_of_range(project: Project, receiver: Receiver, variable: str, value: str, said: str) -> None:
    """A setting out of range: one line names it, telemetry is off, the pipeline runs."""
    done = project.pipeline("python", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc, **{variable: value})
    lines = [line for line in done.stderr.splitlines() if variable in line]
    assert lines == [f"telemetry is off: {variable}={value!r}: expected {said}"]
    assert "Pipeline executed successfully!" in done.stdout
    assert receiver.spans == []


def test_configure_with_a_bad_variable(project: Project, receiver: Receiver) -> None:
    """`configure()` in a script whose environment is wrong raises nothing; with a wrong argument it does."""
    done = project.script(
        "import runnable_otel, sys\n"
        "assert runnable_otel.configure() is None\n"
        "try: runnable_otel.configure(max_value_bytes=7)\n"
        "except runnable_otel.SettingError as error: print('raised', error)\n",
        RUNNABLE_OTEL_CAPTURE="everything",
    )
    assert "raised max_value_bytes=7: expected a whole number" in done.stdout
    assert "RUNNABLE_OTEL_CAPTURE='everything'" in done.stderr


@pytest.mark.parametrize("name", ["python", "map_shell", "fails"])
def test_dead_endpoint(project: Project, name: str) -> None:
    """An endpoint that nobody listens on leaves result, exit code and output as they are without telemetry."""
    without = project.pipeline(name)
    with_it = project.pipeline(name, OTEL_EXPORTER_OTLP_ENDPOINT=dead_endpoint())
    assert with_it.returncode == without.returncode
    assert normal(with_it.stdout) == normal(without.stdout)


def test_unknown_protocol(project: Project) -> None:
    """A protocol that there is not: one line says which there are, the pipeline runs."""
    done = project.pipeline(
        "python", OTEL_EXPORTER_OTLP_ENDPOINT=dead_endpoint(), OTEL_EXPORTER_OTLP_PROTOCOL="carrier-pigeon"
    )
    assert [line for line in done.stderr.splitlines() if "PROTOCOL" in line] == [
        "no spans are exported: OTEL_EXPORTER_OTLP_PROTOCOL='carrier-pigeon': expected grpc or http/protobuf"
    ]
    assert "Pipeline executed successfully!" in done.stdout


def test_http_protocol(project: Project, receiver: Receiver) -> None:
    """`OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf` exports over HTTP."""
    project.pipeline("named", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.http, OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf")
    assert sorted(span.name for span in receiver.spans) == ["pipeline:my pipeline", "task:tasks.give"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_BSP_MAX_QUEUE_SIZE", "256"),  # less than a batch has, unless that is set too
        ("OTEL_BSP_SCHEDULE_DELAY", "0"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "bogus"),
    ],
)
def test_variable_of_the_sdk(project: Project, receiver: Receiver, variable: str, value: str) -> None:
    """A variable that the SDK or its exporter can't take: one line names it, no span is sent, and all events are."""
    done = project.pipeline(
        "python",
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc,
        RUNNABLE_OTEL_SINKS="file:events.jsonl",
        **{variable: value},
    )
    (line,) = [line for line in done.stderr.splitlines() if "no spans are exported" in line]
    assert variable in line
    assert "telemetry is incomplete" not in done.stderr
    assert len((project.folder / "events.jsonl").read_text().splitlines()) == 8
    assert receiver.spans == []
    assert "Pipeline executed successfully!" in done.stdout


def test_unknown_sink(project: Project) -> None:
    """A sink URL that no sink has: one line lists the known ones, the other sinks work, the pipeline runs."""
    done = project.pipeline("python", RUNNABLE_OTEL_SINKS="carrier:pigeon,file:events.jsonl")
    (line,) = [line for line in done.stderr.splitlines() if "carrier" in line]
    assert line.startswith("RUNNABLE_OTEL_SINKS='carrier:pigeon': expected a URL of one of console:, file:")
    assert len((project.folder / "events.jsonl").read_text().splitlines()) == 8


def test_sink_that_cannot_be_opened(project: Project) -> None:
    """A sink whose file can't be written: one line says why, the pipeline runs."""
    done = project.pipeline("python", RUNNABLE_OTEL_SINKS="file:/no/such/folder/events.jsonl")
    (line,) = [line for line in done.stderr.splitlines() if "/no/such/folder" in line]
    assert "No such file or directory" in line
    assert "Pipeline executed successfully!" in done.stdout


@pytest.mark.parametrize(
    "variables",
    [
        {"RUNNABLE_OTEL_ENABLED": "false"},
        {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "runnable"},
        {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*"},
        {"OTEL_SDK_DISABLED": "true"},
        {"OTEL_TRACES_EXPORTER": "none"},
    ],
    ids=str,
)
def test_switched_off(project: Project, receiver: Receiver, variables: dict[str, str]) -> None:
    """Each switch of OpenTelemetry's and ours is honoured: nothing is sent, nothing is said."""
    done = project.pipeline("python", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc, **variables)
    assert receiver.spans == []
    assert "telemetry" not in done.stderr


def test_console_exporter(project: Project, receiver: Receiver) -> None:
    """`OTEL_TRACES_EXPORTER=console` prints the SDK's JSON, and sends nothing."""
    done = project.pipeline("named", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc, OTEL_TRACES_EXPORTER="console")
    assert receiver.spans == []
    assert '"name": "pipeline:my pipeline"' in done.stdout


def test_unsupported_runnable(project: Project, receiver: Receiver) -> None:
    """An unsupported version of runnable: one warning names it, nothing is patched."""
    old = project.folder / "old"
    (old / "runnable-0.49.0.dist-info").mkdir(parents=True)
    info = old / "runnable-0.49.0.dist-info"
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: runnable\nVersion: 0.49.0\n")
    (info / "entry_points.txt").write_text(distribution("runnable").read_text("entry_points.txt") or "")
    done = project.pipeline("python", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc, PYTHONPATH=str(old))
    assert [line for line in done.stderr.splitlines() if "0.49.0" in line] == [
        "runnable 0.49.0 is not supported, 0.50 or later is: nothing is instrumented"
    ]
    assert "Pipeline executed successfully!" in done.stdout
    assert receiver.spans == []


def test_missing_private_target(project: Project, receiver: Receiver) -> None:
    """A private name that a later runnable has not: its hook is off with one warning, the others work."""
    done = project.script(
        "import os, runpy\n"
        "import runnable, extensions.nodes.stub as later\n"
        "renamed, later.StubNode = later.StubNode, None\n"
        "import runnable_otel\n"
        "runnable_otel.RunnableInstrumentor().instrument()\n"
        "later.StubNode = renamed\n"
        "runpy.run_path(os.path.abspath('pipelines.py'), run_name='__main__')\n",
        PIPELINE="stub",
        OTEL_TRACES_EXPORTER="otlp",
        RUNNABLE_OTEL_SINKS="",
        QUEUE="1",
    )
    assert [line for line in done.stderr.splitlines() if "hook is off" in line] == [
        "runnable has no extensions.nodes.stub.StubNode.execute: this hook is off"
    ]
    assert '"type": "task_completed"' in done.stdout
    assert "Pipeline executed successfully!" in done.stdout

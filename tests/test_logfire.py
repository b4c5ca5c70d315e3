"""With logfire: the user's own calls arrive, Logfire gets what a token asks for, nothing comes twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import environments
from support.project import Project
from support.receiver import Receiver


@pytest.fixture
def with_logfire(tmp_path: Path) -> Project:
    """The test pipelines in an environment that has logfire."""
    return Project(tmp_path, str(environments.python("logfire")))


def names(receiver: Receiver) -> list[str]:
    return [span.name for span in sorted(receiver.spans, key=lambda span: span.start)]


def test_own_logfire_calls_arrive(with_logfire: Project, receiver: Receiver) -> None:
    """Where nobody configured logfire, a task's own logfire span and log arrive, below the task, once."""
    done = with_logfire.pipeline("spans", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    task = next(span for span in receiver.spans if span.kind == "task")
    assert sorted(names(receiver)) == [
        "inside",
        "logfire span {n}",
        "otel span",
        "pipeline:pipelines.main",
        "task:tasks.user_spans",
    ]
    assert {span.name for span in receiver.spans if span.parent == task.span} == {"otel span", "logfire span {n}"}
    assert "logfire" not in done.stderr.lower()


def test_wrong_protocol(with_logfire: Project, receiver: Receiver) -> None:
    """Where the user's logfire exports over HTTP to an endpoint of gRPC, one line names OTEL_TRACES_EXPORTER=none."""
    (with_logfire.folder / "script.py").write_text(
        "import logfire, os, runpy\n"
        "logfire.configure(send_to_logfire=False, console=False)\n"
        "runpy.run_path(os.path.abspath('pipelines.py'), run_name='__main__')\n"
    )
    done = with_logfire.command(
        with_logfire.python,
        "script.py",
        PIPELINE="named",
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc,
        OTEL_EXPORTER_OTLP_TIMEOUT="1",
    )
    assert sum("OTEL_TRACES_EXPORTER=none" in line for line in done.stderr.splitlines()) == 1


@pytest.mark.parametrize("logfire", [True, False], ids=["logfire installed", "logfire-api only"])
def test_token(project: Project, tmp_path: Path, receiver: Receiver, logfire: bool) -> None:
    """`LOGFIRE_TOKEN` sends each span to Logfire once, with or without logfire installed."""
    if logfire:
        project.python = str(environments.python("logfire"))
    project.pipeline("named", LOGFIRE_TOKEN="pylf_v1_us_test", LOGFIRE_BASE_URL=receiver.http)
    assert names(receiver) == ["pipeline:my pipeline", "task:tasks.give"]
    assert {headers["authorization"] for headers in receiver.headers} == {"pylf_v1_us_test"}


def test_token_and_endpoint(with_logfire: Project, receiver: Receiver) -> None:
    """With a token and an endpoint, each of them gets each span once."""
    with Receiver() as logfires:
        with_logfire.pipeline(
            "named",
            LOGFIRE_TOKEN="pylf_v1_us_test",
            LOGFIRE_BASE_URL=logfires.http,
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc,
        )
        assert names(receiver) == names(logfires) == ["pipeline:my pipeline", "task:tasks.give"]


def test_users_processors_survive_the_import(with_logfire: Project, receiver: Receiver) -> None:
    """Processors that the user gave to logfire before `import runnable` get every span, each once."""
    (with_logfire.folder / "script.py").write_text(
        "import logfire, os, runpy\n"
        "from opentelemetry.sdk.trace.export import SimpleSpanProcessor\n"
        "from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter\n"
        "kept = InMemorySpanExporter()\n"
        "mine = [SimpleSpanProcessor(kept)]\n"
        "logfire.configure(send_to_logfire=False, console=False, additional_span_processors=mine)\n"
        "runpy.run_path(os.path.abspath('pipelines.py'), run_name='__main__')\n"
        "print(sorted(span.name for span in kept.get_finished_spans()))\n"
    )
    done = with_logfire.command(
        with_logfire.python,
        "script.py",
        PIPELINE="named",
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.http,
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
    )
    assert done.stdout.splitlines()[-1] == "['pipeline:my pipeline', 'task:tasks.give']"
    assert names(receiver) == ["pipeline:my pipeline", "task:tasks.give"]

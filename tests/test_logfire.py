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
    done = with_logfire.script(
        "import logfire, os, runpy\n"
        "logfire.configure(send_to_logfire=False, console=False)\n"
        "runpy.run_path(os.path.abspath('pipelines.py'), run_name='__main__')\n",
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
    done = with_logfire.script(
        "import logfire, os, runpy\n"
        "from opentelemetry.sdk.trace.export import SimpleSpanProcessor\n"
        "from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter\n"
        "kept = InMemorySpanExporter()\n"
        "mine = [SimpleSpanProcessor(kept)]\n"
        "logfire.configure(send_to_logfire=False, console=False, additional_span_processors=mine)\n"
        "runpy.run_path(os.path.abspath('pipelines.py'), run_name='__main__')\n"
        "print(sorted(span.name for span in kept.get_finished_spans()))\n",
        PIPELINE="named",
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.http,
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
    )
    assert done.stdout.splitlines()[-1] == "['pipeline:my pipeline', 'task:tasks.give']"
    assert names(receiver) == ["pipeline:my pipeline", "task:tasks.give"]


def test_configured_anew_between_two_runs(with_logfire: Project, receiver: Receiver) -> None:
    """logfire makes a new provider each time that it is configured: the next run's is prepared like the first's."""
    done = with_logfire.script(
        "import logfire, os\n"
        "import pipelines\n"
        "from runnable.context import set_run_context\n"
        "from runnable_otel.delivery.guard import guard_of\n"
        "from runnable_otel.tracing import processors\n"
        "def configure():\n"
        "    logfire.configure(send_to_logfire=False, console=False)\n"
        "def first():\n"
        "    made, kwargs = pipelines.named(); made.execute(); return made\n"
        "def second():\n"
        "    made, kwargs = pipelines.named(); made.execute(run_id='two'); return made\n"
        "if __name__ == '__main__':\n"
        "    configure(); first()\n"
        "    set_run_context(None); os.environ.pop('RUNNABLE_RUN_ID', None)\n"
        "    configure(); second()\n"
        "    batches = [getattr(each, '_batch_processor', None)\n"
        "               for each in processors(logfire.DEFAULT_LOGFIRE_INSTANCE.config.get_tracer_provider())]\n"
        "    print([guard_of(each._exporter) is not None for each in batches if each is not None])\n",
        RUNNABLE_TELEMETRY_CONSOLE="true",
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.http,
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
    )
    assert done.stdout.splitlines()[-1] == "[True]"
    assert done.stderr.count("pipeline:my pipeline") == 2, done.stderr  # the tree on the terminal
    assert names(receiver) == ["pipeline:my pipeline", "task:tasks.give"] * 2

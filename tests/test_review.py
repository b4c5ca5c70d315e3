"""Faults that a hostile reading of the code found once: each has to stay mended."""

from __future__ import annotations

import contextvars
import json
from collections import Counter

import pytest

from runnable_otel.wrappers.common import put_back
from support.project import Project
from support.receiver import Receiver

ERROR = 2


def test_whatever_a_task_asks_of_its_logfire_span(project: Project, receiver: Receiver) -> None:
    """A task that uses logfire's span as logfire has it works the same; what it raises is masked and bounded."""
    project.pipeline("span_user", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    spans = {span.name: span for span in receiver.spans}
    assert spans["task:tasks.span_user"].attributes["status"] == "success"
    assert spans["kept"].attributes["before"] == 1
    assert spans["kept"].attributes["inside"] == "yes"
    failed = spans["fails"]
    assert failed.status == ERROR
    (exception,) = [attributes for name, attributes in failed.events if name == "exception"]
    assert "exception.escaped" not in exception
    assert "hunter22" not in repr(receiver.spans)


def test_a_sink_opened_twice(project: Project) -> None:
    """A set-up at the top of a module, which runnable imports twice, writes each event once."""
    (project.folder / "top.py").write_text(
        "from opentelemetry import trace\n"
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "from runnable_otel import RunnableSpanProcessor\n"
        "provider = TracerProvider()\n"
        "provider.add_span_processor(RunnableSpanProcessor(sinks=['file:e.jsonl']))\n"
        "trace.set_tracer_provider(provider)\n"
        "import tasks\n"
        "from runnable import Pipeline, PythonTask\n"
        "def main():\n"
        "    pipeline = Pipeline(steps=[PythonTask(name='give', function=tasks.give, returns=['d'])])\n"
        "    pipeline.execute()\n"
        "    return pipeline\n"
        "if __name__ == '__main__':\n"
        "    main()\n"
    )
    project.command(project.python, "top.py", RUNNABLE_OTEL_SINKS="file:e.jsonl")
    uids = Counter(json.loads(line)["uid"] for line in (project.folder / "e.jsonl").read_text().splitlines())
    assert len(uids) == 4
    assert set(uids.values()) == {1}


def test_map_items_that_look_like_secrets(project: Project, receiver: Receiver) -> None:
    """Items that are masked to the same text are still two attempts, with ids of their own."""
    project.pipeline("card_numbers", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    tasks = [span for span in receiver.spans if span.name == "task:tasks.nothing"]
    assert len({span.span for span in tasks}) == len(tasks) == 2
    assert "4111111111111111" not in repr(receiver.spans)


def test_a_failure_that_a_task_handles(project: Project, receiver: Receiver) -> None:
    """A pipeline that a task runs and whose failure it handles leaves the task, and the outer run, a success."""
    project.pipeline("nested_run", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    assert {span.name: span.status == ERROR for span in receiver.spans if span.kind in ("task", "pipeline")} == {
        "pipeline:outer": False,
        "task:tasks.handles_failure": False,
        "pipeline:inner": True,
        "task:tasks.afail": True,
    }


def test_a_secret_of_a_run_inside_a_task(project: Project, receiver: Receiver) -> None:
    """What a run that a task executes was given, that task may return: it is a secret of the outer run's, too."""
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.grpc, "RUNNABLE_OTEL_SINKS": "file:e.jsonl"}
    project.pipeline("inner_secret", MY_SECRET="hunter2-is-out", **variables)
    outer = next(span for span in receiver.spans if span.name == "task:tasks.hands_over")
    assert json.loads(outer.attributes["outputs"]) == {"hands_over_r": "it was [redacted]"}
    assert "hunter2-is-out" not in repr(receiver.spans) + (project.folder / "e.jsonl").read_text()


JOB_INSIDE = """
from pathlib import Path
from runnable import Catalog, Pipeline, PythonJob, PythonTask
from runnable.context import set_run_context


def writes():
    Path("made.txt").write_text("x")


def outer():
    import contextvars
    context = contextvars.copy_context()
    context.run(set_run_context, None)
    context.run(job)


def job():
    made = PythonJob(function=writes, catalog=Catalog(put=["made.txt"]))
    made.execute(job_id="inside")
    return made


def main():
    pipeline = Pipeline(name="outer", steps=[PythonTask(name="outer step", function=outer)])
    pipeline.execute()
    return pipeline


if __name__ == "__main__":
    main()
"""


def test_the_catalog_of_a_job_inside_a_task(project: Project, receiver: Receiver) -> None:
    """A job has no step, and what it puts into the catalog is not the doing of the step that executes it."""
    project.script(JOB_INSIDE, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    (put,) = [span.attributes for span in receiver.spans if span.name == "catalog:put"]
    assert put["run_id"] == "inside"
    assert "runnable.step.name" not in put


def test_a_context_that_has_gone() -> None:
    """A coroutine that is closed where it did not run leaves its variables to that other context, without an error."""
    variable = contextvars.ContextVar("variable", default=0)
    token = contextvars.copy_context().run(variable.set, 1)
    put_back(variable, token)
    put_back(variable, None)
    assert variable.get() == 0


@pytest.mark.parametrize("hook", ["on_start", "on_end"])
def test_a_processor_that_raises(project: Project, hook: str) -> None:
    """A processor of the user's that raises when a span starts or ends takes no event, and no failure, away."""
    project.script(
        "import os, runpy\n"
        "from opentelemetry import trace\n"
        "from opentelemetry.sdk.trace import SpanProcessor, TracerProvider\n"
        "class Bad(SpanProcessor):\n"
        f"    def {hook}(self, span, *_, **__): raise RuntimeError('bad processor')\n"
        "provider = TracerProvider(); provider.add_span_processor(Bad()); trace.set_tracer_provider(provider)\n"
        "runpy.run_path(os.path.abspath('pipelines.py'), run_name='__main__')\n",
        PIPELINE="job_fails",
        RUNNABLE_OTEL_SINKS="file:e.jsonl",
    )
    events = [json.loads(line) for line in (project.folder / "e.jsonl").read_text().splitlines()]
    assert [(event["type"], event.get("status")) for event in events] == [
        ("pipeline_started", None),
        ("task_started", None),
        ("task_error", None),
        ("pipeline_completed", "error"),
    ]

"""The instrumentor: hooks that never import runnable, and their exact inverse."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.project import Project
from support.receiver import Receiver

SNAPSHOT = """
import importlib, json, sys
NAMES = {names}
def snapshot():
    seen = {{}}
    for name, module in [(name, importlib.import_module(name)) for name in NAMES]:
        for key, value in vars(module).items():
            seen[name, key] = id(value)
            if isinstance(value, type) and value.__module__ == name:
                seen.update(((name, key, attribute), id(each)) for attribute, each in vars(value).items())
    return seen
"""
MODULES = [
    "runnable.tasks",
    "runnable.context",
    "runnable.sdk",
    "runnable.parameters",
    "runnable.entrypoints",
    "extensions.nodes.task",
    "extensions.nodes.stub",
    "extensions.nodes.fail",
    "extensions.nodes.map",
    "extensions.nodes.loop",
    "extensions.nodes.parallel",
    "extensions.nodes.conditional",
    "extensions.pipeline_executor",
    "extensions.pipeline_executor.local",
    "extensions.pipeline_executor.emulate",
    "extensions.job_executor.emulate",
    "extensions.job_executor",
    "logfire_api",
]


def script(project: Project, text: str, **variables: str) -> str:
    return project.script(SNAPSHOT.format(names=MODULES) + text, **variables).stdout


def test_uninstrument_puts_everything_back(project: Project) -> None:
    """After `uninstrument()` every attribute of every patched module is the object that it was."""
    out = script(
        project,
        "import runnable, runnable_otel\n"
        "before = snapshot()\n"
        "instrumentor = runnable_otel.RunnableInstrumentor()\n"
        "for _ in range(2):\n"
        "    instrumentor.instrument()\n"
        "    during = snapshot()\n"
        "    instrumentor.uninstrument()\n"
        "    after = snapshot()\n"
        "    ignored = ('__pydantic', '__abstractmethods__', '_abc')\n"
        "    same = {k for k in before if before[k] == after.get(k) or str(k[-1]).startswith(ignored)}\n"
        "    print(json.dumps([sorted(map(str, set(before) ^ set(after))), sorted(map(str, set(before) - same)), "
        "sum(before[k] != during.get(k) for k in before)]))\n",
    )
    for line in out.splitlines()[-2:]:
        added, changed, patched = json.loads(line)
        assert (added, changed) == ([], [])
        assert patched > 20


def test_it_does_not_import_runnable(project: Project) -> None:
    """Instrumenting imports neither runnable nor logfire; importing the package imports no OpenTelemetry."""
    out = script(
        project,
        "import runnable_otel\n"
        "print(any(name.startswith('opentelemetry') for name in sys.modules))\n"
        "runnable_otel.RunnableInstrumentor().instrument()\n"
        "print(sorted({'runnable', 'logfire', 'logfire_api', 'starlette', 'redis'} & set(sys.modules)))\n",
    )
    assert out.splitlines() == ["False", "[]"]


def test_twice_is_no_error(project: Project) -> None:
    """Instrumenting and uninstrumenting again says nothing and changes nothing."""
    done = project.script(
        "from runnable_otel import RunnableInstrumentor as I, RunnableSpanProcessor\n"
        "I().instrument(); I().instrument(); RunnableSpanProcessor(); RunnableSpanProcessor()\n"
        "I().uninstrument(); I().uninstrument()\n"
    )
    assert done.stderr == ""


def test_foreign_extensions_package(project: Project) -> None:
    """A package of the user's own that is named `extensions` is left alone."""
    folder = project.folder / "extensions" / "nodes"
    folder.mkdir(parents=True)
    for name in ("", "nodes/"):
        (project.folder / "extensions" / name / "__init__.py").touch()
    (folder / "task.py").write_text("class TaskNode:\n    def execute(self): return 1\n")
    done = project.script(
        "import sys; sys.path.insert(0, '.')\n"
        "from runnable_otel import RunnableInstrumentor\n"
        "RunnableInstrumentor().instrument()\n"
        "import extensions.nodes.task as t\n"
        "print(type(t.TaskNode.__dict__['execute']).__name__)\n"
    )
    assert done.stdout.splitlines()[-1] == "function"


@pytest.mark.parametrize("explicit", [True, False])
def test_tracer_provider_argument(project: Project, explicit: bool) -> None:
    """`instrument(tracer_provider=…)` sends the spans there, and nowhere else."""
    done = project.script(
        "from opentelemetry import trace\n"
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "from opentelemetry.sdk.trace.export import SimpleSpanProcessor\n"
        "from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter\n"
        "from runnable_otel import RunnableInstrumentor\n"
        "kept = {}\n"
        "def provider(name):\n"
        "    kept[name] = InMemorySpanExporter()\n"
        "    made = TracerProvider(); made.add_span_processor(SimpleSpanProcessor(kept[name]))\n"
        "    return made\n"
        "trace.set_tracer_provider(provider('global'))\n"
        f"RunnableInstrumentor().instrument(**({{'tracer_provider': provider('given')}} if {explicit} else {{}}))\n"
        "import runpy; runpy.run_path(__import__('os').path.abspath('pipelines.py'), run_name='__main__')\n"
        "print({name: len(exporter.get_finished_spans()) for name, exporter in kept.items()})\n",
        PIPELINE="named",
    )
    assert done.stdout.splitlines()[-1] == ("{'global': 0, 'given': 2}" if explicit else "{'global': 2}")


def test_provider_set_after_ours(project: Project) -> None:
    """A provider of ours keeps nobody from setting theirs later, and the next run goes there."""
    done = project.script(
        "import os; os.environ['OTEL_TRACES_EXPORTER'] = 'none'\n"
        "import runnable_otel; runnable_otel.configure()\n"
        "import pipelines\n"
        "from runnable.context import set_run_context\n"
        "def first():\n"
        "    made, kwargs = pipelines.named(); made.execute(); return made\n"
        "def second():\n"
        "    made, kwargs = pipelines.named(); made.execute(run_id='two'); return made\n"
        "if __name__ == '__main__':\n"
        "    first(); set_run_context(None)\n"
        "    from opentelemetry import trace\n"
        "    from opentelemetry.sdk.trace import TracerProvider\n"
        "    from opentelemetry.sdk.trace.export import SimpleSpanProcessor\n"
        "    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter\n"
        "    theirs = TracerProvider(); kept = InMemorySpanExporter()\n"
        "    theirs.add_span_processor(SimpleSpanProcessor(kept))\n"
        "    trace.set_tracer_provider(theirs)\n"
        "    assert trace.get_tracer_provider() is theirs\n"
        "    os.environ.pop('RUNNABLE_RUN_ID'); second()\n"
        "    print([span.name for span in kept.get_finished_spans()])\n",
    )
    assert done.stdout.splitlines()[-1] == "['task:tasks.give', 'pipeline:my pipeline']"
    assert "Overriding" not in done.stderr


RELEASED = """
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from runnable_otel import RunnableInstrumentor

exporter = OTLPSpanExporter()
processor = BatchSpanProcessor(exporter)
provider = TracerProvider()
provider.add_span_processor(processor)
trace.set_tracer_provider(provider)

import pipelines
from runnable.context import set_run_context


def guarded():
    return "export" in vars(exporter), "emit" in vars(processor._batch_processor)


def run():
    set_run_context(None)  # runnable executes nothing where it finds that of a run before
    pipelines.main()


def main():
    for _ in range(2):
        RunnableInstrumentor().instrument()
        run()
        during = guarded()
        RunnableInstrumentor().uninstrument()
        print("guarded:", during, guarded())
        run()


if __name__ == "__main__":
    main()
"""


def test_uninstrument_leaves_the_users_exporters(project: Project, receiver: Receiver) -> None:
    """What stands before the exporters of the user's own provider goes as well, and comes back with the next run."""
    done = project.script(RELEASED, PIPELINE="named", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    said = [line for line in done.stdout.splitlines() if line.startswith("guarded:")]
    assert said == ["guarded: (True, True) (False, False)"] * 2
    assert [span.kind for span in receiver.spans].count("pipeline") == 2
    assert "not delivered" not in done.stderr


OFF_DURING_A_TASK = """
import contextvars, json, os, queue, sys, threading
from runnable_otel import RunnableInstrumentor, RunnableSpanProcessor, set_stream_queue
RunnableInstrumentor().instrument()
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from runnable import Pipeline, PythonTask, ShellTask


class Kept:
    def __init__(self):
        self.events = []

    def emit(self, event):
        self.events.append(event.to_dict())

    def close(self):
        pass


def off():
    RunnableInstrumentor().uninstrument()
    return 1


def off_elsewhere():
    thread = threading.Thread(target=off)
    thread.start()
    thread.join()
    return 1


def off_and_fail():
    off()
    raise ValueError("not seen")


def off_and_on():
    off()
    RunnableInstrumentor().instrument()
    return 1


def ends(events):
    kinds = ("task_completed", "task_error")
    shown = ("type", "status", "error", "outputs")
    return [{name: each[name] for name in shown if name in each} for each in events if each["type"] in kinds]


def main():
    way = os.environ["WAY"]
    if way == "off_below":  # a command has nothing of ours in it: another thread's call comes while it runs
        command = "echo > fifo; cat fifo" + ("; exit 3" if os.environ.get("FAILS") else "")
        task = ShellTask(name="task", command=command)
    else:
        task = PythonTask(name="task", function=globals()[way], returns=["a"])
    pipeline = Pipeline(name="run", steps=[task])
    pipeline.execute()
    return pipeline


if __name__ == "__main__":
    if os.environ["WAY"] == "off_below":
        os.mkfifo("fifo")
        threading.Thread(target=lambda: (open("fifo").read(), off(), open("fifo", "w").close())).start()
    spans, reader, kept, told = InMemorySpanExporter(), InMemoryMetricReader(), Kept(), queue.Queue()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    provider.add_span_processor(RunnableSpanProcessor(sinks=[kept]))
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(MeterProvider([reader]))
    set_stream_queue(told)
    raised = ""
    try:
        main()
    except Exception as error:
        raised = type(error).__name__
    span = next(span for span in spans.get_finished_spans() if span.name.startswith("task:"))
    measured = {}
    for scope in reader.get_metrics_data().resource_metrics[0].scope_metrics:
        for each in scope.metrics:
            points = each.data.data_points
            measured[each.name] = [point.attributes.get("cicd.pipeline.result") for point in points]
    print(json.dumps({
        "raised": raised,
        "status": [span.status.status_code.name, span.attributes["status"], [each.name for each in span.events]],
        "sink": ends(kept.events),
        "queue": ends(told.queue),
        "duration": measured["runnable.task.duration"],
        "errors": measured.get("runnable.task.errors", []),
    }))
"""
UNSEEN = {"type": "task_completed", "status": "unknown"}


def off_during_a_task(project: Project, way: str, **variables: str) -> Any:
    done = project.script(OFF_DURING_A_TASK, WAY=way, **variables)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("way", ["off", "off_elsewhere"])
def test_uninstrument_during_a_task(project: Project, way: str) -> None:
    """A task whose end is not seen any more is no failure: its one end at the sinks says so, and runnable's own tells
    the queue."""
    assert off_during_a_task(project, way) == {
        "raised": "",
        "status": ["UNSET", "unknown", ["Task started"]],
        "sink": [UNSEEN],
        "queue": [{"type": "task_completed", "outputs": {"a": "1"}}],
        "duration": [None],
        "errors": [],
    }


def test_uninstrument_during_a_task_that_fails(project: Project) -> None:
    """Nor is a success made of a failure that is not seen."""
    assert off_during_a_task(project, "off_and_fail") == {
        "raised": "ExecutionFailedError",
        "status": ["UNSET", "unknown", ["Task started"]],
        "sink": [UNSEEN],
        "queue": [{"type": "task_error", "error": "Function call: script.off_and_fail did not succeed.\n"}],
        "duration": [None],
        "errors": [],
    }


def test_uninstrument_while_a_command_fails(project: Project) -> None:
    """A failure that passes through us all the same, and of which runnable tells nobody, is one with its cause."""
    assert off_during_a_task(project, "off_below", FAILS="yes") == {
        "raised": "ExecutionFailedError",
        "status": ["ERROR", "CalledProcessError: exit status 3", ["Task started", "exception"]],
        "sink": [{"type": "task_error", "error": "CalledProcessError: exit status 3"}],
        "queue": [{"type": "task_error", "error": "CalledProcessError: exit status 3"}],
        "duration": ["failure"],
        "errors": [None],
    }


def test_instrument_again_during_a_task(project: Project) -> None:
    """A task whose end is seen again is what it was."""
    found = off_during_a_task(project, "off_and_on")
    assert found["status"][:2] == ["UNSET", "success"]
    assert found["sink"] == found["queue"] == [{"type": "task_completed", "outputs": {"a": 1}}]

"""The instrumentor: hooks that never import runnable, and their exact inverse."""

from __future__ import annotations

import json

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

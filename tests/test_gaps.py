"""The line that says that the telemetry itself has failed."""

from __future__ import annotations

import logging
import os
from typing import Any

import pytest

from runnable_otel.gaps import Gaps
from runnable_otel.gaps import logger as log
from support.project import Project

LINE = "telemetry is incomplete: {} in {} (said once; level DEBUG says more)"


class Hostile(type):
    """A metaclass that answers nothing."""

    def __getattribute__(cls, name: str) -> Any:
        raise RuntimeError(name)


class SilentError(Exception, metaclass=Hostile):
    """An exception of such a class."""


def test_once_for_each_place(caplog: pytest.LogCaptureFixture) -> None:
    """A place is named once, with the kind of its first error; the error's text, which may be a secret, is not."""
    gaps = Gaps()
    gaps.note("A.b", ValueError("a secret"))
    gaps.note("A.b", TypeError())
    gaps.note("C.d", KeyError("a secret"))
    assert caplog.messages == []
    gaps.say()
    gaps.say()
    gaps.note("A.b", ValueError())
    gaps.say()
    assert caplog.messages == [LINE.format("ValueError", "A.b"), LINE.format("KeyError", "C.d")]


def test_any_class(caplog: pytest.LogCaptureFixture) -> None:
    """The name of a user's class is on one line and bounded, and no code of that class runs."""
    gaps = Gaps()
    gaps.note("a", type("Two\nlines\x1b[31m" + "x" * 1000, (Exception,), {})())
    gaps.note("b", SilentError())
    gaps.say()
    first, second = caplog.messages
    assert first.isprintable()
    assert len(first) < 160
    assert second == LINE.format("SilentError", "b")


def test_a_handler_that_raises() -> None:
    """A logging handler of the user's that raises is nobody's problem but its own."""

    class Raising(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError(record.msg)

    handler, gaps = Raising(), Gaps()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    try:
        try:
            raise ValueError
        except ValueError as error:
            gaps.note("a", error)
        gaps.say()
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def test_a_fork_does_not_repeat_it() -> None:
    """What the parent has noted the parent says."""
    gaps = Gaps()
    gaps.note("a", ValueError())
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, str(len(gaps._unsaid)).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(read, 10) == b"0"
    os.close(read)
    os.close(write)
    assert len(gaps._unsaid) == 1


@pytest.mark.parametrize(
    ("broken", "said", "arrives"),
    [
        ("end.End.watch", "Owner.prepare", ["task:tasks.give", "pipeline:my pipeline"]),
        ("run_scope.RunScope.opening", "Scope._open", ["task:tasks.give"]),
        ("task_scope.TaskScope.closing", "Scope._judge", ["task:tasks.give", "pipeline:my pipeline"]),
    ],
)
def test_what_goes_wrong_in_telemetry_is_said(project: Project, broken: str, said: str, arrives: list[str]) -> None:
    """A fault of our own costs what it touches and nothing else, and one line says that the trace has a gap."""
    module, owner, method = broken.split(".")
    done = project.script(
        "import os; os.environ['OTEL_TRACES_EXPORTER'] = 'none'\n"
        "from opentelemetry import trace\n"
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "from opentelemetry.sdk.trace.export import SimpleSpanProcessor\n"
        "from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter\n"
        "theirs = TracerProvider(); kept = InMemorySpanExporter()\n"
        "theirs.add_span_processor(SimpleSpanProcessor(kept)); trace.set_tracer_provider(theirs)\n"
        "import runnable_otel; runnable_otel.RunnableInstrumentor().instrument()\n"
        f"from runnable_otel import {module}\n"
        "def fail(*arguments, **named): raise RuntimeError('a secret')\n"
        f"{module}.{owner}.{method} = fail\n"
        "import runpy; runpy.run_path(os.path.abspath('pipelines.py'), run_name='__main__')\n"
        "print([span.name for span in kept.get_finished_spans()])\n",
        PIPELINE="named",
    )
    assert done.stdout.splitlines()[-1] == str(arrives), done.stderr
    lines = [line for line in done.stderr.splitlines() if "telemetry is incomplete" in line]
    assert lines == [LINE.format("RuntimeError", said)]
    assert "a secret" not in done.stderr

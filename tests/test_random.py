"""The module `random` is the user's: telemetry draws nothing from it, and no id depends on it."""

from __future__ import annotations

import pytest

from support.hole import refusing
from support.project import Project
from support.receiver import Receiver
from support.runlog import attempts, run_logs

SEEDED = """
import random

random.seed(42)

import logfire_api
import tasks_of_seeds
from opentelemetry import trace
from runnable import Catalog, Pipeline, PythonTask

if {own!r}:
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def main():
    steps = [
        PythonTask(name="draw", function=tasks_of_seeds.draw, returns=["drawn"]),
        PythonTask(name="again", function=tasks_of_seeds.seeded, returns=["seeded"], catalog=Catalog(put=["a.txt"])),
        PythonTask(name="third", function=tasks_of_seeds.seeded, returns=["third"], catalog=Catalog(put=["a.txt"])),
    ]
    pipeline = Pipeline(steps=steps)
    pipeline.execute()
    return pipeline


if __name__ == "__main__":
    main()
"""
TASKS = """
import random
from pathlib import Path

import logfire_api


def draw():
    with logfire_api.span("mine"):
        return random.random()


def seeded():
    random.seed(7)
    Path("a.txt").write_text("a")
    with logfire_api.span("mine too"):
        return random.random()
"""


def drawn(project: Project) -> list[dict[str, object]]:
    """What the tasks of each run returned, in order."""
    return [{name: value for each in attempts(log["steps"]) for name, value in each.outputs.items()}
            for log in run_logs(project.folder)]  # fmt: skip


@pytest.mark.parametrize("own", [False, True], ids=["a provider of ours", "the user's provider"])
def test_a_seed(project: Project, receiver: Receiver, own: bool) -> None:
    """A script that seeds gets the numbers that it gets without us, and each run and each span an id of its own."""
    (project.folder / "tasks_of_seeds.py").write_text(TASKS)
    for enabled in ("false", "true", "true"):
        project.script(SEEDED.format(own=own), OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc, RUNNABLE_OTEL_ENABLED=enabled)
    without, one, two = drawn(project)
    assert without.keys() == {"drawn", "seeded", "third"}
    assert one == two == without
    ours = list(receiver.spans)
    assert len({span.trace for span in ours if span.kind == "pipeline"}) == 2
    assert len({(span.trace, span.span) for span in ours}) == len(ours)
    assert {"catalog:put", "mine", "mine too"} <= {span.name for span in ours}


RETRYING = """
import random, sys, time

import runnable_otel
from runnable import Pipeline, PythonTask


class Counting:
    def __init__(self, wrapped):
        self.wrapped, self.count = wrapped, 0

    def uniform(self, *bounds):
        self.count += 1
        return self.wrapped.uniform(*bounds)


def first():
    return 1


def seeded():
    module = sys.modules[{module!r}]
    module.random = counting = Counting(module.random)
    random.seed(7)
    while not counting.count:  # until the exporter tries again
        time.sleep(0.01)
    return random.random()


def main():
    one = PythonTask(name="first", function=first, returns=["one"])
    pipeline = Pipeline(steps=[one, PythonTask(name="seeded", function=seeded, returns=["drawn"])])
    pipeline.execute()
    return pipeline


if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize(
    ("protocol", "module"),
    [
        ("grpc", "opentelemetry.exporter.otlp.proto.grpc.exporter"),
        ("http/protobuf", "opentelemetry.exporter.otlp.common.http"),
    ],
)
def test_an_exporter_that_tries_again(project: Project, protocol: str, module: str) -> None:
    """What a task draws does not depend on whether an endpoint answers: the pauses of a retry are drawn elsewhere."""
    project.script(
        RETRYING.format(module=module),
        OTEL_EXPORTER_OTLP_ENDPOINT=refusing(),
        OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
        OTEL_EXPORTER_OTLP_TIMEOUT="30",
        OTEL_BSP_SCHEDULE_DELAY="10",
    )
    (found,) = drawn(project)
    assert found["drawn"] == 0.32383276483316237  # random.seed(7); random.random()

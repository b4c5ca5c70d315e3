"""Telemetry of one task against a bare SDK span, as ratios: rounds interleaved, the median of them.

python benchmarks/bench_task.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from queue import Queue
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from runnable_otel.facade import Facade, Parameters, step
from runnable_otel.processor import RunnableSpanProcessor
from runnable_otel.run_scope import RunScope
from runnable_otel.spans import Step
from runnable_otel.telemetry import TELEMETRY

ROUNDS, CALLS = 11, 1000


class Nowhere(SpanExporter):
    """An exporter that takes everything and sends nothing: what is measured is the user's thread."""

    def export(self, spans: Any) -> SpanExportResult:
        return SpanExportResult.SUCCESS


class Trivial(SpanProcessor):
    """The least that a processor can be."""


class Param:
    """A parameter as runnable has it."""

    def __init__(self, value: Any) -> None:
        self.kind, self.value = "json", value


def provider(*processors: SpanProcessor) -> TracerProvider:
    made = TracerProvider()
    for processor in processors:
        made.add_span_processor(processor)
    return made


def microseconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    for _ in range(CALLS):
        function()
    return (time.perf_counter() - start) / CALLS * 1e6


def compare(functions: dict[str, Callable[[], object]]) -> dict[str, float]:
    rounds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(ROUNDS):
        for name, function in functions.items():
            rounds[name].append(microseconds(function))
    return {name: statistics.median(each) for name, each in rounds.items()}


def main() -> None:
    bare = provider(BatchSpanProcessor(Nowhere())).get_tracer("bare")
    attributes = {"task_name": "module.compute", "task_type": "python", "inputs": '{"x": 10}', "run_id": "run-1"}

    def bare_span() -> None:
        with bare.start_as_current_span("task:module.compute", attributes=attributes) as span:
            span.set_attribute("outputs", '{"result": 20}')
            span.set_attribute("status", "success")

    plain, with_trivial, with_ours = (
        provider(*more).get_tracer("user") for more in ((), (Trivial(),), (RunnableSpanProcessor(),))
    )
    TELEMETRY.tracing.explicit = provider(BatchSpanProcessor(Nowhere()))
    facade, queue = Facade(TELEMETRY), Queue[Any]()
    params, outputs = {"x": Param(10), "name": Param("a short text")}, {"result": Param(20)}

    def task() -> None:
        token = step.set((Step(name="compute", short="compute"), None))
        with facade.span("task:{task_name}", task_name="module.compute", task_type="python"):
            facade.info("Task started", inputs=Parameters(params))
            facade.info("Task completed", outputs=Parameters(outputs), status="success")
        step.reset(token)

    with trace.use_span(trace.INVALID_SPAN):
        run = RunScope(TELEMETRY, kind="pipeline", name="bench", run_id="run-1", executor="LocalExecutor")
        with run:
            run.queue = queue
            task()
            figures = compare({"bare SDK span + batch": bare_span, "telemetry of one task": task})
    ratio = figures["telemetry of one task"] / figures["bare SDK span + batch"]
    for name, figure in figures.items():
        print(f"{name:32} {figure:8.1f} us")
    print(f"{'ratio':32} {ratio:8.2f}")

    others = compare(
        {
            "a span, no processor": lambda: plain.start_span("x").end(),
            "a span, a trivial processor": lambda: with_trivial.start_span("x").end(),
            "a span, RunnableSpanProcessor": lambda: with_ours.start_span("x").end(),
        }
    )
    for name, figure in others.items():
        print(f"{name:32} {figure:8.2f} us")
    added = others["a span, RunnableSpanProcessor"] / others["a span, no processor"] - 1
    print(f"{'added to a span that is not ours':32} {added:8.1%}")


if __name__ == "__main__":
    main()

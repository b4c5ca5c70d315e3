"""What the process says about itself, in files that outlive it: moments, and each span that was made."""

import json
import os
import time


def _append(path: str, line: dict) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, json.dumps(line).encode() + b"\n")
    os.close(descriptor)


def mark(name: str, **more) -> None:
    """A moment, on a clock that all processes share."""
    _append(os.environ["REPORT"], {"mark": name, "at": time.monotonic(), "pid": os.getpid(), **more})


def observe() -> None:
    """Note each span that starts and ends on a provider of the SDK: what there is to be accounted for.

    A provider that is made later is watched from its making on; one that `opentelemetry-instrument` has made, from now.
    """
    from opentelemetry import trace
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

    class Census(SpanProcessor):
        def on_start(self, span, parent_context=None):
            self.note("start", span)

        def on_end(self, span):
            self.note("end", span)

        @staticmethod
        def note(what, span):
            context = span.get_span_context()
            if context.trace_flags.sampled:
                line = {"what": what, "trace": f"{context.trace_id:032x}", "span": f"{context.span_id:016x}"}
                _append(os.environ["CENSUS"], {**line, "name": span.name, "pid": os.getpid()})

    original = TracerProvider.__init__

    def made(self, *args, **kwargs):
        original(self, *args, **kwargs)
        self.add_span_processor(Census())

    TracerProvider.__init__ = made
    there = trace.get_tracer_provider()
    if isinstance(there, TracerProvider):
        there.add_span_processor(Census())


def account() -> None:
    """Note at the very end what this package says that it dropped, by its own metric: the last handler of the exit."""
    import atexit

    from opentelemetry import metrics
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader], shutdown_on_exit=False))

    def last() -> None:
        data = reader.get_metrics_data()
        found = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics] if data else []
        points = [p for m in found if m.name == "runnable.otel.dropped" for p in m.data.data_points]
        mark("dropped", reasons={str(point.attributes["reason"]): point.value for point in points})

    atexit.register(last)

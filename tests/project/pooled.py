"""Branches in pools of processes, in one file that sets itself up: what differs comes from the environment.

`WAY` (`configure`: in code, else from outside), `LOGFIRE` (`configured` or not), `PLACE` of the set-up (`top` of the
module, which every worker imports again, or under `main`), `START_METHOD`, `ENDPOINT`.
"""

import json
import multiprocessing
import os
import sys
from queue import Queue


def exporter():
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    return BatchSpanProcessor(OTLPSpanExporter(endpoint=os.environ["ENDPOINT"]))


def set_up():
    in_code = os.environ["WAY"] == "configure"
    if os.environ["LOGFIRE"] == "configured":
        import logfire

        processors = [exporter()] if in_code else []
        logfire.configure(send_to_logfire=False, console=False, additional_span_processors=processors)
    elif in_code:
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider

        provider = TracerProvider()
        provider.add_span_processor(exporter())
        trace.set_tracer_provider(provider)
    if in_code:
        import runnable_otel

        runnable_otel.configure()


if os.environ["PLACE"] == "top" or __name__ == "__main__":
    set_up()

from opentelemetry import trace  # noqa: E402
from runnable import Map, Parallel, Pipeline, PythonTask, ShellTask, set_stream_queue  # noqa: E402

tracer = trace.get_tracer("user")


def numbers() -> list[int]:
    return [1, 2, 3, 4, 5]


def double(item: int) -> int:
    import logfire_api

    with tracer.start_as_current_span("own otel"), logfire_api.span("own logfire"):
        return 2 * item


def open_spans() -> list[str]:
    """What logfire would end, were this process to exit now."""
    module = sys.modules.get("logfire._internal.tracer")
    return sorted(span.name for span in module.OPEN_SPANS.values()) if module else []


def main():
    item = Pipeline(
        steps=[
            PythonTask(name="double", function=double, returns=["doubled"]),
            ShellTask(name="say", command="export said=$item", returns=["said"]),
        ]
    )
    left = Pipeline(steps=[PythonTask(name="left", function=open_spans, returns=["l"])])
    right = Pipeline(steps=[PythonTask(name="right", function=numbers, returns=["r"])])
    pipeline = Pipeline(
        name="pooled",
        steps=[
            PythonTask(name="numbers", function=numbers, returns=["items"]),
            Map(name="each", branch=item, iterate_on="items", iterate_as="item"),
            Parallel(name="both", branches={"left": left, "right": right}),
        ],
    )
    pipeline.execute(configuration_file="pool.yaml")
    return pipeline


if __name__ == "__main__":
    multiprocessing.set_start_method(os.environ["START_METHOD"])
    events = Queue()
    set_stream_queue(events)
    main()
    print("EVENTS", json.dumps([events.get_nowait() for _ in range(events.qsize())]))

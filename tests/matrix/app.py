"""The same pipeline for each cell of the matrix. What differs comes from the environment: MATRIX_WAY, MATRIX_LOGFIRE,

MATRIX_PLACE (`top` of the module or under `main`) and MATRIX_ORDER (set-up `before` or `after` `import runnable`).
"""

import json
import os
from queue import Queue

WAY, ORDER = os.environ["MATRIX_WAY"], os.environ["MATRIX_ORDER"]
PLACED = os.environ["MATRIX_PLACE"] == "top" or __name__ == "__main__"


def exporter():
    """The user's own exporter, where the cell has no endpoint in the environment."""
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    return BatchSpanProcessor(OTLPSpanExporter(endpoint=os.environ["MATRIX_ENDPOINT"]))


def set_up():
    if os.environ["MATRIX_LOGFIRE"] == "configured":
        import logfire

        processors = [] if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") else [exporter()]
        if WAY == "logfire.configure":
            from runnable_otel import RunnableSpanProcessor

            processors.append(RunnableSpanProcessor())
        logfire.configure(send_to_logfire=False, console=False, additional_span_processors=processors)
    if WAY == "configure":
        import runnable_otel

        runnable_otel.configure()
    if WAY == "instrumentor":
        from runnable_otel import RunnableInstrumentor

        RunnableInstrumentor().instrument()
    if WAY == "provider":
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider

        from runnable_otel import RunnableSpanProcessor

        provider = TracerProvider()
        provider.add_span_processor(RunnableSpanProcessor())
        provider.add_span_processor(exporter())
        trace.set_tracer_provider(provider)


if PLACED and ORDER == "before":
    set_up()

from runnable import Pipeline, PythonTask, ShellTask, set_stream_queue  # noqa: E402

if PLACED and ORDER == "after":
    set_up()


def compute(x: int = 1):
    import logfire_api
    from opentelemetry import trace

    with trace.get_tracer("user").start_as_current_span("own otel"), logfire_api.span("own logfire"):
        return x + 1


def main():
    pipeline = Pipeline(
        name="cell",
        steps=[
            PythonTask(name="compute", function=compute, returns=["y"]),
            ShellTask(name="say", command="export said=hi", returns=["said"]),
        ],
    )
    pipeline.execute()
    return pipeline


if __name__ == "__main__":
    events = Queue()
    set_stream_queue(events)
    main()
    print("EVENTS", json.dumps([events.get_nowait() for _ in range(events.qsize())]))

"""A pipeline on a provider of the user's: `WAY` says how the process ends, `PROTOCOL` how the spans leave."""

import os
import sys

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from runnable_otel import RunnableInstrumentor

RunnableInstrumentor().instrument()  # before runnable is imported

import tasks  # noqa: E402
from runnable import Pipeline, PythonTask  # noqa: E402


def set_up():
    if os.environ.get("PROTOCOL") == "http":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        exporter = OTLPSpanExporter(endpoint=f"{os.environ['ENDPOINT']}/v1/traces")
    else:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        exporter = OTLPSpanExporter(endpoint=os.environ["ENDPOINT"])
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exporter, max_export_batch_size=int(os.environ.get("BATCH", "512"))))
    trace.set_tracer_provider(provider)


def main():
    pipeline = Pipeline(steps=[PythonTask(name=f"step{number}", function=tasks.nothing) for number in range(3)])
    pipeline.execute()
    return pipeline


if __name__ == "__main__":
    set_up()
    tracer = trace.get_tracer("mine")
    for number in range(int(os.environ.get("BEFORE", "0"))):
        tracer.start_span(f"before{number}").end()
    main()
    for number in range(int(os.environ.get("MORE", "0"))):
        tracer.start_span(f"more{number}").end()
    if os.environ.get("WAY") == "exit":
        sys.exit(3)
    if os.environ.get("WAY") == "raise":
        raise ValueError("at the end")

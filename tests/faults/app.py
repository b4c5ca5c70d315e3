"""One cell of the fault matrix: `INPUT`, `FAULT` and `WAY` say which; `WAY=absent` is the same without this package."""

import asyncio
import multiprocessing
import os
import sys

import work
from marks import account, mark, observe
from runnable import AsyncPipeline, AsyncPythonTask, Map, Parallel, Pipeline, PythonTask, ShellTask, pickled
from values import ERRORS, HANDLED_ONLY, RUN_IDS, SHOWN_ONLY, VALUES

INPUT, FAULT, WAY = os.environ["INPUT"], os.environ["FAULT"], os.environ["WAY"]
POOLED = FAULT.startswith("pool_")


def exporter():
    if os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") == "http/protobuf":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    else:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    return OTLPSpanExporter()


def set_up():
    if WAY == "configure":
        import runnable_otel

        runnable_otel.configure()
    elif WAY == "processor":
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        from runnable_otel import RunnableSpanProcessor

        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(exporter()))
        provider.add_span_processor(RunnableSpanProcessor())
        trace.set_tracer_provider(provider)


def task(name, function, **kwargs):
    return PythonTask(name=name, function=function, **kwargs)


def _steps():
    """What differs between two inputs: the steps in the middle of the pipeline."""
    if INPUT in VALUES:
        steps = [task("shows", work.shows, returns=["shown"])]
        if INPUT not in SHOWN_ONLY:
            steps += [
                task("pickled", work.gives_pickled, returns=[pickled("kept")]),
                task("gives", work.gives, returns=["given"]),
                task("takes", work.takes, returns=["taken"]),
            ]
        return steps
    if INPUT in ERRORS:
        inside = [task("inside", work.fails_inside, returns=["handled"])]
        return inside if INPUT in HANDLED_ONLY else [*inside, task("fails", work.fails)]
    if INPUT == "surrogate_in_event":
        return [task("surrogates", work.surrogates, returns=["shown"])]
    if INPUT == "traceparent_parameter":
        echo = ShellTask(name="echo", command="export TRACESTATE=$TRACEPARENT", returns=["TRACEPARENT", "TRACESTATE"])
        return [task("names", work.gives_text, returns=["TRACEPARENT"]), echo]
    if INPUT == "surrogate_in_name":
        return [task("lone \ud800 surrogate", work.before, returns=["lone"])]
    return [
        ShellTask(name="shell", command="export heard=1", returns=["heard"]),
        task("takes", work.takes, returns=["taken"]),
    ]


def made():
    inside = [task("strike", work.strike, returns=["struck"]), *_steps()]
    if POOLED:
        items = Map(
            name="each",
            branch=Pipeline(steps=[task("item", work.takes, returns=["taken"])]),
            iterate_on="items",
            iterate_as="item",
        )
        branches = {"left": Pipeline(steps=_steps()), "right": Pipeline(steps=[task("right", work.takes)])}
        inside = [task("items", work.items, returns=["items"]), items, Parallel(name="both", branches=branches)]
    return Pipeline(
        name="cell",
        steps=[task("before", work.before, returns=["first"]), *inside, task("after", work.after, returns=["last"])],
    )


def main():
    """runnable finds the graph by calling the function that called `execute` once more."""
    pipeline = made()
    run_id = RUN_IDS.get(INPUT, "cell")
    pipeline.execute(run_id=run_id, configuration_file="pool.yaml" if POOLED else "")
    return pipeline


SPEAKERS = {"surrogate_in_event": work.speaks_surrogates, "keys_not_strings": work.speaks_keys}


async def streamed():
    """An async pipeline whose events hold the value, as the caller gets them."""
    speaker = SPEAKERS.get(INPUT, work.speaks)
    steps = [("abefore", work.abefore, "a"), ("speaks", speaker, "b"), ("aafter", work.aafter, "c")]
    pipeline = AsyncPipeline(
        name="streamed", steps=[AsyncPythonTask(name=n, function=f, returns=[r]) for n, f, r in steps]
    )
    return [(type(event), list(event)) async for event in pipeline.execute_streaming(run_id="streamed")]


def outcome(function):
    """What a caller sees: what is returned or raised."""
    try:
        return {"returned": repr(function())}
    except Exception as error:
        return {
            "raised": type(error).__name__,
            "cause": type(error.__cause__).__name__,
            "args": ascii(error.args)[:200],
        }


if __name__ == "__main__":
    if WAY != "absent":
        observe()
        account()
    set_up()
    if POOLED:
        multiprocessing.set_start_method(FAULT.removeprefix("pool_"))
        # One worker: a log of runnable's holds what its worker said in the branch before, and which that was is chance.
        os.cpu_count = lambda: 1
    first = outcome(lambda: asyncio.run(streamed())) if INPUT in VALUES or INPUT in SPEAKERS else None
    try:
        second = outcome(main)
        mark("ended", streamed=first, run=second, ours=sorted(m for m in sys.modules if m.startswith("runnable_otel")))
    except BaseException as error:
        mark("ended", streamed=first, raised=type(error).__name__)
        raise
    if FAULT == "unhandled":
        raise RuntimeError("not handled")

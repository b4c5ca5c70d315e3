"""Runs each case of a file of cases as a pipeline of its own: `python app.py CASES.json`."""

import asyncio
import contextvars
import json
import logging
import os
import sys
from pathlib import Path
from queue import Queue

import plant
from plant import CASE
from runnable import (
    AsyncPipeline,
    AsyncPythonTask,
    Map,
    Parallel,
    Pipeline,
    PythonJob,
    PythonTask,
    ShellTask,
    metric,
    set_stream_queue,
)


def task(name, function, returns=(), told=True):
    secrets = ["PLANTED"] if told and CASE["kind"] == "manager" else []
    return PythonTask(name=name, function=function, returns=list(returns), secrets=secrets)


def later():
    """A task that was not given the secret, after one that was."""
    return task("later", plant.takes, ["taken"], told=False)


def _branch(name):
    return Pipeline(steps=[task(name, plant.first, [f"{name}_r"])])


def _map():
    branch = Pipeline(steps=[task("item", plant.takes, ["taken"])])
    return Map(name="each", branch=branch, iterate_on="items", iterate_as=CASE["key"] or "item")


def steps():
    name = CASE["text"]
    return {
        "output": lambda: [task("gives", plant.gives, ["given"]), later()],
        "nested": lambda: [task("nests", plant.nests, ["given"]), later()],
        "returned name": lambda: [task("gives", plant.gives, [name]), later()],
        "exception": lambda: [task("raises", plant.raises)],
        "cause": lambda: [task("chains", plant.chains)],
        "group": lambda: [task("raises", plant.raises_group)],
        "source line": lambda: [task("source", plant.source)],
        "own span": lambda: [task("spans", plant.spans, ["x"])],
        "own span's exception": lambda: [task("spans", plant.span_fails, ["x"])],
        "printed": lambda: [task("prints", plant.prints, ["x"])],
        "metric name": lambda: [task("measures", plant.measures, [metric(name)])],
        "metric value": lambda: [
            task("measures", plant.measures, [metric(f"{CASE['key'] or 'loss'} {CASE['control']}")])
        ],
        "map item": lambda: [task("items", plant.items, ["items"]), _map()],
        "command": lambda: [_shell(f": '{name}'")],
        "shell output": lambda: [_shell(f"export given='{name}'", ["given"]), later()],
        "shell error": lambda: [_shell(f"echo '{name}' >&2; exit 3")],
        "shell variable": lambda: [
            _shell(f'echo $PLANTED; export given="{CASE["control"]} $PLANTED"', ["given"]),
            later(),
        ],
        "step name": lambda: [task(name, plant.first, ["x"]), later()],
        "node name": lambda: [Parallel(name=name, branches={"a": _branch("a"), "b": _branch("b")})],
        "branch name": lambda: [Parallel(name="both", branches={name: _branch("a"), "b": _branch("b")})],
        "pipeline name": lambda: [task("first", plant.first, ["x"])],
        "run id": lambda: [task("first", plant.first, ["x"])],
        "tag": lambda: [task("first", plant.first, ["x"])],
        "pool": lambda: [Parallel(name="both", branches={"a": _told(), "b": _branch("b")}), *_again()],
        "retry": lambda: [Parallel(name=name, branches={"a": _branch("a")}), task("fails", plant.fails_once)],
    }[CASE["place"]]()


def _told():
    return Pipeline(steps=[task("gives", plant.gives, ["given"])])


def _again():
    """What a worker of the pool was told is no more to be seen in what the process that made the pool says later."""
    return [task("again", plant.gives, ["again"], told=False), later()]


def _shell(command, returns=()):
    secrets = ["PLANTED"] if CASE["kind"] == "manager" else []
    return ShellTask(name="shell", command=command, returns=list(returns), secrets=secrets)


def main():
    """runnable finds the graph by calling the function that called `execute` once more."""
    place = CASE["place"]
    pipeline = Pipeline(name=CASE["text"] if place == "pipeline name" else "sweep", steps=steps())
    run_id = CASE["text"] if place == "run id" else f"run {CASE['number_of']}"
    configuration = "pool.yaml" if place == "pool" else ""
    pipeline.execute(run_id=run_id, tag=CASE["text"] if place == "tag" else "", configuration_file=configuration)
    return pipeline


def job():
    """The same for a job."""
    secrets = ["PLANTED"] if CASE["kind"] == "manager" else []
    made = PythonJob(function=plant.gives, returns=["given"], secrets=secrets)
    made.execute(job_id=f"run {CASE['number_of']}")
    return made


async def streamed():
    secrets = ["PLANTED"] if CASE["kind"] == "manager" else []
    pipeline = AsyncPipeline(
        name="sweep",
        steps=[AsyncPythonTask(name="speaks", function=plant.speaks, returns=["said"], secrets=secrets)],
    )
    async for _ in pipeline.execute_streaming(run_id=f"run {CASE['number_of']}"):
        pass


def run(case, queue):
    CASE.clear()
    CASE.update(case)
    for name in [name for name in os.environ if name.startswith("RUNNABLE_R") or name == "RUNNABLE_CONFIGURATION_FILE"]:
        del os.environ[name]  # what the case before has left
    os.environ["PLANTED"] = case["core"]
    set_stream_queue(queue)
    try:
        {"event": lambda: asyncio.run(streamed()), "job": job}.get(case["place"], main)()
    except Exception as error:
        print("raised", type(error).__name__)
        if case["place"] == "retry" and "RUNNABLE_RETRY_RUN_ID" not in os.environ:
            os.environ["RUNNABLE_RETRY_RUN_ID"] = f"run {case['number_of']}"
            contextvars.Context().run(main)


def quiet():
    """What runnable itself says goes to standard output: what is left on standard error is telemetry's."""
    logging.getLogger("runnable").addHandler(logging.StreamHandler(sys.stdout))
    logging.getLogger("runnable").propagate = False
    ours = logging.FileHandler("telemetry.log")
    for name in ("runnable_otel", "opentelemetry"):
        logging.getLogger(name).addHandler(ours)
        logging.getLogger(name).setLevel(logging.DEBUG)


def measure():
    """A meter provider that exports, as a user may have one."""
    from opentelemetry import metrics
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())]))


if __name__ == "__main__":
    quiet()
    measure()
    queue = Queue()
    for case in json.loads(Path(sys.argv[1]).read_text()):
        contextvars.Context().run(run, case, queue)
    events = [queue.get_nowait() for _ in range(queue.qsize())]
    # A task's own events reach the caller's queue unchanged: that is what they are for.
    own = [event for event in events if "trace_id" in event]
    Path("queue.jsonl").write_text("".join(json.dumps(event) + "\n" for event in own))

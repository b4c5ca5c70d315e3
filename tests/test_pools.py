"""Branches in pools of processes: all spans and events arrive, once, in one trace, whatever the start method."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runnable_otel import scopes
from runnable_otel.gaps import Gaps
from runnable_otel.pools import worker
from support import environments
from support.project import Project
from support.receiver import Received, Receiver
from support.runlog import run_logs
from support.told import of_file, queued, told
from test_metrics import collected
from test_oracle import ERROR, compare

START_METHODS = ("fork", "forkserver", "spawn")


@dataclass(frozen=True)
class Cell:
    """A start method, what logfire is (configured by the user, only installed, none), a way in, where the set-up is."""

    start: str
    logfire: str
    way: str
    place: str

    def __str__(self) -> str:
        return "-".join((self.start, self.logfire, self.way, self.place))


def cells() -> Iterator[Cell]:
    """Every cell where `RUNNABLE_OTEL_MATRIX=full`, as in CI; else those of one place of the set-up, with and without

    a logfire that the user configured.
    """
    every = os.environ.get("RUNNABLE_OTEL_MATRIX") == "full"
    for start in START_METHODS:
        for logfire in ("configured", "installed", "none") if every else ("configured", "none"):
            for way in ("instrument", "plain", "configure"):
                set_up = logfire == "configured" or way == "configure"
                for place in ("main", "top") if every and set_up else ("main",):
                    yield Cell(start, logfire, way, place)


def run(cell: Cell, folder: Path, receiver: Receiver) -> subprocess.CompletedProcess[str]:
    """Run pooled.py as the cell says."""
    python = environments.python(*(() if cell.logfire == "none" else ("logfire",)))
    project = Project(folder, str(python))
    variables = {
        "WAY": cell.way,
        "LOGFIRE": cell.logfire,
        "PLACE": cell.place,
        "START_METHOD": cell.start,
        "ENDPOINT": receiver.grpc,
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
    }
    if cell.way != "configure":
        http = cell.logfire == "configured"  # logfire's own exporter speaks HTTP only
        variables["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver.http if http else receiver.grpc
        variables["OTEL_EXPORTER_OTLP_PROTOCOL"] = "http/protobuf" if http else "grpc"
        variables["RUNNABLE_OTEL_SINKS"] = "file:events.jsonl"
    starter = [str(python.parent / "opentelemetry-instrument")] if cell.way == "instrument" else []
    return project.command(*starter, str(python), "pooled.py", **variables)


@pytest.mark.parametrize("cell", list(cells()), ids=str)
def test_delivery(cell: Cell, tmp_path: Path, receiver: Receiver) -> None:
    """Every span arrives once, in one trace, as the run log says; every event reaches the queue and the file once."""
    done = run(cell, tmp_path, receiver)
    (log,) = run_logs(tmp_path)
    assert log["status"] == "SUCCESS"
    tasks = compare(log, receiver.spans)
    by_id = {span.span: span for span in receiver.spans}
    kinds = Counter(span.kind for span in receiver.spans)
    expected = {"pipeline": 1, "map": 1, "parallel": 1, "branch": 7, "task": 13, "own otel": 5, "own logfire": 5}
    if cell.logfire == "installed" and cell.way == "configure":
        del expected["own logfire"]  # nobody configured it, and no variable asks for it: logfire says so, as without us
    assert kinds == expected
    for (step, _), task in tasks.items():
        above = by_id[task.parent]
        assert above.attributes.get("runnable.branch.name", "") == step.rpartition(".")[0]
        assert by_id[above.parent].kind in ("map", "parallel") if above.kind == "branch" else above.kind == "pipeline"
    assert {by_id[span.parent].name for span in receiver.spans if span.name == "own otel"} == {"task:pooled.double"}
    assert {by_id[span.parent].name for span in receiver.spans if span.name == "own logfire"} <= {"own otel"}
    assert len({span.attributes["process.pid"] for span in tasks.values()}) > 1, "a pool of processes"
    open_there = json.loads(tasks["both.left.left", 1].attributes["outputs"])["l"]
    assert set(open_there) <= {"branch:left", "task:pooled.open_spans"}, "a worker ends nothing of its parent's"
    told(log, queued(done))
    if cell.way != "configure":
        assert of_file(tmp_path) == queued(done)


def pooled(project: Project, name: str, start: str = "fork", check: bool = True, **variables: str) -> Any:
    """Run one of the pipelines of pipelines.py with its branches in a pool."""
    return project.pipeline(
        name,
        check=check,
        START_METHOD=start,
        CONFIGURATION="pool.yaml",
        QUEUE="1",
        RUNNABLE_OTEL_SINKS="file:events.jsonl",
        **variables,
    )


@pytest.mark.parametrize("start", START_METHODS)
def test_a_branch_that_fails(project: Project, receiver: Receiver, start: str) -> None:
    """A failure in a worker reaches the branch, the node and the run, by its own cause; the other branches succeed."""
    done = pooled(project, "parallel_fails", start, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    (log,) = run_logs(project.folder)
    assert log["status"] == "FAIL"
    compare(log, receiver.spans)
    failed = {span.name: span.attributes["status"] for span in receiver.spans if span.status == ERROR}
    assert failed == dict.fromkeys(
        ("pipeline:pipelines.main", "parallel:both", "branch:bad", "task:tasks.kaput"), "ValueError: kaput"
    )
    told(log, queued(done))
    assert queued(done)[-1]["error"] == "ValueError: kaput"


def test_a_branch_that_ends_in_fail(project: Project, receiver: Receiver) -> None:
    """A branch that ends in a fail node fails its node, though runnable's pool calls it a success."""
    pooled(project, "map_fails", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    (log,) = run_logs(project.folder)
    compare(log, receiver.spans)
    (composite,) = [span for span in receiver.spans if span.kind == "map"]
    assert composite.attributes["status"] == log["steps"]["each"]["status"].replace("FAIL", "KeyError: 'two'")


def shown(spans: list[Received]) -> list[str]:
    """All that spans say, but for what differs from one run to the next."""
    by_id = {span.span: span for span in spans}
    volatile = {"process.pid", "run_id", "cicd.pipeline.run.id"}
    found: list[str] = []
    for span in spans:
        attributes = {key: value for key, value in span.attributes.items() if key not in volatile}
        events = [
            (name, {key: value for key, value in event.items() if key != "exception.stacktrace"})
            for name, event in span.events
        ]
        above = by_id[span.parent].name if span.parent else ""
        links = [by_id[span_id].name for _, span_id in span.links]
        said = (span.name, above, span.scope, span.status, span.message, sorted(attributes.items()), events, links)
        resource = {key: value for key, value in span.resource.items() if key != "service.instance.id"}
        found.append(repr((*said, sorted(resource.items()))))
    return sorted(found)


@pytest.mark.parametrize("start", START_METHODS)
def test_the_same_as_without_a_pool(project: Project, receiver: Receiver, start: str) -> None:
    """A pool changes nothing of what spans say: the user's own, with links, events, status, other roots, neither."""
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.grpc, "OTEL_RESOURCE_ATTRIBUTES": "a=b"}
    project.pipeline("mapped_rich", **variables)
    alone = shown(receiver.spans)
    receiver.clear()
    pooled(project, "mapped_rich", start, **variables)
    assert shown(receiver.spans) == alone
    assert len({span.trace for span in receiver.spans}) == 1 + 3


@pytest.mark.parametrize("start", START_METHODS)
def test_many_items(project: Project, receiver: Receiver, start: str) -> None:
    """Two hundred items on eight workers: every span and event of each of them, once."""
    done = pooled(project, "mapped_many", start, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc, WORKERS="8")
    (log,) = run_logs(project.folder)
    tasks = compare(log, receiver.spans)
    assert len(tasks) == 201
    assert len(receiver.spans) == 2 + 200 + 201
    assert len({span.attributes["process.pid"] for span in tasks.values()}) > 2
    told(log, queued(done))
    assert of_file(project.folder) == queued(done)


@pytest.mark.parametrize("start", START_METHODS)
def test_a_run_that_is_not_sampled(project: Project, receiver: Receiver, start: str) -> None:
    """The sampler drops the spans of the workers with those of the run, and the events go out all the same."""
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.grpc, "OTEL_TRACES_SAMPLER": "always_off"}
    done = pooled(project, "mapped", start, **variables)
    (log,) = run_logs(project.folder)
    told(log, queued(done))
    assert len({event["trace_id"] for event in queued(done)}) == 1
    assert receiver.spans == []


@pytest.mark.parametrize("start", START_METHODS)
def test_without_a_provider(project: Project, start: str) -> None:
    """Where nothing records spans, events of workers and of the run have one trace id, and know their parents."""
    done = project.script(
        "import os, runpy\n"
        "import runnable_otel\n"
        "runnable_otel.RunnableInstrumentor().instrument()\n"
        "if __name__ == '__main__':\n"
        "    runpy.run_path(os.path.abspath('pipelines.py'), run_name='__main__')\n",
        PIPELINE="mapped",
        START_METHOD=start,
        CONFIGURATION="pool.yaml",
        QUEUE="1",
    )
    (log,) = run_logs(project.folder)
    told(log, queued(done))
    assert len({event["trace_id"] for event in queued(done)}) == 1


def test_nested(project: Project, receiver: Receiver) -> None:
    """A worker can have no pool of its own: runnable fails so, and the trace says it, once."""
    pooled(project, "nested", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    (log,) = run_logs(project.folder)
    compare(log, receiver.spans)
    failed = {span.name for span in receiver.spans if span.status == ERROR}
    assert failed == {"pipeline:pipelines.main", "parallel:outer", "branch:one", "parallel:inner"}
    written = [span.name for span in receiver.spans for name, _ in span.events if name == "exception"]
    assert written == ["parallel:inner"]


@pytest.mark.parametrize("start", START_METHODS)
def test_a_worker_that_is_killed(project: Project, receiver: Receiver, start: str) -> None:
    """runnable waits for ever for a worker that was killed. What it had ended has arrived, what it had begun is cut."""
    variables = {
        "PIPELINE": "mapped_killed",
        "START_METHOD": start,
        "CONFIGURATION": "pool.yaml",
        "RUNNABLE_OTEL_SINKS": "file:events.jsonl",
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.grpc,
    }
    with project.running(project.python, "pipelines.py", **variables) as process:
        wait_until(lambda: seen(project.folder) == CUT_OFF)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in stderr
    by_step = {span.attributes.get("runnable.step.name"): span for span in receiver.spans if span.kind == "task"}
    assert sorted(by_step) == sorted({step for step, _ in CUT_OFF})
    assert {step: span.attributes["status"] for step, span in by_step.items()} == {
        **dict.fromkeys(by_step, "success"),
        "each.2.second": "cancelled",
    }
    branches = {span.attributes["runnable.branch.name"]: span for span in receiver.spans if span.kind == "branch"}
    assert branches["each.2"].attributes["status"] == "cancelled"
    assert {span.attributes["status"] for span in receiver.spans if span.kind in ("map", "pipeline")} == {"cancelled"}


CUT_OFF = {
    (step, "task_error" if (step, kind) == ("each.2.second", "task_completed") else kind)
    for step in ("chunks", *(f"each.{item}.{name}" for item in (1, 2, 3) for name in ("first", "second")))
    for kind in ("task_started", "task_completed")
}


def seen(folder: Path) -> set[tuple[str, str]]:
    """Step and type of the task events that are in the file now."""
    if not (folder / "events.jsonl").exists():
        return set()
    lines = (folder / "events.jsonl").read_text().split("\n")[:-1]
    return {(event["step"], event["type"]) for event in map(json.loads, lines) if "step" in event}


def wait_until(fact: Callable[[], bool]) -> None:
    """Wait for a fact, at most a minute."""
    end = time.monotonic() + 60
    while not fact():
        assert time.monotonic() < end
        time.sleep(0.02)


ENDS = ("task_error", "pipeline_completed")
WAITING = """
import asyncio, contextvars, os, time
from runnable import AsyncPipeline, AsyncPythonTask, Map, Pipeline, PythonTask
from runnable.context import set_run_context


def items():
    return [1, 2]


PARENT = 0


def for_ever():
    while os.getppid() == PARENT:  # as long as there is somebody to work for
        time.sleep(0.01)


async def deep():
    for_ever()


async def inside():
    set_run_context(None)
    pipeline = AsyncPipeline(name="inner", steps=[AsyncPythonTask(name="deep", function=deep)])
    async for _ in pipeline.execute_streaming(run_id="inner"):
        pass


def waits(item):
    global PARENT
    PARENT = os.getppid()
    if item == 1:
        contextvars.copy_context().run(asyncio.run, inside())
    for_ever()


def main():
    branch = Pipeline(steps=[PythonTask(name="waits", function=waits)])
    pipeline = Pipeline(name="waiting", steps=[
        PythonTask(name="items", function=items, returns=["items"]),
        Map(name="each", branch=branch, iterate_on="items", iterate_as="item"),
    ])
    pipeline.execute(configuration_file="pool.yaml")
    return pipeline


if __name__ == "__main__":
    main()
"""


def test_what_a_signal_cuts_off(project: Project, receiver: Receiver) -> None:
    """SIGTERM ends what runs in the workers: each task and run that began has an end, on the trace and as an event."""
    (project.folder / "waiting.py").write_text(WAITING)
    variables = {"RUNNABLE_OTEL_SINKS": "file:events.jsonl", "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.grpc}
    with project.running(project.python, "waiting.py", **variables) as process:
        began = {("items", "task_completed"), *((f"each.{item}.waits", "task_started") for item in (1, 2))}
        wait_until(lambda: {*began, ("deep", "task_started")} <= seen(project.folder))
        process.terminate()
        process.communicate(timeout=60)
    told = [json.loads(line) for line in (project.folder / "events.jsonl").read_text().splitlines()]
    assert len({event["uid"] for event in told}) == len(told)
    ended = {event["step"]: event for event in told if event["type"] == "task_error"}
    assert {step: event["error"] for step, event in ended.items()} == dict.fromkeys(
        ("each.1.waits", "each.2.waits", "deep"), "cancelled"
    )
    order = [event.get("step") or event["name"] for event in told if event["type"] in ENDS]
    assert order.index("deep") < order.index("inner") < order.index("each.1.waits") < order.index("waiting")
    runs = {event["name"]: event["status"] for event in told if event["type"] == "pipeline_completed"}
    assert runs == {"inner": "cancelled", "waiting": "cancelled"}
    spans = {span.attributes.get("runnable.step.name"): span for span in receiver.spans if span.kind == "task"}
    for step, event in ended.items():
        assert (event["span_id"], spans[step].attributes["status"]) == (spans[step].span, "cancelled")
        assert event["duration_ms"] >= 0
        assert event["started"] < event["time"]


@pytest.mark.parametrize("start", START_METHODS)
def test_a_tasks_own_items_reach_the_queue(project: Project, receiver: Receiver, start: str) -> None:
    """What a task puts into the queue that runnable gives it arrives as it was, of whatever types, before its end."""
    done = pooled(project, "mapped_speaks", start, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    events = queued(done)
    mine = [event for event in events if event["type"] == "mine"]
    assert sorted(event["chunk"] for event in mine) == [1, 2, 3]
    assert {(event["at"], event["set"]) for event in mine} == {("datetime.date(2026, 1, 1)", "{1, 2}")}
    for item in mine:
        order = [each["type"] for each in events if each is item or each.get("step") == f"each.{item['chunk']}.work"]
        assert order == ["task_started", "mine", "task_completed"]


def test_catalogs(project: Project, receiver: Receiver) -> None:
    """The syncs of a worker are spans below its branches."""
    pooled(project, "mapped_catalog", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    (log,) = run_logs(project.folder)
    compare(log, receiver.spans)
    by_id = {span.span: span for span in receiver.spans}
    syncs = [span for span in receiver.spans if span.kind == "catalog"]
    assert {by_id[span.parent].attributes["runnable.branch.name"] for span in syncs} == {"each.1", "each.2", "each.3"}


@pytest.mark.parametrize("start", START_METHODS)
def test_a_workers_secret_is_known_to_all(project: Project, receiver: Receiver, start: str) -> None:
    """A secret that a branch was given is masked in what runs after the pool, too."""
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.grpc, "MY_SECRET": "hunter2-is-out"}
    pooled(project, "parallel_secret", start, **variables)
    after = next(span for span in receiver.spans if span.attributes.get("runnable.step.name") == "after")
    assert json.loads(after.attributes["outputs"]) == {"again": "it was [redacted]"}
    assert "hunter2-is-out" not in repr(receiver.spans) + (project.folder / "events.jsonl").read_text()


@pytest.mark.parametrize("start", START_METHODS)
def test_metrics(project: Project, start: str) -> None:
    """The tasks of the workers are counted by the meter provider of the process that made the pool."""
    variables = {"START_METHOD": start, "CONFIGURATION": "pool.yaml"}
    found = collected(project, "map_fails", **variables)
    works = {
        point["attributes"]["cicd.pipeline.result"]: point["count"]
        for point in found["runnable.task.duration"]
        if point["attributes"]["runnable.step.name"] == "work"
    }
    assert works == {"success": 2, "failure": 1}
    assert {point["value"] for point in found["runnable.task.active"]} == {0}
    (error,) = found["runnable.task.errors"]
    assert error["attributes"]["error.type"] == "KeyError"
    assert error["attributes"]["cicd.pipeline.name"] == "pipelines.main"


def test_tree_on_the_terminal(project: Project) -> None:
    """The tree shows the branches of a pool as it does others; one worker, since it is in the order of starts."""
    done = pooled(project, "mapped", RUNNABLE_TELEMETRY_CONSOLE="true", WORKERS="1")
    lines = [line.split("[")[0].strip() for line in done.stderr.splitlines()]
    assert [line for line in lines if "branch:" in line or "tasks.work" in line] == [
        "├── branch:chunk = 1",
        "│   └── task:tasks.work",
        "├── branch:chunk = 2",
        "│   └── task:tasks.work",
        "└── branch:chunk = 3",
        "└── task:tasks.work",
    ]


PROCESSORS = """
import os, runpy
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

class Mine(SpanProcessor):
    def on_start(self, span, parent_context=None):
        parent = trace.get_current_span(parent_context)
        span.set_attribute("above", getattr(parent, "name", ""))
        print("STARTED", os.getpid(), span.name)

    def on_end(self, span):
        print("ENDED", os.getpid(), span.name, span.attributes["above"])

if __name__ == "__main__":
    provider = TracerProvider()
    provider.add_span_processor(Mine())
    trace.set_tracer_provider(provider)
    import runnable_otel
    runnable_otel.configure()
    print("MAIN", os.getpid())
    runpy.run_path(os.path.abspath("pipelines.py"), run_name="__main__")
"""


@pytest.mark.parametrize("start", START_METHODS)
def test_a_users_processor(project: Project, start: str) -> None:
    """A processor of the user's sees each span begin below its live parent, and end, once, in the main process."""
    variables = {"PIPELINE": "mapped", "START_METHOD": start, "CONFIGURATION": "pool.yaml"}
    out = project.script(PROCESSORS, **variables).stdout.splitlines()
    (main,) = [line.split()[1] for line in out if line.startswith("MAIN ")]
    started = [line for line in out if line.startswith("STARTED ")]
    ended = [line for line in out if line.startswith("ENDED ")]
    assert {line.split()[1] for line in (*started, *ended)} == {main}
    assert len(started) == len(ended) == 9
    assert Counter(line.split(maxsplit=2)[2] for line in ended if "branch" in line) == {
        "branch:chunk map:each": 3,
        "task:tasks.work branch:chunk": 3,
    }


def test_a_worker_that_is_not_observed_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where what a pool ships can't be read, its worker works as without us, and one line says so."""
    monkeypatch.setattr(scopes, "GAPS", Gaps())
    initialized: list[str] = []
    for _ in range(2):
        worker.enter(b"no pickle", initialized.append, ("mine",))
    assert initialized == ["mine", "mine"]
    assert worker.run_branch(len, ("four",), "") == (4, None)
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ["telemetry is incomplete: UnpicklingError in _pool_worker (said once; level DEBUG says more)"]

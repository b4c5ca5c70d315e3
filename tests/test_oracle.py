"""The run log is the oracle: each kind of pipeline runs for real, and its trace is compared attempt by attempt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runnable_otel.propagation import RunRoot
from support.project import Project
from support.receiver import Received, Receiver
from support.runlog import Attempt, attempts, bounded, run_logs

ERROR = 2
KINDS = {"pipeline", "parallel", "map", "loop", "conditional", "branch", "task", "catalog"}

SUCCESSFUL = [
    "python",
    "named",
    "objects",
    "shell",
    "notebook",
    "stub",
    "recovers",
    "parallel",
    "nested",
    "mapped",
    "map_reduced",
    "map_shell",
    "conditional",
    "loop",
    "catalog",
    "mocked",
    "many",
    "async_sequence",
    "async_named",
    "async_imposter",
]
FAILING = {
    "shell_fails": "CalledProcessError: exit status 3: nope",
    "notebook_fails": "ZeroDivisionError: cell kaput",
    "fails": "ValueError: kaput",
    "chained": "RuntimeError: outer",
    "import_fails": "ModuleNotFoundError: No module named 'no_such_module'",
    "wrong_returns": "ValueError: Returns task signature does not match the function returns",
    "missing_parameter": (
        "ValueError: Function take has required parameter 'doubled' that is not present in the parameters"
    ),
    "missing_secret": "SecretNotFoundError: No secret found by name:NO_SUCH_SECRET in environment variables",
    "recovery_fails": "RuntimeError: outer",
    "parallel_fails": "ValueError: kaput",
    "map_fails": "KeyError: 'two'",
    "async_fails": "LookupError: async kaput",
}


def compare(log: dict[str, Any], spans: list[Received]) -> dict[tuple[str, int], Received]:
    """Every promise that holds for every run; returns the task spans by step and attempt."""
    assert len({span.span for span in spans}) == len(spans), "a span twice"
    assert len({span.trace for span in spans}) == 1, "one run, one trace"
    ids = {span.span for span in spans}
    roots = [span for span in spans if span.parent not in ids]
    assert [span.kind for span in roots] == ["pipeline"]
    assert {span.attributes["run_id"] for span in spans if span.kind in KINDS} == {log["run_id"]}

    tasks = [span for span in spans if span.kind == "task"]
    executed = [attempt for attempt in attempts(log["steps"]) if not is_mocked(log, attempt)]
    by_attempt = {(s.attributes["runnable.step.name"], s.attributes["runnable.step.attempt"]): s for s in tasks}
    assert sorted(by_attempt) == sorted((attempt.step, attempt.number) for attempt in executed)
    assert len(tasks) == len(executed)
    for attempt in executed:
        same(attempt, by_attempt[attempt.step, attempt.number])
    for span in spans:
        exceptions = [event for event in span.events if event[0] == "exception"]
        assert len(exceptions) <= 1
        assert (span.status == ERROR) == (span.attributes.get("status", "success") not in ("success", "skipped"))
    return by_attempt


def is_mocked(log: dict[str, Any], attempt: Attempt) -> bool:
    """An attempt that mocked.yaml does not patch was not executed; the run log does not say so."""
    return log["run_config"]["pipeline_executor"]["service_name"] == "mocked" and attempt.step != "take"


def same(attempt: Attempt, span: Received) -> None:
    """One attempt of the run log and its span say the same."""
    assert (span.status != ERROR) == attempt.success
    assert attempt.start <= span.start <= span.end <= attempt.end + 1000  # the run log cuts to microseconds
    assert span.attributes.get("runnable.branch.name", "") == attempt.branch
    if attempt.success:
        assert span.attributes["status"] == "success"
        assert json.loads(span.attributes["inputs"]) == bounded(attempt.inputs)
        assert json.loads(span.attributes.get("outputs", "{}")) == bounded(attempt.outputs)
        assert ("outputs" in span.attributes) == bool(attempt.outputs)
    else:
        assert "outputs" not in span.attributes
        assert span.message == span.attributes["status"]
        assert [name for name, _ in span.events].count("exception") == 1


@pytest.mark.parametrize("name", SUCCESSFUL)
def test_a_pipeline_that_succeeds(project: Project, receiver: Receiver, name: str) -> None:
    """The trace of a successful run is what its run log says."""
    project.pipeline(name, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    (log,) = run_logs(project.folder)
    assert log["status"] == "SUCCESS"
    compare(log, receiver.spans)
    run = next(span for span in receiver.spans if span.kind == "pipeline")
    assert run.attributes["status"] == run.attributes["cicd.pipeline.result"] == "success"


@pytest.mark.parametrize("name", FAILING)
def test_a_pipeline_that_fails(project: Project, receiver: Receiver, name: str) -> None:
    """The trace of a failed run is what its run log says, and names the cause that the user's code raised."""
    project.pipeline(name, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    (log,) = run_logs(project.folder)
    assert log["status"] == "FAIL"
    compare(log, receiver.spans)
    run = next(span for span in receiver.spans if span.kind == "pipeline")
    assert run.status == ERROR
    assert run.attributes["cicd.pipeline.result"] == "failure"
    failed = [span for span in receiver.spans if span.kind == "task" and span.status == ERROR]
    assert FAILING[name] in [span.attributes["status"].rstrip(",") for span in failed]
    assert run.attributes["status"].rstrip(",") == FAILING[name]


def test_a_failing_task(project: Project, receiver: Receiver) -> None:
    """A failed task has the user's own exception: status, one event, the user's stack trace."""
    project.pipeline("fails", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    (task,) = [span for span in receiver.spans if span.kind == "task"]
    assert task.attributes["status"] == task.message == "ValueError: kaput"
    assert task.attributes["error.type"] == "ValueError"
    (event,) = [attributes for name, attributes in task.events if name == "exception"]
    assert event["exception.type"] == "ValueError"
    assert event["exception.message"] == "kaput"
    assert 'raise ValueError("kaput")' in event["exception.stacktrace"]
    assert "tasks.py" in event["exception.stacktrace"]
    assert set(event) == {"exception.type", "exception.message", "exception.stacktrace"}


def test_names_and_attributes(project: Project, receiver: Receiver) -> None:
    """Spans carry the real names, and the attributes of the contract."""
    project.pipeline("python", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    assert [span.name for span in sorted(receiver.spans, key=lambda span: span.start)] == [
        "pipeline:pipelines.main",
        "task:tasks.give",
        "task:tasks.take",
        "task:tasks.nothing",
    ]
    give = next(span for span in receiver.spans if span.name == "task:tasks.give").attributes
    assert give["task_name"] == give["code.function.name"] == "tasks.give"
    assert give["task_type"] == "python"
    assert give["inputs"] == "{}"
    assert give["outputs"] == '{"doubled": 10}'
    assert Path(give["code.file.path"]).name == "tasks.py"
    assert give["code.line.number"] == 1 + (project.folder / "tasks.py").read_text().splitlines().index(
        "def give(x: int = 5) -> int:"
    )
    run = next(span for span in receiver.spans if span.kind == "pipeline")
    assert run.attributes["pipeline_name"] == run.attributes["cicd.pipeline.name"] == "pipelines.main"
    assert run.attributes["executor"] == "LocalExecutor"
    assert run.attributes["runnable.version"] == "0.50.0"
    assert run.resource["service.name"] == "runnable"
    assert run.resource["runnable.version"] == "0.50.0"


def test_shell_task(project: Project, receiver: Receiver) -> None:
    """A shell task is named by its step; its command is folded, its exit code kept, its child in the trace."""
    done = project.pipeline("shell", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    export, trace = sorted((s for s in receiver.spans if s.kind == "task"), key=lambda span: span.start)
    assert export.name == "task:export"
    assert export.attributes["task_name"] == "export answer=42 echo hi"
    assert export.attributes["process.exit.code"] == 0
    seen = json.loads(trace.attributes["outputs"])["seen"]
    assert seen.split("-")[1:3] == [trace.trace, trace.span]
    assert "TRACEPARENT=" not in done.stdout, "runnable prints the child's environment"


def test_branches_and_composites(project: Project, receiver: Receiver) -> None:
    """Composites and branches are spans, and their children lie below them."""
    project.pipeline("mapped", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    by_id = {span.span: span for span in receiver.spans}
    composite = next(span for span in receiver.spans if span.name == "map:each")
    branches = [span for span in receiver.spans if span.name == "branch:chunk"]
    assert [branch.attributes["runnable.branch.name"] for branch in branches] == ["each.1", "each.2", "each.3"]
    assert [branch.attributes["runnable.map.chunk"] for branch in branches] == [1, 2, 3]
    assert {branch.parent for branch in branches} == {composite.span}
    works = [span for span in receiver.spans if span.name == "task:tasks.work"]
    assert [by_id[work.parent].attributes["runnable.branch.name"] for work in works] == ["each.1", "each.2", "each.3"]
    assert [work.attributes["runnable.map.chunk"] for work in works] == [1, 2, 3]


def test_ids_of_composites_and_branches_are_derived(project: Project, receiver: Receiver) -> None:
    """Who knows the run's root and a node's name knows the id of its span, in whatever process that is made."""
    project.pipeline("nested", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    (run,) = [span for span in receiver.spans if span.kind == "pipeline"]
    root = RunRoot(int(run.trace, 16), int(run.span, 16))
    found = {int(s.span, 16) for s in receiver.spans if s.kind in ("parallel", "branch")}
    composites, branches = (
        ("outer", "outer.one.inner"),
        ("outer.one", "outer.two", "outer.one.inner.a", "outer.one.inner.b"),
    )
    assert found == {
        *(root.node_span_id("composite", name) for name in composites),
        *(root.node_span_id("branch", name) for name in branches),
    }


def test_failure_reaches_branch_composite_and_run(project: Project, receiver: Receiver) -> None:
    """A branch that fails makes its composite and the run fail, and the other branches don't."""
    project.pipeline("parallel_fails", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    failed = {span.name for span in receiver.spans if span.status == ERROR}
    assert failed == {"pipeline:pipelines.main", "parallel:both", "branch:bad", "task:tasks.kaput"}


def test_recovery_is_no_failure_of_the_run(project: Project, receiver: Receiver) -> None:
    """A step that fails and has a recovery path is an error; the run is not."""
    project.pipeline("recovers", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    assert {span.name for span in receiver.spans if span.status == ERROR} == {"task:tasks.kaput"}


def test_reducer_that_fails(project: Project, receiver: Receiver) -> None:
    """An exception outside any task is written once, where it was raised."""
    project.pipeline("map_reducer_fails", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    failed = {span.name: span for span in receiver.spans if span.status == ERROR}
    assert set(failed) == {"pipeline:pipelines.main", "map:each"}
    assert {span.attributes["status"] for span in failed.values()} == {"ZeroDivisionError: division by zero"}
    written = [span.name for span in receiver.spans for name, _ in span.events if name == "exception"]
    assert written == ["map:each"]


def test_catalog(project: Project, receiver: Receiver) -> None:
    """A sync that moved files is a span, one that moved none is not."""
    project.pipeline("catalog", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    syncs = [span for span in receiver.spans if span.kind == "catalog"]
    assert [(s.name, s.attributes["runnable.step.name"], s.attributes["runnable.catalog.files"]) for s in syncs] == [
        ("catalog:put", "write", 1),
        ("catalog:get", "read", 1),
    ]


def test_catalog_that_fails(project: Project, receiver: Receiver) -> None:
    """A sync that fails is an error, and the cause of the run's failure."""
    project.pipeline("catalog_fails", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    failed = {span.name: span.attributes["status"] for span in receiver.spans if span.status == ERROR}
    assert set(failed) == {"catalog:put", "pipeline:pipelines.main"}
    assert all(status.startswith("Exception: Did not find any files") for status in failed.values())


SHELL = """
from runnable import Pipeline, ShellTask


def main():
    pipeline = Pipeline(steps=[
        ShellTask(name="sets", command="export TRACEPARENT=00-mine; export TRACESTATE=a=b; export q=1",
                  returns=["TRACEPARENT", "TRACESTATE", "q"]),
        ShellTask(name="sees", command="export seen=$TRACEPARENT", returns=["seen"]),
    ])
    pipeline.execute()
    return pipeline


if __name__ == "__main__":
    main()
"""


def test_a_trace_context_of_the_users_own(project: Project, receiver: Receiver) -> None:
    """What a shell task returns under the names of the trace context is its own, and reaches the next task as it is."""
    found = []
    for enabled in ("false", "true"):
        project.script(SHELL, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc, RUNNABLE_OTEL_ENABLED=enabled)
        log = run_logs(project.folder)[-1]
        found.append({each.step: each.outputs for each in attempts(log["steps"])})
    without, with_us = found
    assert with_us == without
    assert without["sees"] == {"seen": "00-mine"}


@pytest.mark.parametrize(
    ("name", "success"), [("job", True), ("job_fails", False), ("job_shell", True), ("job_notebook", True)]
)
def test_jobs(project: Project, receiver: Receiver, name: str, success: bool) -> None:
    """A job is a span of its own, with one task below it."""
    project.pipeline(name, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    (log,) = run_logs(project.folder)
    (attempt,) = log["job"]["attempts"]
    assert (attempt["status"] == "SUCCESS") == success
    job = next(span for span in receiver.spans if span.kind == "job")
    (task,) = [span for span in receiver.spans if span.kind == "task"]
    assert len(receiver.spans) == 2
    assert task.parent == job.span
    assert job.attributes["job_name"] == "pipelines.main"
    assert (job.status == ERROR, task.status == ERROR) == (not success, not success)
    outputs = {name: each["value"] for name, each in attempt["output_parameters"].items()}
    assert json.loads(task.attributes.get("outputs", "{}")) == outputs


def test_yaml(project: Project, receiver: Receiver) -> None:
    """A pipeline defined in YAML, run by runnable's own command, is named by its file."""
    project.command(
        project.python, "-m", "runnable.cli", "execute", "traversal.yaml", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc
    )
    (log,) = run_logs(project.folder)
    compare(log, receiver.spans)
    run = next(span for span in receiver.spans if span.kind == "pipeline")
    assert run.name == "pipeline:traversal"
    assert [name for name, _ in run.events].count("Step not executed") == 1


def test_retry(project: Project, receiver: Receiver) -> None:
    """A retry is a trace of its own, linked to the run before; what it does not run again is skipped, and linked."""
    variables = {"PIPELINE": "flagged", "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.grpc}
    project.pipeline("flagged", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    first = list(receiver.spans)
    receiver.clear()
    (project.folder / "flag").touch()
    project.command(project.python, "-m", "runnable.cli", "retry", "flagged", **variables)
    second = receiver.spans

    assert {span.trace for span in first}.isdisjoint(span.trace for span in second)
    before = {(s.attributes.get("runnable.step.name"), s.attributes.get("runnable.step.attempt")): s for s in first}
    root_before = next(span for span in first if span.kind == "pipeline")
    root = next(span for span in second if span.kind == "pipeline")
    assert root.links == [(root_before.trace, root_before.span)]
    skipped = {span.name: span for span in second if span.attributes["status"] == "skipped"}
    assert set(skipped) == {"task:tasks.give", "parallel:both"}
    give = skipped["task:tasks.give"]
    assert give.start == give.end
    assert give.links == [(before["give", 1].trace, before["give", 1].span)]
    ran = {
        (span.attributes["runnable.step.name"], span.attributes["runnable.step.attempt"]): span.attributes["status"]
        for span in second
        if span.kind == "task" and span.attributes["status"] != "skipped"
    }
    assert ran == {("flag", 2): "success", ("take", 1): "success"}
    assert root.attributes["status"] == "success"


def test_users_own_spans_nest(project: Project, receiver: Receiver) -> None:
    """A task's own OpenTelemetry and logfire_api spans lie below the task, without logfire installed."""
    project.pipeline("spans", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    task = next(span for span in receiver.spans if span.kind == "task")
    own = [span for span in receiver.spans if span.parent == task.span]
    assert [span.name for span in own] == ["otel span", "logfire span {n}"]


def test_secrets_of_the_secrets_manager(project: Project, receiver: Receiver) -> None:
    """A value that runnable's secrets manager gave a task is in no span."""
    project.pipeline(
        "secret", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc, MY_SECRET="hunter2-is-out", SHELL_SECRET="swordfish-9"
    )
    assert [span.attributes["status"] for span in receiver.spans if span.kind == "task"] == ["success", "success"]
    assert "hunter2-is-out" not in repr(receiver.spans)
    assert "swordfish-9" not in repr(receiver.spans)
    assert any("runnable.redacted" in span.attributes for span in receiver.spans)


def test_secrets_in_commands_and_map_items(project: Project, receiver: Receiver) -> None:
    """A secret in a shell command or a map's item is in no name, attribute or event."""
    project.pipeline("secret_names", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc, RUNNABLE_OTEL_SINKS="file:events.jsonl")
    said = repr(receiver.spans) + (project.folder / "events.jsonl").read_text()
    assert "AKIAIOSFODNN7EXAMPLE" not in said
    assert said.count("[redacted]") > 5


def test_exit_within_a_task(project: Project, receiver: Receiver) -> None:
    """`sys.exit` in a task keeps its exit code; what was running is cancelled, not failed."""
    done = project.pipeline("exits", check=False, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    assert done.returncode == 7
    assert {span.attributes["status"] for span in receiver.spans} == {"cancelled"}
    assert {span.status for span in receiver.spans} == {0}


def test_traceparent(project: Project, receiver: Receiver) -> None:
    """A run hangs below the TRACEPARENT of its environment; a malformed one is ignored with one line."""
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.grpc}
    project.pipeline("named", TRACEPARENT=f"00-{trace}-{parent}-01", **variables)
    run = next(span for span in receiver.spans if span.kind == "pipeline")
    assert (run.trace, run.parent) == (trace, parent)
    receiver.clear()
    done = project.pipeline("named", TRACEPARENT="nonsense", **variables)
    assert next(span for span in receiver.spans if span.kind == "pipeline").parent == ""
    assert [line for line in done.stderr.splitlines() if "TRACEPARENT" in line] == [
        "TRACEPARENT='nonsense' is not a W3C trace context: ignored"
    ]


def test_submission(project: Project, receiver: Receiver) -> None:
    """A process that only submits a workflow says so, and sends no event of a run."""
    project.pipeline("argo", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc, RUNNABLE_OTEL_SINKS="file:events.jsonl")
    (span,) = receiver.spans
    assert (span.name, span.attributes["status"]) == ("submit:pipelines.main", "submitted")
    assert (project.folder / "events.jsonl").read_text() == ""


def test_pool_failure(project: Project, receiver: Receiver) -> None:
    """A composite whose branches ran in a pool of processes has failed where the run log says so."""
    project.pipeline("pool_fails", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    composite = next(span for span in receiver.spans if span.kind == "parallel")
    assert composite.status == ERROR

"""A run whose process died gets its trace from runnable's run log, with the ids that it had, or would have had."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from support.project import Project
from support.receiver import Received, Receiver
from support.runlog import run_logs

KINDS = ("pipeline", "job", "task", "parallel", "map", "loop", "conditional", "branch")
SAME = ("run_id", "task_name", "task_type", "inputs", "outputs", "runnable.step.name", "runnable.step.attempt")
KILLED = """
import os, signal
from runnable import Parallel, Pipeline, PythonTask

def fine():
    return 1

def killed():
    os.kill(os.getpid(), signal.SIGKILL)

def main():
    branch = Pipeline(steps=[PythonTask(name="one", function=fine, returns=["one"])])
    pipeline = Pipeline(steps=[
        PythonTask(name="first", function=fine, returns=["first"]),
        Parallel(name="both", branches={"left": branch, "right": branch.model_copy(deep=True)}),
        PythonTask(name="dies", function=killed),
    ])
    pipeline.execute(run_id="killed")
    return pipeline

if __name__ == "__main__":
    main()
"""
CHUNKED = "run-log-store:\n  type: chunked-fs\n"


def backfill(
    project: Project, run_id: str, receiver: Receiver, *more: str, check: bool = True, **variables: str
) -> Any:
    command = [str(Path(project.python).parent / "runnable-otel"), "backfill", *more, run_id]
    return project.command(*command, check=check, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc, **variables)


def by_id(spans: list[Received]) -> dict[str, Received]:
    found = {span.span: span for span in spans if span.kind in KINDS}
    assert len(found) == len([span for span in spans if span.kind in KINDS])
    return found


@pytest.mark.parametrize(
    "kind",
    [
        *("python", "shell", "notebook", "recovers", "nested", "mapped", "map_reduced", "conditional", "loop"),
        *("async_sequence", "fails", "shell_fails", "parallel_fails", "map_fails", "job"),
    ],
)
def test_the_same_spans_again(project: Project, kind: str) -> None:
    """Of a run that is over, all spans but the catalog's: the same ids, parents, names, values and outcomes."""
    with Receiver() as first, Receiver() as second:
        project.pipeline(kind, OTEL_EXPORTER_OTLP_ENDPOINT=first.grpc)
        (log,) = run_logs(project.folder)
        backfill(project, log["run_id"], second)
        live, filled = by_id(first.spans), by_id(second.spans)
    assert set(live) == set(filled)
    for span_id, span in live.items():
        again = filled[span_id]
        assert (again.trace, again.parent, again.scope) == (span.trace, span.parent, span.scope)
        if kind == "job" and span.kind == "task":  # the run log has no word of a job's function
            assert again.name == "task:pipelines.main"
            continue
        assert again.name == span.name
        assert again.status == span.status
        if span.kind in ("task", "branch"):
            same = {key: value for key, value in span.attributes.items() if key in SAME}
            if not span.status:
                assert {key: value for key, value in again.attributes.items() if key in SAME} == same
        assert again.attributes["runnable.backfilled"] is True
        assert (again.attributes["status"] == "success") == (span.attributes["status"] == "success")
        assert again.start <= again.end
        if span.kind == "task":
            assert abs(again.start - span.start) < 50_000_000
            assert abs(again.end - span.end) < 50_000_000


@pytest.mark.parametrize("config", ["", CHUNKED])
def test_a_run_that_was_killed(project: Project, receiver: Receiver, config: str) -> None:
    """SIGKILL in the middle: what arrived and what the run log has make one trace, no span in two versions of an id."""
    (project.folder / "killed.py").write_text(KILLED)
    more = []
    variables = {}
    if config:
        (project.folder / "chunked.yaml").write_text(config)
        more, variables = ["--config", "chunked.yaml"], {"RUNNABLE_CONFIGURATION_FILE": "chunked.yaml"}
    done = project.command(
        project.python, "killed.py", check=False, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc, **variables
    )
    assert done.returncode == -signal.SIGKILL
    arrived = {span.span for span in receiver.spans}
    receiver.clear()
    out = backfill(project, "killed", receiver, *more).stdout
    spans = {span.name: span for span in receiver.spans}
    assert {span.trace for span in receiver.spans} == {out.split()[0]}
    assert set(spans) == {"pipeline:killed.main", "task:killed.fine", "parallel:both", "branch:left", "branch:right"}
    assert sum(span.name == "task:killed.fine" for span in receiver.spans) == 3
    assert arrived <= {span.span for span in receiver.spans}
    run = spans["pipeline:killed.main"]
    assert run.parent == ""
    assert run.status == 2
    assert run.attributes["status"].startswith("ProcessDied: ")
    assert run.attributes["cicd.pipeline.result"] == "failure"
    assert spans["parallel:both"].attributes["status"] == "success"


def test_a_retry_has_a_trace_of_its_own(project: Project, receiver: Receiver) -> None:
    """Each attempt goes to the run that made it; the second run links to the first."""
    project.pipeline("flagged", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    (project.folder / "flag").touch()
    retry = [project.python, "-m", "runnable.cli", "retry", "flagged"]
    project.command(*retry, PIPELINE="flagged", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    live = {span.span: span.trace for span in receiver.spans if span.kind in ("task", "pipeline") and not skipped(span)}
    receiver.clear()
    backfill(project, "flagged", receiver)
    assert {s.span: s.trace for s in receiver.spans if s.kind in ("task", "pipeline")} == live
    first, second = sorted((s for s in receiver.spans if s.kind == "pipeline"), key=lambda span: span.start)
    assert [link[1] if isinstance(link, tuple) else link for link in second.links] == [first.span]


def skipped(span: Received) -> bool:
    return span.attributes.get("status") == "skipped"


def test_a_run_id_that_is_taken(project: Project, receiver: Receiver) -> None:
    """runnable refuses a second run of an id: what is known of that id stays what the first one was."""
    (project.folder / "failed.py").write_text(
        KILLED.replace("os.kill(os.getpid(), signal.SIGKILL)", "raise ValueError")
    )
    traces = []
    for _ in range(2):
        done = project.command(project.python, "failed.py", check=False, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
        traces.append(receiver.spans[-1].trace)
    assert "already exists" in done.stdout + done.stderr
    assert traces[0] != traces[1]
    receiver.clear()
    backfill(project, "killed", receiver)
    assert {span.trace for span in receiver.spans} == {traces[0]}


def test_without_the_note_of_the_run(project: Project, receiver: Receiver) -> None:
    """Where nobody knows the run's trace, backfill makes a new one and says so."""
    project.pipeline("python")
    (log,) = run_logs(project.folder)
    done = backfill(project, log["run_id"], receiver)
    assert "this is a new one" in done.stderr
    assert sorted(span.kind for span in receiver.spans) == ["pipeline", "task", "task", "task"]


SECRETS = {"MY_SECRET": "hunter2-is-out", "SHELL_SECRET": "swordfish-9"}


def test_secrets_stay_masked(project: Project, receiver: Receiver) -> None:
    """The run log holds the secrets that tasks returned. Where they are known they are masked, as they were."""
    project.pipeline("secret", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc, **SECRETS)
    (log,) = run_logs(project.folder)
    assert "hunter2" in json.dumps(log)
    live = {s.span: (s.attributes["inputs"], s.attributes["outputs"]) for s in receiver.spans if s.kind == "task"}
    receiver.clear()
    backfill(project, log["run_id"], receiver, **SECRETS)
    assert {
        s.span: (s.attributes["inputs"], s.attributes["outputs"]) for s in receiver.spans if s.kind == "task"
    } == live
    assert "hunter2" not in str(receiver.spans)


def test_secrets_that_nobody_knows(project: Project, receiver: Receiver) -> None:
    """Where a secret of the tasks is not in the environment any more, values are not sent at all."""
    project.pipeline("secret", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc, **SECRETS)
    (log,) = run_logs(project.folder)
    receiver.clear()
    backfill(project, log["run_id"], receiver, MY_SECRET="hunter2-is-out")
    assert "swordfish" not in str(receiver.spans)
    assert "hunter2" not in str(receiver.spans)
    outputs = [json.loads(s.attributes["outputs"]) for s in receiver.spans if s.kind == "task"]
    assert {"said": "str"} in outputs


def test_what_is_not_there(project: Project, receiver: Receiver) -> None:
    """No such run, nowhere to send to, an endpoint that is gone: one line each, and exit code 1."""
    done = backfill(project, "no-such-run", receiver, check=False)
    assert done.returncode == 1
    assert "there is no run log of 'no-such-run'" in done.stderr
    assert "Traceback" not in done.stderr
    project.pipeline("python")
    (log,) = run_logs(project.folder)
    command = str(Path(project.python).parent / "runnable-otel")
    done = project.command(command, "backfill", log["run_id"], check=False)
    assert done.returncode == 1
    assert "set OTEL_EXPORTER_OTLP_ENDPOINT" in done.stderr
    assert project.command(command, "backfill", check=False).returncode == 2

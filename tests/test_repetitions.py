"""Every executor over and over: one run, one trace, each attempt of the run log once, every event once and in order.

`make test` runs each once; `make test-processes` twenty times, or `RUNNABLE_OTEL_REPETITIONS`, and counts what was lost
or came twice.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest

from support.container import needs_containers
from support.docker import Docker
from support.kubernetes import Kubernetes
from support.project import Project
from support.receiver import Received, Receiver
from support.runlog import attempts, run_logs
from support.told import in_their_places, of_wire
from support.workflows import log_of, rendered, submit

REPETITIONS: Final = int(os.environ.get("RUNNABLE_OTEL_REPETITIONS", "20"))
AT_ONCE: Final = 2  # repetitions side by side: CI has two cores

Ran = tuple[dict[str, Any], str]
"""The run log, and the kind of the span that is the root of the run."""
Way = Callable[[Project, Receiver], Ran]


def pool(start: str) -> Way:
    def once(project: Project, receiver: Receiver) -> Ran:
        return locally(project, receiver, "small", CONFIGURATION="pool.yaml", START_METHOD=start, WORKERS="2")

    return once


def emulated(project: Project, receiver: Receiver) -> Ran:
    return locally(project, receiver, "small", CONFIGURATION="emulator.yaml")


def shell(project: Project, receiver: Receiver) -> Ran:
    ran = locally(project, receiver, "shell")
    traced = [span for span in receiver.spans if span.attributes.get("runnable.step.name") == "trace"]
    assert [span.trace in span.attributes["outputs"] for span in traced] == [True]
    return ran


def locally(project: Project, receiver: Receiver, name: str, **variables: str) -> Ran:
    project.pipeline(name, **sending(receiver), **variables)
    (log,) = run_logs(project.folder)
    return log, "pipeline"


def docker(name: str, root: str) -> Way:
    """A pipeline in containers; the kind of the span that is its root."""

    def run(project: Project, receiver: Receiver) -> Ran:
        with Docker(project.folder, {"PIPELINE": name}) as engine:
            variables = {"PIPELINE": name, "CONFIGURATION": "docker.yaml", **sending(receiver)}
            engine.run(sys.executable, "pipelines.py", **variables)
        (log,) = run_logs(project.folder)
        return log, root

    return run


def kubernetes_job(project: Project, receiver: Receiver) -> Ran:
    (project.folder / "claim").mkdir()
    with Kubernetes(
        project.folder, {"runnable": project.folder / "claim"}, secrets={"runnable-otel": {"headers": "a=b"}}
    ):
        project.pipeline("job", CONFIGURATION="k8s.yaml", RUNNABLE_VAR_pipeline="job", **sending(receiver))
    (log,) = run_logs(project.folder, "claim")
    return log, "job"


def argo(project: Project, receiver: Receiver) -> Ran:
    workflow = rendered(project, receiver, "small")
    submit(workflow)
    return log_of(workflow), "pipeline"


def sending(receiver: Receiver) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.grpc, "RUNNABLE_OTEL_SINKS": "otlp:"}


contained = needs_containers()
EXECUTORS: Final = {
    "fork": (pool("fork"), ()),
    "forkserver": (pool("forkserver"), ()),
    "spawn": (pool("spawn"), ()),
    "shell": (shell, ()),
    "emulator": (emulated, ()),
    "docker": (docker("small", "pipeline"), contained),
    "docker job": (docker("job", "job"), contained),
    "kubernetes job": (kubernetes_job, contained),
    "argo": (argo, contained),
}


def differences(log: dict[str, Any], root: str, receiver: Receiver) -> Counter[str]:
    """What is lost, doubled or out of its place in one repetition; empty when all is well."""
    found: Counter[str] = Counter()
    assert log["status"] == "SUCCESS", "it must have run"
    spans, events = list(receiver.spans), of_wire(receiver)
    wanted = [(each.step, each.number) for each in attempts(log["steps"])]
    if log.get("job"):
        wanted = [("pipelines.main", 1)]
    tasks = Counter(
        (s.attributes["runnable.step.name"], s.attributes["runnable.step.attempt"]) for s in spans if s.kind == "task"
    )
    found["task spans lost"] = len(set(wanted) - set(tasks))
    found["task spans doubled"] = sum(tasks.values()) - len(tasks)
    found["spans doubled"] = len(spans) - len({span.span for span in spans})
    found["traces too many"] = len({span.trace for span in spans}) - 1
    found["runs too many or few"] = abs(sum(span.kind == root for span in spans) - 1)
    found["out of place"] = 0 if root == "job" or placed(spans) else 1
    told = Counter(event["uid"] for event in events)
    found["events doubled"] = sum(told.values()) - len(told)
    found["events lost"] = 2 + 2 * len(wanted) - len(told)
    for step, number in wanted:
        kinds = [e["type"] for e in events if e.get("step") == step and e.get("attempt") == number]
        found["out of order"] += kinds != ["task_started", "task_completed"]
    return +found


def placed(spans: list[Received]) -> bool:
    try:
        in_their_places(spans)
    except (AssertionError, KeyError):
        return False
    return True


def once(execute: Callable[[Project, Receiver], Ran], folder: Path) -> Counter[str]:
    folder.mkdir()
    with Receiver() as receiver:
        log, root = execute(Project(folder), receiver)
        return differences(log, root, receiver)


@pytest.mark.parametrize("executor", [pytest.param(name, marks=marks) for name, (_, marks) in EXECUTORS.items()])
def test_once(executor: str, tmp_path: Path) -> None:
    """Nothing lost, nothing doubled, all in its place."""
    assert once(EXECUTORS[executor][0], tmp_path / "run") == Counter()


@pytest.mark.processes
@pytest.mark.parametrize("executor", [pytest.param(name, marks=marks) for name, (_, marks) in EXECUTORS.items()])
def test_twenty_times(executor: str, tmp_path: Path) -> None:
    """Twenty repetitions: 0 lost, 0 doubled."""
    with ThreadPoolExecutor(AT_ONCE) as both:
        runs = [both.submit(once, EXECUTORS[executor][0], tmp_path / str(number)) for number in range(REPETITIONS)]
        found: Counter[str] = sum((run.result() for run in runs), Counter())
    print(f"{executor}: {REPETITIONS} repetitions, {dict(found) or '0 lost, 0 doubled'}")
    assert found == Counter()

"""Jobs on Kubernetes: the real client, a cluster that runs each pod as a process."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from runnable_otel.propagation import seeded_trace_id
from support.container import needs_containers
from support.kubernetes import Kubernetes
from support.project import Project
from support.receiver import Received, Receiver
from support.runlog import run_logs
from support.told import of_wire
from test_oracle import ERROR

pytestmark = needs_containers()
heavy = pytest.mark.processes
SECRETS = {"runnable-otel": {"headers": "x-key=of-the-cluster"}}


def cluster(project: Project, **options: Any) -> Kubernetes:
    """A cluster with the folders that the configurations name."""
    volumes = {"runnable": "claim", "/volume/run_logs/": ".run_log_store", "/volume/catalog/": ".catalog"}
    for folder in volumes.values():
        (project.folder / folder).mkdir(exist_ok=True)
    folders = {name: project.folder / folder for name, folder in volumes.items()}
    return Kubernetes(project.folder, folders, secrets=SECRETS, **options)


def submitted(project: Project, receiver: Receiver, name: str, config: str, **variables: str) -> Any:
    sent = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.grpc, "RUNNABLE_OTEL_SINKS": "otlp:"}
    return project.pipeline(name, CONFIGURATION=config, RUNNABLE_VAR_pipeline=name, **sent, **variables)


def by_kind(receiver: Receiver) -> tuple[Received, list[Received], list[Received]]:
    """The span of the submission, those of the runs and those of the tasks, the oldest first."""
    ordered = sorted(receiver.spans, key=lambda span: span.start)
    (submit,) = [span for span in ordered if span.kind == "submit"]
    jobs, tasks = ([span for span in ordered if span.kind == kind] for kind in ("job", "task"))
    assert len(ordered) == 1 + len(jobs) + len(tasks)
    return submit, jobs, tasks


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ("k8s.yaml", "job"),
        *(pytest.param(config, "job_shell", marks=heavy) for config in ("k8s.yaml", "minikube.yaml")),
    ],
)
def test_a_job(project: Project, receiver: Receiver, config: str, name: str) -> None:
    """One trace: the submission, below it the run of the pod with its task. The submission sends no event."""
    with cluster(project) as kubernetes:
        submitted(project, receiver, name, config)
    assert [ran.code for ran in kubernetes.ran] == [0]
    submit, (job,), (task,) = by_kind(receiver)
    assert (submit.name, submit.attributes["status"]) == ("submit:pipelines.main", "submitted")
    assert {span.trace for span in receiver.spans} == {submit.trace}
    assert (job.parent, task.parent) == (submit.span, job.span)
    assert job.attributes["status"] == task.attributes["status"] == "success"
    assert job.attributes["run_id"] == task.attributes["run_id"] == submit.attributes["run_id"]
    store = ".run_log_store" if config == "minikube.yaml" else "claim"
    (log,) = run_logs(project.folder, store)
    assert len(log["job"]["attempts"]) == 1
    assert [event["type"] for event in of_wire(receiver)] == [
        "pipeline_started",
        "task_started",
        "task_completed",
        "pipeline_completed",
    ]
    assert {event["trace_id"] for event in of_wire(receiver)} == {submit.trace}


def test_what_a_pod_is_given(project: Project, receiver: Receiver) -> None:
    """The trace, the uid of its job and the variables that are no credentials; a credential is a reference, in the

    request as in the file; the configuration wins.
    """
    variables = {
        "OTEL_EXPORTER_OTLP_HEADERS": "x-key=of-the-shell",
        "OTEL_SERVICE_NAME": "nightly",
        "OTEL_RUNNABLE_SINK_TOKEN": "hunter3",
    }
    with cluster(project) as kubernetes:
        done = submitted(project, receiver, "job", "k8s.yaml", **variables)
    submit, _, _ = by_kind(receiver)
    (body,) = kubernetes.bodies
    env = body["spec"]["template"]["spec"]["containers"][0]["env"]
    given = {each["name"]: each.get("value", each.get("valueFrom")) for each in env}
    assert len(given) == len(env)
    assert given.pop("TRACEPARENT").split("-")[1:3] == [submit.trace, submit.span]
    assert given == {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.grpc,
        "OTEL_EXPORTER_OTLP_HEADERS": {"secretKeyRef": {"name": "runnable-otel", "key": "headers"}},
        "OTEL_SERVICE_NAME": "nightly",
        "PIPELINE": "job",
        "RUNNABLE_OTEL_SEED": {"fieldRef": {"fieldPath": "metadata.labels['batch.kubernetes.io/controller-uid']"}},
        "RUNNABLE_OTEL_SINKS": "otlp:",
    }
    assert kubernetes.ran[0].environ["OTEL_EXPORTER_OTLP_HEADERS"] == "x-key=of-the-cluster"
    assert "of-the-shell" not in repr(kubernetes.bodies)
    assert "hunter3" not in repr(kubernetes.bodies)
    warnings = [line for line in done.stderr.splitlines() if line.startswith("OTEL_")]
    assert [line.partition(" ")[0].partition("=")[0] for line in warnings] == [
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_RUNNABLE_SINK_TOKEN",
    ]
    assert "is the pod itself" in warnings[0]


def test_a_job_that_is_tried_again(project: Project, receiver: Receiver) -> None:
    """Each pod of a job is a run, and an attempt, of its own, below the one submission: no id is there twice."""
    with cluster(project) as kubernetes:
        submitted(project, receiver, "job_fails", "minikube.yaml")
    assert [ran.code for ran in kubernetes.ran] == [1, 1]
    submit, jobs, tasks = by_kind(receiver)
    (log,) = run_logs(project.folder)
    assert len({span.span for span in receiver.spans}) == len(receiver.spans) == 5
    assert len(jobs) == len(tasks) == len(log["job"]["attempts"]) == 2
    assert {span.parent for span in jobs} == {submit.span}
    assert [task.parent for task in tasks] == [job.span for job in jobs]
    assert [task.attributes["runnable.step.attempt"] for task in tasks] == [1, 2]
    assert {span.attributes["status"] for span in (*jobs, *tasks)} == {"ValueError: kaput"}
    assert {span.status for span in (*jobs, *tasks)} == {ERROR}
    events = of_wire(receiver)
    assert len({event["uid"] for event in events}) == len(events) == 8


@heavy
def test_a_pod_that_is_killed(project: Project, receiver: Receiver) -> None:
    """SIGKILL to the first pod of a job: the second one's run and task are there, once."""
    with cluster(project, kill=lambda number: signal.SIGKILL * (number == 0)) as kubernetes:
        submitted(project, receiver, "job", "minikube.yaml")
    assert [ran.code for ran in kubernetes.ran] == [-signal.SIGKILL, 0]
    submit, (job,), (task,) = by_kind(receiver)
    assert (job.parent, task.parent) == (submit.span, job.span)
    assert {span.trace for span in receiver.spans} == {submit.trace}


@heavy
def test_a_job_that_is_scheduled(project: Project, receiver: Receiver) -> None:
    """Each time that a cron job fires is a trace of its own, which its pods derive from the uid of the job."""
    with cluster(project) as kubernetes:
        submitted(project, receiver, "job", "k8s_cron.yaml")
        (body,) = kubernetes.bodies
        assert body["kind"] == "CronJob"
        env = body["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["env"]
        assert "TRACEPARENT" not in {each["name"] for each in env}
        kubernetes.fire(body)
        kubernetes.settle()
        kubernetes.fire(body)
        kubernetes.settle()
    assert [ran.code for ran in kubernetes.ran] == [0, 1, 1], "runnable refuses a run id that it has seen"
    submit, jobs, (task,) = by_kind(receiver)
    run_id = submit.attributes["run_id"]
    seeds = [ran.environ["RUNNABLE_OTEL_SEED"] for ran in kubernetes.ran]
    assert [int(span.trace, 16) for span in jobs] == [seeded_trace_id(seed, run_id) for seed in seeds]
    assert jobs[1].trace == jobs[2].trace
    assert len({span.trace for span in receiver.spans}) == 3
    assert (task.trace, task.parent) == (jobs[0].trace, jobs[0].span)
    assert {span.parent for span in jobs} == {""}


@heavy
def test_jobs_attempts_in_backfill(project: Project, receiver: Receiver) -> None:
    """Of a job that was tried twice, backfill sends two attempts, with ids of their own."""
    with cluster(project):
        submitted(project, receiver, "job_fails", "minikube.yaml")
    (log,) = run_logs(project.folder)
    receiver.clear()
    command = [str(Path(sys.executable).parent / "runnable-otel"), "backfill", log["run_id"]]
    done = project.command(*command, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    assert "this is a new one" in done.stderr
    tasks = [span for span in receiver.spans if span.kind == "task"]
    assert len({span.span for span in tasks}) == len(tasks) == 2
    assert sorted(span.attributes["runnable.step.attempt"] for span in tasks) == [1, 2]


@heavy
def test_the_configuration_is_left_as_it_was(project: Project, receiver: Receiver) -> None:
    """What a pod is given is in the request, not in the run log."""
    with cluster(project):
        submitted(project, receiver, "job", "minikube.yaml")
    (log,) = run_logs(project.folder)
    assert "TRACEPARENT" not in repr(log)
    assert "OTEL_EXPORTER" not in repr(log)

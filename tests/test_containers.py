"""Steps and jobs in local containers: the real Docker client, an engine that runs each container as a process."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from support.container import needs_containers
from support.docker import DIGEST, Docker
from support.project import Project
from support.receiver import Receiver
from support.runlog import run_logs
from support.told import in_their_places, of_wire, told
from test_oracle import ERROR, compare

pytestmark = needs_containers()
heavy = pytest.mark.processes
POOL = "    enable_parallel: true\n"


def host(docker: Docker, receiver: Receiver, name: str, **variables: str) -> Any:
    """Run a pipeline of the test project whose steps are containers."""
    sent = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.grpc, "RUNNABLE_OTEL_SINKS": "otlp:"}
    known = {"PIPELINE": name, "CONFIGURATION": "docker.yaml", **sent}
    done = docker.run(sys.executable, "pipelines.py", **{**known, **variables})
    assert done.returncode == 0, done.stderr
    return done


def engine(project: Project, name: str, **options: Any) -> Docker:
    return Docker(project.folder, {"PIPELINE": name}, **options)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=heavy) for name in ("python", "shell", "notebook", "mapped", "nested", "conditional")],
)
def test_steps_in_containers(project: Project, receiver: Receiver, name: str) -> None:
    """One trace, each attempt of the run log once, parents right, every event once and in order."""
    with engine(project, name) as docker:
        host(docker, receiver, name)
    (log,) = run_logs(project.folder)
    assert log["status"] == "SUCCESS"
    tasks = compare(log, receiver.spans)
    in_their_places(receiver.spans)
    told(log, of_wire(receiver), one_process=False)
    assert len({span.attributes["process.pid"] for span in tasks.values()}) == len(tasks) == len(docker.containers)
    assert {span.attributes["run_id"] for span in tasks.values()} == {log["run_id"]}
    assert {tuple(span.resource["container.image.repo_digests"]) for span in tasks.values()} == {(DIGEST,)}


@heavy
@pytest.mark.parametrize("start", ["fork", "forkserver", "spawn"])
def test_containers_of_a_pool(project: Project, receiver: Receiver, start: str) -> None:
    """With `enable_parallel` the workers of the pool start the containers: still one trace, nothing twice."""
    file = project.folder / "docker.yaml"
    store = "run-log-store:\n  type: chunked-fs\n"
    file.write_text(file.read_text().replace("\njob-executor", f"\n{POOL}{store}job-executor", 1))
    with engine(project, "parallel") as docker:
        done = host(docker, receiver, "parallel", START_METHOD=start)
    (log,) = run_logs(project.folder)
    assert log["status"] == "SUCCESS"
    compare(log, receiver.spans)
    in_their_places(receiver.spans)
    told(log, of_wire(receiver), one_process=False)
    assert done.stderr.count("is the container itself") == 1, "said once, not in each worker"


def test_what_a_container_is_given(project: Project, receiver: Receiver) -> None:
    """The trace, the run and the variables that are no credentials; the configuration wins, and may name a credential

    of the host's; one warning says what can't work there.
    """
    file = project.folder / "docker.yaml"
    environment = (
        "    environment:\n      OTEL_SERVICE_NAME: configured\n      MINE: '1'\n"
        "      OTEL_EXPORTER_OTLP_TRACES_HEADERS: env:OTEL_EXPORTER_OTLP_HEADERS\n"
    )
    image = "    docker_image: an-image\n"
    file.write_text(file.read_text().replace(image, image + environment))
    variables = {
        "OTEL_SERVICE_NAME": "of the host",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-key=hunter2",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "7",
        "OTEL_RUNNABLE_SINK_TOKEN": "hunter3",
        "RUNNABLE_OTEL_CAPTURE": "keys",
    }
    with engine(project, "fails") as docker:
        done = host(docker, receiver, "fails", **variables)
    (run,) = [span for span in receiver.spans if span.kind == "pipeline"]
    (one,) = docker.containers
    assert one.removed, "runnable removes what it made"
    environ = one.environ
    assert environ.pop("TRACEPARENT").split("-")[1:3] == [run.trace, run.span]
    assert json.loads(environ.pop("_RUNNABLE_OTEL_RUN"))[:2] == [run.trace, run.span]
    assert environ == {
        "MINE": "1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.grpc,
        "OTEL_EXPORTER_OTLP_TIMEOUT": "7",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "x-key=hunter2",
        "OTEL_SERVICE_NAME": "configured",
        "RUNNABLE_CODE_ID_DOCKER_IMAGE_DIGEST": DIGEST,
        "RUNNABLE_OTEL_CAPTURE": "keys",
        "RUNNABLE_OTEL_SINKS": "otlp:",
    }
    assert "hunter" not in repr(run_logs(project.folder)) + done.stdout
    warnings = [line for line in done.stderr.splitlines() if line.startswith(("OTEL_", "RUNNABLE_OTEL_"))]
    assert len(warnings) == 3, "of the endpoint and of two credentials"
    assert warnings[0].startswith(f"OTEL_EXPORTER_OTLP_ENDPOINT={receiver.grpc} is the container itself")
    assert "http://host.docker.internal:4317" in warnings[0]
    assert "hunter" not in "".join(warnings)


@heavy
def test_a_configured_endpoint_is_not_warned_of(project: Project, receiver: Receiver) -> None:
    """Where the configuration names an endpoint that containers reach, there is nothing to say."""
    file = project.folder / "docker.yaml"
    image = "    docker_image: an-image\n"
    environment = "    environment:\n      OTEL_EXPORTER_OTLP_ENDPOINT: http://collector:1\n"
    file.write_text(file.read_text().replace(image, image + environment))
    with engine(project, "fails") as docker:
        done = host(docker, receiver, "fails", OTEL_BSP_EXPORT_TIMEOUT="100")
    assert docker.containers[0].environ["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://collector:1"
    assert "is the container itself" not in done.stderr


def test_a_step_that_fails(project: Project, receiver: Receiver) -> None:
    """The cause is on the task; that its container failed is on the run."""
    with engine(project, "fails") as docker:
        host(docker, receiver, "fails")
    (log,) = run_logs(project.folder)
    (task,) = [span for span in receiver.spans if span.kind == "task"]
    (run,) = [span for span in receiver.spans if span.kind == "pipeline"]
    assert (task.attributes["status"], task.parent, task.trace) == ("ValueError: kaput", run.span, run.trace)
    assert run.status == ERROR
    assert run.attributes["status"].startswith("Exception: Node execution inside the container failed")
    assert log["status"] == "PROCESSING", "runnable leaves it so"


def test_a_container_that_is_killed(project: Project, receiver: Receiver) -> None:
    """SIGKILL to a container: what had ended is there, once; the run fails of it."""
    with engine(project, "python", kill=lambda number: signal.SIGKILL * (number == 1)) as docker:
        host(docker, receiver, "python")
    assert sorted(span.name for span in receiver.spans) == ["pipeline:pipelines.main", "task:tasks.give"]
    (run,) = [span for span in receiver.spans if span.kind == "pipeline"]
    assert run.attributes["status"] == "Exception: Docker command failed with exit code 137"
    kinds = [event["type"] for event in of_wire(receiver)]
    assert sorted(kinds) == ["pipeline_completed", "pipeline_started", "task_completed", "task_started"]


@pytest.mark.parametrize(("name", "success"), [("job", True), pytest.param("job_fails", False, marks=heavy)])
def test_a_job_in_a_container(project: Project, receiver: Receiver, name: str, success: bool) -> None:
    """A job is one span of the process that submits it, and one task below, of its container."""
    with engine(project, name) as docker:
        done = host(docker, receiver, name, OTEL_EXPORTER_OTLP_HEADERS="x-key=hunter2")
    job, task = sorted(receiver.spans, key=lambda span: span.kind)
    assert (job.kind, task.kind) == ("job", "task")
    assert (task.trace, task.parent) == (job.trace, job.span)
    assert (job.status == ERROR, task.status == ERROR) == (not success, not success)
    assert sorted(event["type"] for event in of_wire(receiver)) == sorted(
        ["pipeline_completed", "pipeline_started", "task_started", "task_completed" if success else "task_error"]
    )
    (one,) = docker.containers
    assert "hunter2" not in repr(one.created)
    assert done.stderr.count("is the container itself") == 1
    (log,) = run_logs(project.folder)
    assert "TRACEPARENT" not in repr(log), "the configuration stays as it was"


def test_without_telemetry(project: Project, tmp_path: Path) -> None:
    """Where nothing switches telemetry on, containers get what the configuration says and runnable adds."""
    with engine(project, "fails") as docker:
        docker.run(sys.executable, "pipelines.py", PIPELINE="fails", CONFIGURATION="docker.yaml")
    assert docker.containers[0].environ == {"RUNNABLE_CODE_ID_DOCKER_IMAGE_DIGEST": DIGEST}

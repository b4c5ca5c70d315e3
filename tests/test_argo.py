"""A workflow on Argo is one trace, though each node is a pod of its own that knows of no other."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ruamel.yaml import YAML

from runnable_otel.argo.workflow import Told, told
from runnable_otel.propagation import RunRoot, seeded_root, seeded_trace_id
from support.argo import Argo
from support.container import needs_containers
from support.project import Project
from support.receiver import Received, Receiver
from support.runlog import attempts
from support.told import in_their_places, of_wire
from support.told import told as told_by_events
from support.workflows import CONFIG, log_of, rendered, submit
from test_oracle import ERROR, compare

UID = "0b7f2e0a-6f2e-4f6e-9d7e-5a6d3a0f9c11"
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
NEW_YEAR = 1_767_225_600 * 10**9
heavy = pytest.mark.processes


# --- what a pod is told ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"RUNNABLE_OTEL_SEED": ""}, None),
        ({"RUNNABLE_OTEL_SEED": UID}, Told(UID, 0)),
        ({"RUNNABLE_CODE_ID_ARGO_WORKFLOW_UID": UID}, Told(UID, 0)),
        ({"RUNNABLE_OTEL_SEED": UID, "RUNNABLE_OTEL_STARTED": "2026-01-01T00:00:00Z"}, Told(UID, NEW_YEAR)),
        ({"RUNNABLE_OTEL_SEED": UID, "RUNNABLE_OTEL_STARTED": "2026-01-01T02:00:00+02:00"}, Told(UID, NEW_YEAR)),
        ({"RUNNABLE_OTEL_SEED": UID, "RUNNABLE_OTEL_STARTED": "yesterday"}, Told(UID, 0)),
        ({"RUNNABLE_OTEL_SEED": UID, "error_on_existing_run_id": "true"}, Told(UID, 0, first=True)),
        ({"RUNNABLE_OTEL_SEED": UID, "RUNNABLE_OTEL_TRY": "0/2"}, Told(UID, 0, last=False)),
        ({"RUNNABLE_OTEL_SEED": UID, "RUNNABLE_OTEL_TRY": "1/2"}, Told(UID, 0, again=True, last=False)),
        ({"RUNNABLE_OTEL_SEED": UID, "RUNNABLE_OTEL_TRY": "2/2"}, Told(UID, 0, again=True)),
        ({"RUNNABLE_OTEL_SEED": UID, "RUNNABLE_OTEL_TRY": "{{retries}}/2"}, Told(UID, 0)),
        ({"RUNNABLE_OTEL_SEED": UID, "RUNNABLE_OTEL_TRY": "nonsense"}, Told(UID, 0)),
    ],
)
def test_told(environ: dict[str, str], expected: Told | None) -> None:
    """A pod reads what it is told; what is damaged counts as not told."""
    assert told(environ) == expected


def test_ids_from_a_seed() -> None:
    """Seed, run id and retry indicator name a run; a run id may hold anything; ids are never 0 and fit W3C's sizes."""
    hostile = ("", "nightly", "../../etc/passwd", "a\nb", "\ud800", "x" * 1_000_000, "🚀")
    roots = [seeded_root(UID, run_id) for run_id in hostile]
    roots += [seeded_root(UID, "nightly", "1"), seeded_root(UID + "x", "nightly"), seeded_root("", UID + "nightly")]
    assert len({root.trace_id for root in roots}) == len({root.span_id for root in roots}) == len(roots)
    assert all(0 < root.trace_id < 2**128 and 0 < root.span_id < 2**64 for root in roots)
    assert seeded_root(UID, "nightly").trace_id == seeded_trace_id(UID, "nightly")
    joined = seeded_root(UID, "nightly", trace_id=7)
    assert joined.trace_id == 7
    assert joined.span_id != seeded_root(UID, "nightly").span_id


# --- rendering -------------------------------------------------------------------------------------------------------


def containers(file: Path) -> dict[str, dict[str, Any]]:
    """Name of each container template to the names and values, or references, of its environment."""
    workflow = YAML(typ="safe").load(file)
    spec = workflow["spec"].get("workflowSpec", workflow["spec"])
    return {
        each["name"]: {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in each["container"]["env"]}
        for each in spec["templates"]
        if "container" in each
    }


def test_a_rendered_workflow(project: Project, receiver: Receiver) -> None:
    """Every container has the seed, the time and where to send; of a credential the file has a reference only."""
    file = project.folder / CONFIG
    headers = (
        "\n        - name: OTEL_EXPORTER_OTLP_HEADERS\n          value: secretKeyRef:otel/headers\n    argoWorkflow:"
    )
    file.write_text(file.read_text().replace("\n    argoWorkflow:", headers))
    project.pipeline(
        "mapped",
        CONFIGURATION=CONFIG,
        RUNNABLE_VAR_endpoint="http://collector:4317",
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc,
        OTEL_EXPORTER_OTLP_HEADERS="x-key=hunter2",
    )
    text = (project.folder / "argo-pipeline.yaml").read_text()
    assert "hunter2" not in text
    assert receiver.grpc not in text, "the endpoint of the machine that renders is its own"
    found = containers(project.folder / "argo-pipeline.yaml")
    assert len(found) == 6
    for environ in found.values():
        assert environ["RUNNABLE_OTEL_SEED"] == "{{workflow.uid}}"
        assert environ["RUNNABLE_OTEL_STARTED"] == "{{workflow.creationTimestamp}}"
        assert environ["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://collector:4317"
        assert environ["OTEL_EXPORTER_OTLP_HEADERS"] == {"secretKeyRef": {"name": "otel", "key": "headers"}}
        assert "RUNNABLE_OTEL_TRY" not in environ


@pytest.mark.parametrize(
    ("policy", "said"), [("Always", True), ("OnFailure", True), ("OnError", False), ("OnTransientError", False)]
)
def test_retries_are_rendered(project: Project, policy: str, said: bool) -> None:
    """Where Argo retries what fails, a pod is told which try it is, in a template that has the strategy itself."""
    file = project.folder / CONFIG
    retries = f"      retryStrategy:\n        limit: 2\n        retryPolicy: {policy}\n"
    file.write_text(file.read_text().replace("      image: an-image\n", "      image: an-image\n" + retries))
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    project.pipeline("python", CONFIGURATION=CONFIG, RUNNABLE_VAR_endpoint="http://collector:4317", **endpoint)
    rendered_file = project.folder / "argo-pipeline.yaml"
    for environ in containers(rendered_file).values():
        assert environ.get("RUNNABLE_OTEL_TRY") == ("{{retries}}/2" if said else None)
    templates = [each for each in YAML(typ="safe").load(rendered_file)["spec"]["templates"] if "container" in each]
    strategies = [each.get("retryStrategy", {}).get("limit") for each in templates]
    assert strategies == [2 if said else None] * len(templates)


def test_a_cron_workflow_is_rendered_alike(project: Project) -> None:
    """Each run of a cron workflow is a workflow of its own, with its own uid: the same containers."""
    file = project.folder / CONFIG
    cron = "    cronSchedule:\n      schedules:\n        - '0 2 * * *'\n    defaults:"
    file.write_text(file.read_text().replace("    defaults:", cron))
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    project.pipeline("python", CONFIGURATION=CONFIG, RUNNABLE_VAR_endpoint="http://collector:4317", **endpoint)
    workflow = YAML(typ="safe").load(project.folder / "argo-pipeline.yaml")
    assert workflow["kind"] == "CronWorkflow"
    found = containers(project.folder / "argo-pipeline.yaml")
    assert {environ["RUNNABLE_OTEL_SEED"] for environ in found.values()} == {"{{workflow.uid}}"}


def test_the_workflow_is_else_the_same(project: Project) -> None:
    """Without ours, the rendered workflow is what runnable renders by itself, but for its random names."""
    shown = []
    for variables in ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, {}):
        project.pipeline("mapped", CONFIGURATION=CONFIG, RUNNABLE_VAR_endpoint="http://collector:4317", **variables)
        workflow = YAML(typ="safe").load(project.folder / "argo-pipeline.yaml")
        for each in workflow["spec"]["templates"]:
            if "container" in each:
                is_fan = "fan" in each["container"]["command"]
                own = ("RUNNABLE_OTEL_SEED", "RUNNABLE_OTEL_STARTED")
                extra = (*own, "OTEL_EXPORTER_OTLP_ENDPOINT", "RUNNABLE_OTEL_SINKS") if is_fan else own
                env = each["container"]["env"]
                each["container"]["env"] = [entry for entry in env if entry["name"] not in extra]
        shown.append(len(json.dumps(workflow)))
    assert shown[0] == shown[1]


# --- running ---------------------------------------------------------------------------------------------------------


@needs_containers()
@pytest.mark.parametrize(
    "name",
    [
        "map_fails",
        *(
            pytest.param(name, marks=heavy)
            for name in ("python", "nested", "shell", "mapped", "conditional", "parallel_fails")
        ),
        *(
            pytest.param(name, marks=heavy)
            for name in ("fails", "recovers", "recovery_fails", "catalog", "map_reduced")
        ),
    ],
)
def test_a_workflow(project: Project, receiver: Receiver, name: str) -> None:
    """One trace, each attempt of the run log once, parents right, the run's span from the workflow's creation to its

    end; every event once, in order.
    """
    argo = rendered(project, receiver, name)
    phase = submit(argo, uid=UID)
    log = log_of(argo)
    assert log["status"] == ("SUCCESS" if phase == "Succeeded" or name == "recovers" else "FAIL")
    exact(argo, receiver)
    (run,) = [span for span in receiver.spans if span.kind == "pipeline"]
    assert RunRoot(int(run.trace, 16), int(run.span, 16)) == seeded_root(UID, "nightly")
    assert run.name == "pipeline:pipelines.main"
    assert run.attributes["executor"] == "ArgoExecutor"
    assert run.attributes["status"] == ("success" if log["status"] == "SUCCESS" else run.message)
    assert run.attributes["cicd.pipeline.result"] == ("success" if log["status"] == "SUCCESS" else "failure")
    assert all(run.start <= span.start <= span.end <= run.end for span in receiver.spans)


def exact(argo: Argo, receiver: Receiver) -> dict[tuple[str, int], Received]:
    """All that holds for every workflow; returns the task spans by step and attempt."""
    log = log_of(argo)
    tasks = compare(log, receiver.spans)
    in_their_places(receiver.spans)
    told_by_events(log, of_wire(receiver))
    assert {log_record.resource["service.name"] for log_record in receiver.logs} == {"runnable"}
    return tasks


@needs_containers()
def test_the_causes_of_a_failure(project: Project, receiver: Receiver) -> None:
    """A task's own cause is on the task, and on the run where its pod was the last; further up it is what the run log

    says.
    """
    argo = rendered(project, receiver, "fails")
    assert submit(argo) == "Failed"
    exact(argo, receiver)
    assert {span.attributes["status"] for span in receiver.spans} == {"ValueError: kaput"}
    completed = of_wire(receiver)[-1]
    assert (completed["status"], completed["error"]) == ("error", "ValueError: kaput")


@needs_containers()
@heavy
def test_a_reducer_that_fails(project: Project, receiver: Receiver) -> None:
    """What the pod that fans in fails of itself is the cause of its node, with the exception, and of the run."""
    argo = rendered(project, receiver, "map_reducer_fails")
    assert submit(argo) == "Failed"
    exact(argo, receiver)
    status = {span.kind: span.attributes["status"] for span in receiver.spans}
    assert status["map"] == status["pipeline"] == "ZeroDivisionError: division by zero"
    assert status["branch"] == status["task"] == "success"
    (node,) = [span for span in receiver.spans if span.kind == "map"]
    assert [name for name, _ in node.events] == ["exception"]


@needs_containers()
def test_a_run_that_is_retried(project: Project, receiver: Receiver) -> None:
    """A retry is a workflow of its own, and so a trace, linked to the one before: what that had done shows as skipped,

    linked to the attempt that did it.
    """
    argo = rendered(project, receiver, "flagged")
    assert submit(argo, "flagged", uid="first") == "Failed"
    exact(argo, receiver)
    before = {span.attributes.get("runnable.step.name", ""): span for span in receiver.spans if span.kind == "task"}
    (first,) = [span for span in receiver.spans if span.kind == "pipeline"]
    assert first.attributes["status"].startswith("OSError: no flag")
    receiver.clear()

    (project.folder / "flag").touch()
    assert submit(argo, "flagged", uid="second", retry_run_id="flagged", retry_indicator="1") == "Succeeded"
    (trace,) = {span.trace for span in receiver.spans}
    root = seeded_root("second", "flagged", "1")
    assert int(trace, 16) == root.trace_id != int(first.trace, 16)
    (run,) = [span for span in receiver.spans if span.kind == "pipeline"]
    assert (int(run.span, 16), run.attributes["status"]) == (root.span_id, "success")
    assert run.links == [(first.trace, first.span)]
    skipped = {s.name: s for s in receiver.spans if s.attributes["status"] == "skipped"}
    assert set(skipped) == {"task:tasks.give", "parallel:both"}
    give = before["give"]
    assert skipped["task:tasks.give"].links == [(give.trace, give.span)]
    assert skipped["parallel:both"].links == [(first.trace, first.span)]
    assert {span.parent for span in skipped.values()} == {run.span}
    assert all(span.start == span.end for span in skipped.values())
    ran = {
        s.attributes["runnable.step.name"]: s
        for s in receiver.spans
        if s.attributes["status"] == "success" and s != run
    }
    assert {step: span.attributes["runnable.step.attempt"] for step, span in ran.items()} == {"flag": 2, "take": 1}
    events = of_wire(receiver)
    assert len({event["uid"] for event in events}) == len(events)
    kinds = sorted(event["type"] for event in events)
    ends = ["pipeline_completed", "pipeline_started", *["task_completed"] * 2]
    assert kinds == [*ends, *["task_skipped"] * 2, *["task_started"] * 2]


@needs_containers()
@heavy
def test_a_pod_that_is_retried_and_one_that_is_killed(project: Project, receiver: Receiver) -> None:
    """Argo starts a pod again that is killed before runnable has begun: nothing of it is there twice, and the run ends

    once, though pods fail in between.
    """
    file = project.folder / CONFIG
    retries = "      retryStrategy:\n        limit: 1\n"
    file.write_text(file.read_text().replace("      image: an-image\n", "      image: an-image\n" + retries))
    killed: list[str] = []

    def kill(template: str, retry: int) -> int:
        wanted = retry == 0 and not template.startswith(("both-good-say", "success"))
        killed.extend([template] * wanted)
        return signal.SIGKILL * wanted

    argo = rendered(project, receiver, "parallel", kill=kill)
    assert submit(argo) == "Succeeded"
    assert len(killed) > 4
    exact(argo, receiver)


@needs_containers()
@heavy
@pytest.mark.parametrize(("name", "last"), [("fails", "kaput"), ("parallel_fails", "fan-in")])
def test_pods_that_fail_until_the_last_try(project: Project, receiver: Receiver, name: str, last: str) -> None:
    """A pod that fails, and that Argo starts again, ends neither node nor run: the last try does, once."""
    file = project.folder / CONFIG
    retries = "      retryStrategy:\n        limit: 2\n"
    file.write_text(file.read_text().replace("      image: an-image\n", "      image: an-image\n" + retries))
    argo = rendered(project, receiver, name)
    assert submit(argo) == "Failed"
    assert [each.code for each in argo.ran if last in each.template] == [1, 1, 1], "it was tried three times"
    exact(argo, receiver)
    (run,) = [span for span in receiver.spans if span.kind == "pipeline"]
    assert run.attributes["status"] == "TaskFailed: Call to the function tasks.kaput did not succeed."


@needs_containers()
def test_argos_own_trace_wins(project: Project, receiver: Receiver) -> None:
    """Where Argo 4 gives each container a TRACEPARENT, the run joins that trace, sampled as that says."""
    argo = rendered(project, receiver, "named", parent=lambda: PARENT)
    assert submit(argo, uid=UID) == "Succeeded"
    assert {span.trace for span in receiver.spans} == {PARENT.split("-")[1]}
    (run,) = [span for span in receiver.spans if span.kind == "pipeline"]
    assert run.parent == PARENT.split("-")[2]
    assert {span.parent for span in receiver.spans if span.kind == "task"} == {run.span}
    compare(log_of(argo), [*receiver.spans])
    argo.parent = lambda: PARENT[:-1] + "0"
    receiver.clear()
    assert submit(argo, "again", uid=UID) == "Succeeded"
    assert receiver.spans == []
    assert len(of_wire(receiver)) == 2 + 2, "live is not sampled"


@needs_containers()
@heavy
@pytest.mark.parametrize("name", ["parallel"])
def test_all_pods_are_sampled_alike(project: Project, receiver: Receiver, name: str) -> None:
    """With a sampler that decides by the trace id, a workflow is there as a whole or not at all; its events always."""
    argo = rendered(project, receiver, name)
    argo.environ = {**argo.environ, "OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.5"}
    seen = set()
    for number in range(20):
        uid = f"uid-{number}"
        sampled = _is_sampled(seeded_trace_id(uid, f"run-{number}"))
        if sampled in seen:
            continue
        seen.add(sampled)
        assert submit(argo, f"run-{number}", uid=uid) == "Succeeded"
        assert len(receiver.spans) == (1 + 1 + 2 + 4) * sampled
        assert len(of_wire(receiver)) == 2 + 2 * 4
        receiver.clear()
    assert seen == {True, False}


def _is_sampled(trace_id: int) -> bool:
    from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

    return TraceIdRatioBased(0.5).should_sample(None, trace_id, "x").decision.is_sampled()


@needs_containers()
@heavy
def test_a_malformed_traceparent_in_a_pod(project: Project, receiver: Receiver) -> None:
    """It is ignored with one line, and the ids are derived as ever."""
    argo = rendered(project, receiver, "fails", parent=lambda: "nonsense")
    submit(argo, uid=UID)
    exact(argo, receiver)
    assert {int(span.trace, 16) for span in receiver.spans} == {seeded_trace_id(UID, "nightly")}
    assert [each.output.count("TRACEPARENT='nonsense'") for each in argo.ran] == [1]


@needs_containers()
def test_a_hostile_run_id(project: Project, receiver: Receiver) -> None:
    """A run id of any characters gives valid ids, the same in every pod."""
    argo = rendered(project, receiver, "fails")
    submit(argo, run_id="..%2f🚀 'x' \"y\"")
    assert len({span.trace for span in receiver.spans}) == 1
    assert {span.kind for span in receiver.spans} == {"pipeline", "task"}


@needs_containers()
def test_backfill_of_a_workflow(project: Project, receiver: Receiver) -> None:
    """A workflow whose last pods were killed gets what is missing from the run log: the ids are the same, so nothing is

    there twice.
    """
    argo = rendered(
        project, receiver, "parallel", kill=lambda template, retry: signal.SIGKILL * template.endswith("fan-in")
    )
    assert submit(argo, uid=UID) == "Failed"
    arrived = {span.span: span for span in receiver.spans}
    assert {span.kind for span in arrived.values()} == {"task"}
    assert len(arrived) == len(list(attempts(log_of(argo)["steps"]))) == 4
    receiver.clear()
    config = project.folder / "backfill.yaml"
    config.write_text("run-log-store:\n  type: chunked-fs\n  config:\n    log_folder: volume/run_logs\n")
    command = [str(Path(project.python).parent / "runnable-otel"), "backfill", "--config", str(config), "nightly"]
    done = project.command(*command, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    assert done.stdout.split()[0] == f"{seeded_trace_id(UID, 'nightly'):032x}"
    filled = {span.span: span for span in receiver.spans}
    assert set(arrived) < set(filled)
    assert [(filled[key].trace, filled[key].parent, filled[key].name) for key in arrived] == [
        (span.trace, span.parent, span.name) for span in arrived.values()
    ]
    compare_shape(receiver.spans)


def compare_shape(spans: list[Received]) -> None:
    in_their_places(spans)
    kinds = sorted(span.kind for span in spans)
    assert kinds == ["branch", "branch", "parallel", "pipeline", "task", "task", "task", "task"]
    assert {span.status for span in spans if span.kind in ("parallel", "pipeline")} == {ERROR}


def test_a_run_log_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes wrong in telling the end costs the user's pod nothing."""
    from runnable_otel.argo.pod import Pod

    pod = object.__new__(Pod)
    pod.told = Told(UID, 0)
    pod.node, pod.fan, pod.ends_run = SimpleNamespace(node_type="success"), "", True
    pod._tell_ends(None)

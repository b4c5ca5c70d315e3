"""Metrics of runs and tasks, as a real SDK's reader collects them."""

from __future__ import annotations

import json

from support.project import Project

SCRIPT = """
import json, os, runpy
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
import runnable_otel
runnable_otel.RunnableInstrumentor().instrument()
runpy.run_path(os.path.abspath("pipelines.py"), run_name="__main__")
found = {}
for resource in json.loads(reader.get_metrics_data().to_json())["resource_metrics"]:
    for scope in resource["scope_metrics"]:
        if scope["scope"]["name"] == "runnable_otel":
            found.update({each["name"]: each["data"]["data_points"] for each in scope["metrics"]})
print("METRICS", json.dumps(found))
"""


def collected(project: Project, name: str, **variables: str) -> dict[str, list[dict]]:
    out = project.script(SCRIPT, PIPELINE=name, **variables).stdout
    return json.loads(next(line for line in out.splitlines() if line.startswith("METRICS ")).removeprefix("METRICS "))


def test_successful_run(project: Project) -> None:
    """A run and its tasks are counted, and what a task returns as metric(...) is a gauge."""
    found = collected(project, "objects")
    (run,) = found["cicd.pipeline.run.duration"]
    assert run["count"] == 1
    assert run["attributes"]["cicd.pipeline.result"] == "success"
    assert run["attributes"]["cicd.pipeline.name"] == "pipelines.main"
    assert run["explicit_bounds"][0] == 0.1
    assert run["explicit_bounds"][-1] == 86400
    assert {point["attributes"]["runnable.step.name"]: point["count"] for point in found["runnable.task.duration"]} == {
        "measure": 1,
        "obj": 1,
        "use": 1,
    }
    assert {
        point["value"] for name in ("cicd.pipeline.run.active", "runnable.task.active") for point in found[name]
    } == {0}
    values = {point["attributes"]["runnable.metric.name"]: point["value"] for point in found["runnable.user.metric"]}
    assert values == {"loss": 0.25, "epochs": 3}
    assert "runnable.task.errors" not in found


def test_no_values_at_all(project: Project) -> None:
    """`RUNNABLE_OTEL_CAPTURE=none`: runs and tasks are counted, what a task returns as metric(...) is not sent."""
    found = collected(project, "objects", RUNNABLE_OTEL_CAPTURE="none")
    assert found["runnable.task.duration"]
    assert "runnable.user.metric" not in found


def test_failed_run(project: Project) -> None:
    """A failed task and its run are errors by the type of the cause; a map's items count under one step."""
    found = collected(project, "map_fails")
    (run,) = found["cicd.pipeline.run.errors"]
    (task,) = found["runnable.task.errors"]
    assert run["attributes"]["error.type"] == task["attributes"]["error.type"] == "KeyError"
    works = {
        point["attributes"]["cicd.pipeline.result"]: point["count"]
        for point in found["runnable.task.duration"]
        if point["attributes"]["runnable.step.name"] == "work"
    }
    assert works == {"success": 2, "failure": 1}

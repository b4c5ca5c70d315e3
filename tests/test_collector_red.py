"""RED metrics of the real Collector against run logs, and the dashboard's queries in a real Prometheus."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from support import environments
from support.collector import FOLDER, Collector, samples
from support.project import Project
from support.prometheus import Prometheus
from support.receiver import Received, Receiver
from support.runlog import attempts, run_logs
from support.table import TABLE
from support.waiting import wait_until

pytestmark = pytest.mark.collector

PIPELINES = ["slow_fails", "mapped", "recovers", "parallel_fails"]
STOCK = {"RUNNABLE_OTEL_ENABLED": "false", "OTEL_TRACES_EXPORTER": "none"}  # logfire's own exporter would double it
RUN = "kind", "pipeline", "result"
TASK = "step", "task_type", "result"


def run_all(names: list[str], logfire: bool, folder: Path, collector: Collector, **variables: str) -> list[Any]:
    """Run these pipelines, with their spans to the Collector; their run logs."""
    python = environments.python(*(["logfire"] if logfire else []))
    found = []
    for number, name in enumerate(names):
        project = Project(folder / f"{number}-{name}", str(python))
        project.pipeline(name, OTEL_EXPORTER_OTLP_ENDPOINT=collector.grpc, **variables)
        found += run_logs(project.folder)
    assert len(found) == len(names)
    return found


def calls(logs: list[Any], failures: bool = True) -> Counter[tuple[str, str, str]]:
    """(step, kind of its outcome) of each attempt in run logs, counted; without failures all of them are successes."""
    found: Counter[tuple[str, str, str]] = Counter()
    for log in logs:
        for each in attempts(log["steps"]):
            kind = "shell" if each.step.endswith(".say") else "python"
            found[each.step.rpartition(".")[2], kind, "success" if each.success or not failures else "failure"] += 1
    return found


def seconds(logs: list[Any]) -> float:
    """How long the attempts took in all."""
    return sum(each.end - each.start for log in logs for each in attempts(log["steps"])) / 1e9


def measured(collector: Collector, name: str, by: tuple[str, ...], **where: str) -> Counter[tuple[str, ...]]:
    """A metric of the Collector's, summed by labels."""
    found: Counter[tuple[str, ...]] = Counter()
    for metric, labels, value in samples(httpx.get(collector.red, trust_env=False).text):
        if metric == name and all(labels[key] == wanted for key, wanted in where.items()):
            found[tuple(labels[label] for label in by)] += value  # type: ignore[assignment] - sums of floats
    return found


@pytest.mark.parametrize("mode", ["without logfire", "with logfire", "stock logfire"])
def test_red_is_the_run_log(tmp_path: Path, mode: str) -> None:
    """Calls and errors are those of the run logs; the durations those of the spans, which the run logs' include.

    runnable's own logfire spans, without this package, say nothing of failures; their log spans are not counted.
    """
    stock = mode == "stock logfire"
    with (
        Receiver() as receiver,
        Collector(tmp_path / "c", "prometheus-red", ONWARD_ENDPOINT=receiver.http) as collector,
    ):
        logs = run_all(PIPELINES, mode != "without logfire", tmp_path, collector, **(STOCK if stock else {}))
        expected = calls(logs, failures=not stock)
        counted = sum(expected.values())
        wait_until(lambda: sum(measured(collector, "runnable_calls_total", TASK, kind="task").values()) >= counted)
        found = measured(collector, "runnable_calls_total", TASK, kind="task")
        total = sum(measured(collector, "runnable_duration_seconds_sum", ("kind",), kind="task").values())
        runs = measured(collector, "runnable_calls_total", RUN)
        wait_until(lambda: len(tasks(receiver.spans)) == counted)
        spans = list(receiver.spans)
    if stock:
        assert found == by_function(expected)
        assert any(span.attributes.get("logfire.span_type") == "log" for span in spans), "they were there"
    else:
        assert found == expected
        assert sum(number for (*_, result), number in found.items() if result == "failure") == 3
    assert sum(number for (kind, *_), number in runs.items() if kind == "pipeline") == len(logs)
    in_spans = sum(span.end - span.start for span in tasks(spans)) / 1e9
    in_tasks = own_seconds(logs)
    assert total == pytest.approx(in_spans, abs=1e-6)
    assert in_tasks <= total <= seconds(logs)
    assert {span.name for span in tasks(spans)}.isdisjoint({"task:{task_name}"}), "templates became names"
    errors = sum(number for (*_, result), number in found.items() if result == "failure")
    TABLE.held(
        "prometheus-red",
        f"{mode}: {counted} calls, {errors} errors, {total:.3f} s ({seconds(logs):.3f} s in the run logs)",
    )


def tasks(spans: list[Received]) -> list[Received]:
    return [
        span
        for span in spans
        if "task_type" in span.attributes and span.attributes.get("logfire.span_type", "span") == "span"
    ]


def by_function(expected: Counter[tuple[str, str, str]]) -> Counter[tuple[str, str, str]]:
    """The same where spans name the function and not the step, which is called alike; a shell task's has no name."""
    found: Counter[tuple[str, str, str]] = Counter()
    for (step, kind, result), number in expected.items():
        found[f"tasks.{step}" if kind == "python" else "", kind, result] += number
    return found


def own_seconds(logs: list[Any]) -> float:
    """What the tasks that sleep measured of themselves."""
    slept = {"slow", "slower"}
    return sum(
        value
        for log in logs
        for each in attempts(log["steps"])
        for name, value in each.outputs.items()
        if name in slept and isinstance(value, float)
    )


# --- the dashboard ---


DASHBOARD = json.loads((FOLDER / "grafana" / "dashboards" / "runs.json").read_text())
PANELS = {panel["title"]: panel for panel in DASHBOARD["panels"]}
VARIABLES = {"$__range": "1h", "$__rate_interval": "30s", "$pipeline": ".*"}


def expression(panel: str, number: int = 0) -> str:
    """A panel's query as Grafana sends it."""
    text: str = PANELS[panel]["targets"][number]["expr"]
    for name, value in VARIABLES.items():
        text = text.replace(name, value)
    assert not re.search(r"\$\w", text), "a variable that Grafana does not know"
    return text


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Prometheus, list[Any], float]]:
    """A Prometheus that has the metrics of some runs, their run logs, and when it began."""
    folder = tmp_path_factory.mktemp("board")
    with ExitStack() as stack:
        collector = stack.enter_context(Collector(folder / "c", "prometheus-red", "file"))
        prometheus = stack.enter_context(Prometheus(folder / "p", collector.red.split("/")[2]))
        began = time.time()
        logs = run_all(["slow_fails", "mapped", "mapped"], False, folder, collector)
        wanted = sum(calls(logs).values()) + len(logs)
        wait_until(lambda: sum(value for _, value in prometheus.query("runnable_calls_total")) >= wanted)
        yield prometheus, logs, began


def number(prometheus: Prometheus, panel: str) -> float:
    ((_, value),) = prometheus.query(expression(panel))
    return value


Board = tuple[Prometheus, list[Any], float]


def test_panels_of_one_number(board: Board) -> None:
    """Runs, failed runs, failed attempts and the mean duration are what the run logs say."""
    prometheus, logs, _ = board
    assert number(prometheus, "Runs") == pytest.approx(len(logs))
    assert number(prometheus, "Failed runs") == pytest.approx(sum(log["status"] == "FAIL" for log in logs))
    failed = sum(count for (*_, result), count in calls(logs).items() if result == "failure")
    assert number(prometheus, "Failed attempts of tasks") == pytest.approx(failed) == 1
    assert number(prometheus, "Mean duration of a run") >= own_seconds(logs) / len(logs)
    TABLE.held("prometheus-red", f"dashboard: {len(logs)} runs, 1 failed, {len(DASHBOARD['panels'])} panels with data")


def test_panels_of_steps(board: Board) -> None:
    """The slowest step stands first, with the pipeline that it belongs to; the failed one is counted."""
    prometheus, logs, _ = board
    slowest = sorted(prometheus.query(expression("Slowest steps")), key=lambda found: -found[1])
    assert [(labels["pipeline"], labels["step"]) for labels, _ in slowest[:2]] == [("slow", "slower"), ("slow", "slow")]
    assert len(slowest) == len({step for step, _, _ in calls(logs)})
    ((failed, count),) = prometheus.query(expression("Failures by step"))
    assert (failed["pipeline"], failed["step"], count) == ("slow", "kaput", pytest.approx(1))


def test_panels_over_time(board: Board) -> None:
    """Each query over time has points, and each pipeline and result is among them."""
    prometheus, _, began = board

    def by_result() -> dict[str, float]:
        found = prometheus.points(expression("Runs by result"), began, time.time())
        return {labels["result"]: max(values) for labels, values in found}

    wait_until(lambda: by_result() == pytest.approx({"success": 2, "failure": 1}), "the last point is not in yet")
    for query in range(2):
        found = prometheus.points(expression("Duration of runs by pipeline", query), began, time.time())
        assert {labels["pipeline"] for labels, _ in found} == {"slow", "pipelines.main"}
        assert all(value > 0 for _, values in found for value in values if value == value)  # NaN: no run then


def test_each_panel_is_tried() -> None:
    """No panel is left out here; a query that Grafana gets is one that Prometheus got above."""
    assert set(PANELS) == {
        *("Runs", "Failed runs", "Failed attempts of tasks", "Mean duration of a run"),
        *("Slowest steps", "Failures by step", "Runs by result", "Duration of runs by pipeline"),
    }


def test_variable_of_the_dashboard(board: Board) -> None:
    """The list of pipelines is filled by its query."""
    prometheus, _, _ = board
    (variable,) = [each for each in DASHBOARD["templating"]["list"] if each["name"] == "pipeline"]
    found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
    assert found
    assert prometheus.values_of(found[2], found[1]) == ["pipelines.main", "slow"]

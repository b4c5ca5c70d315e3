"""Metrics of runs and tasks, on the OpenTelemetry Metrics API: no-ops where nobody set a meter provider.

Dimensions are bounded by the pipeline's definition: pipeline, step, task type, result, executor. A map's items count
under the step's own name.
"""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry import metrics

from runnable_otel import semconv
from runnable_otel._version import __version__


class Metrics:
    """The instruments, made at first use: instruments of the API's proxy become real when a provider is set."""

    def __init__(self) -> None:
        meter = metrics.get_meter(semconv.SCOPE, __version__)
        buckets = semconv.DURATION_BUCKETS
        self._run_duration = meter.create_histogram(
            semconv.PIPELINE_RUN_DURATION,
            unit="s",
            description="Duration of a pipeline or job run",
            explicit_bucket_boundaries_advisory=buckets,
        )
        self._run_active = meter.create_up_down_counter(
            semconv.PIPELINE_RUN_ACTIVE, unit="{run}", description="Runs that are going on"
        )
        self._run_errors = meter.create_counter(
            semconv.PIPELINE_RUN_ERRORS, unit="{error}", description="Runs that failed"
        )
        self._task_duration = meter.create_histogram(
            semconv.TASK_DURATION,
            unit="s",
            description="Duration of a task attempt",
            explicit_bucket_boundaries_advisory=buckets,
        )
        self._task_active = meter.create_up_down_counter(
            semconv.TASK_ACTIVE, unit="{task}", description="Task attempts that are going on"
        )
        self._task_errors = meter.create_counter(
            semconv.TASK_ERRORS, unit="{error}", description="Task attempts that failed"
        )
        self._user_metric = meter.create_gauge(
            semconv.USER_METRIC, description="Values that tasks return as metric(...)"
        )
        self._dropped = meter.create_counter(
            semconv.DROPPED, unit="{item}", description="Spans and events that are lost, by what loses them and reason"
        )

    def run_started(self, dimensions: Mapping[str, str]) -> None:
        self._run_active.add(1, {**dimensions, semconv.CICD_PIPELINE_RUN_STATE: "executing"})

    def run_ended(self, dimensions: Mapping[str, str], result: str, seconds: float, error: str) -> None:
        self._run_active.add(-1, {**dimensions, semconv.CICD_PIPELINE_RUN_STATE: "executing"})
        self.run_told(dimensions, result, seconds, error)

    def run_told(self, dimensions: Mapping[str, str], result: str, seconds: float, error: str) -> None:
        """A run is over of which this process has not seen the start."""
        ended = _ended(dimensions, result)
        self._run_duration.record(seconds, {**ended, semconv.CICD_PIPELINE_RUN_STATE: "executing"})
        if error:
            self._run_errors.add(1, {**dimensions, semconv.ERROR_TYPE: error})

    def task_started(self, dimensions: Mapping[str, str]) -> None:
        self._task_active.add(1, dimensions)

    def task_ended(self, dimensions: Mapping[str, str], result: str, seconds: float, error: str) -> None:
        self._task_active.add(-1, dimensions)
        self._task_duration.record(seconds, _ended(dimensions, result))
        if error:
            self._task_errors.add(1, {**dimensions, semconv.ERROR_TYPE: error})

    def user_metrics(self, dimensions: Mapping[str, str], values: Mapping[str, object]) -> None:
        """Record each number among `values`, by name."""
        for name, value in values.items():
            if type(value) is float or (type(value) is int and -(2**63) <= value < 2**63):
                self._user_metric.set(value, {**dimensions, "runnable.metric.name": name[:128]})

    def dropped(self, reason: str, number: int = 1) -> None:
        self._dropped.add(number, {"reason": reason})


def _ended(dimensions: Mapping[str, str], result: str) -> dict[str, str]:
    """The dimensions of what is over, with its result where that is known."""
    return {**dimensions, semconv.CICD_PIPELINE_RESULT: result} if result else dict(dimensions)

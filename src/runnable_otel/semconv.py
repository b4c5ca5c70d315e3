"""The words of this package: names of spans, attributes and metrics.

The first group are the keys of runnable's own telemetry page; the others follow OpenTelemetry's semantic conventions
(code, cicd, error, exception, process) where they have a word, else `runnable.*`.
"""

from __future__ import annotations

from typing import Final

from opentelemetry.semconv._incubating.attributes.cicd_attributes import (
    CICD_PIPELINE_NAME,
    CICD_PIPELINE_RESULT,
    CICD_PIPELINE_RUN_ID,
    CICD_PIPELINE_RUN_STATE,
)
from opentelemetry.semconv._incubating.attributes.process_attributes import PROCESS_EXIT_CODE, PROCESS_PID
from opentelemetry.semconv.attributes.code_attributes import CODE_FILE_PATH, CODE_FUNCTION_NAME, CODE_LINE_NUMBER
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.exception_attributes import (
    EXCEPTION_MESSAGE,
    EXCEPTION_STACKTRACE,
    EXCEPTION_TYPE,
)

__all__ = [
    "CICD_PIPELINE_NAME",
    "CICD_PIPELINE_RESULT",
    "CICD_PIPELINE_RUN_ID",
    "CICD_PIPELINE_RUN_STATE",
    "CODE_FILE_PATH",
    "CODE_FUNCTION_NAME",
    "CODE_LINE_NUMBER",
    "ERROR_TYPE",
    "EXCEPTION_MESSAGE",
    "EXCEPTION_STACKTRACE",
    "EXCEPTION_TYPE",
    "PROCESS_EXIT_CODE",
    "PROCESS_PID",
]

SCOPE: Final = "runnable_otel"
"""Name of the instrumentation scope of every span and metric of ours."""

TASK_NAME: Final = "task_name"
TASK_TYPE: Final = "task_type"
INPUTS: Final = "inputs"
OUTPUTS: Final = "outputs"
STATUS: Final = "status"

PIPELINE_NAME: Final = "pipeline_name"
JOB_NAME: Final = "job_name"
RUN_ID: Final = "run_id"
EXECUTOR: Final = "executor"

VERSION: Final = "runnable.version"
TAG: Final = "runnable.tag"
STEP_NAME: Final = "runnable.step.name"
STEP_ATTEMPT: Final = "runnable.step.attempt"
BRANCH_NAME: Final = "runnable.branch.name"
MAP_PREFIX: Final = "runnable.map."
CATALOG_FILES: Final = "runnable.catalog.files"
TRUNCATED: Final = "runnable.truncated"
REDACTED: Final = "runnable.redacted"
BACKFILLED: Final = "runnable.backfilled"

SUCCESS: Final = "success"
SKIPPED: Final = "skipped"
CANCELLED: Final = "cancelled"
SUBMITTED: Final = "submitted"
UNKNOWN: Final = "unknown"
"""It is over, and nobody saw how it ended: neither a success nor a failure."""

RESULT: Final = {SUCCESS: "success", CANCELLED: "cancellation", UNKNOWN: ""}
"""`status` to `cicd.pipeline.result`; the empty one is left out, and whatever is not here is a `failure`."""

PIPELINE_RUN_DURATION: Final = "cicd.pipeline.run.duration"
PIPELINE_RUN_ACTIVE: Final = "cicd.pipeline.run.active"
PIPELINE_RUN_ERRORS: Final = "cicd.pipeline.run.errors"
TASK_DURATION: Final = "runnable.task.duration"
TASK_ACTIVE: Final = "runnable.task.active"
TASK_ERRORS: Final = "runnable.task.errors"
USER_METRIC: Final = "runnable.user.metric"
DROPPED: Final = "runnable.otel.dropped"

DURATION_BUCKETS: Final = (0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
"""Seconds, from 100 ms to 24 h: what a pipeline's step may take."""

"""A step that a retry does not run again: a span of no length, linked to the attempt that ran it, and an event."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from opentelemetry.context import Context
from opentelemetry.trace import Link

from runnable_otel import semconv, spans
from runnable_otel.events import TASK_SKIPPED
from runnable_otel.spans import Origin, Step
from runnable_otel.telemetry import Telemetry
from runnable_otel.tracing import Ids


class Called(NamedTuple):
    """What a step is called.

    Attributes:
        kind: `task`, or the type of a composite node or stub.
        name: the name of the task, or of the node.
        shown: the name in the span's name.
        task_type: empty where it is no task.
    """

    kind: str
    name: str
    shown: str
    task_type: str


def tell(
    telemetry: Telemetry,
    step: Step,
    called: Called,
    *,
    run_id: str,
    parent: Ids | None,
    links: Sequence[Link],
    context: Context | None = None,
    queue: Any = None,
) -> None:
    """Say that a step was passed over; `step` has the number of the attempt that ran it."""
    attributes = spans.step_attributes(run_id, step)
    if called.kind == "task":
        attributes = spans.task_attributes(run_id, step, called.name, called.task_type)
    now = time.time_ns()
    opened = telemetry.tracing.start(
        spans.span_name(called.kind, called.shown),
        attributes={**attributes, semconv.STATUS: semconv.SKIPPED},
        parent=parent,
        context=context,
        links=links,
        start_ns=now,
    )
    opened.span.end(now)
    origin = Origin(opened.ids, run_id, step, called.task_type)
    telemetry.hub.emit(spans.start_event(TASK_SKIPPED, origin, now, called.name, {}), queue)

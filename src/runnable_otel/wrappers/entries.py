"""Around runnable's entry points for one node or job of a run that another process leads."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from opentelemetry import trace

from runnable_otel.elsewhere import OpenElsewhere
from runnable_otel.propagation import context_from_environment, run_from_environment
from runnable_otel.scopes import harmless
from runnable_otel.telemetry import TELEMETRY
from runnable_otel.tracing import Ids
from runnable_otel.wrappers.common import Args, Kwargs, Wrapped, argument


def execute_single_node(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    """One node of a pipeline."""
    _rich_traceback_omit = True
    del instance
    with _joined(argument(args, kwargs, 5, "run_id", "")) or nullcontext():
        return wrapped(*args, **kwargs)


def execute_job(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    """A job."""
    _rich_traceback_omit = True
    del instance
    with _joined(argument(args, kwargs, 3, "run_id", "")) or nullcontext():
        return wrapped(*args, **kwargs)


@harmless
def _joined(run_id: str) -> OpenElsewhere | None:
    """The run that the environment names, where it does; its span is open in the process that started this one."""
    context = context_from_environment()
    if context is None or trace.get_current_span().get_span_context().is_valid:
        return None
    above = trace.get_current_span(context).get_span_context()
    root, dimensions, salt = run_from_environment(above.trace_id, above.span_id)
    return OpenElsewhere(
        TELEMETRY,
        context=context,
        ids=Ids(above.trace_id, above.span_id, trace.INVALID_SPAN_ID),
        root=root,
        run_id=run_id,
        dimensions=dimensions,
        salt=salt,
    )

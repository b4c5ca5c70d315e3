"""What has a span only afterwards: a catalog sync that moved files, a step that a retry passes over."""

from __future__ import annotations

import time
from contextvars import ContextVar
from datetime import datetime
from typing import Any

from opentelemetry.trace import Link, StatusCode

from runnable_otel import semconv, spans
from runnable_otel.propagation import Remembered
from runnable_otel.scopes import current, harmless, redactor_of
from runnable_otel.skipped import Called, tell
from runnable_otel.spans import Step
from runnable_otel.telemetry import TELEMETRY
from runnable_otel.tracing import remote
from runnable_otel.wrappers.common import Args, Kwargs, Wrapped, argument, put_back, step_of

_executed: ContextVar[tuple[Any, Any] | None] = ContextVar("runnable_otel_executed", default=None)
"""The node that the executor executes, catalog and all, and the item that it does it for."""


def execute_node(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    _rich_traceback_omit = True
    del instance
    token = _executed.set((argument(args, kwargs, 0, "node"), argument(args, kwargs, 1, "iter_variable")))
    try:
        return wrapped(*args, **kwargs)
    finally:
        put_back(_executed, token)


async def execute_node_async(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    _rich_traceback_omit = True
    del instance
    token = _executed.set((argument(args, kwargs, 0, "node"), argument(args, kwargs, 1, "iter_variable")))
    try:
        return await wrapped(*args, **kwargs)
    finally:
        put_back(_executed, token)


def sync_catalog(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    """A span for a sync that moved files, or failed; which one knows afterwards, so its start is given."""
    _rich_traceback_omit = True
    del instance
    started_ns = time.time_ns()
    stage = str(argument(args, kwargs, 0, "stage", "put"))
    try:
        moved = wrapped(*args, **kwargs)
    except Exception as exc:
        _catalog_span(stage, started_ns, (), exc)
        raise
    if moved:
        _catalog_span(stage, started_ns, moved, None)
    return moved


def sync_job_catalog(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    """A job only puts, and has no step; its first argument is the settings, not the stage."""
    _rich_traceback_omit = True
    token = _executed.set(None)  # a task of a pipeline may execute it
    try:
        return sync_catalog(lambda *_args, **_kwargs: wrapped(*args, **kwargs), instance, ("put",), {})
    finally:
        put_back(_executed, token)


@harmless
def _catalog_span(stage: str, started_ns: int, moved: Any, exc: BaseException | None) -> None:
    scope = current.get()
    known = _executed.get()
    step = None if known is None else step_of(*known)
    attributes = spans.step_attributes(scope.run.run_id if scope and scope.run else "", step)
    attributes[semconv.CATALOG_FILES] = len(moved)
    name = spans.span_name("catalog", stage)
    opened = TELEMETRY.tracing.start(
        name, attributes=attributes, parent=scope.ids if scope else None, start_ns=started_ns
    )
    status = semconv.SUCCESS
    if exc is not None and scope is not None:
        failure = scope.describe(exc)
        opened.span.add_event("exception", spans.exception_attributes(failure))
        status = scope.status_of(failure)
        opened.span.set_status(StatusCode.ERROR, status)
        scope.failure = failure
        if scope.run is not None:
            scope.run.seen = exc
    opened.span.set_attribute(semconv.STATUS, status)
    opened.span.end()


def set_up_run_log(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    """From then on the run log is that of the run that is open here."""
    _rich_traceback_omit = True
    del instance
    result = wrapped(*args, **kwargs)
    _begun()
    return result


@harmless
def _begun() -> None:
    scope = current.get()
    if scope is not None and scope.run is not None:
        scope.run.begun()


def prepare_node(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    """`_prepare_node_for_execution` gives None for a step that a retry does not run again."""
    _rich_traceback_omit = True
    step_log = wrapped(*args, **kwargs)
    if step_log is None:
        _skipped(instance, argument(args, kwargs, 0, "node"), argument(args, kwargs, 1, "iter_variable"))
    return step_log


@harmless
def _skipped(executor: Any, node: Any, iter_variable: Any) -> None:
    scope = current.get()
    run = scope.run if scope else None
    if scope is None or run is None:
        return
    context = executor._context  # noqa: SLF001 - runnable's own word for its run
    step_log = context.run_log_store.get_step_log(node._get_step_log_name(iter_variable), context.run_id)  # noqa: SLF001
    last = step_log.attempts[-1] if step_log.attempts else None
    where = step_of(node, iter_variable, last.attempt_number if last else 1)
    links = _links(run.earlier, where, last if hasattr(node, "executable") else None, scope.salt)
    tell(TELEMETRY, where, _called(node), run_id=run.run_id, parent=scope.ids, links=links, queue=run.queue)


def _called(node: Any) -> Called:
    executable = getattr(node, "executable", None)
    if executable is None:
        name = redactor_of(TELEMETRY).text(node.name)
        return Called(node.node_type, name, name, "")
    name = spans.task_name(executable.task_type, redactor_of(TELEMETRY).text(executable.command[:4096]))
    shown = redactor_of(TELEMETRY).text(node.name) if executable.task_type == "shell" else name
    return Called("task", name, shown, executable.task_type)


def _links(earlier: list[Remembered], where: Step, attempt: Any, salt: str) -> list[Link]:
    """The attempt that did run the step: it lies in the last trace that began before it."""
    if not earlier:
        return []
    if attempt is None:  # a composite has no attempts, and a stub's have no span: the run that it was part of
        return [Link(remote(*earlier[-1].root))]
    started_ns = int(datetime.fromisoformat(attempt.start_time).timestamp() * 1e9)
    roots = [each.root for each in earlier if each.started_ns <= started_ns + 1_000_000] or [earlier[0].root]
    return [Link(remote(roots[-1].trace_id, roots[-1].attempt_span_id(where.key + salt, where.attempt)))]

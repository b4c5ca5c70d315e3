"""Open spans of a run: each scope opens its span on entry, gathers what becomes known, and closes it on exit.

    run (pipeline, job, submit) ── node (parallel, map, loop, conditional) ── branch ── task

A scope is a context manager around the user's code, so nothing in here may raise: see `harmless`.
"""

from __future__ import annotations

import asyncio
import logging
import time
import types
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar, Token
from functools import cached_property, wraps
from typing import Any, ParamSpec, TypeVar

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, StatusCode

from runnable_otel import semconv, spans
from runnable_otel.capture import Captured, capture
from runnable_otel.errors import Failure, describe, root_cause
from runnable_otel.events import PIPELINE_COMPLETED, PIPELINE_STARTED
from runnable_otel.propagation import LEDGER, RunRoot, context_from_environment
from runnable_otel.redact import Redactor
from runnable_otel.spans import Origin, Step
from runnable_otel.telemetry import Telemetry
from runnable_otel.tracing import Ids, remote

logger = logging.getLogger(__name__)

_P = ParamSpec("_P")
_R = TypeVar("_R")

current: ContextVar[Scope | None] = ContextVar("runnable_otel_scope", default=None)
"""The innermost open scope of this thread or task."""


def harmless(function: Callable[_P, _R]) -> Callable[_P, _R | None]:
    """The host comes first: what goes wrong in telemetry is logged, and never raised into the user's code."""

    @wraps(function)
    def guarded(*args: _P.args, **kwargs: _P.kwargs) -> _R | None:
        try:
            return function(*args, **kwargs)
        except Exception:
            logger.debug("telemetry failed in %s", function.__qualname__, exc_info=True)
            return None

    return guarded


def is_cancellation(exc: BaseException) -> bool:
    """Whether an exception ends the work without being a failure of it."""
    return isinstance(exc, (asyncio.CancelledError, GeneratorExit)) or not isinstance(exc, Exception)


def redactor_of(telemetry: Telemetry) -> Redactor:
    """That of the run, which knows the secrets that its tasks were given; outside of a run the general one."""
    scope = current.get()
    return telemetry.redactor if scope is None else scope.redactor


class Scope:
    """One open span. Subclasses say what it is called, and what its end means."""

    kind = ""

    def __init__(self, telemetry: Telemetry) -> None:
        self.telemetry = telemetry
        self.parent = current.get()
        self.masks = self.parent.redactor if self.parent else telemetry.redactor
        self.run: RunScope | None = self.parent.run if self.parent else None
        self.failure: Failure | None = None
        self.failed = False
        self.attributes: dict[str, Any] = {}  # what is known at the end
        self.truncated = False
        self.redacted = False
        self.started_ns = 0
        self.span: Span = trace.INVALID_SPAN
        self.ids: Ids | None = None
        self._otel_token: Token[Context] | None = None
        self._token: Token[Scope | None] | None = None

    # What a subclass says.

    def opening(self) -> tuple[str, dict[str, Any]]:
        """Name and attributes of the span."""
        raise NotImplementedError

    def opened(self) -> None:
        """The span is open."""

    def closing(self, exc: BaseException | None) -> tuple[str, bool]:
        """`status` of the span, and whether that is a failure."""
        raise NotImplementedError

    def closed(self, status: str, failed: bool, ended_ns: int) -> None:
        """The span is closed."""

    # What all do.

    def __enter__(self) -> Any:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: types.TracebackType | None
    ) -> None:
        try:
            self._close(exc)
        finally:
            self._leave()

    @harmless
    def _open(self) -> None:
        name, attributes = self.opening()
        self.started_ns = time.time_ns()
        self.start_span(name, attributes)
        self._token = current.set(self)
        self.opened()

    def start_span(
        self, name: str, attributes: Mapping[str, Any], *, context: Context | None = None, span_id: int = 0, **more: Any
    ) -> None:
        """Start the span and make it the current one."""
        opened = self.telemetry.tracing.start(
            name,
            attributes=attributes,
            parent=self.parent.ids if self.parent else None,
            context=context,
            span_id=span_id,
            start_ns=self.started_ns,
            **more,
        )
        self.span, self.ids = opened.span, opened.ids
        if opened.in_context:
            self._otel_token = otel_context.attach(trace.set_span_in_context(self.span, context))

    def _close(self, exc: BaseException | None) -> None:
        """End the span, in stages: what goes wrong in one of them takes nothing from the others."""
        if self.ids is None:
            return
        status, failed = self._judge(exc) or ("unknown", exc is not None)
        # What a run inside a task failed of is the task's own only if the task lets it through.
        if failed and self.parent is not None and self.run is not self:
            self.parent.failure = self.failure
        ended_ns = time.time_ns()
        self._end_span(status, failed, ended_ns)
        self._tell(status, failed, ended_ns)

    @harmless
    def _judge(self, exc: BaseException | None) -> tuple[str, bool]:
        return self.closing(exc)

    @harmless
    def _tell(self, status: str, failed: bool, ended_ns: int) -> None:
        self.closed(status, failed, ended_ns)

    @harmless
    def _end_span(self, status: str, failed: bool, ended_ns: int) -> None:
        if self.span.is_recording():
            self.attributes[semconv.STATUS] = status
            if self.truncated:
                self.attributes[semconv.TRUNCATED] = True
            if self.redacted:
                self.attributes[semconv.REDACTED] = True
            self.span.set_attributes(self.attributes)
            if failed:
                self.span.set_status(StatusCode.ERROR, status)
        self.span.end(ended_ns)

    def _leave(self) -> None:
        try:
            if self._otel_token is not None:
                otel_context.detach(self._otel_token)
            if self._token is not None:
                current.reset(self._token)
        except Exception:
            logger.debug("scope left in another context", exc_info=True)

    @property
    def redactor(self) -> Redactor:
        """A secret that one task was given may turn up in any later one: the run knows them all."""
        return (self.run or self).masks

    def mask(self, secrets: Iterable[str]) -> None:
        """Values that the secrets manager handed to a task: they are masked wherever they turn up."""
        keeper = self.run or self
        keeper.masks = keeper.masks.with_secrets(secrets)

    def status_of(self, failure: Failure) -> str:
        return failure.text(self.telemetry.settings.max_value_bytes)

    def describe(self, exc: BaseException) -> Failure:
        return describe(root_cause(exc), limit=self.telemetry.settings.max_value_bytes, redactor=self.redactor)

    def record_exception(self, failure: Failure) -> None:
        """Write the one `exception` event of a failure, unless a scope inside this one has."""
        self.span.add_event("exception", spans.exception_attributes(failure))

    def see(self, exc: BaseException) -> Failure:
        """An exception passes through: the innermost scope that sees it writes the event."""
        run = self.run
        if run is not None and run.seen is exc and self.failure is not None:
            return self.failure
        failure = self.describe(exc)
        self.record_exception(failure)
        if run is not None:
            run.seen = exc
        return failure

    def capture(self, values: Mapping[str, object]) -> Captured:
        settings = self.telemetry.settings
        captured = capture(values, settings.max_value_bytes, redactor=self.redactor, mode=settings.capture)
        self.truncated |= captured.truncated
        self.redacted |= captured.redacted
        return captured


class RunScope(Scope):
    """One execution of a pipeline or job, or the submission of one."""

    def __init__(
        self,
        telemetry: Telemetry,
        *,
        kind: str,
        name: str,
        run_id: str,
        executor: str,
        tag: str = "",
        retried: bool = False,
        submits: bool = False,
    ) -> None:
        super().__init__(telemetry)
        self.run = self
        self.kind, self.name, self.run_id = kind, name, run_id
        self.submits, self.executor, self.tag = submits, executor, tag
        self.queue = telemetry.queue()
        self.earlier = LEDGER.recall(run_id) if retried else []
        self.seen: BaseException | None = None
        self.root = RunRoot(0, 0)

    def opening(self) -> tuple[str, dict[str, Any]]:
        key = semconv.JOB_NAME if self.kind == "job" else semconv.PIPELINE_NAME
        version = self.telemetry.runnable_version
        attributes = spans.run_attributes(key, self.name, self.run_id, self.executor, self.tag, version)
        return spans.span_name("submit" if self.submits else self.kind, self.name), attributes

    def start_span(self, name: str, attributes: Mapping[str, Any], **more: Any) -> None:
        inside = trace.get_current_span().get_span_context().is_valid
        context = None if inside else context_from_environment()
        links = [Link(remote(*self.earlier[-1][0]))] if self.earlier else ()
        super().start_span(name, attributes, context=context, links=links, **more)

    def opened(self) -> None:
        assert self.ids is not None
        self.root = RunRoot(self.ids.trace_id, self.ids.span_id)
        if not self.submits:
            self.telemetry.metrics.run_started(self.dimensions)
            event = spans.start_event(PIPELINE_STARTED, self.origin, self.started_ns, self.name, {})
            self.telemetry.hub.emit(event, self.queue)
        if self.span.is_recording():
            LEDGER.remember(self.run_id, self.root, self.started_ns)

    @cached_property
    def origin(self) -> Origin:
        assert self.ids is not None
        return Origin(self.ids, self.run_id)

    @cached_property
    def dimensions(self) -> dict[str, str]:
        return {semconv.CICD_PIPELINE_NAME: spans.text(self.name), semconv.EXECUTOR: self.executor}

    def closing(self, exc: BaseException | None) -> tuple[str, bool]:
        status, failed = self._outcome(exc)
        result = semconv.RESULT.get(status, "failure")
        if not self.submits:
            self.attributes[semconv.CICD_PIPELINE_RESULT] = result
        if failed and self.failure is not None:
            self.attributes[semconv.ERROR_TYPE] = self.failure.qualified
        return status, failed

    def _outcome(self, exc: BaseException | None) -> tuple[str, bool]:
        if exc is not None and is_cancellation(exc):
            return semconv.CANCELLED, False
        if exc is not None:
            # ExecutionFailedError only says that a step failed: the step's own failure is the cause.
            if not (type(exc).__name__ == "ExecutionFailedError" and self.failure is not None):
                self.failure = self.see(exc)
            return self.status_of(self.failure), True
        if self.submits:
            return semconv.SUBMITTED, False
        if self.kind == "job" and self.failure is not None:
            return self.status_of(self.failure), True
        return semconv.SUCCESS, False

    def closed(self, status: str, failed: bool, ended_ns: int) -> None:
        if self.submits:
            return
        result = semconv.RESULT.get(status, "failure")
        error = self.failure.qualified if failed and self.failure else ""
        self.telemetry.metrics.run_ended(self.dimensions, result, (ended_ns - self.started_ns) / 1e9, error)
        own = {"status": "error" if failed else status, "error": status if failed else None}
        event = spans.end_event(PIPELINE_COMPLETED, self.origin, self.started_ns, ended_ns, self.name, own)
        self.telemetry.hub.emit(event, self.queue)


class NodeScope(Scope):
    """A composite node (`parallel`, `map`, `loop`, `conditional`) or one of its branches."""

    def __init__(self, telemetry: Telemetry, kind: str, name: str, step: Step) -> None:
        super().__init__(telemetry)
        self.kind, self.name, self.step = kind, name, step

    def opening(self) -> tuple[str, dict[str, Any]]:
        run_id = self.run.run_id if self.run else ""
        return spans.span_name(self.kind, self.name), spans.step_attributes(run_id, self.step)

    def closing(self, exc: BaseException | None) -> tuple[str, bool]:
        if exc is not None and is_cancellation(exc):
            return semconv.CANCELLED, False
        if exc is not None:
            self.failure = self.see(exc)
            return self.status_of(self.failure), True
        if self.failed:
            return (self.status_of(self.failure) if self.failure else "failed"), True
        return semconv.SUCCESS, False

    def closed(self, status: str, failed: bool, ended_ns: int) -> None:
        del status, ended_ns
        if failed and self.kind == "branch" and self.parent is not None:
            self.parent.failed = True

"""The scope of a run: one execution of a pipeline or job, or the submission of one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import Link

from runnable_otel import semconv, spans
from runnable_otel.events import PIPELINE_COMPLETED, PIPELINE_STARTED, run_fields
from runnable_otel.outline import outline
from runnable_otel.propagation import LEDGER, RunRoot, context_from_environment, seeded_trace_id
from runnable_otel.scopes import Scope, harmless, is_cancellation
from runnable_otel.spans import Origin
from runnable_otel.telemetry import Telemetry
from runnable_otel.tracing import remote
from runnable_otel.unused import UNUSED


class RunScope(Scope):
    """One execution of a pipeline or job, or the submission of one.

    Args:
        seed: what the processes of the run have in common, and no other run has: the trace id is derived from it where
            nothing else decides it.
    """

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
        seed: str = "",
        dag: Any = None,
    ) -> None:
        super().__init__(telemetry)
        self.run = self
        self.salt = ""
        self.dag = dag
        self.kind, self.name, self.run_id = kind, self.shown(name), self.shown(run_id)
        self.submits, self.executor, self.tag = submits, executor, self.shown(tag)
        self._trace_id = seeded_trace_id(seed, run_id) if seed else 0
        self.queue = telemetry.queue()
        if self.queue is None:
            UNUSED.run_without()
        self.earlier = LEDGER.recall(self.run_id) if retried else []
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
        links = [Link(remote(*self.earlier[-1].root))] if self.earlier else ()
        trace_id = 0 if inside or context is not None else self._trace_id
        super().start_span(name, attributes, context=context, links=links, trace_id=trace_id, **more)

    def opened(self) -> None:
        assert self.ids is not None
        self.root = RunRoot(self.ids.trace_id, self.ids.span_id)
        if not self.submits:
            self.telemetry.metrics.run_started(self.dimensions)
            self._announce()

    def begun(self) -> None:
        """The run log is this run's: one that finds that of another run under its id is refused before that."""
        if self.span.is_recording() and not self.submits and self.ids is not None:
            LEDGER.remember(self.run_id, self.root, self.started_ns, self.name, self.ids.parent_id)

    def learn(self, secrets: Iterable[str]) -> None:
        """Mask these in this run, and in the run whose task executes it: that task may return them."""
        values = list(secrets)
        super().learn(values)
        if self.parent is not None:
            self.parent.mask(values)

    def _announce(self) -> None:
        if self.telemetry.hub.wanted(self.queue):
            own = {**self._fields, "graph": self._graph()}
            event = spans.start_event(PIPELINE_STARTED, self.origin, self.started_ns, self.name, own)
            self.telemetry.hub.emit(event, self.queue)

    @harmless
    def _graph(self) -> dict[str, Any] | None:
        return None if self.dag is None else outline(self.dag, lambda name: spans.text(self.redactor.text(name)))

    @property
    def _fields(self) -> dict[str, Any]:
        return run_fields(self.executor, job=self.kind == "job")

    @cached_property
    def origin(self) -> Origin:
        assert self.ids is not None
        return Origin(self.ids, self.run_id)

    @cached_property
    def dimensions(self) -> dict[str, str]:
        return {semconv.CICD_PIPELINE_NAME: spans.text(self.name), semconv.EXECUTOR: self.executor}

    def cancelled(self) -> dict[str, Any]:
        return {} if self.submits else {semconv.CICD_PIPELINE_RESULT: semconv.RESULT[semconv.CANCELLED]}

    def closing(self, exc: BaseException | None) -> tuple[str, bool]:
        status, failed = self._outcome(exc)
        result = "failure" if failed else semconv.RESULT.get(status, "failure")
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
        result = "failure" if failed else semconv.RESULT.get(status, "failure")
        error = self.failure.qualified if failed and self.failure else ""
        self.telemetry.metrics.run_ended(self.dimensions, result, (ended_ns - self.started_ns) / 1e9, error)
        own = {**self._fields, "status": "error" if failed else status, "error": status if failed else None}
        event = spans.end_event(PIPELINE_COMPLETED, self.origin, self.started_ns, ended_ns, self.name, own)
        self.telemetry.hub.emit(event, self.queue)

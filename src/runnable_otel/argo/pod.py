"""The scope of a pod: the run as it looks from one of its nodes."""

from __future__ import annotations

import os
import time
import types
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from runnable_otel import naming, semconv, spans
from runnable_otel.argo.workflow import Told
from runnable_otel.elsewhere import OpenElsewhere
from runnable_otel.events import PIPELINE_STARTED, run_fields
from runnable_otel.outline import outline
from runnable_otel.propagation import RunRoot, context_from_environment, seeded_root
from runnable_otel.scopes import harmless, is_cancellation
from runnable_otel.spans import Origin
from runnable_otel.telemetry import Telemetry
from runnable_otel.tracing import Ids


class Pod(OpenElsewhere):
    """Stands for the run, and for the branch that the node is in: their spans are told by other pods, or at the end.

    Args:
        executor: runnable's, in whose context the node is executed.
        node: the node; where this pod fans in or out, the composite one.
        iter_variable: of the maps that the node is in.
        fan: `in`, `out`, or empty where the node itself is executed.
        told: what the workflow tells its pods.
    """

    def __init__(
        self, telemetry: Telemetry, executor: Any, node: Any, iter_variable: Any, *, fan: str, told: Told
    ) -> None:
        self.runnable = executor._context  # noqa: SLF001 - runnable's own word for its run
        self._use_volumes = executor._use_volumes  # noqa: SLF001 - where the run log is; runnable calls it later
        self.node, self.fan, self.told = node, fan, told
        self.step = str(node._get_step_log_name(iter_variable))  # noqa: SLF001 - as the run log has it
        self.name = telemetry.redactor.text(naming.run_name(self.runnable))
        self.executor = type(executor).__name__
        self.joined = context_from_environment()  # Argo 4 has a trace of its own
        found = trace.get_current_span(self.joined or Context()).get_span_context()
        run_id = str(self.runnable.run_id)
        root = seeded_root(told.seed, run_id, str(self.runnable.retry_indicator), found.trace_id)
        self._flags, self._state = found.trace_flags, found.trace_state
        if self.joined is None:
            sampled = telemetry.tracing.samples(root.trace_id, self.span_name)
            self._flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
        branch = str(node._get_branch_log_name(iter_variable))  # noqa: SLF001
        self.ends_run = not branch
        above = root.node_span_id("branch", branch) if branch else root.span_id
        super().__init__(
            telemetry,
            context=self.below(root, above),
            ids=Ids(root.trace_id, above, trace.INVALID_SPAN_ID),
            root=root,
            run_id=run_id,
            dimensions={semconv.CICD_PIPELINE_NAME: spans.text(self.name), semconv.EXECUTOR: self.executor},
        )
        self.key = run_id
        """The run's id as runnable has it: `run_id` is what is shown of it."""

    @property
    def span_name(self) -> str:
        """The name of the run's span."""
        return spans.span_name("pipeline", self.name)

    def below(self, root: RunRoot, span_id: int) -> Context:
        """A context below a span of this run, whichever pod tells it."""
        context = SpanContext(root.trace_id, span_id, True, self._flags, self._state)
        return trace.set_span_in_context(NonRecordingSpan(context), Context())

    def __enter__(self) -> Pod:
        super().__enter__()
        self._show_life()
        # A retry may have its first steps from the workflow's cache, without a pod: then the start comes with the end.
        if self.told.first and not self.runnable.is_retry and not (self.told.again and self._has_begun()):
            self.announce()
        return self

    @harmless
    def _has_begun(self) -> bool:
        """Whether an earlier try of this pod got as far as to announce the run: it writes the run log after that."""
        self._use_volumes()
        return bool(self.runnable.run_log_store.get_run_log_by_id(run_id=self.key, full=False))

    @harmless
    def announce(self) -> None:
        """Send the run's start."""
        if self.telemetry.hub.wanted():
            ids = Ids(*self.root, trace.INVALID_SPAN_ID)
            graph = outline(self.runnable.dag, lambda name: spans.text(self.redactor.text(name)))
            started = self.told.started_ns or time.time_ns()
            origin = Origin(ids, self.run_id)
            own = {**run_fields(self.executor), "graph": graph}
            event = spans.start_event(PIPELINE_STARTED, origin, started, self.name, own)
            self.telemetry.hub.emit(event)

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: types.TracebackType | None
    ) -> None:
        self._tell_ends(exc)
        super().__exit__(kind, exc, traceback)

    @harmless
    def _tell_ends(self, exc: BaseException | None) -> None:
        """Tell what ends with this pod. One that fails, and that Argo starts once more, ends nothing."""
        if exc is not None and (is_cancellation(exc) or not self.told.last):
            return
        is_end = self.node.node_type in ("success", "fail")
        ends_node = self.fan == "in" or (self.fan == "out" and exc is not None)
        ends_run = self.ends_run and (is_end or (exc is not None and not self.node._get_on_failure_node()))  # noqa: SLF001
        if ends_node or ends_run:
            from runnable_otel.argo.report import Report  # most pods end nothing

            report = Report(self, os.environ)
            if ends_node:
                report.composite(exc)
            if ends_run:
                report.run(exc)

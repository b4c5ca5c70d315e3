"""What the pod that ends it tells of a composite node, or of the run, from runnable's run log."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Link, Span, StatusCode

from runnable_otel import semconv, skipped, spans
from runnable_otel.events import PIPELINE_COMPLETED, run_fields
from runnable_otel.propagation import Remembered, RunRoot, seeded_root
from runnable_otel.runlog.builder import Builder, Place
from runnable_otel.runlog.log import Log, Workflow, attempts, earliest, nanoseconds, workflow_of, workflows
from runnable_otel.spans import Origin, Step
from runnable_otel.tracing import Ids, remote

if TYPE_CHECKING:
    from runnable_otel.argo.pod import Pod


class Report:
    """Reads the run log once, and tells what it is asked for.

    Args:
        pod: the scope of this pod, which is open.
        environ: the environment, with the secrets that tasks are given.
    """

    def __init__(self, pod: Pod, environ: Mapping[str, str]) -> None:
        self._pod, self._now = pod, time.time_ns()
        self._workflow = Workflow(pod.told.seed, str(pod.runnable.retry_indicator))
        log: Log = pod.runnable.run_log_store.get_run_log_by_id(run_id=pod.key, full=True).model_dump()
        self._builder = Builder(
            log=log,
            run=Remembered(pod.root, pod.told.started_ns or self._now, pod.name, 0),
            is_ours=self._workflow.made,
            settings=pod.telemetry.settings,
            secrets=environ,
            resource=Resource.get_empty(),  # the spans are made anew, on this process's provider
        )
        self._cause = ""

    def composite(self, exc: BaseException | None) -> None:
        """Tell the node that this pod fans in, and its branches; `exc` is what the pod fails of."""
        place = next(each for each in self._builder.everywhere() if each.log["internal_name"] == self._pod.step)
        *branches, own = self._builder.composite(place, empty_at=self._now).around
        for branch in branches:
            self._emit(branch)
        failure = None
        if exc is not None and own.status.status_code is StatusCode.UNSET:
            # Its branches succeeded: it is the pod that failed, for instance in the reducer.
            failure = self._pod.describe(exc)
            self._cause = self._pod.status_of(failure)
        elif own.status.status_code is StatusCode.ERROR:
            self._cause = str(own.status.description)
        span = self._emit(own, self._cause, end=False)
        if failure is not None:
            span.add_event("exception", spans.exception_attributes(failure))
        span.end(self._now)

    def run(self, exc: BaseException | None) -> None:
        """Tell the run, and which steps a retry has passed over."""
        pod, log = self._pod, self._builder.log
        if pod.runnable.is_retry:
            self._skipped()
        failed = exc is not None or pod.node.node_type == "fail"
        status = self._why(exc) if failed else semconv.SUCCESS
        version = pod.telemetry.runnable_version
        tag = self._builder.redactor.text(pod.runnable.tag or "")
        attributes = spans.run_attributes(semconv.PIPELINE_NAME, pod.name, pod.run_id, pod.executor, tag, version)
        attributes[semconv.STATUS] = status
        result = attributes[semconv.CICD_PIPELINE_RESULT] = semconv.RESULT.get(status, "failure")
        if failed:
            attributes[semconv.ERROR_TYPE] = status.partition(":")[0]
        began = min(filter(None, (pod.told.started_ns, earliest(log, self._workflow.made), self._now)))
        opened = pod.telemetry.tracing.start(
            pod.span_name,
            attributes=attributes,
            parent=Ids(pod.root.trace_id, 0, 0),
            context=pod.joined or Context(),
            links=[Link(remote(*root)) for root in self._roots_before()[-1:]],
            span_id=pod.root.span_id,
            trace_id=pod.root.trace_id,
            start_ns=began,
        )
        if failed:
            opened.span.set_status(StatusCode.ERROR, status)
        opened.span.end(self._now)
        if pod.runnable.is_retry:
            pod.announce()
        self._completed(Origin(opened.ids, pod.run_id), began, status, failed=failed)
        error = attributes.get(semconv.ERROR_TYPE, "")
        pod.telemetry.metrics.run_told(pod.dimensions, result, (self._now - began) / 1e9, error)

    def _completed(self, origin: Origin, began: int, status: str, *, failed: bool) -> None:
        own: dict[str, Any] = run_fields(self._pod.executor)
        own |= {"status": "error" if failed else status, "error": status if failed else None}
        event = spans.end_event(PIPELINE_COMPLETED, origin, began, self._now, self._pod.name, own)
        self._pod.telemetry.hub.emit(event)

    def _why(self, exc: BaseException | None) -> str:
        """The cause of the run's failure: that of this pod's task, that of a task in the run log, or the pod's own."""
        pod = self._pod
        if pod.failure is not None:
            return pod.status_of(pod.failure)
        made = (span for place in self._builder.top() for span in self._builder.step(place))
        causes = [str(span.status.description) for span in made if span.status.status_code is StatusCode.ERROR]
        if self._cause or causes:
            return self._cause or causes[-1]
        return pod.status_of(pod.describe(exc)) if exc is not None else "ExecutionFailedError: it ended in a fail node"

    def _emit(self, told: ReadableSpan, cause: str = "", *, end: bool = True) -> Span:
        """Make a span as it is told, on this process's provider."""
        pod = self._pod
        assert told.context is not None
        assert told.parent is not None
        parent = Ids(pod.root.trace_id, told.parent.span_id, 0)
        attributes = dict(told.attributes or {})
        status = cause or told.status.description
        if status:
            attributes[semconv.STATUS] = status
        opened = pod.telemetry.tracing.start(
            told.name,
            attributes=attributes,
            parent=parent,
            context=pod.below(pod.root, told.parent.span_id),
            span_id=told.context.span_id,
            start_ns=told.start_time,
        )
        if status:
            opened.span.set_status(StatusCode.ERROR, status)
        if end:
            opened.span.end(told.end_time)
        return opened.span

    def _skipped(self) -> None:
        for place, last in self._passed(self._builder.top()):
            builder, pod = self._builder, self._pod
            text = builder.redactor.text
            name, task_type = builder.called(place)
            kind = str(place.log["step_type"])
            short = text(str(place.log["name"]))
            called = skipped.Called(kind, short, short, "")
            if kind == "task":
                name = spans.task_name(task_type, text(name[:4096]))
                called = skipped.Called(kind, name, short if task_type == "shell" else name, task_type)
            number = int(last["attempt_number"])
            key = str(place.log["internal_name"])
            skipped.tell(
                pod.telemetry,
                Step(builder.named(key), short, builder.named(place.branch), number),
                called,
                run_id=pod.run_id,
                parent=Ids(pod.root.trace_id, place.parent, 0),
                context=pod.below(pod.root, place.parent),
                links=self._links(last, key, number, is_task=kind == "task"),
            )

    def _passed(self, places: Iterable[Place]) -> Iterator[tuple[Place, Log]]:
        """The steps that ran before this workflow, and not in it, with their last attempt."""
        for place in places:
            tried = sorted(attempts({"steps": {"": place.log}}), key=lambda each: nanoseconds(each["start_time"]))
            if not tried or place.log["step_type"] in ("success", "fail"):
                continue
            if not any(map(self._workflow.made, tried)):
                yield place, tried[-1]
            else:
                yield from self._passed(self._builder.inside(place))

    def _links(self, attempt: Log, step: str, number: int, *, is_task: bool) -> list[Link]:
        ran = workflow_of(attempt)
        if ran is None or self._pod.joined is not None:
            return []  # where Argo has a trace of its own, nobody here knows which one it was
        root = seeded_root(ran.seed, self._pod.key, ran.indicator)
        return [Link(remote(root.trace_id, root.attempt_span_id(step, number) if is_task else root.span_id))]

    def _roots_before(self) -> list[RunRoot]:
        if self._pod.joined is not None or not self._pod.runnable.is_retry:
            return []
        before: list[Any] = [each for each in workflows(self._builder.log) if each != self._workflow]
        return [seeded_root(each.seed, self._pod.key, each.indicator) for each in before]

"""In the process that made a pool: what its workers tell happens here, as if their branches ran here.

A span that a worker began and ended begins and ends here too, on the same provider, with the same ids and times: so
every processor of the user's sees both, in its own process, and a sampler is asked as it is for any other span.
"""

from __future__ import annotations

import copy
import pickle
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanKind,
    StatusCode,
    TraceFlags,
    Tracer,
    TracerProvider,
)

from runnable_otel import semconv
from runnable_otel.events import (
    PIPELINE_COMPLETED,
    PIPELINE_STARTED,
    TASK_COMPLETED,
    TASK_ERROR,
    TASK_STARTED,
    Event,
)
from runnable_otel.pools.messages import Ended, Key, Place, Started, Where, context_of
from runnable_otel.run_scope import RunScope
from runnable_otel.scopes import Scope, harmless
from runnable_otel.spans import cancelled_event
from runnable_otel.still_open import is_free
from runnable_otel.telemetry import Telemetry
from runnable_otel.tracing import sdk_provider


class _TheirIds(IdGenerator):
    """Gives the next span the ids that it has in the worker."""

    def __init__(self) -> None:
        self.context = trace.INVALID_SPAN_CONTEXT

    def generate_span_id(self) -> int:
        return self.context.span_id

    def generate_trace_id(self) -> int:
        return self.context.trace_id

    def is_trace_id_random(self) -> bool:
        return bool(self.context.trace_flags & getattr(TraceFlags, "RANDOM_TRACE_ID", 2))


class _Unended:
    """The tasks and runs that go on in the workers, as these have told it: one that is cut off can't tell its end."""

    def __init__(self, telemetry: Telemetry, queue: Any) -> None:
        self._telemetry, self._queue = telemetry, queue
        self._events: dict[str, tuple[int, Event, bool]] = {}  # by the name of the span: sender, start, for the queue
        self._metrics: list[tuple[int, str, Mapping[str, str], int]] = []  # sender, `task` or `run`, dimensions, since

    def event(self, sender: int, event: Event, *, for_queue: bool) -> None:
        span = event.uid.rpartition(":")[0]
        if event.type in (TASK_STARTED, PIPELINE_STARTED):
            self._events[span] = sender, event, for_queue
        elif event.type in (TASK_COMPLETED, TASK_ERROR, PIPELINE_COMPLETED):
            self._events.pop(span, None)

    def metric(self, sender: int, name: str, arguments: tuple[Any, ...]) -> None:
        what, _, edge = name.partition("_")
        if edge == "started":
            self._metrics.append((sender, what, arguments[0], time.time_ns()))
        elif edge == "ended":
            found = (each for each in self._metrics if each[:3] == (sender, what, arguments[0]))
            if (known := next(found, None)) is not None:
                self._metrics.remove(known)

    def cut_off(self, now: int, sender: int | None = None) -> None:
        """Tell the ends of what goes on in a worker, or in all of them, the innermost first."""
        for span, (owner, start, for_queue) in reversed(list(self._events.items())):
            if sender in (None, owner) and self._events.pop(span, None) is not None:
                self._telemetry.hub.emit(cancelled_event(start, now), self._queue if for_queue else None)
        for each in reversed(self._metrics):
            owner, what, dimensions, began = each
            if sender in (None, owner):
                ended = self._telemetry.metrics.run_ended if what == "run" else self._telemetry.metrics.task_ended
                ended(dimensions, semconv.RESULT[semconv.CANCELLED], max(0, now - began) / 1e9, "")
        self._metrics = [each for each in self._metrics if sender not in (None, each[0])]


class Replay:
    """Does what the messages say. It belongs to the thread that waits for the pool.

    Args:
        scope: the node whose branches run in the pool.
        queue: the caller's, or None.
    """

    def __init__(self, telemetry: Telemetry, scope: Scope, run: RunScope, queue: Any) -> None:
        self._telemetry, self._run, self._queue = telemetry, run, queue
        self._node = scope.span.get_span_context()
        self._context = otel_context.get_current()
        self._ids = _TheirIds()
        self._tracers: dict[tuple[int, str], tuple[TracerProvider, Tracer]] = {}
        self._open: dict[Key, tuple[int, Span, int]] = {}  # sender, span, links that it has
        self._unended = _Unended(telemetry, queue)
        self._is_over = False

    @harmless
    def message(self, sender: int, data: bytes) -> None:
        """One message of a worker that showed its token."""
        kind, body = pickle.loads(data)  # noqa: S301 - a pool's results are no safer
        if self._is_over and kind not in ("put", "secrets"):
            return  # it has been told as cancelled
        if kind == "start":
            self._start(sender, Started(*body))
        elif kind == "end":
            self._end(Ended(*body))
        elif kind == "event":
            (name, uid, fields), for_queue = body
            event = Event(name, uid, MappingProxyType(fields))
            self._unended.event(sender, event, for_queue=for_queue)
            self._telemetry.hub.emit(event, self._queue if for_queue else None)
        elif kind == "put":
            if self._queue is not None:
                self._telemetry.hub.put(body, self._queue)
        elif kind == "metric":
            name, arguments = body
            self._unended.metric(sender, name, arguments)
            getattr(self._telemetry.metrics, name)(*arguments)
        elif kind == "secrets":
            self._run.learn(body)

    @harmless
    def gone(self, sender: int) -> None:
        """A worker has ended. What it had not ended was cut off: it gets no other chance to arrive."""
        now = time.time_ns()
        for key, (owner, span, _) in list(self._open.items()):
            if owner == sender:
                del self._open[key]
                span.set_attribute(semconv.STATUS, semconv.CANCELLED)
                span.end(now)
        self._unended.cut_off(now, sender)

    def cancel(self, now: int) -> bool:
        """This process ends: what is open in the workers does too. False where a span's lock is held."""
        free = True
        for key, (_, span, _) in list(self._open.items()):
            if is_free(span):
                del self._open[key]
                span.set_attribute(semconv.STATUS, semconv.CANCELLED)
                span.end(now)
            else:
                free = False
        return free

    @harmless
    def tell_cancelled(self, now: int) -> None:
        """The same for the events of what was open in them; from now on they tell nothing more."""
        self._is_over = True
        self._unended.cut_off(now)

    def _start(self, sender: int, told: Started) -> None:
        tracer = self._tracer(told)
        self._ids.context = context_of(told.context)
        span = tracer.start_span(
            told.name,
            context=self._parent(told.parent),
            kind=SpanKind(told.kind),
            attributes=told.attributes,
            links=[Link(context_of(place), attributes) for place, attributes in told.links],
            start_time=told.start,
        )
        self._open[told.context[:2]] = sender, span, len(told.links)

    def _end(self, told: Ended) -> None:
        known = self._open.pop(told.key, None)
        if known is None:  # it was cancelled
            return
        _, span, links = known
        if span.is_recording():
            span.update_name(told.name)
            span.set_attributes(told.attributes)
            for name, attributes, moment in told.events:
                span.add_event(name, attributes, moment)
            for place, attributes in told.links[links:]:
                span.add_link(context_of(place), attributes)
            code, description = told.status
            span.set_status(StatusCode(code), description)
        span.end(told.end)

    def _parent(self, parent: Where | None) -> Context:
        """The context of the span's parent: the live one where it is here, so that processors may look at it."""
        if parent is None:
            return trace.set_span_in_context(trace.INVALID_SPAN, self._context)
        if parent[1] == self._node.span_id:
            return self._context
        known = self._open.get(parent[:2])
        span = known[1] if known else NonRecordingSpan(context_of(parent))
        return trace.set_span_in_context(span, self._context)

    def _tracer(self, told: Started) -> Tracer:
        """A tracer of that provider and scope which gives the ids that it is told."""
        provider = self._provider("own" if told.scope[0] == semconv.SCOPE else told.place)
        provider = sdk_provider(provider) or provider
        key = id(provider), repr(told.scope)
        known = self._tracers.get(key)
        if known is None:
            tracer: Any = copy.copy(provider.get_tracer(*told.scope))  # the provider keeps the original for others
            tracer.id_generator = self._ids
            known = self._tracers[key] = provider, tracer
        return known[1]

    def _provider(self, place: Place) -> TracerProvider:
        tracing = self._telemetry.tracing
        found = None
        if place == "global":
            found = tracing.global_provider()
        elif place == "logfire":
            found = tracing.configured_logfire()
        return found or tracing.provider()

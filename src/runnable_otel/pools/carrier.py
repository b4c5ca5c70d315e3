"""What a worker of a pool must know of the run that it works for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from opentelemetry import context as otel_context
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from runnable_otel.pools.channel import Address
from runnable_otel.propagation import Remembered, RunRoot
from runnable_otel.redact import Redactor
from runnable_otel.run_scope import RunScope
from runnable_otel.scopes import Scope
from runnable_otel.settings import Settings
from runnable_otel.tracing import Ids

_PROPAGATOR = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])


@dataclass(frozen=True)
class Carrier:
    """The state of a node whose branches run in other processes. Plain values: it can be pickled.

    Attributes:
        ids: of the node's span.
        headers: trace context and baggage as W3C headers; no `traceparent` where nothing records spans.
        masks: what redacts, with the secrets that the run knows so far.
        has_queue: whether the caller of the run set a queue.
        wanted: whether a sink takes events.
        logfire: whether the user configured logfire.
    """

    address: Address
    ids: Ids
    headers: Mapping[str, str]
    root: RunRoot
    run_id: str
    dimensions: Mapping[str, str]
    earlier: list[Remembered]
    masks: Redactor
    settings: Settings
    has_queue: bool
    wanted: bool
    logfire: bool

    @classmethod
    def of(cls, scope: Scope, run: RunScope, address: Address, *, has_queue: bool, logfire: bool) -> Carrier:
        """The carrier for what runs below `scope`, the innermost one here; it must have a span."""
        assert scope.ids is not None
        headers: dict[str, str] = {}
        _PROPAGATOR.inject(headers)
        return cls(
            address=address,
            ids=scope.ids,
            headers=headers,
            root=run.root,
            run_id=run.run_id,
            dimensions=run.dimensions,
            earlier=run.earlier,
            masks=run.masks,
            settings=scope.telemetry.settings,
            has_queue=has_queue,
            wanted=scope.telemetry.hub.wanted(),
            logfire=logfire,
        )

    @property
    def records(self) -> bool:
        """Whether spans are recorded at all, sampled or not."""
        return "traceparent" in self.headers

    def context(self) -> Context:
        """This process's context, with the node's span and its baggage."""
        return _PROPAGATOR.extract(dict(self.headers), context=otel_context.get_current())

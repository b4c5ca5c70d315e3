"""In a worker: everything that would leave this process goes to the one that made the pool."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import INVALID_SPAN_CONTEXT, Link

from runnable_otel.events import Event
from runnable_otel.metrics import Metrics
from runnable_otel.pools.channel import Sender
from runnable_otel.pools.messages import Ended, Message, Place, Started, Where, where
from runnable_otel.scopes import harmless
from runnable_otel.sinks import Hub, Sink


class Relay:
    """Pickles messages and sends them."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    def tell(self, message: Message) -> None:
        """Send one message.

        Raises:
            Exception: something in it can't be pickled.
        """
        self._sender.send(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))


class RelayHub(Hub):
    """Stands for the parent's hub. Sinks that are opened here, by a module that is imported again, stay unused."""

    def __init__(self, relay: Relay, *, wanted: bool) -> None:
        super().__init__()
        self._relay, self._wanted = relay, wanted

    def open(self, url: str) -> Sink:
        """A sink that takes nothing: the parent has the real one."""
        del url
        return _NoSink()

    def add(self, sinks: Iterable[Sink]) -> None:
        """The parent has its own."""

    def wanted(self, queue: Any = None) -> bool:
        """Whether anybody takes events there."""
        return queue is not None or self._wanted

    def emit(self, event: Event, queue: Any = None) -> None:
        """Send one event; `queue` only says whether it is for the caller's queue as well."""
        if self.wanted(queue):
            plain = (event.type, event.uid, dict(event.fields))
            self._guarded("pool", self._relay.tell, ("event", (plain, queue is not None)))

    def put(self, item: Any, queue: Any) -> None:
        """A task's own event, for the caller's queue."""
        del queue
        self._guarded("queue", self._relay.tell, ("put", item))


class _NoSink:
    def emit(self, event: Event) -> None:
        """Take one event."""

    def close(self) -> None:
        """Nothing to close."""


class RelayQueue:
    """Stands for the caller's queue, for code of the user's that asks runnable for it."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def put_nowait(self, item: Any) -> None:
        """Send an item.

        Raises:
            Exception: it can't be pickled.
        """
        self._relay.tell(("put", item))

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Send an item: there is always room."""
        del block, timeout
        self.put_nowait(item)


class RelayMetrics(Metrics):
    """Each measurement is taken by the parent's meter provider, with the dimensions that it has here."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    @harmless
    def _tell(self, name: str, *arguments: Any) -> None:
        self._relay.tell(("metric", (name, arguments)))

    def run_started(self, dimensions: Mapping[str, str]) -> None:
        self._tell("run_started", dict(dimensions))

    def run_ended(self, dimensions: Mapping[str, str], result: str, seconds: float, error: str) -> None:
        self._tell("run_ended", dict(dimensions), result, seconds, error)

    def task_started(self, dimensions: Mapping[str, str]) -> None:
        self._tell("task_started", dict(dimensions))

    def task_ended(self, dimensions: Mapping[str, str], result: str, seconds: float, error: str) -> None:
        self._tell("task_ended", dict(dimensions), result, seconds, error)

    def user_metrics(self, dimensions: Mapping[str, str], values: Mapping[str, object]) -> None:
        numbers = {name: value for name, value in values.items() if type(value) is int or type(value) is float}
        self._tell("user_metrics", dict(dimensions), numbers)

    def dropped(self, reason: str, number: int = 1) -> None:
        self._tell("dropped", reason, number)


class RelayProcessor(SpanProcessor):
    """In place of all processors of a provider: the parent starts and ends each span, for those that it has.

    Args:
        place: which of the parent's providers stands for this one.
    """

    def __init__(self, relay: Relay, place: Place) -> None:
        self._relay = relay
        self._place: Place = place

    @harmless
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Announce the span."""
        del parent_context
        self._relay.tell(("start", tuple(_started(span, self._place))))

    @harmless
    def on_end(self, span: ReadableSpan) -> None:
        """Send the rest of it."""
        self._relay.tell(("end", tuple(_ended(span))))

    def _on_ending(self, span: Span) -> None:
        """Processors that change a span at its end do so in the parent."""

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Nothing is held."""
        return True


def _where(span: ReadableSpan) -> Where:
    return where(span.get_span_context() or INVALID_SPAN_CONTEXT)


def _links(links: Sequence[Link]) -> list[tuple[Where, dict[str, Any]]]:
    return [(where(link.context), dict(link.attributes or {})) for link in links]


def _started(span: ReadableSpan, place: Place) -> Started:
    scope = span.instrumentation_scope
    return Started(
        place=place,
        scope=(scope.name, scope.version, scope.schema_url, dict(scope.attributes or {}) or None)
        if scope
        else ("", None, None, None),
        name=span.name,
        context=_where(span),
        parent=where(span.parent) if span.parent else None,
        kind=span.kind.value,
        attributes=dict(span.attributes or {}),
        links=_links(span.links),
        start=span.start_time or 0,
    )


def _ended(span: ReadableSpan) -> Ended:
    return Ended(
        key=_where(span)[:2],
        name=span.name,
        attributes=dict(span.attributes or {}),
        events=[(event.name, dict(event.attributes or {}), event.timestamp) for event in span.events],
        links=_links(span.links),
        status=(span.status.status_code.value, span.status.description),
        end=span.end_time or 0,
    )

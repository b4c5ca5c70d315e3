"""Which provider a span goes to, decided when the span opens, and the span itself.

`execute()` imports the user's module a second time to build the graph: a `logfire.configure` or `set_tracer_provider`
at its top level swaps providers between the start of a script and its first task. So nothing is remembered but the
tracer of the provider that was used last.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider as SDKTracerProvider
from opentelemetry.trace import INVALID_SPAN_ID, Link, Span, SpanContext, Tracer, TracerProvider

from runnable_otel._version import __version__
from runnable_otel.propagation import ChosenIds, random_span_id, random_trace_id
from runnable_otel.semconv import SCOPE


class Ids(NamedTuple):
    """Identity of a span, whether or not the SDK recorded it."""

    trace_id: int
    span_id: int
    parent_id: int


class OpenedSpan(NamedTuple):
    """A span that was started: `in_context` is false where the provider gave it no id of its own."""

    span: Span
    ids: Ids
    in_context: bool


@dataclass
class Hooks:
    """What the provider's owner is asked; it fills this in, so that this module imports nothing above it."""

    own_provider: Callable[[], TracerProvider | None] = lambda: None
    is_door: Callable[[object], bool] = lambda processor: False
    prepare: Callable[[TracerProvider], None] = lambda provider: None
    is_relayed: Callable[[TracerProvider], bool] = lambda provider: False


class Tracing:
    """Resolves the provider and opens spans."""

    def __init__(self, load_hooks: Callable[[], Hooks] = Hooks) -> None:
        self._load_hooks = load_hooks
        self.explicit: TracerProvider | None = None
        self._provider: TracerProvider | None = None
        self._tracer: Tracer | None = None

    @cached_property
    def hooks(self) -> Hooks:
        """Loaded with the first span: the SDK's exporters are nothing that an import should wait for."""
        return self._load_hooks()

    def forget(self) -> None:
        """Resolve anew: what is attached to the providers has changed."""
        self._provider = self._tracer = None

    def provider(self) -> TracerProvider:
        """The provider that the next span goes to.

        An explicit one, else the one that holds a `RunnableSpanProcessor`, else logfire's where the user configured
        logfire, else the global one, else one of ours where a variable asks for it.
        """
        if self.explicit is not None:
            return self.explicit
        global_provider = trace.get_tracer_provider()
        logfire_provider = self.configured_logfire()
        if logfire_provider is None or logfire_provider is global_provider:
            if isinstance(global_provider, trace.ProxyTracerProvider):
                return self.hooks.own_provider() or global_provider
            return global_provider
        return self._one_of_two(global_provider, logfire_provider)

    @staticmethod
    def global_provider() -> TracerProvider | None:
        """The global provider, or None where nobody has set one."""
        provider = trace.get_tracer_provider()
        return None if isinstance(provider, trace.ProxyTracerProvider) else provider

    def configured_logfire(self) -> TracerProvider | None:
        """logfire's provider where the user configured logfire, or None."""
        logfire: Any = sys.modules.get("logfire")
        if logfire is None:
            return None
        try:
            config = logfire.DEFAULT_LOGFIRE_INSTANCE.config
            if not config._initialized:  # noqa: SLF001 - logfire has no public word for "configured"
                return None
            provider = config.get_tracer_provider()
        except AttributeError:  # half imported, or a logfire that keeps these elsewhere
            return None
        return None if self.hooks.is_relayed(provider) else provider

    def _one_of_two(self, global_provider: TracerProvider, logfire_provider: TracerProvider) -> TracerProvider:
        """logfire's provider, unless the user's own set-up says that the global one is meant."""
        if isinstance(global_provider, trace.ProxyTracerProvider):
            return logfire_provider
        doors = [p for p in (logfire_provider, global_provider) if any(map(self.hooks.is_door, processors(p)))]
        if doors:
            return doors[0]
        if logfire_speaks_wrong_protocol() and processors(global_provider):
            return global_provider
        return logfire_provider

    def tracer(self) -> Tracer:
        """Our tracer on that provider, with an id generator of ours in front of the provider's."""
        provider = self.provider()
        inner: TracerProvider = behind(provider)
        if inner is not self._provider or self._tracer is None:
            self.hooks.prepare(provider)
            self._tracer = provider.get_tracer(SCOPE, __version__)
            self._provider = inner
        return self._tracer

    def start(
        self,
        name: str,
        *,
        attributes: Mapping[str, Any],
        parent: Ids | None = None,
        context: Context | None = None,
        links: Sequence[Link] = (),
        span_id: int = 0,
        trace_id: int = 0,
        start_ns: int | None = None,
    ) -> OpenedSpan:
        """Start a span below the current one (or that of `context`).

        Args:
            parent: ids of the enclosing span of ours: the identity where the provider gives none.
            span_id: the id to give it; 0 leaves the choice to the provider.
            trace_id: the id of its trace, where it has no parent; 0 leaves the choice to the provider.
            start_ns: nanoseconds since 1970; now unless told.
        """
        tracer = self.tracer()
        above = trace.get_current_span(context).get_span_context()
        arguments: dict[str, Any] = {"context": context, "attributes": attributes, "links": links}
        span = self._started(tracer, span_id, trace_id, name, start_time=start_ns, **arguments)
        own = span.get_span_context()
        if own.is_valid and own.span_id != above.span_id:
            return OpenedSpan(span, Ids(own.trace_id, own.span_id, above.span_id), True)
        return self.unrecorded(parent, context, span_id, trace_id, span)

    @staticmethod
    def unrecorded(
        parent: Ids | None, context: Context | None, span_id: int, trace_id: int, span: Span = trace.INVALID_SPAN
    ) -> OpenedSpan:
        """Where no provider takes a span: what happened still has a name of its own, for its events."""
        above = trace.get_current_span(context).get_span_context()
        trace_id = parent.trace_id if parent else above.trace_id or trace_id or random_trace_id()
        parent_id = parent.span_id if parent else above.span_id or INVALID_SPAN_ID
        return OpenedSpan(span, Ids(trace_id, span_id or random_span_id(), parent_id), False)

    def start_plain(self, name: str, attributes: Mapping[str, Any]) -> Span:
        """Start a span of the user's below the current one, with ids that nobody chose."""
        return self._started(self.tracer(), 0, 0, name, attributes=attributes)

    def samples(self, trace_id: int, name: str) -> bool:
        """Whether a root span of this trace id would be sampled: all processes with the same sampler say the same."""
        inner = sdk_provider(self.provider())
        if inner is None:
            return True
        return inner.sampler.should_sample(Context(), trace_id, name).decision.is_sampled()

    def _started(self, tracer: Tracer, span_id: int, trace_id: int, name: str, **arguments: Any) -> Span:
        # logfire's tracer wraps an SDK one, and makes a new one inside when it is configured again.
        inner: Any = getattr(tracer, "tracer", tracer)
        generator = getattr(inner, "id_generator", None)
        if generator is None:
            return tracer.start_span(name, **arguments)
        if not isinstance(generator, ChosenIds):
            inner.id_generator = generator = ChosenIds(generator)
        with generator.choose(span_id, trace_id):
            return tracer.start_span(name, **arguments)


def behind(provider: Any) -> Any:
    """The provider itself, where logfire's proxy stands in front of it: a new one each time logfire is configured."""
    return getattr(provider, "provider", provider)


def sdk_provider(provider: TracerProvider) -> SDKTracerProvider | None:
    """The SDK provider that `provider` is, or stands in front of (logfire's proxy)."""
    inner = behind(provider)
    return inner if isinstance(inner, SDKTracerProvider) else None


def processors(provider: TracerProvider) -> list[object]:
    """The span processors of a provider, those inside logfire's wrappers too; empty where it shows none."""
    found: list[object] = []
    inner = sdk_provider(provider)
    todo: list[Any] = [getattr(inner, "_active_span_processor", None)]
    while todo and len(found) < 256:
        processor = todo.pop()
        if processor is None:
            continue
        nested = getattr(processor, "_span_processors", None)
        wrapped = getattr(processor, "processor", None)
        if nested is not None:
            todo.extend(nested)
        else:
            found.append(processor)
            if wrapped is not None:
                todo.append(wrapped)
    return found


def protocol(environ: Mapping[str, str] | None = None) -> str:
    """The OTLP protocol for traces that the environment names; the SDK's default is `grpc`."""
    environ = os.environ if environ is None else environ
    named = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    return (named or "grpc").strip().lower()


def endpoint(environ: Mapping[str, str] | None = None) -> str:
    """The OTLP endpoint for traces that the environment names, or the empty string."""
    environ = os.environ if environ is None else environ
    return environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or ""


def logfire_speaks_wrong_protocol(environ: Mapping[str, str] | None = None) -> bool:
    """Whether logfire adds an exporter of its own, which speaks HTTP only, to an endpoint that speaks gRPC."""
    environ = os.environ if environ is None else environ
    adds = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() in ("otlp", "")
    named = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    # Nobody who uses logfire alone names the protocol: the port that OTLP over HTTP has is as good a word.
    http = not named and urlsplit(endpoint(environ)).netloc.endswith(":4318")
    return bool(endpoint(environ)) and adds and not http and protocol(environ) == "grpc"


def remote(trace_id: int, span_id: int) -> SpanContext:
    """The context of a span that another process, or an earlier run, sent."""
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED))

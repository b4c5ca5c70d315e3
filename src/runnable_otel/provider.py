"""The provider that we own, where nobody else does; what we attach to it and to the user's own; its end.

Nothing is set up at import: a provider of ours is made when the first span of a run opens and nobody has set one. It is
put in place without the SDK's once-only lock, so that a user's later `set_tracer_provider` or `logfire.configure`
works.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace import TracerProvider as SDKTracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import TracerProvider

from runnable_otel.exporters import exporters, logfire_exporter
from runnable_otel.settings import SettingError, Settings, activated, sdk_disabled
from runnable_otel.telemetry import TELEMETRY
from runnable_otel.tracing import Hooks, endpoint, logfire_speaks_wrong_protocol, sdk_provider

logger = logging.getLogger(__name__)


class Relay(SpanProcessor):
    """Hands the spans of logfire's provider to the processors of another one, which owns them."""

    def __init__(self, target: SDKTracerProvider) -> None:
        self._target = target._active_span_processor  # noqa: SLF001 - the SDK has no public way to feed a provider

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self._target.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        self._target.on_end(span)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._target.force_flush(timeout_millis)


class Owner:
    """Makes our provider at most once, and prepares each provider that runnable's spans go to."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._own: SDKTracerProvider | None = None
        self._failed = False
        self._prepared: weakref.WeakSet[SDKTracerProvider] = weakref.WeakSet()
        self._relayed: object = None
        self._said_wrong_protocol = False
        self.wanted = False

    def provider(self) -> TracerProvider | None:
        """Our provider, made now if a variable or `configure()` asks for one; None where nothing does."""
        with self._lock:
            if self._own is None and not self._failed and (self.wanted or activated()) and not sdk_disabled():
                try:
                    self._own = build()
                except SettingError as error:
                    self._failed = True
                    logger.error("no spans are exported: %s", error)
                    return None
                trace._TRACER_PROVIDER = self._own  # noqa: SLF001 - see the module's head
            return self._own

    def prepare(self, provider: TracerProvider) -> None:
        """Attach what variables ask for: the tree on the terminal, Logfire's exporter, the user's logfire calls."""
        inner = sdk_provider(provider)
        if inner is None:
            return
        is_logfires = inner is not provider
        with self._lock:
            if inner in self._prepared:
                return
            self._prepared.add(inner)
            # What is registered last runs first: ahead of the SDK's own handler for this provider, which may take long.
            atexit.unregister(self.finish)
            atexit.register(self.finish)
            if TELEMETRY.settings.console:
                from runnable_otel.console import TreeSpanProcessor

                inner.add_span_processor(TreeSpanProcessor())
            if is_logfires:
                self._check_protocol()
                return
            token = os.environ.get("LOGFIRE_TOKEN")
            if token:
                self._add_logfire(inner, token)
            self._relay_logfire(inner)

    def _add_logfire(self, provider: SDKTracerProvider, token: str) -> None:
        try:
            provider.add_span_processor(BatchSpanProcessor(logfire_exporter(token)))
        except SettingError as error:
            logger.error("nothing is sent to Logfire: %s", error)

    def _relay_logfire(self, provider: SDKTracerProvider) -> None:
        """Configure logfire, where it is installed and nobody has, so that a task's own `logfire.info` arrives.

        runnable would have done so at import, for the same variables, with exporters of its own.
        """
        logfire: Any = sys.modules.get("logfire")
        variables = ("RUNNABLE_TELEMETRY_CONSOLE", "OTEL_EXPORTER_OTLP_ENDPOINT", "LOGFIRE_TOKEN")
        if logfire is None or not any(map(os.environ.get, variables)):
            return
        config = logfire.DEFAULT_LOGFIRE_INSTANCE.config
        if config._initialized:  # noqa: SLF001 - logfire has no public word for "configured"
            return
        with _without_exporters(), _without_global_providers(config):
            logfire.configure(
                send_to_logfire=False,
                console=False,
                metrics=False,
                distributed_tracing=True,
                service_name=str(provider.resource.attributes.get("service.name", "")) or None,
                additional_span_processors=[Relay(provider)],
            )
        self._relayed = sdk_provider(config.get_tracer_provider())

    def is_relayed(self, provider: TracerProvider) -> bool:
        """Whether it was we who configured logfire, and nobody has since."""
        return self._relayed is not None and sdk_provider(provider) is self._relayed

    def _check_protocol(self) -> None:
        if logfire_speaks_wrong_protocol() and not self._said_wrong_protocol:
            self._said_wrong_protocol = True
            logger.warning(
                "logfire exports to %s over HTTP, but the OTLP protocol there is grpc: "
                "set OTEL_TRACES_EXPORTER=none, and give logfire.configure an exporter of your own",
                TELEMETRY.redactor.text(endpoint()),
            )

    def finish(self) -> None:
        """The end of the process: spans and events leave side by side, held no longer than the setting allows."""
        seconds = TELEMETRY.settings.exit_timeout
        end = time.monotonic() + seconds
        spans = None if self._own is None else _in_background(self._own.shutdown)
        TELEMETRY.hub.close(seconds)
        if spans is not None:
            spans.join(max(0.0, end - time.monotonic()))


def _in_background(function: Callable[[], object]) -> threading.Thread | None:
    """Run a function on a daemon thread; None where it has run already."""
    try:
        thread = threading.Thread(target=function, name="runnable-otel-exit", daemon=True)
        thread.start()
    except RuntimeError:  # the interpreter is past the point where threads start
        function()
        return None
    return thread


@contextmanager
def _without_exporters() -> Generator[None, None, None]:
    """logfire reads these when it is configured, and would add exporters of its own."""
    names = ("OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "none"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _without_global_providers(config: Any) -> Generator[None, None, None]:
    """logfire sets the global providers once, when it is first configured: that stays the user's to do."""
    before = config._has_set_providers  # noqa: SLF001
    config._has_set_providers = True  # noqa: SLF001
    try:
        yield
    finally:
        config._has_set_providers = before  # noqa: SLF001


def build() -> SDKTracerProvider:
    """A provider with our resource and the exporters that the environment names.

    Raises:
        SettingError: an exporter can't be made.
    """
    made = exporters()
    provider = SDKTracerProvider(resource=resource(), shutdown_on_exit=False)
    for exporter in made:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def resource() -> Resource:
    """The resource of what we send: what the environment and its detectors say wins over what we found."""
    from runnable_otel.resource import RunnableResourceDetector

    found, named = RunnableResourceDetector().detect(), Resource.create()
    unnamed = str(named.attributes.get("service.name", "")).startswith("unknown_service")
    return named.merge(found) if unnamed else found.merge(named)


OWNER = Owner()
atexit.register(OWNER.finish)


def hooks() -> Hooks:
    """What `Tracing` asks when it resolves a provider."""
    from runnable_otel.processor import RunnableSpanProcessor

    return Hooks(
        own_provider=OWNER.provider,
        is_door=lambda processor: isinstance(processor, RunnableSpanProcessor),
        prepare=OWNER.prepare,
        is_relayed=OWNER.is_relayed,
    )


def configure(**settings: Any) -> TracerProvider | None:
    """Set up telemetry for a plain run: instrument runnable, and make a provider where nobody has set one.

    The provider exports as the `OTEL_*` variables say (OTLP over gRPC where there is an endpoint), draws the tree on
    the terminal for `console=True`, and sends to Logfire where `LOGFIRE_TOKEN` is set. A provider that is set stays.

    Args:
        settings: `console`, `sinks`, `capture`, `max_value_bytes`, `redact`, `exit_timeout`, `enabled`; each wins over
            its environment variable. `sinks` may hold `Sink` objects as well as URLs.

    Returns:
        The provider that runnable's spans go to now; None where telemetry is off.

    Raises:
        SettingError: an argument is out of range. A variable that is out of range raises nothing: telemetry is off, and
            one line says why.
        TypeError: there is no setting of that name.
    """
    from runnable_otel.hooks import open_sinks, read_settings, switch_off, switch_on

    objects = [sink for sink in settings.get("sinks") or () if not isinstance(sink, str)]
    if objects:
        settings["sinks"] = [sink for sink in settings["sinks"] if isinstance(sink, str)]
    Settings.read({}, **settings)  # an argument of the caller's that is wrong is the caller's to see
    if read_settings() is None:
        return None
    chosen = Settings.read(**settings)
    if not chosen.enabled:
        switch_off()
        return None
    if not switch_on():
        return None
    opened = TELEMETRY.settings.sinks
    TELEMETRY.use(chosen)
    open_sinks([*objects, *(url for url in chosen.sinks if url not in opened)])
    OWNER.wanted = True
    return TELEMETRY.tracing.provider()

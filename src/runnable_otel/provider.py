"""The provider that we own, where nobody else does; what we attach to it and to the user's own; its end.

Nothing is set up at import: a provider of ours is made when the first span of a run opens and nobody has set one. It is
put in place without the SDK's once-only lock, so that a user's later `set_tracer_provider` or `logfire.configure`
works.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import weakref
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace import TracerProvider as SDKTracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import TracerProvider

from runnable_otel.calm import CalmProvider
from runnable_otel.end import END
from runnable_otel.exporters import exporters, logfire_exporter
from runnable_otel.jsontext import fold
from runnable_otel.late import despite_shutdown
from runnable_otel.propagation import SystemIds
from runnable_otel.scopes import harmless
from runnable_otel.settings import SettingError, Settings, activated, sdk_disabled
from runnable_otel.telemetry import TELEMETRY
from runnable_otel.tracing import Hooks, endpoint, logfire_speaks_wrong_protocol, sdk_provider

logger = logging.getLogger(__name__)

_SCHEDULE_DELAY: Final = 1000
"""Milliseconds that a span of a provider of ours waits, at most, unless OTEL_BSP_SCHEDULE_DELAY says otherwise."""


_READ_BY_THE_SDK: Final = ("OTEL_ATTRIBUTE_", "OTEL_BSP_", "OTEL_EVENT_", "OTEL_EXPORTER_", "OTEL_LINK_", "OTEL_SPAN_")


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
        self.failed = ""
        """Why our provider could not be made; empty where it was, or nobody has asked for it."""
        self._prepared: weakref.WeakSet[SDKTracerProvider] = weakref.WeakSet()
        self._relayed: object = None
        self._said_wrong_protocol = False
        self.wanted = False

    def provider(self) -> TracerProvider | None:
        """Our provider, made now if a variable or `configure()` asks for one; None where nothing does."""
        with self._lock:
            if self._own is None and not self.failed and (self.wanted or activated()) and not sdk_disabled():
                try:
                    self._own = despite_shutdown(build)
                except Exception as error:  # noqa: BLE001 - the SDK's and its exporters' own, on variables of theirs
                    self.failed = str(error) if isinstance(error, SettingError) else _misread(error)
                    logger.error("no spans are exported: %s", self.failed)
                    return None
                trace._TRACER_PROVIDER = self._own  # noqa: SLF001 - see the module's head
            return self._own

    @harmless
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
            if TELEMETRY.settings.console:
                from runnable_otel.console import TreeSpanProcessor

                inner.add_span_processor(TreeSpanProcessor())
            if is_logfires:
                self._check_protocol()
            elif token := os.environ.get("LOGFIRE_TOKEN"):
                self._add_logfire(inner, token)
            END.watch(inner, ours=inner is self._own)
            if not is_logfires:
                self.relay_logfire(inner)

    def _add_logfire(self, provider: SDKTracerProvider, token: str) -> None:
        try:
            provider.add_span_processor(_batched(logfire_exporter(token)))
        except SettingError as error:
            logger.error("nothing is sent to Logfire: %s", error)

    def relay_logfire(self, provider: SDKTracerProvider, *, wanted: bool = False) -> None:
        """Configure logfire, where it is installed and nobody has, so that a task's own `logfire.info` arrives.

        runnable would have done so at import, for the same variables, with exporters of its own. `wanted` stands for
        these variables.
        """
        variables = ("RUNNABLE_TELEMETRY_CONSOLE", "OTEL_EXPORTER_OTLP_ENDPOINT", "LOGFIRE_TOKEN")
        logfire: Any = sys.modules.get("logfire")
        if logfire is None or not (wanted or any(map(os.environ.get, variables))):
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
    provider = CalmProvider(resource=resource(), id_generator=SystemIds(), shutdown_on_exit=False)
    for exporter in made:
        provider.add_span_processor(_batched(exporter))
    return provider


def _misread(error: Exception) -> str:
    """What the SDK or an exporter says of a variable that it can't take, and the names of those that it may be."""
    names = sorted(name for name in os.environ if name.startswith(_READ_BY_THE_SDK))
    said = fold(TELEMETRY.redactor.text(f"{type(error).__name__}: {error}"), 256)
    return f"{said} ({'see ' + ', '.join(names) if names else 'see the OTEL_* variables'})"


def _batched(exporter: SpanExporter) -> BatchSpanProcessor:
    """A processor of ours: a process that is killed loses the last second, not the last five."""
    named = os.environ.get("OTEL_BSP_SCHEDULE_DELAY")
    return BatchSpanProcessor(exporter, schedule_delay_millis=None if named else _SCHEDULE_DELAY)


def resource() -> Resource:
    """The resource of what we send: what the environment and its detectors say wins over what we found."""
    from runnable_otel.resource import RunnableResourceDetector

    found, named = RunnableResourceDetector().detect(), Resource.create()
    unnamed = str(named.attributes.get("service.name", "")).startswith("unknown_service")
    return named.merge(found) if unnamed else found.merge(named)


OWNER = Owner()


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
        settings: `console`, `sinks`, `capture`, `max_value_bytes`, `redact`, `exit_timeout`, `logs`, `spool`,
            `enabled`; each wins over its environment variable. `sinks` may hold `Sink` objects as well as URLs.

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

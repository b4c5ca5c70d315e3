"""What every span and event of this process shares: settings, redaction, the tracer, the metrics and the sinks."""

from __future__ import annotations

import sys
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from runnable_otel.metrics import Metrics
from runnable_otel.pulse import Pulse
from runnable_otel.redact import Redactor
from runnable_otel.settings import Settings
from runnable_otel.sinks import Hub
from runnable_otel.spool.keeping import KEEPER
from runnable_otel.tracing import Hooks, Tracing
from runnable_otel.unused import UNUSED


class Telemetry:
    """One a process. `use` gives it other settings; all else is made when it is first needed."""

    tracing: Tracing
    hub: Hub
    pulse: Pulse
    settings: Settings
    redactor: Redactor

    def __init__(self) -> None:
        self.tracing = Tracing(_hooks)
        self.hub = Hub()
        self.pulse = Pulse()
        self.times_off = 0
        """How often the hooks were taken off runnable: what it says meanwhile, nobody of ours hears."""
        self.hub.on_drop = lambda reason: self.metrics.dropped(reason)
        self.use(Settings())

    def use(self, settings: Settings) -> None:
        self.settings = settings
        self.redactor = Redactor(settings.redact)
        KEEPER.use(settings.spool)

    @cached_property
    def metrics(self) -> Metrics:
        return Metrics()

    @cached_property
    def runnable_version(self) -> str:
        try:
            return version("runnable")
        except PackageNotFoundError:
            return ""

    def queue(self) -> Any:
        """The queue that `set_stream_queue` set in this context, or None."""
        module: Any = sys.modules.get("runnable.telemetry")
        queue = None if module is None else module.get_stream_queue()
        if queue is not None:
            UNUSED.used(queue)
        return queue

    def run_id(self) -> str:
        """runnable's run id in this context, or the empty string."""
        module: Any = sys.modules.get("runnable.context")
        context = None if module is None else module.get_run_context()
        return getattr(context, "run_id", "") or ""


def _hooks() -> Hooks:
    from runnable_otel import provider

    return provider.hooks()


TELEMETRY = Telemetry()

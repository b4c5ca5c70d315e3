"""`RunnableSpanProcessor`: the door for a user who owns the provider.

Adding it to a provider switches the instrumentation on and makes that provider the one for runnable's spans. What a
task is, gets and gives is written by the facade while the span is live: an ended span can't be changed, and a span that
the sampler dropped never reaches a processor, though its events must go out. So this class has nothing to do when spans
start and end, costs a span that is not ours nothing, and a second one adds nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from opentelemetry.sdk.trace import SpanProcessor

from runnable_otel.hooks import switch_on
from runnable_otel.sinks import Sink
from runnable_otel.telemetry import TELEMETRY


class RunnableSpanProcessor(SpanProcessor):
    """Add it to a `TracerProvider`, or give it to `logfire.configure(additional_span_processors=[…])`.

    Args:
        sinks: where each start and end of a run and a task goes, besides the spans' exporter: `Sink` objects, or URLs
            such as `file:events.jsonl`.

    Raises:
        SettingError: no sink has that URL.
    """

    def __init__(self, sinks: Iterable[Sink | str] = ()) -> None:
        self._sinks = tuple(TELEMETRY.hub.open(sink) if isinstance(sink, str) else sink for sink in sinks)
        TELEMETRY.hub.add(self._sinks)
        TELEMETRY.tracing.forget()
        switch_on()

    def shutdown(self) -> None:
        """Close the sinks of this processor, in `RUNNABLE_OTEL_EXIT_TIMEOUT` seconds; may be called twice."""
        sinks, self._sinks = self._sinks, ()
        TELEMETRY.hub.remove(sinks, TELEMETRY.settings.exit_timeout)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Wait until the sinks have each event so far, at most `timeout_millis`; whether they have."""
        return TELEMETRY.hub.flush(timeout_millis / 1000)

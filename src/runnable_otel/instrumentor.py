"""`RunnableInstrumentor`: what OpenTelemetry's loader and a user's code call to set the hooks and take them off."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor

from runnable_otel.hooks import HOOKS, switch_off, switch_on
from runnable_otel.telemetry import TELEMETRY


class RunnableInstrumentor(BaseInstrumentor):
    """Instruments runnable.

    `instrument()` takes `tracer_provider=`, the provider that all spans go to; without it the provider is resolved when
    a span opens. Calling it again is no error: it adopts the provider that it is given. `uninstrument()` puts every
    original back.
    """

    def instrumentation_dependencies(self) -> Collection[str]:
        """What the OpenTelemetry loader checks before it loads this instrumentor."""
        return ("runnable >= 0.50",)

    def instrument(self, **kwargs: Any) -> Any:
        """Set the hooks.

        Args:
            kwargs: `tracer_provider`, an OpenTelemetry `TracerProvider`; `skip_dep_check` and
                `raise_exception_on_conflict` as in the base class.
        """
        if kwargs.get("tracer_provider") is not None:
            TELEMETRY.tracing.explicit = kwargs["tracer_provider"]
        # The start-up file and OpenTelemetry's loader may both have been here: that is no reason for a warning.
        if self.is_instrumented_by_opentelemetry:
            switch_on()  # `configure(enabled=False)` may have switched it off since
        else:
            super().instrument(**kwargs)

    def uninstrument(self, **kwargs: Any) -> Any:
        """Put every original back, whoever set the hooks. Calling it again is no error."""
        if self.is_instrumented_by_opentelemetry:
            super().uninstrument(**kwargs)
        elif HOOKS.is_on:
            self._uninstrument(**kwargs)

    def _instrument(self, **kwargs: Any) -> None:
        del kwargs
        switch_on()

    def _uninstrument(self, **kwargs: Any) -> None:
        del kwargs
        switch_off()

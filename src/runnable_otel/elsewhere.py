"""A run whose span is open in another process, as it looks from this one: what is below hangs itself on it."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context

from runnable_otel.propagation import Remembered, RunRoot
from runnable_otel.run_scope import RunScope
from runnable_otel.scopes import Scope, current
from runnable_otel.telemetry import Telemetry
from runnable_otel.tracing import Ids


class OpenElsewhere(RunScope):
    """Stands for the run, and for the innermost node that is open there. It opens no span and sends no event.

    Args:
        context: the OpenTelemetry context with that node's span.
        ids: of that span.
        root: of the run's own span.
        dimensions: of the run's metrics.
        earlier: traces of the run id before this one, where the run is a retry.
        queue: the caller's queue, or what stands for it here.
        salt: of that node; see `Scope.salt`.
        tell_secrets: called with each value that has to be masked from now on.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        *,
        context: Context,
        ids: Ids,
        root: RunRoot,
        run_id: str,
        dimensions: Mapping[str, str],
        earlier: list[Remembered] | None = None,
        queue: Any = None,
        salt: str = "",
        tell_secrets: Callable[[list[str]], None] = lambda secrets: None,
    ) -> None:
        Scope.__init__(self, telemetry)  # RunScope's own would begin a run
        self.parent = None  # after a fork: the copy of what is open there
        self.run, self.salt = self, salt
        self.kind = "elsewhere"
        self.run_id, self.root, self.ids = self.shown(run_id), root, ids
        self.dimensions = dict(dimensions)
        self.earlier, self.queue = earlier or [], queue
        self.seen: BaseException | None = None
        self._context, self._tell_secrets = context, tell_secrets

    def __enter__(self) -> OpenElsewhere:
        self._otel_token = otel_context.attach(self._context)
        self.span = trace.get_current_span()
        self._token = current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: types.TracebackType | None
    ) -> None:
        self._leave()

    def begun(self) -> None:
        """Whose span it is, remembers it."""

    def learn(self, secrets: Iterable[str]) -> None:
        """Mask these here, and let the others know."""
        values = list(secrets)
        super().learn(values)
        self._tell_secrets(values)

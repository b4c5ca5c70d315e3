"""Open spans of a run: each scope opens its span on entry, gathers what becomes known, and closes it on exit.

    run (pipeline, job, submit) ── node (parallel, map, loop, conditional) ── branch ── task

A scope is a context manager around the user's code, so nothing in here may raise: see `harmless`.
"""

from __future__ import annotations

import asyncio
import logging
import time
import types
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar, Token
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, StatusCode

from runnable_otel import semconv, spans
from runnable_otel.capture import Captured, capture
from runnable_otel.errors import Failure, describe, root_cause
from runnable_otel.gaps import GAPS
from runnable_otel.redact import NAME, Redactor
from runnable_otel.spans import Origin
from runnable_otel.still_open import OPEN, is_free
from runnable_otel.telemetry import Telemetry
from runnable_otel.tracing import Ids, OpenedSpan

if TYPE_CHECKING:
    from runnable_otel.run_scope import RunScope

logger = logging.getLogger(__name__)

_P = ParamSpec("_P")
_R = TypeVar("_R")

current: ContextVar[Scope | None] = ContextVar("runnable_otel_scope", default=None)
"""The innermost open scope of this thread or task."""


def harmless(function: Callable[_P, _R]) -> Callable[_P, _R | None]:
    """The host comes first: what goes wrong in telemetry is logged, and never raised into the user's code."""

    @wraps(function)
    def guarded(*args: _P.args, **kwargs: _P.kwargs) -> _R | None:
        try:
            return function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - see above
            GAPS.note(function.__qualname__, error)
            if current.get() is None:
                GAPS.say()
            return None

    return guarded


def is_cancellation(exc: BaseException) -> bool:
    """Whether an exception ends the work without being a failure of it."""
    return isinstance(exc, (asyncio.CancelledError, GeneratorExit)) or not isinstance(exc, Exception)


def redactor_of(telemetry: Telemetry) -> Redactor:
    """That of the run, which knows the secrets that its tasks were given; outside of a run the general one."""
    scope = current.get()
    return telemetry.redactor if scope is None else scope.redactor


class Scope:
    """One open span. Subclasses say what it is called, and what its end means."""

    kind = ""

    def __init__(self, telemetry: Telemetry) -> None:
        self.telemetry = telemetry
        self.parent = current.get()
        self.masks = self.parent.redactor if self.parent else telemetry.redactor
        self.salt: str = self.parent.salt if self.parent else ""
        """What tells the ids of a repeated branch, and of all inside of it, from those of the first one by its name."""
        self._branches: Counter[str] | None = None
        self.run: RunScope | None = self.parent.run if self.parent else None
        self.failure: Failure | None = None
        self.failed = False
        self.attributes: dict[str, Any] = {}  # what is known at the end
        self.truncated = False
        self.redacted = False
        self.started_ns = 0
        self.span: Span = trace.INVALID_SPAN
        self.ids: Ids | None = None
        self._ended: tuple[str, bool, int] | None = None  # status, whether that is a failure, when
        # What is open in another process, or in the parent of this fork, can't be left here.
        self._is_outermost = self.parent is None or self.parent not in OPEN
        self._otel_token: Token[Context] | None = None
        self._token: Token[Scope | None] | None = None

    # What a subclass says.

    def opening(self) -> tuple[str, dict[str, Any]]:
        """Name and attributes of the span."""
        raise NotImplementedError

    def opened(self) -> None:
        """The span is open."""

    def closing(self, exc: BaseException | None) -> tuple[str, bool]:
        """`status` of the span, and whether that is a failure."""
        raise NotImplementedError

    def closed(self, status: str, failed: bool, ended_ns: int) -> None:
        """The span is closed."""

    # What all do.

    def __enter__(self) -> Any:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: types.TracebackType | None
    ) -> None:
        try:
            self._close(exc)
        finally:
            self._leave()

    @harmless
    def _open(self) -> None:
        name, attributes = self.opening()
        self.started_ns = time.time_ns()
        self.start_span(name, attributes)
        OPEN.add(self)
        self._token = current.set(self)
        self.opened()
        self._show_life()
        if self._is_outermost:
            OPEN.on_enter(self)

    def _show_life(self) -> None:
        """The outermost scope of a process gives the sign of life for all that is in it."""
        if self.parent is None and self.ids is not None and self.telemetry.hub.wants_signs:
            origin = Origin(self.ids, self.run.run_id if self.run else self.telemetry.run_id())
            self.telemetry.pulse.begin(id(self), partial(self._sign, origin))

    @harmless
    def _sign(self, origin: Origin) -> None:
        self.telemetry.hub.emit_sign(spans.sign_of_life(origin, time.time_ns()))

    def start_span(
        self, name: str, attributes: Mapping[str, Any], *, context: Context | None = None, span_id: int = 0, **more: Any
    ) -> None:
        """Start the span and make it the current one."""
        parent = self.parent.ids if self.parent else None
        opened = self._started(
            name,
            attributes=attributes,
            parent=parent,
            context=context,
            span_id=span_id,
            start_ns=self.started_ns,
            **more,
        )
        if opened is None:  # a processor or a sampler of the user's raises
            opened = self.telemetry.tracing.unrecorded(parent, context, span_id, more.get("trace_id", 0))
        self.span, self.ids = opened.span, opened.ids
        if opened.in_context:
            self._otel_token = otel_context.attach(trace.set_span_in_context(self.span, context))

    @harmless
    def _started(self, name: str, **arguments: Any) -> OpenedSpan:
        return self.telemetry.tracing.start(name, **arguments)

    def _close(self, exc: BaseException | None) -> None:
        """End the span, in stages: what goes wrong in one of them takes nothing from the others."""
        if self.ids is None or self not in OPEN:  # it was ended from outside, or this is a fork in the middle of it
            return
        status, failed = self._judge(exc) or (semconv.UNKNOWN, exc is not None)
        # What a run inside a task failed of is the task's own only if the task lets it through.
        if failed and self.parent is not None and self.run is not self:
            self.parent.failure = self.failure
        ended_ns = max(time.time_ns(), self.started_ns)  # the clock may have been set back meanwhile
        self._end_span(status, failed, ended_ns)
        self._ended = status, failed, ended_ns
        self._tell(status, failed, ended_ns)
        OPEN.discard(self)

    def cancel(self, now: int) -> bool:
        """End the span as cancelled, from another thread; False where its own thread may hold its lock for ever."""
        if self._ended is None:
            if not is_free(self.span):
                return False
            self.attributes.update(self.cancelled())
            self._end_span(semconv.CANCELLED, False, now)
            self._ended = semconv.CANCELLED, False, now
        return True

    def cancelled(self) -> dict[str, Any]:
        """Further attributes of a span that was cancelled from outside."""
        return {}

    def tell_cancelled(self, now: int) -> None:
        """Send the end of what was cancelled, or had ended and was about to say so."""
        self._tell(*(self._ended or (semconv.CANCELLED, False, now)))

    @harmless
    def _judge(self, exc: BaseException | None) -> tuple[str, bool]:
        return self.closing(exc)

    @harmless
    def _tell(self, status: str, failed: bool, ended_ns: int) -> None:
        self.closed(status, failed, ended_ns)

    @harmless
    def _end_span(self, status: str, failed: bool, ended_ns: int) -> None:
        if not self.span.is_recording():
            return  # it is sampled out, or was ended from outside
        self.attributes[semconv.STATUS] = status
        if self.truncated:
            self.attributes[semconv.TRUNCATED] = True
        if self.redacted:
            self.attributes[semconv.REDACTED] = True
        self.span.set_attributes(self.attributes)
        if failed:
            self.span.set_status(StatusCode.ERROR, status)
        self.span.end(ended_ns)

    def _leave(self) -> None:
        try:
            if self._is_outermost:
                OPEN.on_leave(self)
            if self.parent is None:
                self.telemetry.pulse.end(id(self))
            if self._otel_token is not None:
                otel_context.detach(self._otel_token)
            if self._token is not None:
                current.reset(self._token)
        except Exception:
            logger.debug("scope left in another context", exc_info=True)
        if self._is_outermost:
            GAPS.say()

    def repeat(self, branch: str) -> str:
        """Empty for the first branch of that name in here, and something of its own for each further one.

        A map may have an item twice: runnable runs both branches, under one name.
        """
        if self._branches is None:
            self._branches = Counter()
        self._branches[branch] += 1
        number = self._branches[branch]
        return f"\0{number}" if number > 1 else ""  # no name has that character

    @property
    def redactor(self) -> Redactor:
        """A secret that one task was given may turn up in any later one: the run knows them all."""
        return (self.run or self).masks

    def shown(self, name: str) -> str:
        """A name or id as it may be shown: it may hold a secret, like any text."""
        return self.redactor.head(name, NAME)[0]

    def mask(self, secrets: Iterable[str]) -> None:
        """Values that the secrets manager handed to a task: they are masked wherever they turn up."""
        (self.run or self).learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """Mask these values in this scope, and in all whose run it is."""
        self.masks = self.masks.with_secrets(secrets)

    def status_of(self, failure: Failure) -> str:
        return failure.text(self.telemetry.settings.max_value_bytes)

    def describe(self, exc: BaseException) -> Failure:
        return describe(root_cause(exc), limit=self.telemetry.settings.max_value_bytes, redactor=self.redactor)

    def record_exception(self, failure: Failure) -> None:
        """Write the one `exception` event of a failure, unless a scope inside this one has."""
        self.span.add_event("exception", spans.exception_attributes(failure))

    def see(self, exc: BaseException) -> Failure:
        """An exception passes through: the innermost scope that sees it writes the event."""
        run = self.run
        if run is not None and run.seen is exc and self.failure is not None:
            return self.failure
        failure = self.describe(exc)
        self.record_exception(failure)
        if run is not None:
            run.seen = exc
        return failure

    def capture(self, values: Mapping[str, object]) -> Captured:
        settings = self.telemetry.settings
        captured = capture(values, settings.max_value_bytes, redactor=self.redactor, mode=settings.capture)
        self.truncated |= captured.truncated
        self.redacted |= captured.redacted
        return captured

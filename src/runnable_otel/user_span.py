"""A span that a task makes itself with `logfire_api.span`, where logfire is not installed."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Token
from typing import Any, cast

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, StatusCode

from runnable_otel import semconv, spans
from runnable_otel.capture import capture, clip
from runnable_otel.errors import describe
from runnable_otel.foreign import class_of
from runnable_otel.jsontext import dict_items, key_text
from runnable_otel.redact import Redactor
from runnable_otel.scopes import harmless, is_cancellation, redactor_of
from runnable_otel.still_open import OPEN, is_free
from runnable_otel.telemetry import Telemetry

_LIMIT = 4096


class UserSpan:
    """Opens a span on entry. What else a task may ask of logfire's span, the stand-in that it would have got answers.

    Args:
        stand_in: what `logfire_api.span` gives without us.
    """

    def __init__(
        self, telemetry: Telemetry, template: str, attributes: Mapping[str, Any], stand_in: Any = None
    ) -> None:
        self._telemetry, self._template = telemetry, template
        self._given = {key_text(key): value for key, value in attributes.items()}
        self._stand_in = stand_in
        self._span: Span = trace.INVALID_SPAN
        self._token: Token[Context] | None = None

    def __enter__(self) -> UserSpan:
        self._open()
        return self

    def __exit__(self, kind: object, exc: BaseException | None, traceback: object) -> None:
        self._close(exc)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stand_in, name)

    @harmless
    def set_attribute(self, key: str, value: Any) -> None:
        """Set an attribute, bounded and redacted; before the span is entered it is kept until then."""
        given = {key_text(key): value}
        self._given.update(given)
        self._set(given)

    @harmless
    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Set those of a dict; another mapping could not be read without running code of its class."""
        if issubclass(class_of(attributes), dict):
            for key, value in dict_items(attributes):
                self.set_attribute(key, value)

    def record_exception(self, exception: BaseException, *args: Any, **kwargs: Any) -> None:
        """Write an exception event, bounded and redacted."""
        del args, kwargs
        self._record(exception)

    @harmless
    def _open(self) -> None:
        template = redactor_of(self._telemetry).head(self._template, _LIMIT)[0]
        attributes = {"logfire.msg_template": clip(template, 256)}
        self._span = self._telemetry.tracing.start_plain(spans.text(template, 128), attributes)
        OPEN.add(self)
        self._token = otel_context.attach(trace.set_span_in_context(self._span))
        self._set(self._given)

    @harmless
    def _set(self, attributes: Mapping[str, Any]) -> None:
        redactor = redactor_of(self._telemetry)
        for key, value in attributes.items():
            name = spans.text(redactor.text(key[:_LIMIT]), 128)
            kind = cast(
                "type[object]", type(value)
            )  # compared by identity: to ask whether it is in something is to ask its metaclass
            if (kind is bool or kind is int or kind is float) and _is_innocent(redactor, key, value):
                self._span.set_attribute(name, value)
            elif kind is str and not redactor.key(key):
                self._span.set_attribute(name, clip(redactor.text(value[: 2 * _LIMIT]), _LIMIT))
            else:
                self._span.set_attribute(name, capture({key: value}, _LIMIT, redactor=redactor).text)

    @harmless
    def _record(self, exc: BaseException) -> None:
        failure = describe(exc, redactor=redactor_of(self._telemetry))
        self._span.add_event("exception", spans.exception_attributes(failure))
        self._span.set_status(StatusCode.ERROR, failure.text())

    @harmless
    def _close(self, exc: BaseException | None) -> None:
        if exc is not None and not is_cancellation(exc):
            self._record(exc)
        if self._token is not None:
            otel_context.detach(self._token)
        if self in OPEN:
            self._span.end()
            OPEN.discard(self)

    def cancel(self, now: int) -> bool:
        """End the span, from another thread; False where its lock is held."""
        free = is_free(self._span)
        if free:
            self._span.set_attribute(semconv.STATUS, semconv.CANCELLED)
            self._span.end(now)
        return free

    def tell_cancelled(self, now: int) -> None:
        """It has no events."""


def _is_innocent(redactor: Redactor, key: str, value: float) -> bool:
    """Whether a number may be shown as it is: that of a card may not, and one that OTLP can't hold is text."""
    text = repr(value) if -(2**63) <= value < 2**63 else ""
    return bool(text) and not redactor.key(key) and redactor.text(text) is text

"""A span that OTLP can't say costs its whole batch in the SDK: found among the others, and mended.

OTLP's texts are UTF-8, its times are 64 bits without a sign. A lone surrogate in a span's name, or a time before 1970,
makes the encoder raise, and all spans of the batch are lost with the one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode

_LATEST: Final = 2**64 - 1


def mend(spans: Sequence[ReadableSpan]) -> tuple[list[ReadableSpan], int] | None:
    """Spans that can be encoded in place of those that can't.

    Returns:
        The spans, and how many could not even be mended; None where all of them can be encoded as they are.
    """
    if _can_encode(spans):
        return None
    found = [span if _can_encode([span]) else _mended(span) for span in spans]
    kept = [span for span in found if span is not None]
    return kept, len(found) - len(kept)


def _can_encode(spans: Sequence[ReadableSpan]) -> bool:
    try:
        encode_spans(spans).SerializePartialToString()
    except Exception:  # noqa: BLE001 - whatever the encoder makes of a user's value
        return False
    return True


def _mended(span: ReadableSpan) -> ReadableSpan | None:
    for mender in _MENDERS:
        try:
            made = mender(span)
        except Exception:  # noqa: BLE001, S112 - what is wrong is a user's value: the next one looks at less of it
            continue
        if _can_encode([made]):
            return made
    return None


def _clean(span: ReadableSpan) -> ReadableSpan:
    """All of it, as valid text and times."""
    scope = span.instrumentation_scope
    return ReadableSpan(
        name=_text(span.name),
        context=span.get_span_context(),
        parent=span.parent,
        resource=Resource(dict(span.resource.attributes), _text(span.resource.schema_url or "")),
        attributes=_attributes(span.attributes),
        events=[
            Event(_text(event.name), _attributes(event.attributes), _time(event.timestamp)) for event in span.events
        ],
        links=[Link(link.context, _attributes(link.attributes)) for link in span.links],
        kind=span.kind,
        status=_status(span.status),
        start_time=_time(span.start_time),
        end_time=_time(span.end_time),
        instrumentation_scope=scope
        and InstrumentationScope(_text(scope.name), _text(scope.version or ""), _text(scope.schema_url or "")),
    )


def _bare(span: ReadableSpan) -> ReadableSpan:
    """What it is called, where it belongs and how it ended."""
    return ReadableSpan(
        name=_text(span.name),
        context=_plain(span.get_span_context()),
        parent=_plain(span.parent),
        resource=Resource(dict(span.resource.attributes)),
        kind=span.kind if type(span.kind) is SpanKind else SpanKind.INTERNAL,
        status=_status(span.status),
        start_time=_time(span.start_time),
        end_time=_time(span.end_time),
    )


_MENDERS: Final[Iterable[Callable[[ReadableSpan], ReadableSpan]]] = (_clean, _bare)


def _plain(context: SpanContext | None) -> SpanContext | None:
    return context and SpanContext(context.trace_id, context.span_id, context.is_remote, context.trace_flags)


def _text(value: object) -> str:
    """A text without lone surrogates; of anything else only the type, whose `__str__` is not ours to call."""
    if not issubclass(type(value), str):
        return f"<{type(value).__name__}>"
    return str.encode(value, "utf-8", "replace").decode()  # type: ignore[arg-type]


def _time(value: object) -> int:
    number = int(value) if type(value) in (int, float) else 0  # type: ignore[call-overload]
    return min(max(number, 0), _LATEST)


def _status(status: Status) -> Status:
    described = status.description if status.status_code is StatusCode.ERROR else None
    return Status(status.status_code, None if described is None else _text(described))


def _attributes(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    return {_text(key): _text(value) if type(value) is str else value for key, value in (attributes or {}).items()}

"""Received spans as an indented tree of text. Values in, values out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from runnable_otel import semconv
from runnable_otel.demo.receiver import ReceivedSpan

_DURATION_WIDTH = 9


def draw(spans: Sequence[ReceivedSpan], width: int) -> list[str]:
    """The tree, one line each, at most `width` characters: names with durations; inputs, outputs and status below.

    A span whose parent did not arrive is drawn as a root of its own.
    """
    ids = {span.span_id for span in spans}
    ordered = sorted(spans, key=lambda span: span.start_ns)
    lines: list[str] = []
    for root in (span for span in ordered if span.parent_id not in ids):
        lines.extend(_draw(root, ordered, width, "", ""))
    return lines


def _draw(span: ReceivedSpan, spans: Sequence[ReceivedSpan], width: int, first: str, rest: str) -> Iterator[str]:
    """One span and all below it: `first` stands before its name, `rest` before all else."""
    seconds = f"[{(span.end_ns - span.start_ns) / 1e9:.2f}s]".rjust(_DURATION_WIDTH)
    room = width - _DURATION_WIDTH
    yield _cut(first + _label(span), room - 1).ljust(room) + seconds
    children = [child for child in spans if child.parent_id == span.span_id]
    values = _values(span)
    for number, below in enumerate((*values, *children), start=1):
        last = number == len(values) + len(children)
        branch, further = (rest + "└── ", rest + "    ") if last else (rest + "├── ", rest + "│   ")
        if isinstance(below, ReceivedSpan):
            yield from _draw(below, spans, width, branch, further)
        else:
            yield _cut(branch + below, width)


def _label(span: ReceivedSpan) -> str:
    """The name; a map's items have one name, so the item stands behind it."""
    items = [f"{value}" for key, value in span.attributes.items() if key.startswith(semconv.MAP_PREFIX)]
    return f"{span.name} = {items[-1]}" if span.kind == "branch" and items else span.name


def _values(span: ReceivedSpan) -> list[str]:
    keys = [semconv.INPUTS, semconv.OUTPUTS, semconv.STATUS]
    if span.kind not in ("pipeline", "task") and not span.failed:
        keys.remove(semconv.STATUS)  # a composite that went well: its tasks say so
    return [f"{key}: {span.attributes[key]}" for key in keys if key in span.attributes]


def _cut(text: str, width: int) -> str:
    line = " ".join(text.splitlines())
    return line if len(line) <= width else line[: width - 1] + "…"

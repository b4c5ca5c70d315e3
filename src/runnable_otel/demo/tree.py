"""Received spans as an indented tree of text, drawn as `RUNNABLE_TELEMETRY_CONSOLE` draws it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runnable_otel import console, semconv

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runnable_otel.demo.receiver import ReceivedSpan


def draw(spans: Sequence[ReceivedSpan], width: int) -> str:
    """The tree: names with durations; inputs, outputs and status below. No line is wider than `width` (or 32)."""
    return "\n".join(line.guide + line.text for line in console.draw([_node(span) for span in spans], width))


def _node(span: ReceivedSpan) -> console.Node:
    keys = [semconv.INPUTS, semconv.OUTPUTS, semconv.STATUS]
    if span.kind not in ("pipeline", "task") and not span.failed:
        keys.remove(semconv.STATUS)  # a composite that went well: its tasks say so
    leaves = tuple((key, str(span.attributes[key])) for key in keys if key in span.attributes)
    parent = int(span.parent_id, 16) if span.parent_id else None
    name = console.label(span.name, span.attributes)
    return console.Node(int(span.span_id, 16), parent, name, span.start_ns, span.end_ns, leaves=leaves)

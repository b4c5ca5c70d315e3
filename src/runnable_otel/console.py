"""Each run as an indented tree on the terminal, drawn when the run ends (``RUNNABLE_TELEMETRY_CONSOLE=true``)."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TextIO

from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.trace import StatusCode

from runnable_otel.forks import renew_after_fork
from runnable_otel.tree import Line, Node, draw, encodable, label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span
    from opentelemetry.trace import SpanContext

__all__ = ["Line", "Node", "TreeSpanProcessor", "draw", "label"]

_MAX_SPANS: Final = 2_000  # of a run
_MAX_RUNS: Final = 64
_MAX_CHARS: Final = 1_024  # of any text of a span: more than a terminal shows in a line
_FILE_WIDTH: Final = 120  # where the output is no terminal
_RUNS = ("pipeline:", "job:", "submit:")
_KEYS = ("inputs", "outputs", "status")


class _Run:
    def __init__(self, root: int) -> None:
        self.ids = {root}  # the spans whose children belong to the run
        self.open = {root}  # those that become nodes when they end
        self.nodes: list[Node] = []
        self.started = 1


class TreeSpanProcessor(SpanProcessor):
    """Draws each run on the terminal, as a tree, when its span ends.

    A run is a span of our scope named ``pipeline:``, ``job:`` or ``submit:`` that does not lie below another one; to it
    belong the spans below it, of any scope. At most 2,000 spans of a run are kept and the others counted, and at most
    64 open runs: then the oldest is forgotten. Colours only where the output is a terminal and rich can be imported.
    Nothing raises into the host. Only the end of a run writes, without the lock that other spans need.

    Args:
        scope: the name of our instrumentation scope.
        stream: where to write; ``None`` means ``sys.stderr`` as it is when a run ends.
        width: cells of a line; ``None`` means ``COLUMNS``, else the terminal's width, else 120.
    """

    def __init__(self, *, scope: str = "runnable_otel", stream: TextIO | None = None, width: int | None = None) -> None:
        self._scope = scope
        self._stream = stream
        self._width = width
        self._closed = False
        self._reset()
        renew_after_fork(self._reset)

    def _reset(self) -> None:
        # In the child of a fork a lock may be held by a thread that is not there, and the open runs are the parent's to
        # draw. Re-entrant, since a finalizer may end a span while its thread holds the lock.
        self._lock = threading.RLock()
        self._drawing = threading.RLock()
        self._runs: dict[tuple[int, int], _Run] = {}  # by trace id and span id, the oldest first

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Note the span where it is a run, or below one."""
        with suppress(Exception):  # telemetry never raises into the host
            if not self._closed and (self._runs or self._is_run(span)):
                with self._lock:
                    self._add(span)

    def on_end(self, span: ReadableSpan) -> None:
        """Keep what the tree needs of the span; draw the tree where the span is a run."""
        with suppress(Exception):  # telemetry never raises into the host
            if self._runs:
                with self._lock:
                    run = self._end(span)
                if run is not None:
                    stream = self._stream or sys.stderr
                    lines = draw(run.nodes, self._width or _width(stream), run.started - _MAX_SPANS)
                    with self._drawing:
                        _print(lines, stream)

    def shutdown(self) -> None:
        """Forget the open runs; later spans are ignored."""
        self._closed = True
        with self._lock:
            self._runs.clear()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Nothing waits: a run is written as it ends."""
        return True

    def _is_run(self, span: ReadableSpan) -> bool:
        scope = span.instrumentation_scope
        return scope is not None and scope.name == self._scope and span.name.startswith(_RUNS)

    def _find(self, context: SpanContext | None) -> _Run | None:
        for (trace_id, _), run in self._runs.items():
            if context and context.trace_id == trace_id and context.span_id in run.ids:
                return run
        return None

    def _add(self, span: Span) -> None:
        context = span.get_span_context()
        span_id, run = context.span_id, self._find(span.parent)
        if run is None:
            if self._is_run(span):
                while len(self._runs) >= _MAX_RUNS:
                    del self._runs[next(iter(self._runs))]
                self._runs[context.trace_id, span_id] = _Run(span_id)
            return
        if run.started < _MAX_SPANS:
            run.open.add(span_id)
        run.started += 1
        # A span beyond the bound is known while it is open, so that those below it are counted too.
        if len(run.ids) < 2 * _MAX_SPANS:
            run.ids.add(span_id)

    def _end(self, span: ReadableSpan) -> _Run | None:
        context = span.get_span_context()
        run = self._find(context)
        if run is None or context is None:
            return None
        if context.span_id not in run.open:
            run.ids.discard(context.span_id)
            return None
        run.open.discard(context.span_id)
        run.nodes.append(_node(span, context.span_id))
        return self._runs.pop((context.trace_id, context.span_id), None)


def _node(span: ReadableSpan, span_id: int) -> Node:
    attributes = span.attributes or {}
    leaves = {key: value[:_MAX_CHARS] for key in _KEYS if isinstance(value := attributes.get(key), str)}
    state = status = leaves.pop("status", "success")
    if span.status.status_code is StatusCode.ERROR:
        state = "failed"
        status = status if status != "success" else (span.status.description or "error")[:_MAX_CHARS]
    if status != "success":
        leaves["status"] = status
    parent = span.parent.span_id if span.parent else None
    start = span.start_time or 0
    return Node(
        span_id,
        parent,
        label(span.name, attributes)[:_MAX_CHARS],
        start,
        span.end_time or start,
        state,
        (*leaves.items(),),
    )


def _width(stream: TextIO) -> int:
    with suppress(OSError, ValueError, AttributeError):  # no number, no terminal, nothing that has a descriptor
        return int(os.environ.get("COLUMNS") or 0) or os.get_terminal_size(stream.fileno()).columns or _FILE_WIDTH
    return _FILE_WIDTH


def _print(lines: Sequence[Line], stream: TextIO) -> None:
    """Write the lines at once, so that another thread's output does not come between them."""
    plain = "".join(f"{line.guide}{line.text}\n" for line in lines)
    written = encodable(plain, getattr(stream, "encoding", None))
    if written == plain and getattr(stream, "isatty", bool)():
        with suppress(ImportError):
            from rich.console import Console
            from rich.text import Text

            # Text objects, not strings: "[bold]" and ":smile:" stay as they are.
            text = Text("\n").join(Text.assemble(line.guide, (line.text, line.style)) for line in lines)
            Console(file=stream).print(text, soft_wrap=True)
            return
    stream.write(written)
    stream.flush()

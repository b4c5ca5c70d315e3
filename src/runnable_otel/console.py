"""Each run as an indented tree on the terminal, drawn when the run ends (``RUNNABLE_TELEMETRY_CONSOLE=true``)."""

from __future__ import annotations

import os
import re
import sys
import threading
import unicodedata
import weakref
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple, TextIO

from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.trace import StatusCode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span
    from opentelemetry.trace import SpanContext

__all__ = ["Line", "Node", "TreeSpanProcessor", "draw", "label"]

_MAX_SPANS: Final = 2_000  # of a run
_MAX_RUNS: Final = 64
_MAX_CHARS: Final = 1_024  # of any text of a span: more than a terminal shows in a line
_MIN_WIDTH: Final = 32
_FILE_WIDTH: Final = 120  # where the output is no terminal
_COLUMN: Final = 46  # of the durations, as on the reference page; further to the right where names are longer
_RUNS = ("pipeline:", "job:", "submit:")
_KEYS = ("inputs", "outputs", "status")
_STYLES = {"failed": "red", "skipped": "dim", "cancelled": "yellow"}
_ASCII = str.maketrans("├└│─…", "|`|-~")
# ECMA-48: strings (OSC, DCS, …) up to their terminator, control sequences, and other escapes
_STRING = r"(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
_ANSI = re.compile(_STRING + r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?|\x1b[ -/]*[0-~]?")
# Control and format characters: a terminal acts upon them, hides them, or writes backwards after them
_HIDDEN = "\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff"
_INVISIBLE = re.compile(f"[{_HIDDEN}\ufff9-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e007f]")


class Node(NamedTuple):
    """What the tree needs of one ended span."""

    span_id: int
    parent_id: int | None
    name: str
    start: int  #: nanoseconds since the epoch
    end: int
    state: str = ""  #: ``failed``, ``skipped``, ``cancelled``; anything else is a success
    leaves: tuple[tuple[str, str], ...] = ()  #: such as ``("inputs", '{"x": 10}')``, in the order of the lines


class Line(NamedTuple):
    """One line: the branches of the tree, the text with its duration, and the name of a style of rich, or nothing."""

    guide: str
    text: str
    style: str = ""


def draw(nodes: Sequence[Node], width: int, more: int = 0) -> list[Line]:
    """The lines of the tree, without line ends (pure): each at most ``width`` cells wide (or 32, where that is more).

    Children come after their parent's leaves, in the order of their start. A node whose parent is not among the nodes
    is a root. Control characters and terminal sequences are removed; what is cut ends in ``…``.

    Args:
        nodes: ended spans, in any order.
        width: cells of the terminal; a wide character takes two.
        more: how many spans are not among the nodes; above zero, a last line says so.
    """
    width = max(width, _MIN_WIDTH)
    rows = _rows(nodes, width // 3)
    widest = max((len(duration) for _, _, duration, _ in rows), default=0)
    longest = max((len(guide) + _cells(text) + 2 for guide, text, duration, _ in rows if duration), default=0)
    column = min(max(longest, _COLUMN), width - widest)
    lines: list[Line] = []
    for guide, text, duration, style in rows:
        shown = _cut(text, (column - 1 if duration else width) - len(guide))
        gap = " " * (column - len(guide) - _cells(shown)) if duration else ""
        lines.append(Line(guide, shown + gap + duration, style))
    return [*lines, Line("", f"… and {min(more, 10**9):,} more", "dim")] if more > 0 else lines


def _rows(nodes: Sequence[Node], deepest: int) -> list[tuple[str, str, str, str]]:
    """Guide, text, duration (empty for a leaf) and style of each line, with nothing cut yet."""
    ids = {node.span_id for node in nodes}
    children: dict[int | None, list[Node]] = {}
    for node in sorted(nodes, key=lambda node: node.start):
        children.setdefault(node.parent_id if node.parent_id in ids else None, []).append(node)
    rows: list[tuple[str, str, str, str]] = []
    # Not recursive: a tree may be deeper than Python's stack. A list of children is taken once, so that neither two
    # spans with one id nor a circle of parents draws anything twice.
    pending: list[tuple[Node | tuple[str, str], str, str]] = [(root, "", "") for root in children.pop(None, [])[::-1]]
    while pending:
        item, guide, below = pending.pop()
        if not isinstance(item, Node):
            rows.append((guide, item[0], "", item[1]))
            continue
        style = _STYLES.get(item.state, "")
        rows.append((guide, _clean(item.name), _duration(item.end - item.start), style))
        parts: list[Node | tuple[str, str]] = [
            (f"{key}: {_clean(text)}", style if key == "status" or style == "dim" else "") for key, text in item.leaves
        ]
        parts += children.pop(item.span_id, [])
        for number, part in enumerate(reversed(parts)):
            # Beyond this depth levels stop moving to the right: their names would leave the terminal.
            indent = below if len(below) + 4 > deepest else below + ("│   " if number else "    ")
            pending.append((part, below + ("├── " if number else "└── "), indent))
    return rows


def _duration(nanoseconds: int) -> str:
    milliseconds = (max(nanoseconds, 0) + 500_000) // 1_000_000  # negative where the clock was set back
    tenths = (milliseconds + 50) // 100
    if milliseconds < 100:  # the reference page writes half a second as 0.5s
        return f"[{milliseconds}ms]"
    if tenths < 600:
        return f"[{tenths // 10}.{tenths % 10}s]"
    minutes, seconds = divmod((milliseconds + 500) // 1000, 60)
    return f"[{minutes}m {seconds:02}s]" if minutes < 60 else f"[{min(minutes // 60, 9999)}h {minutes % 60:02}m]"


def _clean(text: str) -> str:
    """One line of visible text, in which neither the terminal nor an encoder finds anything to act upon."""
    return _INVISIBLE.sub("", " ".join(_ANSI.sub("", text).split())).encode("utf-8", "replace").decode("utf-8")


@lru_cache(4096)
def _cell(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _cells(text: str) -> int:
    return len(text) if text.isascii() else sum(map(_cell, text))


def _cut(text: str, cells: int) -> str:
    if text.isascii() and len(text) <= cells:
        return text
    taken = end = 0
    for index, character in enumerate(text, 1):
        taken += _cell(character)
        if taken > cells:
            return text[:end] + "…"
        if taken < cells:
            end = index
    return text


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
        if hasattr(os, "register_at_fork"):
            reset = weakref.WeakMethod(self._reset)
            os.register_at_fork(after_in_child=lambda: (method := reset()) and method())

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


def label(name: str, attributes: Mapping[str, object]) -> str:
    """What a span is called in the tree: all items of a map have one name, so the item stands behind it."""
    if name.startswith("branch:"):
        items = [value for key, value in attributes.items() if key.startswith("runnable.map.")]
        if items:
            return f"{name} = {items[-1]}"
        if name == "branch:round":
            return f"{name} {str(attributes.get('runnable.branch.name', '')).rpartition('.')[2]}"
    return name


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
    encoding = getattr(stream, "encoding", None) or "utf-8"
    encodable = plain.encode(encoding, "replace").decode(encoding) == plain
    if encodable and getattr(stream, "isatty", bool)():
        with suppress(ImportError):
            from rich.console import Console
            from rich.text import Text

            # Text objects, not strings: "[bold]" and ":smile:" stay as they are.
            text = Text("\n").join(Text.assemble(line.guide, (line.text, line.style)) for line in lines)
            Console(file=stream).print(text, soft_wrap=True)
            return
    stream.write(plain if encodable else plain.translate(_ASCII).encode(encoding, "replace").decode(encoding))
    stream.flush()

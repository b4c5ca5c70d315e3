"""Each run as an indented tree on the terminal, drawn when the run ends (``RUNNABLE_TELEMETRY_CONSOLE``).

``draw`` is the pure middle: spans in, lines out. ``TreeSpanProcessor`` collects the spans and writes the lines.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import unicodedata
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple, TextIO

from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.trace import StatusCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span

__all__ = ["Line", "Node", "TreeSpanProcessor", "draw"]

MAX_SPANS: Final = 2_000
MAX_RUNS: Final = 64

_RUNS = ("pipeline:", "job:", "submit:")
_KEYS = ("inputs", "outputs", "status")
_MAX_CHARS = 1024  # kept of any text of a span: more than a terminal shows in a line
_COLUMN = 46  # of the durations, as on the reference page; further to the right where names are longer
_MIN_WIDTH = 24
_FILE_WIDTH = 120  # where the output is no terminal
_STYLES = {"failed": "red", "skipped": "dim", "cancelled": "yellow"}
_ASCII = str.maketrans({"├": "|", "└": "`", "│": "|", "─": "-", "…": "~"})

# ECMA-48 control sequences, and strings (OSC, DCS, …) up to their terminator
_ANSI = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)


class Node(NamedTuple):
    """What the tree needs of one ended span. Times are in nanoseconds since the epoch."""

    span_id: int
    parent_id: int | None
    name: str
    start: int
    end: int
    state: str = ""
    """``failed``, ``skipped``, ``cancelled``, or anything else for a success."""
    leaves: tuple[tuple[str, str], ...] = ()
    """Pairs of key and text, such as ``("inputs", '{"x": 10}')``, in the order in which they are shown."""


class Line(NamedTuple):
    """One line: the branches of the tree, the text with its duration, and rich's name of a style or nothing."""

    guide: str
    text: str
    style: str = ""


class _Row(NamedTuple):
    guide: str
    text: str
    duration: str
    style: str


def draw(nodes: Sequence[Node], width: int, more: int = 0) -> list[Line]:
    """The lines of the tree, each at most ``width`` cells wide (24 at least), without line ends.

    Children come in the order of their start, after the leaves of their parent. A node whose parent is not among the
    nodes is a root. Control characters and terminal sequences are removed; what is cut ends in ``…``.

    Args:
        nodes: ended spans in any order.
        width: cells of the terminal; a wide character takes two.
        more: the number of spans that are not among the nodes; above zero, a last line says so.
    """
    width = max(width, _MIN_WIDTH)
    rows = _rows(nodes, width)
    widest = max((len(row.duration) for row in rows), default=0)
    longest = max((_cells(row.guide) + _cells(row.text) + 2 for row in rows if row.duration), default=0)
    column = min(max(longest, _COLUMN), width - widest)
    lines = [_line(row, column, width) for row in rows]
    if more > 0:
        lines.append(Line("", _cut(f"… and {more:,} more spans", width), "dim"))
    return lines


def _rows(nodes: Sequence[Node], width: int) -> list[_Row]:
    ids = {node.span_id for node in nodes}
    children: dict[int | None, list[Node]] = {}
    for node in sorted(nodes, key=lambda node: node.start):
        parent = node.parent_id if node.parent_id in ids and node.parent_id != node.span_id else None
        children.setdefault(parent, []).append(node)
    rows: list[_Row] = []
    # Not recursive: a tree may be deeper than Python's stack. Each list of children is taken once, so that two spans
    # with one id, or a circle of parents, do not draw anything twice.
    pending: list[tuple[Node | _Row, str, str]] = [(root, "", "") for root in reversed(children.pop(None, []))]
    while pending:
        item, guide, below = pending.pop()
        if isinstance(item, _Row):
            rows.append(item._replace(guide=guide))
            continue
        style = _STYLES.get(item.state, "")
        rows.append(_Row(guide, _clean(item.name), _duration(item.end - item.start), style))
        leaves = [_Row("", f"{key}: {_clean(text)}", "", style) for key, text in item.leaves]
        parts: list[Node | _Row] = [*leaves, *children.pop(item.span_id, [])]
        # Very deep levels stop moving to the right: their names would leave the terminal.
        deeper = len(below) + 4 <= width // 2
        for part in reversed(parts):
            last = part is parts[-1]
            indent = below + ("    " if last else "│   ") if deeper else below
            pending.append((part, below + ("└── " if last else "├── "), indent))
    return rows


def _line(row: _Row, column: int, width: int) -> Line:
    if not row.duration:
        return Line(row.guide, _cut(row.text, width - len(row.guide)), row.style)
    text = _cut(row.text, column - len(row.guide) - 1)
    gap = " " * (column - len(row.guide) - _cells(text))
    return Line(row.guide, f"{text}{gap}{row.duration}", row.style)


def _duration(nanoseconds: int) -> str:
    milliseconds = (max(nanoseconds, 0) + 500_000) // 1_000_000
    tenths = (milliseconds + 50) // 100
    if milliseconds < 1000:
        return f"[{milliseconds}ms]"
    if tenths < 600:
        return f"[{tenths // 10}.{tenths % 10}s]"
    minutes, seconds = divmod((milliseconds + 500) // 1000, 60)
    return f"[{minutes}m {seconds:02}s]" if minutes < 60 else f"[{minutes // 60}h {minutes % 60:02}m]"


def _clean(text: str) -> str:
    """One line of visible text; rich and the terminal take nothing in it for an instruction."""
    text = " ".join(_ANSI.sub("", text).split())
    if text.isascii() and text.isprintable():
        return text
    kinds = ((character, unicodedata.category(character)) for character in text)
    return "".join("\ufffd" if kind == "Cs" else character for character, kind in kinds if kind not in ("Cc", "Cf"))


def _cells(text: str) -> int:
    return len(text) if text.isascii() else sum(map(_cell, text))


def _cell(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _cut(text: str, cells: int) -> str:
    if _cells(text) <= cells:
        return text
    kept = 0
    for index, character in enumerate(text):
        kept += _cell(character)
        if kept > cells - 1:
            return text[:index] + "…"
    return text


class _Run:
    """The spans of one run: open and ended ones. Touched under the processor's lock only, until it is taken out."""

    def __init__(self, trace_id: int, root: int) -> None:
        self.trace_id = trace_id
        self.root = root
        self.parents: dict[int, int | None] = {root: None}
        self.surplus: set[int] = set()  # open spans beyond the bound: their children belong to the run too
        self.more = 0
        self.nodes: list[Node] = []

    def visible(self) -> list[Node]:
        """The ended spans, each below its nearest ancestor that has ended as well."""
        ended = {node.span_id for node in self.nodes}

        def ancestor(node: Node) -> Node:
            parent = node.parent_id
            for _ in self.parents:
                if parent is None or parent in ended:
                    break
                parent = self.parents.get(parent)
            return node._replace(parent_id=parent)

        return [ancestor(node) for node in self.nodes]


class TreeSpanProcessor(SpanProcessor):
    """Draws each run on the terminal, as a tree, when its span ends.

    A run is a span of our scope named ``pipeline:``, ``job:`` or ``submit:`` whose parent is not part of a run; to it
    belong the spans below it, of whichever scope. At most 2,000 spans of a run are kept, and 64 open runs: then the
    oldest is forgotten. Colours only where the output is a terminal, and rich is there.

    ``on_start`` and ``on_end`` never raise; only the end of a run writes, and no lock is held then that others need.

    Args:
        scope: the name of our instrumentation scope.
        stream: where to write; ``None`` means ``sys.stderr`` at the time of drawing.
        width: cells of a line; ``None`` means that of the terminal, or ``COLUMNS``, or 120 where there is none.
    """

    def __init__(
        self, *, scope: str = "runnable_otel", stream: TextIO | None = None, width: int | None = None
    ) -> None:
        self._scope = scope
        self._stream = stream
        self._width = width
        self._closed = False
        self._reset()
        if hasattr(os, "register_at_fork"):
            reset = weakref.WeakMethod(self._reset)
            os.register_at_fork(after_in_child=lambda: (method := reset()) and method())

    def _reset(self) -> None:
        # In the child of a fork the locks may be held by a thread that is not there, and the open runs are the parent's:
        # it draws them. Re-entrant: a finalizer may end a span while this thread holds the lock.
        self._lock = threading.RLock()
        self._drawing = threading.RLock()
        self._runs: dict[tuple[int, int], _Run] = {}  # in the order of their start
        self._members: dict[tuple[int, int], _Run] = {}  # trace id and span id of what belongs to a run

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Note the span where it is a run, or below one."""
        with suppress(Exception):  # telemetry never raises into the host
            context = span.get_span_context()
            parent = span.parent.span_id if span.parent else None
            if self._closed or context is None or (parent is None and not self._is_run(span)):
                return
            with self._lock:
                self._add(span, context.trace_id, context.span_id, parent)

    def on_end(self, span: ReadableSpan) -> None:
        """Keep what the tree needs of the span; draw the tree where it is a run."""
        with suppress(Exception):  # telemetry never raises into the host
            context = span.get_span_context()
            if context is None:
                return
            with self._lock:
                run = self._members.get((context.trace_id, context.span_id))
                if run is None:
                    return
                ended = self._end(run, span, context.span_id)
            if ended:
                self._write(run)

    def shutdown(self) -> None:
        """Forget the open runs; later spans are ignored."""
        self._closed = True
        with self._lock:
            self._runs.clear()
            self._members.clear()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Nothing waits: a run is written as it ends."""
        return True

    def _is_run(self, span: ReadableSpan) -> bool:
        scope = span.instrumentation_scope
        return scope is not None and scope.name == self._scope and span.name.startswith(_RUNS)

    def _add(self, span: Span, trace_id: int, span_id: int, parent: int | None) -> None:
        key = (trace_id, span_id)
        run = None if parent is None else self._members.get((trace_id, parent))
        if run is None:
            if not self._is_run(span):
                return
            while len(self._runs) >= MAX_RUNS:
                self._forget(next(iter(self._runs.values())))
            self._runs[key] = self._members[key] = _Run(trace_id, span_id)
        elif len(run.parents) < MAX_SPANS:
            run.parents[span_id] = parent
            self._members[key] = run
        else:
            run.more += 1
            if len(run.surplus) < MAX_SPANS:
                run.surplus.add(span_id)
                self._members[key] = run

    def _end(self, run: _Run, span: ReadableSpan, span_id: int) -> bool:
        if span_id in run.surplus:
            run.surplus.discard(span_id)
            self._members.pop((run.trace_id, span_id), None)
            return False
        run.nodes.append(_node(span, span_id, run.parents[span_id]))
        if span_id != run.root:
            return False
        self._forget(run)
        return True

    def _forget(self, run: _Run) -> None:
        self._runs.pop((run.trace_id, run.root), None)
        for span_id in (*run.parents, *run.surplus):
            self._members.pop((run.trace_id, span_id), None)

    def _write(self, run: _Run) -> None:
        stream = self._stream or sys.stderr
        lines = draw(run.visible(), self._width or _width(stream), run.more)
        with self._drawing:
            _print(lines, stream)


def _node(span: ReadableSpan, span_id: int, parent: int | None) -> Node:
    attributes = span.attributes or {}
    found = {key: value[:_MAX_CHARS] for key in _KEYS if isinstance(value := attributes.get(key), str)}
    failed = span.status.status_code is StatusCode.ERROR
    status = found.pop("status", "success")
    if failed and status == "success":
        status = (span.status.description or "error")[:_MAX_CHARS]
    if status != "success":
        found["status"] = status
    start = span.start_time or 0
    end = start if span.end_time is None else span.end_time
    return Node(span_id, parent, span.name[:_MAX_CHARS], start, end, "failed" if failed else status, (*found.items(),))


def _width(stream: TextIO) -> int:
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and len(columns) < 5:
        return int(columns)
    with suppress(OSError, ValueError):  # no descriptor, or one of no terminal
        return os.get_terminal_size(stream.fileno()).columns or _FILE_WIDTH
    return _FILE_WIDTH


def _print(lines: Sequence[Line], stream: TextIO) -> None:
    """Write the lines at once, so that those of two runs do not mix."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    plain = "".join(f"{line.guide}{line.text}\n" for line in lines)
    try:
        plain.encode(encoding)
    except UnicodeEncodeError:
        plain = plain.translate(_ASCII).encode(encoding, "replace").decode(encoding)
        stream.write(plain)
        return
    if not stream.isatty() or not _print_coloured(lines, stream):
        stream.write(plain)
    stream.flush()

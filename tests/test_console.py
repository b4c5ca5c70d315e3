"""The tree on the terminal: the pure drawing, then real spans of a real provider."""

from __future__ import annotations

import gc
import io
import os
import re
import sys
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import NonRecordingSpan, SpanContext, StatusCode, TraceFlags, set_span_in_context

from runnable_otel.console import Line, Node, TreeSpanProcessor, draw, label

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.project import Project

T = 1_700_000_000_000_000_000
MS = 1_000_000

PAGE = """\
pipeline:example                              [2.5s]
├── task:my_module.compute                    [1.0s]
│   ├── inputs: {"x": 10}
│   └── outputs: {"result": 20}
└── task:my_module.finalize                   [0.5s]
    ├── inputs: {"result": 20}
    └── outputs: {"final": "Result: 20"}
"""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Bench:
    """A real provider with the processor on it. Spans take their times as arguments: nothing depends on a clock."""

    def __init__(
        self,
        stream: io.TextIOBase | None = None,
        width: int | None = 80,
        scope: str = "runnable_otel",
        ids: IdGenerator | None = None,
    ) -> None:
        self.stream = io.StringIO() if stream is None else stream
        self.processor = TreeSpanProcessor(stream=self.stream, width=width)  # type: ignore[arg-type]
        self.provider = TracerProvider(shutdown_on_exit=False, id_generator=ids)
        self.provider.add_span_processor(self.processor)
        self.ours = self.provider.get_tracer(scope)
        self.users = self.provider.get_tracer("user")

    @contextmanager
    def span(
        self,
        name: str,
        start: int = 0,
        end: int = 0,
        *,
        user: bool = False,
        error: str | None = None,
        **attributes: str,
    ) -> Iterator[trace.Span]:
        tracer = self.users if user else self.ours
        with tracer.start_as_current_span(
            name, start_time=T + start * MS, attributes=attributes, end_on_exit=False
        ) as span:
            yield span
        if error is not None:
            span.set_status(StatusCode.ERROR, error)
        span.end(T + end * MS)

    @property
    def text(self) -> str:
        assert isinstance(self.stream, io.StringIO)
        return self.stream.getvalue()


def page(bench: Bench) -> None:
    """The run of the reference page."""
    with bench.span("pipeline:example", 0, 2500):
        with bench.span(
            "task:my_module.compute", 100, 1100, inputs='{"x": 10}', outputs='{"result": 20}', status="success"
        ):
            pass
        with bench.span(
            "task:my_module.finalize", 1500, 2000, inputs='{"result": 20}', outputs='{"final": "Result: 20"}'
        ):
            pass


def text(lines: list[Line]) -> list[str]:
    return [line.guide + line.text for line in lines]


def names(drawn: str) -> list[str]:
    """The spans of a drawn tree, with the durations off."""
    return [re.sub(r"\s+\[[^\[\]]*\]$", "", line) for line in drawn.splitlines() if line.endswith("]")]


# --- drawing


def test_the_reference_page() -> None:
    """A run is drawn as the reference page has it, to the character."""
    bench = Bench()
    page(bench)
    assert bench.text == PAGE


@pytest.mark.parametrize(
    ("nanoseconds", "expected"),
    [
        (0, "[0ms]"),
        (-5 * 10**9, "[0ms]"),
        (499_999, "[0ms]"),
        (500_000, "[1ms]"),
        (12_000_000, "[12ms]"),
        (99_400_000, "[99ms]"),
        (99_500_000, "[0.1s]"),
        (500_000_000, "[0.5s]"),
        (949_500_000, "[1.0s]"),
        (2_500_000_000, "[2.5s]"),
        (59_949_000_000, "[59.9s]"),
        (59_950_000_000, "[1m 00s]"),
        (65_000_000_000, "[1m 05s]"),
        (3_599_000_000_000, "[59m 59s]"),
        (3_600_000_000_000, "[1h 00m]"),
        (360_000_000_000_000, "[100h 00m]"),
        (10**30, "[9999h "),
    ],
)
def test_durations(nanoseconds: int, expected: str) -> None:
    """A duration is short, rounded to what it shows, and never negative."""
    assert draw([Node(1, None, "a", 0, nanoseconds)], 80)[0].text.startswith("a" + " " * 45 + expected)


@pytest.mark.parametrize("width", [-1, 0, 1, 32, 33, 40, 53, 80, 200, 10_000])
def test_lines_fit(width: int) -> None:
    """No line is wider than the terminal, however deep the tree and long or wide its texts."""
    nodes = [
        Node(i, i - 1, f"task:{'漢字' * i}", i, 2 * i, leaves=(("inputs", "é" * 300), ("b", "x"))) for i in range(1, 60)
    ]
    nodes.append(Node(99, 59, "x", 0, 10**30))
    lines = text(draw(nodes, width, more=10**40))
    cells = [sum(2 if character in "漢字" else 1 for character in line) for line in lines]
    assert max(cells) <= max(width, 32)
    assert len(lines) == 59 * 3 + 2


def test_the_column_of_durations() -> None:
    """Durations stand below each other: where the reference page has them, or two cells behind the longest name."""
    for length, column in ((10, 46), (44, 46), (45, 47), (60, 62), (90, 75)):
        lines = text(draw([Node(1, None, "n" * length, 0, 1), Node(2, 1, "b", 1, 2_000_000)], 80))
        assert [line.rindex("[") for line in lines] == [column, column]
    assert lines[0] == "n" * 73 + "… [0ms]"


def test_what_is_cut() -> None:
    """A text that is too long for the terminal ends in an ellipsis; one that just fits is left alone."""
    for length, expected in ((71, "x" * 71), (72, "x" * 70 + "…")):
        lines = draw([Node(1, None, "a", 0, 1, leaves=(("key", "x" * length),))], 80)
        assert text(lines)[1] == "└── key: " + expected
    wide = draw([Node(1, None, "a", 0, 1, leaves=(("k", "漢" * 50),))], 80)
    assert text(wide)[1] == "└── k: " + "漢" * 36 + "…"


def test_cells() -> None:
    """Marks that combine take no cell and wide characters two, in names, leaves and the column of durations."""
    node = Node(1, None, "漢" * 25 + "e\u0301" * 5, 0, 1, leaves=(("k", "e\u0301" * 73), ("k", "e\u0301" * 74)))
    assert text(draw([node], 80)) == [
        "漢" * 25 + "e\u0301" * 5 + "  [0ms]",
        "├── k: " + "e\u0301" * 73,
        "└── k: " + "e\u0301" * 72 + "…",
    ]


def test_a_narrow_terminal() -> None:
    """Below 32 cells the tree keeps its width, so that there is something to read."""
    nodes = [Node(1, None, "pipeline:p", 0, 1), Node(2, 1, "task:t", 0, 1, leaves=(("inputs", "x" * 99),))]
    assert draw(nodes, 5) == draw(nodes, 32)
    assert text(draw(nodes, 32))[0] == "pipeline:p" + " " * 17 + "[0ms]"


def test_more() -> None:
    """A last line says how many spans are not drawn, where there are any."""
    assert draw([], 80, more=1) == [Line("", "… and 1 more", "dim")]
    assert draw([], 80, more=0) == []


@pytest.mark.parametrize("end", ["\x1b", "\x1b[", "\x1b[12;", "\x1b]0;title", "\x9b", "\x90x", "\x1b(", "\x1b\x1b"])
def test_sequences_that_do_not_end(end: str) -> None:
    """A sequence that is cut short, by us or on purpose, is removed with what belongs to it."""
    assert draw([Node(1, None, "a" + end, 0, 1)], 80)[0].text == "a" + " " * 45 + "[0ms]"


def test_children_in_order_of_their_start() -> None:
    """Children come in the order in which they started, whenever they ended and were reported."""
    nodes = [Node(4, 1, "c", 30, 31), Node(2, 1, "a", 10, 99), Node(3, 1, "b", 20, 25), Node(1, None, "run", 0, 100)]
    assert names("\n".join(text(draw(nodes, 80)))) == ["run", "├── a", "├── b", "└── c"]


def test_what_is_no_tree() -> None:
    """Orphans are roots; two spans with one id and parents in a circle end, and draw nothing twice."""
    assert names("\n".join(text(draw([Node(2, 9, "b", 2, 3), Node(1, None, "a", 1, 5)], 80)))) == ["a", "b"]
    assert draw([], 80) == []
    assert draw([Node(1, 2, "a", 0, 1), Node(2, 1, "b", 0, 1), Node(3, 3, "c", 0, 1)], 80) == []
    twins = [Node(1, None, "run", 0, 1), Node(2, 1, "x", 1, 2), Node(2, 1, "y", 2, 3), Node(3, 2, "z", 3, 4)]
    assert names("\n".join(text(draw(twins, 80)))) == ["run", "├── x", "│   └── z", "└── y"]


def test_deep_trees() -> None:
    """A tree that is deeper than Python's stack is drawn, and stops moving to the right."""
    depth = sys.getrecursionlimit() * 3
    lines = text(draw([Node(i, i - 1, f"s{i}", i, i) for i in range(1, depth)], 80))
    assert len(lines) == depth - 1
    assert lines[-1].startswith(" " * 24 + f"└── s{depth - 1} ")


@pytest.mark.parametrize(
    ("hostile", "expected"),
    [
        ("[bold]x[/bold] :smile: [link=http://x]y[/]", "[bold]x[/bold] :smile: [link=http://x]y[/]"),
        ("a\x1b[31mb\x1b[0mc", "abc"),
        ("a\x1b]0;title\x07b\x1b]8;;http://x\x1b\\c", "abc"),
        ("a\x9b31mb\x9d0;title\x9cc\x90dcs\x9cd", "abcd"),
        ("a\x1bP1$r\x1b\\b\x1bcc\x1b(Bd", "abcd"),
        ("a\x1b[2Jb\x1b[1;1Hc\x1b[ ", "abc"),
        ("a\r\nb\n\n\tc\x0bd\x85e\u2028f", "a b c d e f"),
        ("a\x00b\x07c\x08d\x7fe\x84f", "abcdef"),
        ("a\u202eb\u2066c\u200bd\ufeffe", "abcde"),
        ("a\ud800b\udcffc", "a?b?c"),
        ("e\u0301 é 漢", "e\u0301 é 漢"),
        ("", ""),
    ],
)
@pytest.mark.parametrize("terminal", [False, True])
def test_hostile_text(monkeypatch: pytest.MonkeyPatch, hostile: str, expected: str, terminal: bool) -> None:
    """Nothing from a span reaches the terminal as an instruction, a line break or markup."""
    monkeypatch.setenv("TERM", "xterm-256color")
    bench = Bench(Terminal() if terminal else io.StringIO())
    with (
        bench.span("pipeline:p"),
        bench.span(f"<{hostile}>", error=f"<{hostile}>", inputs=f"<{hostile}>", outputs="<>"),
    ):
        pass
    lines = re.sub(r"\x1b\[(31|0)m", "", bench.text).splitlines()
    assert names(bench.text if not terminal else "\n".join(lines))[1] == f"└── <{expected}>"
    assert lines[2:] == [f"    ├── inputs: <{expected}>", "    ├── outputs: <>", f"    └── status: <{expected}>"]


# --- states


def test_failures_and_skips() -> None:
    """A failed span and its cause are red, a skipped one and its leaves dim, a cancelled one yellow."""
    bench = Bench(Terminal())
    with bench.span("pipeline:p", 0, 9, error="ValueError: kaput", status="ValueError: kaput"):
        with bench.span("task:a", 1, 2, error="ValueError: kaput", status="ValueError: kaput", inputs="{}"):
            pass
        with bench.span("task:b", 3, 3, status="skipped", inputs="{}"):
            pass
        with bench.span("task:c", 4, 5, status="cancelled"):
            pass
        with bench.span("submit:d", 6, 7, status="submitted"):
            pass
        with bench.span("user", 8, 8, user=True, error=""):
            pass

    def red(line: str) -> str:
        return f"\x1b[31m{line}\x1b[0m"

    def dim(line: str) -> str:
        return f"\x1b[2m{line}\x1b[0m"

    assert bench.text.splitlines() == [
        red("pipeline:p" + " " * 36 + "[9ms]"),
        "├── " + red("status: ValueError: kaput"),
        "├── " + red("task:a" + " " * 36 + "[1ms]"),
        "│   ├── inputs: {}",
        "│   └── " + red("status: ValueError: kaput"),
        "├── " + dim("task:b" + " " * 36 + "[0ms]"),
        "│   ├── " + dim("inputs: {}"),
        "│   └── " + dim("status: skipped"),
        "├── \x1b[33mtask:c" + " " * 36 + "[1ms]\x1b[0m",
        "│   └── \x1b[33mstatus: cancelled\x1b[0m",
        "├── submit:d" + " " * 34 + "[1ms]",
        "│   └── status: submitted",
        "└── " + red("user" + " " * 38 + "[0ms]"),
        "    └── " + red("status: error"),
    ]


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """rich reads these; what a test expects does not depend on where it runs."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "TTY_COMPATIBLE", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


def test_other_types_of_attributes() -> None:
    """Attributes that are no text are not shown."""
    bench = Bench()
    with bench.span("pipeline:p", inputs=5, outputs=["a"], status=True):  # type: ignore[arg-type]
        pass
    assert bench.text == "pipeline:p" + " " * 36 + "[0ms]\n"


# --- output


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_a_real_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the tree has its width and colours; FORCE_COLOR does not colour a file, NO_COLOR is obeyed."""
    import fcntl
    import struct
    import termios

    def run(width: int) -> str:
        ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
        with open(theirs, "w", encoding="utf-8") as stream:
            bench = Bench(stream, width=None)  # type: ignore[arg-type]
            with bench.span("pipeline:p", error="x" * 300):
                pass
            out = os.read(ours, 65536).decode()
        os.close(ours)
        return out

    assert run(40).splitlines()[1] == "└── \x1b[31mstatus: " + "x" * 27 + "…\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "")
    assert run(50).splitlines()[1] == "└── status: " + "x" * 37 + "…"
    monkeypatch.setenv("COLUMNS", "60")
    assert run(50).splitlines()[1] == "└── status: " + "x" * 47 + "…"


@pytest.mark.parametrize("columns", [None, "0", "", "wide", "70"])
def test_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, columns: str | None) -> None:
    """In a file there is no colour, whatever FORCE_COLOR says, and a line has 120 cells or as many as COLUMNS."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    with (tmp_path / "out").open("w", encoding="utf-8") as file:
        bench = Bench(file, width=None)  # type: ignore[arg-type]
        with bench.span("pipeline:p", error="x" * 300):
            pass
    line = (tmp_path / "out").read_text(encoding="utf-8").splitlines()[1]
    assert line == "└── status: ".ljust(69 if columns == "70" else 119, "x") + "…"


def test_colours_do_not_change_the_text() -> None:
    """The tree on a terminal is the tree in a file, with colours around it."""
    plain, coloured = Bench(width=200), Bench(Terminal(), width=200)
    for bench in (plain, coloured):
        page(bench)
        with bench.span("job:漢字", error="x" * 300), bench.span("task:[red]", status="skipped"):
            pass
    assert "\x1b[" in coloured.text
    assert re.sub(r"\x1b\[\d*m", "", coloured.text) == plain.text


def test_without_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where rich can't be imported a terminal gets the same tree as plain text."""
    for name in ("rich", "rich.console", "rich.text"):
        monkeypatch.setitem(sys.modules, name, None)
    bench = Bench(Terminal())
    page(bench)
    assert bench.text == PAGE


def test_rich_is_not_loaded_for_a_file() -> None:
    """Neither the import of the module nor a tree in a file loads rich."""
    import subprocess

    code = (
        "import io, sys; from runnable_otel.console import *; from opentelemetry.sdk.trace import TracerProvider as P\n"
        "p = P(); p.add_span_processor(TreeSpanProcessor(stream=io.StringIO()))\n"
        "p.get_tracer('runnable_otel').start_span('pipeline:p').end(); print('rich' in sys.modules)"
    )
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    out = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False"]


@pytest.mark.parametrize("terminal", [False, True])
def test_a_stream_that_can_do_ascii_only(terminal: bool) -> None:
    """Where the encoding has no box characters the branches are ASCII, and other text is replaced."""

    class Stream(io.TextIOWrapper):
        def isatty(self) -> bool:
            return terminal

    raw = io.BytesIO()
    bench = Bench(Stream(raw, encoding="ascii", newline=""))  # type: ignore[arg-type]
    with bench.span("pipeline:p", inputs="é" * 200), bench.span("task:é"):
        pass
    assert raw.getvalue().decode("ascii").splitlines() == [
        "pipeline:p" + " " * 36 + "[0ms]",
        "|-- inputs: " + "?" * 67 + "~",
        "`-- task:?" + " " * 36 + "[0ms]",
    ]


def test_standard_error_is_looked_up_when_drawing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a stream the tree goes to what sys.stderr is when the run ends, and nothing to standard output."""
    processor = TreeSpanProcessor()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("runnable_otel")
    run = tracer.start_span("job:j")
    redirected = io.StringIO()
    monkeypatch.setattr(sys, "stderr", redirected)
    run.end()
    assert redirected.getvalue().startswith("job:j   ")
    monkeypatch.setattr(sys, "stderr", None)
    tracer.start_span("job:k").end()
    assert capsys.readouterr() == ("", "")


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize("stream", [Broken(), object()])
def test_a_stream_that_fails(stream: io.TextIOBase) -> None:
    """A stream that can't be written costs the tree, and raises nothing into the run."""
    page(Bench(stream))


def test_a_stream_that_is_closed(tmp_path: Path) -> None:
    """A file that was closed, or opened for reading, costs the tree, and raises nothing into the run."""
    (tmp_path / "file").touch()
    with (tmp_path / "file").open() as file:
        page(Bench(file))  # type: ignore[arg-type]
    page(Bench(file))  # type: ignore[arg-type]


def test_a_stream_with_write_alone() -> None:
    """An object that stands in for standard error with write and flush alone is enough."""
    parts: list[str] = []

    class Writer:
        def write(self, part: str) -> None:
            parts.append(part)

        def flush(self) -> None:
            pass

    page(Bench(Writer(), width=None))  # type: ignore[arg-type]
    assert parts == [PAGE]


# --- which spans


def test_users_spans_below_ours() -> None:
    """Spans of any scope below a run are drawn; those above and beside it are not."""
    bench = Bench()
    with bench.span("request", user=True), bench.span("pipeline:p"):
        with bench.span("task:t", 1), bench.span("query", 2, user=True), bench.span("row", 3, user=True):
            assert bench.text == ""
        with bench.span("beside", 4, user=True):
            pass
    with bench.span("alone", user=True), bench.span("task:alone"):
        pass
    assert names(bench.text) == [
        "pipeline:p", "├── task:t", "│   └── query", "│       └── row", "└── beside",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["pipeline:p", "job:j", "submit:s"])
def test_each_kind_of_run(name: str) -> None:
    """Pipelines, jobs and submissions are runs, with and without a parent elsewhere."""
    bench = Bench()
    remote = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1))
    token = trace.context_api.attach(set_span_in_context(NonRecordingSpan(remote)))
    with bench.span(name):
        pass
    trace.context_api.detach(token)
    with bench.span(name):
        pass
    assert names(bench.text) == [name, name]


def test_a_run_of_another_scope() -> None:
    """A span with the name of a run is none in another scope; the scope's name is an argument."""
    bench = Bench(scope="another")
    with bench.span("pipeline:p"):
        pass
    assert bench.text == ""
    bench.provider.add_span_processor(TreeSpanProcessor(scope="another", stream=bench.stream))  # type: ignore[arg-type]
    with bench.span("pipeline:p"):
        pass
    assert names(bench.text) == ["pipeline:p"]


def test_a_run_inside_a_run() -> None:
    """A run below another one is part of its tree, and is not drawn a second time."""
    bench = Bench()
    with bench.span("pipeline:outer"), bench.span("task:t"), bench.span("pipeline:inner"), bench.span("task:u"):
        pass
    assert names(bench.text) == ["pipeline:outer", "└── task:t", "    └── pipeline:inner", "        └── task:u"]


def test_two_runs_in_one_trace() -> None:
    """Two runs below one span of the caller are two trees, each with its own spans."""
    bench = Bench()
    with bench.span("request", user=True):
        first, second = (bench.ours.start_span(f"pipeline:{name}") for name in "ab")
        for run, name in ((first, "x"), (second, "y")):
            bench.ours.start_span(f"task:{name}", set_span_in_context(run)).end()
        second.end()
        first.end()
    assert names(bench.text) == ["pipeline:b", "└── task:y", "pipeline:a", "└── task:x"]


def test_spans_that_outlive_the_run() -> None:
    """A span that is open when its run ends is not drawn, what ended below it is, and nothing waits for it."""
    bench = Bench()
    with bench.span("pipeline:p", 0, 9):
        late = bench.users.start_span("late", start_time=T)
        bench.users.start_span("below", set_span_in_context(late), start_time=T + MS).end()
    late.end()
    assert names(bench.text) == ["pipeline:p", "below"]
    assert not bench.processor._runs


def test_a_child_that_starts_after_its_parent_ended() -> None:
    """What starts below a span that has ended, as asynchronous code may do, is drawn below it."""
    bench = Bench()
    with bench.span("pipeline:p"):
        with bench.span("task:t", 1) as task:
            pass
        bench.users.start_span("after", set_span_in_context(task)).end()
    assert names(bench.text) == ["pipeline:p", "└── task:t", "    └── after"]


class Ids(IdGenerator):
    """Trace ids 1, 2, 3, …; the span ids that are given, one after the other."""

    def __init__(self, *spans: int) -> None:
        self.traces = iter(range(1, 99))
        self.spans = iter(spans)

    def generate_trace_id(self) -> int:
        return next(self.traces)

    def generate_span_id(self) -> int:
        return next(self.spans)


def test_one_span_id_in_two_traces() -> None:
    """A span belongs to the run of its own trace, though another trace has spans with the same ids."""
    bench = Bench(ids=Ids(7, 7, 8, 8))
    first, second = (bench.ours.start_span(f"pipeline:{name}") for name in "ab")
    for run, name in ((second, "y"), (first, "x")):
        bench.ours.start_span(f"task:{name}", set_span_in_context(run)).end()
    first.end()
    second.end()
    assert names(bench.text) == ["pipeline:a", "└── task:x", "pipeline:b", "└── task:y"]


def test_one_span_id_twice_in_a_trace() -> None:
    """Spans that share an id, as ids that are derived from names may, are drawn once each and leave nothing behind."""
    bench = Bench(ids=Ids(7, 8, 8, 7))
    with bench.span("pipeline:p"):
        for name in "ab":
            with bench.span(f"task:{name}"):
                pass
    with bench.span("pipeline:p"):
        pass
    assert names(bench.text) == ["pipeline:p", "├── task:a", "└── task:b", "pipeline:p"]
    assert not bench.processor._runs


# --- bounds


def test_more_spans_than_the_bound() -> None:
    """Of a run's spans 2,000 are drawn, and a last line counts the others, with those below them."""
    bench = Bench()
    with bench.span("pipeline:p"):
        for number in range(2500):
            with (
                bench.span(f"branch:{number}", number + 1),
                bench.span("task:t", number + 1),
                bench.span("q", user=True),
            ):
                pass
    lines = bench.text.splitlines()
    assert len(lines) == 2001
    assert lines[-1] == "… and 5,501 more"
    assert not bench.processor._runs


def test_spans_that_never_end_are_bounded() -> None:
    """Spans that are opened and never ended take bounded memory, and are not drawn."""
    bench = Bench()
    with bench.span("pipeline:p"):
        for _ in range(10_000):
            bench.users.start_span("leak")
        (run,) = bench.processor._runs.values()
        assert len(run.ids) <= 4000
        assert len(run.open) <= 2000
    assert len(bench.text.splitlines()) == 2
    assert bench.text.endswith("… and 8,001 more\n")


def test_runs_that_never_end_are_dropped_oldest_first() -> None:
    """At most 64 runs are open at once: a further one takes the place of the oldest, which is not drawn then."""
    bench = Bench()
    runs = [bench.ours.start_span(f"pipeline:{number}") for number in range(70)]
    assert len(bench.processor._runs) == 64
    for run in runs:
        run.end()
    assert names(bench.text) == [f"pipeline:{number}" for number in range(6, 70)]
    assert not bench.processor._runs


def test_texts_are_cut_and_spans_are_not_kept() -> None:
    """A span is not kept alive, and of each of its texts at most 1,024 characters are."""
    bench = Bench()
    with bench.span("pipeline:p"):
        span = bench.ours.start_span(
            "task:" + "n" * 5000, attributes=dict.fromkeys(("inputs", "outputs", "status"), "v" * 5000)
        )
        span.set_status(StatusCode.ERROR, "d" * 5000)
        span.end()
        alive = weakref.ref(span)
        del span
        gc.collect()
        assert alive() is None
        (run,) = bench.processor._runs.values()
        (node,) = run.nodes
        assert {len(node.name), *(len(value) for _, value in node.leaves)} == {1024}
        with bench.span("task:t", error="d" * 5000):
            pass
        assert len(run.nodes[1].leaves[0][1]) == 1024


# --- threads, processes, the end


class Piecewise(io.StringIO):
    """Writes as slowly as it can: anybody who is not kept out gets in between."""

    def write(self, text: str) -> int:
        return sum(super(Piecewise, self).write(character) for character in text)


@pytest.fixture
def _eager_threads() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_eager_threads")
def test_runs_of_many_threads() -> None:
    """Runs of many threads at once are whole trees, one after the other, each with its own spans in their order."""
    bench = Bench(Piecewise())
    gate = threading.Barrier(16)

    def work(number: int) -> None:
        gate.wait()
        for turn in range(10):
            with bench.span(f"pipeline:{number}.{turn}"):
                for task in range(20):
                    with bench.span(f"task:{number}.{turn}.{task}", task + 1):
                        pass

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = names(bench.text)
    trees = {tuple(lines[at : at + 21]) for at in range(0, len(lines), 21)}
    assert trees == {
        (
            f"pipeline:{number}.{turn}",
            *(f"├── task:{number}.{turn}.{task}" for task in range(19)),
            f"└── task:{number}.{turn}.19",
        )
        for number in range(16)
        for turn in range(10)
    }


def test_spans_of_many_threads_in_one_run() -> None:
    """Spans that several threads start and end below one run are all in its tree."""
    bench = Bench()
    with bench.span("pipeline:p") as run:
        context = set_span_in_context(run)

        def work(number: int) -> None:
            for turn in range(100):
                bench.users.start_span(f"{number}.{turn}", context).end()

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(name[4:] for name in names(bench.text)[1:]) == sorted(
        f"{n}.{t}" for n in range(8) for t in range(100)
    )


def test_nobody_waits_for_the_terminal() -> None:
    """While a tree is being written, to a terminal that stands still, other threads start and end spans."""
    writing, go_on = threading.Event(), threading.Event()

    class Slow(io.StringIO):
        def write(self, text: str) -> int:
            writing.set()
            assert go_on.wait(30)
            return super().write(text)

    bench = Bench(Slow())
    run = bench.ours.start_span("pipeline:slow")
    other = bench.ours.start_span("pipeline:other")
    thread = threading.Thread(target=run.end)
    thread.start()
    assert writing.wait(30)
    # Would not return if they waited for the writer
    bench.ours.start_span("task:t", set_span_in_context(other)).end()
    go_on.set()
    thread.join()
    other.end()
    assert names(bench.text) == ["pipeline:slow", "pipeline:other", "└── task:t"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_while_the_lock_is_held(tmp_path: Path) -> None:
    """A child that is forked while another thread holds the lock draws its own runs, and not those of its parent."""
    with (tmp_path / "out").open("w", encoding="utf-8") as file:
        bench = Bench(file)  # type: ignore[arg-type]
        run = bench.ours.start_span("pipeline:parent")
        held, done = threading.Event(), threading.Event()

        def hold() -> None:
            with bench.processor._lock, bench.processor._drawing:
                held.set()
                done.wait()

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        child = os.fork()
        if child == 0:
            run.end()
            bench.ours.start_span("pipeline:child").end()
            os._exit(0)
        done.set()
        thread.join()
        assert os.waitpid(child, 0)[1] == 0
        run.end()
    assert names((tmp_path / "out").read_text(encoding="utf-8")) == ["pipeline:child", "pipeline:parent"]


def test_a_span_that_ends_inside_the_processor() -> None:
    """A finalizer that ends a span while the processor is at work in the same thread does not stop it."""
    bench = Bench()
    with bench.span("pipeline:p"), bench.processor._lock, bench.span("task:t"):
        pass
    assert names(bench.text) == ["pipeline:p", "└── task:t"]


def test_a_run_that_ends_while_a_tree_is_written() -> None:
    """A finalizer that ends a run while its thread writes a tree does not stop it."""

    class Reentrant(io.StringIO):
        def write(self, text: str) -> int:
            inner.end()
            return super().write(text)

    bench = Bench(Reentrant())
    inner = bench.ours.start_span("pipeline:inner")
    with bench.span("pipeline:outer"):
        pass
    assert names(bench.text) == ["pipeline:inner", "pipeline:outer"]


def test_shutdown() -> None:
    """After shutdown, once or twice, nothing is drawn or kept, and nothing raises."""
    bench = Bench()
    run = bench.ours.start_span("pipeline:p")
    assert bench.processor.force_flush()
    bench.provider.shutdown()
    bench.processor.shutdown()
    run.end()
    bench.processor.on_start(bench.ours.start_span("pipeline:q"))  # type: ignore[arg-type]
    assert not bench.processor._runs
    assert bench.text == ""


def test_nothing_raises_into_the_run() -> None:
    """Spans that the SDK would not make raise nothing."""
    processor = Bench().processor
    processor.on_start(None)  # type: ignore[arg-type]
    processor.on_end(None)  # type: ignore[arg-type]
    processor.on_start(ReadableSpan("pipeline:p"))  # type: ignore[arg-type]
    processor.on_end(ReadableSpan("pipeline:p"))


def test_a_processor_is_not_kept_alive() -> None:
    """The hook for forks does not keep a processor alive that nobody uses."""
    alive = weakref.ref(TreeSpanProcessor())
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize(
    ("name", "attributes", "shown"),
    [
        ("branch:region", {"runnable.map.region": "north"}, "branch:region = north"),
        ("branch:inner", {"runnable.map.outer": 1, "runnable.map.inner": 2}, "branch:inner = 2"),
        ("branch:round", {"runnable.branch.name": "again.3"}, "branch:round 3"),
        ("branch:left", {"runnable.branch.name": "both.left"}, "branch:left"),
        ("task:tasks.work", {"runnable.map.region": "north"}, "task:tasks.work"),
    ],
)
def test_label(name: str, attributes: dict[str, object], shown: str) -> None:
    """Items of a map and rounds of a loop can be told apart in the tree."""
    assert label(name, attributes) == shown


@pytest.mark.parametrize("value", ["1", "Yes", "on"])
def test_switched_on_by_any_word_for_yes(project: Project, value: str) -> None:
    """The variable is read as the other ones are: who says yes gets the tree."""
    done = project.pipeline("python", RUNNABLE_TELEMETRY_CONSOLE=value)
    assert "pipeline:" in done.stderr


def test_neither_yes_nor_no(project: Project) -> None:
    """A value that is neither gets a line; no for an answer gets none, and no tree."""
    done = project.pipeline("python", RUNNABLE_TELEMETRY_CONSOLE="maybe")
    assert "telemetry is off: RUNNABLE_TELEMETRY_CONSOLE='maybe': expected true or false" in done.stderr
    quiet = project.pipeline("python", RUNNABLE_TELEMETRY_CONSOLE="no")
    assert "telemetry" not in quiet.stderr
    assert "pipeline:" not in quiet.stderr

"""What `watch` draws, as a terminal emulator shows it: hostile and wide text, small screens, what is written above."""

from __future__ import annotations

import fcntl
import http.server
import io
import json
import os
import struct
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import pyte
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runnable_otel.picture import Picture
from runnable_otel.tree import Line
from runnable_otel.watch import follow, screen, view
from runnable_otel.watch.client import Address, Client
from runnable_otel.watch.display import Lines
from runnable_otel.watch.screen import Screen
from support.page_server import PageServer
from support.serve import Serve, completed, done, started, task
from support.terminal import Emulator, Terminal, lines_of
from support.waiting import wait_until
from support.watch import piped, terminal, timeless

# --- above the lines


class Emulated:
    """A `Screen` on a pseudo-terminal that nobody else has, and what an emulator makes of its bytes."""

    def __init__(self, columns: int, rows: int) -> None:
        self._ours, self._theirs = os.openpty()
        attributes = termios.tcgetattr(self._theirs)
        attributes[1] &= ~termios.OPOST
        termios.tcsetattr(self._theirs, termios.TCSANOW, attributes)
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.set_blocking(self._ours, False)
        self.screen = Screen(self._theirs, "utf-8", {"NO_COLOR": "1"})
        self.shown = Emulator(columns, rows)
        self._stream = pyte.ByteStream(self.shown)

    def read(self) -> list[str]:
        """All lines, also those that have left the screen."""
        while True:
            try:
                self._stream.feed(os.read(self._ours, 65536))
            except BlockingIOError:
                break
        return lines_of(self.shown, scrolled=True)

    def read_raw(self) -> bytes:
        """The bytes as they are, all that have come."""
        found = b""
        with suppress(BlockingIOError):
            while True:
                found += os.read(self._ours, 65536)
        return found

    def close(self) -> None:
        os.close(self._ours)
        os.close(self._theirs)


def alone(wrote: list[str], columns: int, rows: int) -> list[str]:
    """What the same bytes make of a terminal without us."""
    shown = Emulator(columns, rows)
    for text in wrote:
        pyte.ByteStream(shown).feed(text.encode())
    return lines_of(shown, scrolled=True)


WRITES = st.lists(
    st.sampled_from(["word ", "漢字", "é", "\r\n", "\r\n", "\r", "\t", "x" * 25, "\x1b[31m", "\x1b[0m", "\b", "50%\r"])
    | st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12),
    max_size=25,
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(WRITES, st.lists(st.integers(0, 9), max_size=25))
@example(["x" * 24, "y", "\r\n"], [3, 3, 3])
@example(["word word 000000000000漢字", "word"], [0, 1])
@example(["progress 10%\r", "progress 20%\r", "done\r\n"], [2, 4, 1])
def test_what_the_program_writes(wrote: list[str], drawn: list[int]) -> None:
    """Whatever a program writes, and whatever stands below it meanwhile: at the end there is what it wrote and ours."""
    columns, rows = 25, 8
    with pytest.MonkeyPatch.context() as patch, closing(Emulated(columns, rows)) as made:
        patch.setattr(screen, "OFTEN", 0.0)
        for number, text in enumerate(wrote):
            count = drawn[number] if number < len(drawn) else 0
            made.screen.show([Line("", f"ours {each}") for each in range(count)])
            made.screen.draw()
            made.screen.write(text.encode())
            made.read()
        made.screen.close([Line("", "the end")])
        seen = made.read()
    expected = alone(wrote, columns, rows)
    assert seen[-1:] == ["the end"]
    assert [line for line in seen[:-1] if line] == [line for line in expected if line]


@pytest.mark.parametrize("final", "ABCDG")
def test_a_number_beyond_all_terminals(final: str) -> None:
    """A parameter may have more digits than Python reads: what the program writes comes through."""
    far = b"\x1b[" + b"9" * 5000 + final.encode()
    with closing(Emulated(25, 8)) as made:
        made.screen.show([Line("", "ours")])
        made.screen.write(far + b"\rIMPORTANT")
        assert b"IMPORTANT" in made.read_raw()


MISTAKEN = """
import subprocess, sys
from runnable_otel.watch.passage import Passage

wrong = []
def write(data):
    raise ZeroDivisionError

command = "print('one', flush=True); input(); print('two')"
with Passage((1,), write) as passage:
    passage.on_failure = wrong.append
    with subprocess.Popen([sys.executable, "-c", command], stdin=subprocess.PIPE, **passage.streams) as process:
        passage.begin()
        while not wrong:
            passage.wait(0.05)
        process.communicate(b"go on")
    passage.drain()
print(wrong)
"""


def test_a_mistake_of_ours(tmp_path: Path) -> None:
    """Where what we do with the command's output fails, all of the output passes as it is, and the drawing ends."""
    with Terminal([sys.executable, "-c", MISTAKEN], tmp_path, dict(os.environ)) as shown:
        assert shown.wait() == 0
        assert shown.screen == ["one", "two", "[ZeroDivisionError()]"]


# --- what is drawn


@cache
def picture(tasks: int, failed: int = 0) -> Picture:
    """A run with a map of so many items, of which one failed and one runs."""
    made = Picture()
    for event in [started(name="p"), *(each for number in range(tasks) for each in events_of(number, failed))]:
        made.add(event)
    return made


def events_of(number: int, failed: int) -> Iterator[dict[str, Any]]:
    place = {"name": f"f{number}", "branch": f"each.{number}", "step": f"each.{number}.f"}
    yield task(number, **place)
    if number == failed:
        yield {**done(number, **place), "type": "task_error", "error": "ValueError: kaput"}
    elif number != 1:
        yield done(number, **place)


@pytest.mark.parametrize("height", range(1, 40))
@pytest.mark.parametrize("tasks", [3, 1000])
def test_any_height(height: int, tasks: int) -> None:
    """Never more lines than there are; the failure with its cause from three lines on, what runs from five."""
    lines = [line.guide + line.text for line in view.tree(picture(tasks), 60, height, 0)]
    assert 0 < len(lines) <= height
    shown = "\n".join(lines)
    assert "pipeline:p" in shown
    assert height < 3 or "status: ValueError: kaput" in shown
    assert height < 5 or "task:f1 " in shown
    assert height < 5 or tasks < 1000 or lines[-1].startswith("… and ")


def test_no_room() -> None:
    """Nothing is drawn where there is no line for it."""
    assert view.tree(picture(3), 60, 0, 0) == []


def test_a_run_that_is_over() -> None:
    """Nothing runs in it: a task whose end never came is without an end, also where the tasks are counted."""
    made = Picture()
    for each in [started(name="p"), task(0, name="f"), task(1, name="g"), done(1, name="g")]:
        made.add(each)
    assert view.counts(made) == "1 running, 1 completed"
    made.add({**completed(name="p"), "status": "error"})
    assert view.counts(made) == "1 without an end, 1 completed"
    assert "[no end seen]" in "".join(line.text for line in view.tree(made, 60, 10, 0))


HOSTILE = [
    "\x1b[2J\x1b[1;1Hclear", "\x1b]0;title\x07", "\x1b]52;c;aGk=\x07clip", "\x9b31mred\x9b0m", "a\r\nb\tc\x0bd",
    "\x07\x08\x7f", "漢字" * 60, "👩\u200d👩\u200d👧\u200d👦" * 30, "❤\ufe0f" * 70, "🇫🇷" * 40, "👍🏽" * 40,
    "e\u0301" * 120, "\u202eevil", "\ud800", "[bold]x[/]", "%s{}\\x1b",
]  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """A server in memory; each test has a trace of its own."""
    with Serve(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.mark.parametrize(("columns", "rows"), [(100, 60), (40, 24), (20, 5)])
def test_hostile_text(server: Serve, tmp_path: Path, columns: int, rows: int) -> None:
    """Names, values and errors show as text, a line each, in any width: the tree stays in its place for each frame."""
    trace = columns * 100 + rows
    server.send(started(trace, name="\x1b[31mp\x1b[0m\n\n"))
    with terminal(tmp_path, server.url, f"run-{trace}", columns=columns, rows=rows) as shown:
        shown.until("no task yet")
        for number, text in enumerate(HOSTILE):
            step = {"name": f"<{number}{text}>", "step": f"s{number}"}
            server.send(task(number, trace, **step, inputs={text: text}))
            shown.until(f"{number:,} failed" if number else "1 running")
            server.send({**done(number, trace, **step), "type": "task_error", "error": text})
            shown.until(f"{number + 1:,} failed")
            assert len([line for line in shown.scrolled if "pipeline:" in line]) == 1, (number, shown.scrolled)
        server.send(completed(trace))
        assert shown.wait() == 0
    assert b"\x07" not in shown.raw
    assert {part.split(b"\x1b")[0][:1] for part in shown.raw.split(b"\x1b")[1:]} == {b"["}
    assert shown.screen[-1].startswith("finished")
    if columns == 100:
        names = [line for line in shown.screen if "<" in line]
        assert len(names) == len(HOSTILE)
        assert all(any(f"<{each}>" in name for name in names) for each in ("0clear", "1", "2clip", "3red", "4a b c d"))


def test_hostile_text_in_a_pipe(server: Serve, tmp_path: Path) -> None:
    """There it is one line an event, without any control character."""
    server.send(started(7, name=HOSTILE[0]))
    for number, text in enumerate(HOSTILE):
        step = {"name": f"<{number}{text}>", "step": f"s.{text}"}
        server.send(task(number, 7, **step), {**done(number, 7, **step), "type": "task_error", "error": text})
    server.send(completed(7, name=HOSTILE[0]))
    seen = piped(tmp_path, server.url, "run-7")
    assert len(seen.stdout.splitlines()) == 2 * len(HOSTILE) + 4
    assert all(line.isprintable() or "\ufe0f" in line or "\u0301" in line for line in seen.stdout.splitlines())
    assert "\x1b" not in seen.stdout


# --- what a server may say


@contextmanager
def saying(status: int, body: bytes, kind: str = "application/json") -> Iterator[str]:
    """A server that is none of ours; its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (403, json.dumps({"error": "go\x1b[2J\r\naway"}).encode(), "answers with status 403: go away"),
        (302, b"", "answers with status 302"),
        (200, b"<html>", "is no server of runnable-otel's: it does not answer in JSON"),
        (200, b"[" * 100_000, "is no server of runnable-otel's: it does not answer in JSON"),
        (200, b"{}", "is no server of runnable-otel's: it has no list of runs"),
        (200, b'{"runs": [{}]}', "the server lists a run without a trace id"),
    ],
)
def test_another_server(tmp_path: Path, status: int, body: bytes, said: str) -> None:
    """Takes one line that says so, and shows nothing of what a terminal would act upon."""
    with saying(status, body) as url:
        seen = piped(tmp_path, url)
    assert (seen.returncode, len(seen.stderr.splitlines())) == (2, 1)
    assert seen.stderr.rstrip("\n").endswith(said)


def test_no_sign_of_life(page_server: PageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of which nothing has been heard for long says since when; and no more, once there is an event."""
    monkeypatch.setattr(follow, "_ASK", 0.02)
    monkeypatch.setattr(follow, "SILENT", 0.2)
    out, codes = io.StringIO(), list[int]()
    page_server.send([started(), task(0)])
    client = Client(Address.read(page_server.url()), page_server.token)
    thread = threading.Thread(target=lambda: codes.append(follow.follow(client, "run-1", Lines(out))))
    thread.start()
    wait_until(lambda: "-- no sign of life since 20" in out.getvalue())
    page_server.send([done(0)])
    wait_until(lambda: "completed" in out.getvalue())
    page_server.send([completed()])
    thread.join()
    told = timeless(out.getvalue().splitlines())
    assert codes == [0]
    assert told.index("task:n completed") > told.index(next(line for line in told if "no sign of life" in line))
    assert told[told.index("task:n completed") - 1] == "-- live"

"""`runnable-otel demo`: its output, its exit code, and that its agreement is a real check."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runnable_otel.demo.agreement import Attempt, Counts, Execution, SentSpan, counts, disagreements
from runnable_otel.demo.processes import split
from runnable_otel.demo.receiver import ReceivedSpan
from support.project import environment

OWN_OUTPUT = ("Lets go", "Working with context", "Pipeline executed successfully", "{'type': 'chunk'", '"context"')
"""What runnable, the pipelines and the second exporter write."""


def demo(
    folder: Path,
    *arguments: str,
    code: str = "from runnable_otel.cli import main; sys.exit(main())",
    python: str | Path = sys.executable,
    **variables: str,
) -> subprocess.CompletedProcess[str]:
    """Run the command in an empty folder, which is its home too; `code` is what Python runs."""
    folder.mkdir()
    return subprocess.run(
        [python, "-c", f"import sys; {code}", "demo", *arguments],
        cwd=folder,
        env=environment(folder, HOME=str(folder), **{"COLUMNS": "80", "PYTHONIOENCODING": "utf-8", **variables}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )


def bare_python(folder: Path, path: Path) -> Path:
    """An interpreter of an environment with nothing in it; `path` is importable, with no start-up file read there."""
    venv.create(folder, with_pip=False, symlinks=True)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    (site_packages / "path.pth").write_text(f"{path}\n")
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """The demo, run once, as on a fresh machine: an empty home, no terminal, 80 columns."""
    return demo(tmp_path_factory.mktemp("demo") / "home")


def test_the_demo_agrees(shown: subprocess.CompletedProcess[str]) -> None:
    """On a fresh machine the demo exits with 0, says that all agree, and writes nothing to standard error."""
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "They agree: each span, event and attempt is there exactly once.\n" in shown.stdout


def test_the_demo_counts(shown: subprocess.CompletedProcess[str]) -> None:
    """There is a line of counts for each run and one for all, which is their sum; sent is received."""
    lines = re.findall(
        r"^(run \d|in all): (\d+) spans sent, (\d+) received; (\d+) start, (\d+) end(?:, (\d+) skip)? events; "
        r"(\d+) attempts$",
        shown.stdout,
        re.MULTILINE,
    )
    assert [name for name, *_ in lines] == ["run 1", "run 2", "run 3", "in all"]
    numbers = [[int(number or 0) for number in line] for _, *line in lines]
    assert [sum(column) for column in zip(*numbers[:3], strict=True)] == numbers[3]
    # Attempts: 8 (the failed one and its recovery among them), 2, and 2 + 2 of the retry, which skips one. Events: of
    # each attempt and of each of the 4 executions.
    assert numbers == [[15, 15, 9, 9, 0, 8], [3, 3, 3, 3, 0, 2], [7, 7, 6, 6, 1, 4], [25, 25, 18, 18, 1, 14]]


def test_the_demo_draws_the_runs(shown: subprocess.CompletedProcess[str]) -> None:
    """Three runs are drawn, in four trees, with inputs, outputs and status of every kind of task."""
    first, second, third = re.split(r"^\d\. ", shown.stdout, flags=re.MULTILINE)[1:]
    lines = [line.lstrip("│ ├└─") for line in first.splitlines()]
    heads = [re.sub(r" +\[\d+.*\]$", "", line) for line in lines if re.search(r" \[\d", line)]
    assert heads == [
        "pipeline:orders.main",
        "task:orders.load",
        "parallel:look up",
        "branch:stock",
        "task:orders.count_stock",
        "branch:price",
        "task:price",
        "map:each region",
        "branch:region = north",
        "task:orders.sell",
        "branch:region = south",
        "task:orders.sell",
        "task:report.ipynb",
        "task:orders.publish",
        "task:orders.keep",
    ]
    assert 'inputs: {"region": "north"}' in lines
    assert 'outputs: {"price": 20}' in lines
    assert 'outputs: {"summary": "100 sold for 2000, 100 left"}' in lines
    assert any(line.startswith("status: ConnectionError: the shop is closed") for line in lines)
    assert "task:__main__.answer" in second
    assert 'outputs: {"text": "There are two."}' in second
    failed, retry = third.split("\n$ python ")[1:]
    assert "status: FileNotFoundError: " in failed
    assert re.match(r"-m runnable\.cli retry \S+\npipeline:restock\.main .*\n├── status: success\n", retry)
    assert re.search(r"task:restock\.count +\[0ms\]\n│   └── status: skipped\n", retry)


def test_the_demo_is_quiet_and_narrow(shown: subprocess.CompletedProcess[str]) -> None:
    """Nothing of the pipelines' own output is shown, and no line is wider than the terminal says."""
    assert not [text for text in OWN_OUTPUT if text in shown.stdout]
    assert max(map(len, shown.stdout.splitlines())) <= 80


def test_the_demo_says_what_is_next(shown: subprocess.CompletedProcess[str]) -> None:
    """The last lines are commands for a pipeline of the user's own."""
    assert shown.stdout.splitlines()[-2:] == [
        "  RUNNABLE_TELEMETRY_CONSOLE=true python pipeline.py",
        "  OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317 python pipeline.py",
    ]


def test_the_demo_leaves_nothing_behind(tmp_path: Path) -> None:
    """A hostile environment changes nothing: the user's own variables are not the demo's, nothing is left in the home,
    a terminal that knows ASCII only is served, and `--verbose` shows what the pipelines write, without the spans."""
    home = tmp_path / "home"
    done = demo(
        home,
        "--verbose",
        PYTHONIOENCODING="ascii",
        OTEL_SDK_DISABLED="true",
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="http://127.0.0.1:9",
        OTEL_TRACES_EXPORTER="none",
        RUNNABLE_OTEL_ENABLED="false",
        RUNNABLE_RUN_ID="mine",
        TRACEPARENT=f"00-{1:032x}-{1:016x}-01",
        http_proxy="http://127.0.0.1:9",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()
    assert "|-- task:orders.load" in done.stdout
    assert [text for text in OWN_OUTPUT if text not in done.stdout] == ['"context"']
    assert list(home.iterdir()) == []


def test_a_reader_that_leaves(tmp_path: Path) -> None:
    """`runnable-otel demo | head` ends without a traceback."""
    command = [sys.executable, "-m", "runnable_otel", "demo"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment(tmp_path), stdout=pipe, stderr=pipe) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_without_the_start_up_file(tmp_path: Path) -> None:
    """The demo agrees as well where the package is only on the path, and no `runnable_otel.pth` is read."""
    python = bare_python(tmp_path / "bare", Path(sysconfig.get_path("purelib")))
    done = demo(tmp_path / "home", python=python)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("module", ["runnable", "ploomber_engine"])
def test_what_is_missing(tmp_path: Path, module: str) -> None:
    """Where runnable or the notebook package is missing, one line says what to install, and the exit code is 1."""
    code = f"sys.modules[{module!r}] = None; from runnable_otel.cli import main; sys.exit(main())"
    done = demo(tmp_path / "home", code=code)
    assert (done.returncode, done.stdout) == (1, "")
    package = {"runnable": "runnable>=0.50", "ploomber_engine": "ploomber-engine"}[module]
    assert done.stderr == f"runnable-otel demo: its pipelines need more packages: pip install '{package}'\n"


def test_a_span_that_gets_lost(tmp_path: Path) -> None:
    """A receiver that loses one span of the notebook makes the demo name it, show the output, and exit with 1."""
    code = """
from runnable_otel.demo import main
from runnable_otel.demo.receiver import Receiver

class Lossy(Receiver):
    def keep(self, spans):
        super().keep([span for span in spans if span.name != "task:report.ipynb"])

sys.exit(main([], receiver=Lossy))
"""
    done = demo(tmp_path / "home", code=code)
    assert (done.returncode, done.stderr) == (1, "")
    assert "run 1: 15 spans sent, 14 received;" in done.stdout
    _, wrong = done.stdout.split("They do not agree:\n")
    assert re.search(r"^  run 1: the span task:report\.ipynb \(\w{16}\) was sent once and received never$", wrong, re.M)
    assert "  run 1: attempt 1 of report has 0 spans\n" in wrong
    assert "run 2: " not in wrong
    assert "Working with context" in wrong
    assert "Your own pipeline" not in done.stdout


# --- the agreement, as a table ---------------------------------------------------------------------------------------

TRACE = "a" * 32
ROOT = ReceivedSpan("pipeline:p", TRACE, "1" * 16, "", 1, 9, True, {"status": "ValueError: kaput"})
WENT = ReceivedSpan(
    "task:m.went", TRACE, "2" * 16, ROOT.span_id, 2, 3, False,
    {"status": "success", "runnable.step.name": "went", "runnable.step.attempt": 1},
)  # fmt: skip
SKIPPED = replace(WENT, span_id="3" * 16, attributes={**WENT.attributes, "status": "skipped"})
KAPUT = ReceivedSpan(
    "task:m.kaput", TRACE, "4" * 16, ROOT.span_id, 4, 5, True,
    {"status": "ValueError: kaput", "runnable.step.name": "kaput", "runnable.step.attempt": 2},
)  # fmt: skip
NODE = ReceivedSpan("map:each", TRACE, "5" * 16, ROOT.span_id, 6, 7, False, {"status": "success"})
SPANS = [ROOT, WENT, SKIPPED, KAPUT, NODE]


def event(kind: str, span: ReceivedSpan, edge: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "uid": f"{span.trace_id}:{span.span_id}:{edge}", **more}


EVENTS = [
    event("pipeline_started", ROOT, "start"),
    event("task_started", WENT, "start"),
    event("task_completed", WENT, "end"),
    event("task_skipped", SKIPPED, "start"),
    event("task_started", KAPUT, "start"),
    {"type": "chunk", "text": "a task's own", "uid": "nonce:1"},
    event("task_error", KAPUT, "end"),
    event("pipeline_completed", ROOT, "end", status="error"),
]
AGREES = Execution(
    sent=[SentSpan(span.trace_id, span.span_id, span.name) for span in SPANS],
    received=SPANS,
    events=EVENTS,
    attempts=[Attempt("went", 1, True), Attempt("kaput", 2, False)],
    success=False,
)


def test_agreement() -> None:
    """Four witnesses that say the same agree; what a task yields or logs counts for nothing."""
    assert disagreements(AGREES) == []
    log = {"type": "task_log", "uid": "nonce:2", "text": "a line"}
    assert disagreements(replace(AGREES, events=[*EVENTS, log])) == []
    assert counts(AGREES) == Counts(sent=5, received=5, starts=3, ends=3, skips=1, attempts=2)
    assert str(Counts(2, 2, 1, 1, 0, 1) + counts(AGREES)) == (
        "7 spans sent, 7 received; 4 start, 4 end, 1 skip events; 3 attempts"
    )


def without(n: int) -> list[dict[str, Any]]:
    return EVENTS[:n] + EVENTS[n + 1 :]


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    **{
        f"lost {n}": (
            {"received": [s for s in SPANS if s is not span]},
            f"the span {span.name} ({span.span_id}) was sent",
        )
        for n, span in enumerate(SPANS)
    },
    **{
        f"twice {n}": ({"received": [*SPANS, span]}, f"({span.span_id}) was sent once and received 2 times")
        for n, span in enumerate(SPANS)
    },
    **{f"no event {n}": ({"events": without(n)}, "came never and should once") for n in range(8) if n != 5},
    **{
        f"event {n} twice": ({"events": [*EVENTS, EVENTS[n]]}, "came 2 times and should once")
        for n in range(8)
        if n != 5
    },
    "sent less": ({"sent": AGREES.sent[1:]}, "was sent never and received once"),
    "sent more": ({"sent": [*AGREES.sent, AGREES.sent[0]]}, "was sent 2 times and received once"),
    "two exporters": (
        {"sent": [*AGREES.sent, AGREES.sent[4]], "received": [*SPANS, NODE]},
        "the span map:each (5555555555555555) was sent 2 times and received 2 times",
    ),
    "nothing ran": ({"sent": [], "received": [], "events": [], "attempts": []}, "the run log holds no attempt"),
    "an attempt more": ({"attempts": [*AGREES.attempts, Attempt("went", 2, True)]}, "attempt 2 of went has 0 spans"),
    "an attempt less": (
        {"attempts": AGREES.attempts[1:]},
        "attempt 1 of went has 1 spans and is not in the run log",
    ),
    "another number": (
        {"attempts": [Attempt("went", 1, True), Attempt("kaput", 1, False)]},
        "attempt 1 of kaput has 0 spans",
    ),
    "one attempt, two spans": (
        {"received": [*SPANS, replace(WENT, span_id="6" * 16)]},
        "attempt 1 of went has 2 spans",
    ),
    "another success": (
        {"attempts": [Attempt("went", 1, False), Attempt("kaput", 2, False)]},
        "attempt 1 of went: a failure in the run log, a success in its span",
    ),
    "another end of the run": ({"success": True}, "pipeline:p: a success in the run log, a failure in its span"),
    "an end that lies": (
        {"events": [*EVENTS[:7], event("pipeline_completed", ROOT, "end", status="success")]},
        "the run: a failure in the run log, success in its last event",
    ),
    "a success marked": (
        {"received": [ROOT, replace(WENT, failed=True), SKIPPED, KAPUT, NODE]},
        "task:m.went: a failure in its span's code, and in its attribute status='success'",
    ),
    "a failure unmarked": (
        {"received": [ROOT, WENT, SKIPPED, replace(KAPUT, failed=False), NODE]},
        "task:m.kaput: a success in its span's code, and in its attribute status='ValueError: kaput'",
    ),
    "an end of the wrong type": (
        {"events": [*EVENTS[:6], event("task_completed", KAPUT, "end"), EVENTS[7]]},
        f"the event task_completed ({TRACE}:4444444444444444:end) came once and should never",
    ),
    "an event of no span": (
        {"events": [*EVENTS, event("task_started", NODE, "start")]},
        f"the event task_started ({TRACE}:5555555555555555:start) came once and should never",
    ),
    "two roots": (
        {"received": [ROOT, WENT, SKIPPED, KAPUT, replace(NODE, parent_id="f" * 16)]},
        "the spans are not one trace with one root: the roots are pipeline:p, map:each",
    ),
    "two traces": (
        {
            "received": [*SPANS[:4], replace(NODE, trace_id="b" * 32)],
            "sent": [*AGREES.sent[:4], SentSpan("b" * 32, NODE.span_id, NODE.name)],
        },
        "the spans are not one trace with one root",
    ),
}


@pytest.mark.parametrize(("change", "said"), BROKEN.values(), ids=BROKEN)
def test_disagreement(change: dict[str, Any], said: str) -> None:
    """Whatever one witness says otherwise, once too often or not at all is a disagreement that a sentence names."""
    wrong = disagreements(replace(AGREES, **change))
    assert any(said in line for line in wrong), wrong
    assert not any("\n" in line for line in wrong)


def test_a_process_that_ends_otherwise(tmp_path: Path) -> None:
    """An exit code that a run should not have is a failure of the demo, also where all counts agree."""
    code = """
import runnable_otel.demo as demo

demo._RUNS = (demo._Run("streams", lambda stage: iter([(stage.python("answer.py"), 3)])),)
sys.exit(demo.main([]))
"""
    done = demo(tmp_path / "home", code=code)
    assert (done.returncode, done.stderr) == (1, "")
    assert "They do not agree:\n  run 1: python answer.py exited with 0; 3 was expected\n" in done.stdout


def test_split() -> None:
    """The spans that the console exporter wrote are found between all else, wherever it was written."""
    inside = '{\n "name": "e",\n "context": {}}'
    span = f'{{\n    "name": "task:x",\n    "context": {{"span_id": "0x1"}},\n    "events": [{inside}]\n}}\n'
    other = '{ "name": "no span"}\n{\n    "name": broken\nlast\n'
    spans, rest = split(f"no line end{span}{span}{other}")
    assert [each["name"] for each in spans] == ["task:x", "task:x"]
    assert rest == f"no line end{other}"


# --- the page, in a terminal -----------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_the_page_in_a_terminal(tmp_path: Path) -> None:
    """In a terminal the demo opens the user's browser at a page that has the runs, and stays until Ctrl-C; the counts
    are the same as without."""
    for module in ("starlette", "uvicorn", "httptools", "httpx"):
        pytest.importorskip(module, reason=f"needs {module}")
    import httpx

    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    browser.chmod(0o755)
    with terminal(tmp_path / "home", BROWSER=f"{browser} %s") as process:
        before = process.read_until("The page stays until Ctrl-C: ")
        address = process.read_until("\n").strip()
        assert "They agree: each span, event and attempt is there exactly once." in before
        assert "in all: 25 spans sent, 25 received; 18 start, 18 end, 1 skip events; 14 attempts" in before
        opened = (tmp_path / "opened").read_text().strip()
        assert f"The page, as it happens (in your browser): {opened}" in before
        base, code = address.split("#code=")
        assert opened.split("#code=")[0] == base
        with httpx.Client(base_url=base, trust_env=False) as client:
            assert "<title>" in client.get("/", headers={"Accept": "text/html"}).text
            token = client.post("/token", json={"code": code}).json()["token"]
            runs = client.get("/runs", headers={"Authorization": f"Bearer {token}"}).json()["runs"]
        assert sorted((run["name"], run["status"]) for run in runs) == [
            ("answer.main", "success"),
            ("orders.main", "success"),
            ("restock.main", "error"),
            ("restock.main", "success"),
        ]
        process.interrupt()
        assert process.wait() == 0


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_no_page(tmp_path: Path) -> None:
    """`--no-page`: a terminal gets what a file gets, and the demo ends by itself."""
    with terminal(tmp_path / "home", "--no-page") as process:
        shown = process.read_until(None)
        assert process.wait() == 0
    assert "They agree" in shown
    assert "The page" not in shown


class Terminal:
    """The demo in a pseudo-terminal."""

    def __init__(self, folder: Path, *arguments: str, **variables: str) -> None:
        folder.mkdir()
        self._leader, follower = os.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "runnable_otel", "demo", *arguments],
            cwd=folder,
            env=environment(folder, HOME=str(folder), COLUMNS="80", PYTHONIOENCODING="utf-8", **variables),
            stdin=subprocess.DEVNULL,
            stdout=follower,
            stderr=follower,
        )
        os.close(follower)
        self._read = ""

    def read_until(self, text: str | None) -> str:
        """What comes until that text; until the end where it is None."""
        while text is None or text not in self._read:
            assert select.select([self._leader], [], [], 300)[0], self._read
            try:
                more = os.read(self._leader, 65536)
            except OSError:  # Linux says so at the end
                more = b""
            if not more:
                assert text is None, self._read
                return self._read
            self._read += more.decode("utf-8", "replace").replace("\r\n", "\n")
        before, _, self._read = self._read.partition(text)
        return before

    def interrupt(self) -> None:
        """What Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)

    def wait(self) -> int:
        """Its exit code."""
        return self._process.wait(60)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._leader)


@contextmanager
def terminal(folder: Path, *arguments: str, **variables: str) -> Iterator[Terminal]:
    with closing(Terminal(folder, *arguments, **variables)) as made:
        yield made

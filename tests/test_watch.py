"""`runnable-otel watch URL`: a run of a real server, in a pipe and in a terminal, and what becomes of it in between."""

from __future__ import annotations

import http.server
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.piecemeal import Piecemeal
from support.project import Project, environment
from support.serve import TIME, TOKEN, Serve, completed, done, started, task, trace_id, whole_run
from support.waiting import free_port
from support.watch import opened, piped, terminal, timeless

CLOCK = TIME[11:19]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """A server in memory; each test has a trace of its own."""
    with Serve(tmp_path_factory.mktemp("server")) as server:
        yield server


# --- which run


def test_a_run_that_is_over(server: Serve, tmp_path: Path) -> None:
    """In a pipe each start and end is a line, in order, in plain text; the exit code says that it succeeded."""
    server.send(*whole_run(2, trace=10))
    seen = piped(tmp_path, server.url, "run-10")
    assert (seen.returncode, seen.stderr) == (0, "")
    assert seen.stdout.splitlines() == [
        "-- live",
        f"{CLOCK} pipeline:n (run-10) started",
        *[f"{CLOCK} task:n {word}" for word in ("started", "completed [0ms]") * 2],
        f"{CLOCK} pipeline:n (run-10) completed [0ms]",
        "-- finished",
    ]


@pytest.mark.parametrize(("status", "code"), [("success", 0), ("error", 1), ("cancelled", 1)])
def test_exit_codes(server: Serve, tmp_path: Path, status: str, code: int) -> None:
    """0 for a run that succeeded, 1 for one that failed, with its error, or was cancelled."""
    trace = 20 + len(status)
    server.send(started(trace), {**completed(trace, error="ValueError: kaput"), "status": status})
    seen = piped(tmp_path, server.url, f"run-{trace}")
    assert seen.returncode == code
    assert ("ValueError: kaput" in seen.stdout) == (code == 1)


def test_how_a_run_is_named(server: Serve, tmp_path: Path) -> None:
    """By run id, trace id, the address of its page, or of its stream; without a name it is the newest one."""
    server.send(*whole_run(1, trace=30))
    server.send(*[{**each, "time": "2099-01-01T00:00:00.000000Z"} for each in whole_run(1, trace=31)])
    trace = trace_id(30)
    for words in ((server.url, "run-30"), (server.url, trace), (f"{server.url}/runs/{trace}",),
                  (f"{server.url}/runs/{trace}/events",)):  # fmt: skip
        seen = piped(tmp_path, *words)
        assert (seen.returncode, "run-30" in seen.stdout) == (0, True), seen
    assert "run-31" in piped(tmp_path, server.url).stdout


def test_each_run_of_a_trace(server: Serve, tmp_path: Path) -> None:
    """Two runs one after the other below one TRACEPARENT are found by the run id of each: the trace, with both."""
    second = {"run_id": "second", "span_id": f"{99:016x}"}
    edges = [
        {**each, **second, "uid": f"{each['trace_id']}:{second['span_id']}:{edge}"}
        for each, edge in ((started(35), "start"), (completed(35), "end"))
    ]
    for each in (*whole_run(1, trace=35), *edges):
        server.send(each)
    with server.client() as client:
        assert client.get("/runs/second").json() == client.get("/runs/run-35").json()
    first, later = (piped(tmp_path, server.url, run_id) for run_id in ("run-35", "second"))
    assert (later.returncode, later.stdout) == (0, first.stdout)
    starts = {f"{CLOCK} pipeline:n ({run_id}) started" for run_id in ("run-35", "second")}
    assert starts < set(later.stdout.splitlines())


def test_ways_to_prove_oneself(server: Serve, tmp_path: Path) -> None:
    """The code of the printed address works once, a token in a file or a variable always; none of them is shown."""
    server.send(*whole_run(1, trace=40))
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    address = f"{server.url}/#code={server.code}"
    first, again, file = (
        piped(tmp_path, *words, "run-40", OTEL_RUNNABLE_WATCH_TOKEN="")
        for words in ((address,), (address,), ("--token-file", "token", server.url))
    )
    assert (first.returncode, again.returncode, file.returncode) == (0, 2, 0)
    assert again.stderr.startswith("runnable-otel watch: the server does not take this code: it works once")
    assert server.code not in again.stderr + first.stdout + first.stderr


def test_next(server: Serve, tmp_path: Path) -> None:
    """`--next` passes over what was there, and takes the first run that comes."""
    server.send(*[{**each, "time": "2099-01-02T00:00:00.000000Z"} for each in whole_run(1, trace=50)])
    with terminal(tmp_path, "--next", server.url) as shown:
        shown.until("waiting for a run")
        server.send(started(51, name="fresh"))
        shown.until("pipeline:fresh")
        server.send(completed(51, name="fresh"))
        assert shown.wait() == 0


def test_a_run_as_it_happens(server: Serve, project: Project) -> None:
    """A real pipeline that sends its events to the server: the tree grows while it runs, and ends with the run."""
    with terminal(project.folder, "--next", server.url) as shown:
        shown.until("waiting for a run")
        environ = environment(project.folder, PIPELINE="slow_fails", RUNNABLE_OTEL_SINKS=f"otlp:{server.otlp}")
        with subprocess.Popen(
            [project.python, "pipelines.py"], cwd=project.folder, env=environ, stdout=subprocess.DEVNULL
        ) as run:
            shown.until("live · 1 running, 1 completed, 1 waiting")
            assert shown.wait() == 1
            assert run.wait() == 0
    assert [line for line in timeless(shown.screen) if "puts" not in line] == [
        "pipeline:slow",
        "├── task:tasks.slow",
        "├── task:tasks.slower",
        "└── task:tasks.kaput",
        "    └── status: ValueError: kaput",
        "finished",
    ]


# --- where there is none


@pytest.mark.parametrize(
    ("words", "token", "said"),
    [
        (["{url}", "no\x1b[2Jsuch"], TOKEN, "{url} has no run 'no\\x1b[2Jsuch'"),
        (["{url}"], "wrong", "the server wants a token, or another one: set OTEL_RUNNABLE_WATCH_TOKEN, name a"),
        (["{url}"], "", "the server wants a token, or another one: set OTEL_RUNNABLE_WATCH_TOKEN, name a"),
        (["{url}"], "two words", "what OTEL_RUNNABLE_WATCH_TOKEN holds is no token"),
        (["{url}/elsewhere"], TOKEN, "{url}/elsewhere is no server of runnable-otel's"),
        (["127.0.0.1:8765"], "", "expected a URL such as http://127.0.0.1:8765/#code=…"),
        (["http://127.0.0.1:secret/"], "", "expected a URL such as http://127.0.0.1:8765/#code=…"),
        (["http://[secret/"], "", "expected a URL such as http://127.0.0.1:8765/#code=…"),
        (["http://me:secret@127.0.0.1/"], "", "a token belongs into OTEL_RUNNABLE_WATCH_TOKEN or --token-file"),
        (["http://127.0.0.1/?token=secret"], "", "a token belongs into OTEL_RUNNABLE_WATCH_TOKEN or --token-file"),
        (["http://a..b/"], "", "a..b is no name of a host"),
        (["--token-file", "none", "{url}"], "", "--token-file none: No such file or directory"),
        (["{url}", "run", "more"], "", "there is more than URL and RUN; a COMMAND stands behind --"),
        (["--next", "--", "true"], "", "a COMMAND is watched without URL, RUN, --next and --token-file"),
        (["--"], "", "there is no COMMAND"),
    ],
)
def test_what_is_wrong(server: Serve, tmp_path: Path, words: list[str], token: str, said: str) -> None:
    """Takes one line, which names it and what to do, shows no secret, and exits with 2."""
    seen = piped(tmp_path, *[word.replace("{url}", server.url) for word in words], OTEL_RUNNABLE_WATCH_TOKEN=token)
    assert (seen.returncode, seen.stdout, len(seen.stderr.splitlines())) == (2, "", 1)
    assert seen.stderr.startswith("runnable-otel watch: " + said.replace("{url}", server.url))
    assert "secret" not in seen.stderr
    assert "wrong" not in seen.stderr


def test_no_server(tmp_path: Path) -> None:
    """Where nobody answers, a few seconds are enough: one line that says where, and exit code 2; on a screen, too."""
    url = f"http://127.0.0.1:{free_port()}"
    with terminal(tmp_path, url, columns=100) as shown:
        shown.until("connecting (connection refused)")
        assert shown.wait() == 2
        assert shown.scrolled == [f"runnable-otel watch: no server answers at {url}: connection refused"]


def test_a_server_that_comes_up_late(tmp_path: Path) -> None:
    """Both may be started at once: the watcher waits for the server."""
    port = str(free_port())
    watcher = opened(tmp_path, f"http://127.0.0.1:{port}")
    assert watcher.stdout is not None
    assert watcher.stdout.readline() == "-- connecting (connection refused)\n"
    with Serve(tmp_path, "--port", port) as server:
        server.send(*whole_run(1))
        rest = watcher.communicate(timeout=60)[0]
    assert watcher.returncode == 0
    assert rest.endswith("completed [0ms]\n-- finished\n")


# --- lost and found


def test_a_server_that_is_killed(tmp_path: Path) -> None:
    """Over two kills of a server that keeps its runs, each start and end is told once, and the run's end is the end."""
    port, tasks = str(free_port()), 4
    options = "--db", "runs.db", "--port", port
    told = []
    with Serve(tmp_path, *options) as server:
        server.send(started(), task(0))
        watcher = opened(tmp_path, server.url, "run-1")
        assert watcher.stdout is not None
        while not (told and "task" in told[-1]):
            told.append(watcher.stdout.readline())
        server.stop(signal.SIGKILL)
    for number in range(tasks - 1):
        while not told[-1].startswith("-- reconnecting"):
            told.append(watcher.stdout.readline())
            assert told[-1], told
        with Serve(tmp_path, *options) as server:
            server.send(done(number), task(number + 1))
            while "task:n started" not in told[-1]:
                told.append(watcher.stdout.readline())
            if number == tasks - 2:
                server.send(done(tasks - 1), completed())
                told += watcher.communicate(timeout=60)[0].splitlines(keepends=True)
            else:
                server.stop(signal.SIGKILL)
    assert watcher.returncode == 0
    facts = [line for line in timeless([line.rstrip("\n") for line in told]) if not line.startswith("--")]
    assert facts == [
        "pipeline:n (run-1) started",
        *["task:n started", "task:n completed"] * tasks,
        "pipeline:n (run-1) completed",
    ]
    assert "gap" not in "".join(told)


@pytest.mark.live
def test_many_kills(tmp_path: Path) -> None:
    """The same, over twenty kills of the server within five hundred tasks: none missing, none twice, no gap."""
    port, tasks = str(free_port()), 500
    options = "--db", "runs.db", "--port", port
    events = [
        each for number in range(tasks) for each in (task(number, name=f"t{number}"), done(number, name=f"t{number}"))
    ]
    pieces = [[started()], *(events[at : at + 50] for at in range(0, len(events), 50)), [completed()]]
    watcher = None
    for piece in pieces:
        with Serve(tmp_path, *options) as server:
            server.send(*piece)
            watcher = watcher or opened(tmp_path, server.url, "run-1")
            assert watcher.stdout is not None
            if piece is pieces[0]:
                assert "live" in watcher.stdout.readline()
            if piece is not pieces[-1]:
                server.stop(signal.SIGKILL)
            else:
                told = timeless(watcher.communicate(timeout=120)[0].splitlines())
    assert watcher is not None
    assert watcher.returncode == 0
    assert [line for line in told if line.startswith("task:")] == [
        f"task:t{number} {word}" for number in range(tasks) for word in ("started", "completed")
    ]
    assert "gap" not in "".join(told)


def test_a_server_that_forgets(tmp_path: Path) -> None:
    """A server that kept its runs in memory and was started anew: the watcher says that there is a gap, and goes on."""
    port = str(free_port())
    with Serve(tmp_path, "--port", port) as server:
        server.send(started(), task(0))
        with terminal(tmp_path, server.url, "run-1") as shown:
            shown.until("live · 1 running")
            server.stop()
            shown.until("reconnecting (")
            with Serve(tmp_path, "--port", port) as another:
                another.send(task(0), done(0), task(1))
                shown.until("1 running, 1 completed")
                shown.until("gap: ")
                another.send(done(1), completed())
                assert shown.wait() == 0
                assert "finished, gap: " in shown.screen[-1]
                assert "events are lost" in shown.screen[-1]


def test_a_stream_in_pieces(tmp_path: Path) -> None:
    """Frames of any shape, a byte at a time and cut in their midst: what was whole is told, and not asked for again."""
    Piecemeal.asked.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Piecemeal) as other:
        threading.Thread(target=other.serve_forever).start()
        try:
            seen = piped(tmp_path, f"http://127.0.0.1:{other.server_port}", "run-1")
        finally:
            other.shutdown()
    assert seen.returncode == 0
    assert [line for line in timeless(seen.stdout.splitlines()) if not line.startswith("--")] == [
        "pipeline:n (run-1) started",
        "task:n started",
        "task:n completed",
        "pipeline:n (run-1) completed",
    ]
    assert Piecemeal.asked[0] == ""
    assert Piecemeal.asked == sorted(set(Piecemeal.asked), key=["", "one", "two", "three"].index)
    assert Piecemeal.asked[-1] == "three"

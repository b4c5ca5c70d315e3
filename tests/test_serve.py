"""The command `runnable-otel serve`: what it prints, what it refuses, and how it ends."""

from __future__ import annotations

import json
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.project import Project, environment
from support.web import skip_without

skip_without("starlette", "uvicorn", "httptools", "httpx", "psutil")

import httpx  # noqa: E402 - it may be missing

from runnable_otel.server.options import OFF, Options, is_loopback  # noqa: E402
from runnable_otel.settings import SettingError  # noqa: E402
from support.serve import TOKEN, Serve, started, task  # noqa: E402


def refused(folder: Path, *options: str, **variables: str) -> tuple[int, str]:
    """The exit code and what it says of a server that must not start."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "runnable_otel",
            "serve",
            "--port",
            "0",
            "--otlp-http-port",
            "0",
            "--otlp-grpc-port",
            "off",
            *options,
        ],
        env=environment(folder, **variables),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    return done.returncode, done.stderr


def test_what_it_prints(tmp_path: Path) -> None:
    """The page's address with a one-time code in its fragment, and what to set for a pipeline; no token."""
    with Serve(tmp_path, RUNNABLE_OTEL_SERVE_INGEST_TOKEN="writers-secret") as server:
        assert re.match(r"runnable-otel serve: http://127\.0\.0\.1:\d+/#code=[\w-]{20,}\n", server.said)
        assert "export OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:" in server.said
        assert "export RUNNABLE_OTEL_SINKS=otlp:" in server.said
    assert TOKEN not in "".join(server.lines)
    assert "writers-secret" not in "".join(server.lines)


@pytest.mark.parametrize("grpc", [True, False])
def test_a_pipeline_with_what_it_prints(tmp_path: Path, project: Project, grpc: bool) -> None:
    """A real pipeline with the printed variables shows as one finished run, by spans and by events."""
    with Serve(tmp_path, "--otlp-grpc-port", "0" if grpc else "off") as server, server.client() as client:
        exported = dict(re.findall(r"export (\w+)=(\S+)", server.said))
        project.pipeline("python", **exported)
        (run,) = client.get("/runs").json()["runs"]
        assert (run["kind"], run["status"]) == ("pipeline", "success")
        with server.stream(f"/runs/{run['trace_id']}/events") as stream:
            found = [json.loads(data) for event, data, _ in stream.frames() if event == "message"]
    kinds = [each["type"] for each in found]
    assert kinds.count("pipeline_started") == kinds.count("pipeline_completed") == 1
    assert kinds.count("task_started") == kinds.count("task_completed") == run["tasks"]["completed"] > 0
    assert len({each["uid"] for each in found}) == len(found)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ends_at_once(tmp_path: Path, number: int) -> None:
    """With 100 streams open, some of them stalled, it ends with exit code 0; each client sees the end of its stream."""
    with Serve(tmp_path) as server:
        server.send(started(1))
        streams = [server.stream("/runs/run-1/events") for _ in range(100)]
        opened = [stream.__enter__() for stream in streams]
        for stream in opened:
            assert stream.uids(1)
        for first in range(0, 2000, 100):  # more than all buffers: none of them reads
            server.send(*[task(number, inputs={"x": "x" * 3000}) for number in range(first, first + 100)])
        before = time.monotonic()
        assert server.stop(number) == 0
        took = time.monotonic() - before
        for stream in streams:
            stream.__exit__(None, None, None)
    assert "Traceback" not in "".join(server.lines)
    assert "ERROR" not in "".join(server.lines)
    assert took < 10  # how long it takes is measured by benchmarks/bench_serve.py


def test_port_in_use(tmp_path: Path) -> None:
    """A port that is taken: one line that names the port and the option, and exit code 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for option in ("--port", "--otlp-http-port", "--otlp-grpc-port"):
            code, said = refused(tmp_path, option, port)
            assert code == 1
            assert f"port {port} is in use" in said
            assert option in said
            assert "RUNNABLE_OTEL_SERVE_" in said


def test_a_name_that_is_none(tmp_path: Path) -> None:
    """A host that no resolver is asked for: one line, and exit code 1."""
    tokens = {"RUNNABLE_OTEL_SERVE_TOKEN": "0123456789abcdef", "RUNNABLE_OTEL_SERVE_INGEST_TOKEN": "fedcba9876543210"}
    code, said = refused(tmp_path, "--host", "a..b", **tokens)
    assert code == 1
    assert "can't listen on a..b" in said
    assert "--host" in said


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])
def test_other_machines_need_tokens(tmp_path: Path, host: str) -> None:
    """An address that other machines reach is refused without both tokens, or with short ones."""
    long = "0123456789abcdef"
    for variables in (
        {},
        {"RUNNABLE_OTEL_SERVE_TOKEN": long},
        {"RUNNABLE_OTEL_SERVE_INGEST_TOKEN": long},
        {"RUNNABLE_OTEL_SERVE_TOKEN": long, "RUNNABLE_OTEL_SERVE_INGEST_TOKEN": "short"},
    ):
        code, said = refused(tmp_path, "--host", host, **variables)
        assert code == 1
        assert "TOKEN" in said
        assert long not in said


def test_all_addresses(tmp_path: Path) -> None:
    """With both tokens it listens for other machines; its names are still the only ones, unless one is added."""
    tokens = {"RUNNABLE_OTEL_SERVE_TOKEN": "0123456789abcdef", "RUNNABLE_OTEL_SERVE_INGEST_TOKEN": "fedcba9876543210"}
    with Serve(tmp_path, "--host", "0.0.0.0", "--allowed-host", "live.example", **tokens) as server:
        url = f"http://127.0.0.1:{server.port}"
        for host, status in (("live.example:1", 401), ("localhost", 401), ("other.example", 403)):
            assert httpx.get(f"{url}/runs", headers={"Host": host}, trust_env=False).status_code == status
        assert server.send(started(1), url=url).status_code == 401


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--port", "x"),
        ("--port", "off"),
        ("--port", "65536"),
        ("--port", "0000000999999"),
        ("--otlp-grpc-port", "-2"),
        ("--base-path", "live"),
        ("--base-path", "/a b"),
        ("--cors", "dash.example"),
        ("--cors", "https://user:secret@dash.example"),
        ("--cors", "https://dash.example/"),
        ("--cors", "https://dash.example:none"),
        ("--cors", "https://dash.example:65536"),
        ("--cors", "https://*"),
        ("--cors", "https://dash.example\\c"),
        ("--cors", "http://["),
        ("--allowed-host", "live.example:80"),
        ("--allowed-host", "*"),
        ("--retain-runs", "0"),
        ("--host", "http://localhost"),
    ],
)
def test_bad_options(tmp_path: Path, option: str, value: str) -> None:
    """A value out of range: one line that names the option, the value and what is allowed, and exit code 2."""
    code, said = refused(tmp_path, option, value)
    assert code == 2
    assert f"{option}=" in said
    assert "expected" in said
    assert "secret" not in said


def test_bad_variables(tmp_path: Path) -> None:
    """The same for a variable, which is named as it is; a bad token is not shown."""
    assert "RUNNABLE_OTEL_SERVE_RETAIN_RUNS='x'" in refused(tmp_path, RUNNABLE_OTEL_SERVE_RETAIN_RUNS="x")[1]
    code, said = refused(tmp_path, RUNNABLE_OTEL_SERVE_TOKEN="two words")
    assert code == 2
    assert "RUNNABLE_OTEL_SERVE_TOKEN" in said
    assert "two words" not in said


def test_options_read() -> None:
    """Argument before variable before default; lists are comma-separated in a variable."""
    environ = {
        "RUNNABLE_OTEL_SERVE_PORT": "1",
        "RUNNABLE_OTEL_SERVE_OTLP_HTTP_PORT": "off",
        "RUNNABLE_OTEL_SERVE_ALLOWED_HOSTS": "a.example, B.example",
        "RUNNABLE_OTEL_SERVE_BASE_PATH": "/live/",
        "RUNNABLE_OTEL_SERVE_CORS": "https://Dash.example:443, http://[::1]:8080",
    }
    options = Options.read(environ, port=2)
    assert (options.port, options.otlp_http_port, options.otlp_grpc_port) == (2, OFF, 4317)
    assert (options.allowed_hosts, options.base_path) == (("a.example", "b.example"), "/live")
    assert options.cors == ("https://dash.example", "http://[::1]:8080")
    with pytest.raises(SettingError, match="port='x'"):
        Options.read({}, port="x")


def test_help_names_all_options() -> None:
    """`--help` says what each option is, and its default."""
    done = subprocess.run(
        [sys.executable, "-m", "runnable_otel", "serve", "--help"], capture_output=True, text=True, check=True
    )
    for option in ("--port", "--db", "--allowed-host", "--otlp-grpc-port", "--ingest-token", "--retain-runs"):
        assert f"{option} " in done.stdout
    assert "(8765)" in done.stdout


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("localhost", True), ("::ffff:1.2.3.4", False)]
    + [(host, False) for host in ("0.0.0.0", "::", "10.0.0.1", "localhost.example", "", "1", "127.0.0.1.example")],
)
def test_loopback(host: str, expected: bool) -> None:
    """Only this machine's own addresses are."""
    assert is_loopback(host) is expected


def test_more_files_than_the_default(tmp_path: Path) -> None:
    """A soft limit of files, as a shell has it, does not limit the streams."""
    with Serve(tmp_path) as server:
        soft, hard = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        assert soft >= min(hard, 10_000)

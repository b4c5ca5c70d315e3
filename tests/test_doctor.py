"""`runnable-otel doctor`, as a real process against real endpoints."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import socket
from threading import Thread

import pytest

from support.project import environment
from support.receiver import Receiver
from support.waiting import free_port

LAUNCHER = Path(sysconfig.get_path("scripts")) / "opentelemetry-instrument"


def doctor(folder: Path, *arguments: str, launcher: bool = False, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run it in a bare environment."""
    command = [sys.executable, "-m", "runnable_otel", "doctor", *arguments]
    if launcher:
        command = [str(LAUNCHER), *command]
    env = environment(folder, **variables)
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)


def lines(done: subprocess.CompletedProcess[str], level: str) -> list[str]:
    """What it says of that level."""
    found = [line.split(None, 1) for line in done.stdout.splitlines() if line]
    return [says for mark, says in found if mark == level]


def without_http(folder: Path) -> str:
    """A folder for PYTHONPATH, with which OTLP over HTTP is not installed."""
    (folder / "hidden").mkdir()
    (folder / "hidden" / "sitecustomize.py").write_text(
        "import sys\nsys.modules['opentelemetry.exporter.otlp.proto.http'] = None\n"
    )
    return str(folder / "hidden")


def script(folder: Path, body: str) -> str:
    (folder / "setup_at_top.py").write_text(textwrap.dedent(body))
    return "setup_at_top.py"


@contextmanager
def answering(status: int) -> Iterator[str]:
    """An HTTP server that answers each POST with one status."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_all_is_well(tmp_path: Path, receiver: Receiver) -> None:
    """With an endpoint that answers, every line is ok, it says whose the provider is, and it exits with 0."""
    done = doctor(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc, RUNNABLE_OTEL_SINKS="otlp:,memory:")
    assert (done.returncode, lines(done, "wrong")) == (0, []), done.stdout
    assert "provider: is ours, made for this environment" in lines(done, "ok")
    assert sum("answers, in" in line for line in lines(done, "ok")) == 2
    assert "nothing is wrong" in done.stdout
    assert (receiver.spans, receiver.logs) == ([], [])  # the requests were empty


def test_nothing_is_set(tmp_path: Path) -> None:
    """Without any variable there is nothing wrong: it says which ones would switch a plain run on."""
    done = doctor(tmp_path)
    assert done.returncode == 0
    (line,) = [line for line in lines(done, "note") if line.startswith("settings")]
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in line


def test_nobody_listens(tmp_path: Path) -> None:
    """A refused endpoint, of spans and of events, is named in a line each, and the exit code is 1."""
    place = f"127.0.0.1:{free_port()}"
    done = doctor(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{place}", RUNNABLE_OTEL_SINKS=f"otlp:http://{place}")
    assert done.returncode == 1
    assert [line.split(" (")[0] for line in lines(done, "wrong")] == [
        f"spans to {place}: nobody listens there",
        f"events to otlp:http://{place}: nobody listens there",
    ]
    assert done.stderr == "🏃 Lets go!!\n"  # the exporters' own log lines are in ours


def test_never_answers(tmp_path: Path) -> None:
    """An endpoint that takes the connection and says nothing holds nobody."""
    with socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        place = f"127.0.0.1:{listener.getsockname()[1]}"
        done = doctor(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{place}")
    assert done.returncode == 1
    (line,) = lines(done, "wrong")
    assert line.startswith(f"spans to {place}: no answer")


@pytest.mark.parametrize("digits", ["401", "403", "404"])
def test_the_other_protocol(tmp_path: Path, digits: str) -> None:
    """gRPC to a port that speaks HTTP: it names the variable that says which, whatever the port's number reminds of."""
    with Receiver(http=port_with(digits)) as receiver:
        done = doctor(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.http)
    (line,) = lines(done, "wrong")
    assert "see OTEL_EXPORTER_OTLP_PROTOCOL" in line


def port_with(digits: str) -> int:
    """A free port with these digits in its number."""
    for port in (int(f"{first}{digits}") for first in range(20, 60)):
        with socket() as tried, suppress(OSError):
            tried.bind(("127.0.0.1", port))
            return port
    raise AssertionError(f"no port with {digits} is free")


def test_wants_credentials(tmp_path: Path) -> None:
    """401 and 403 are about the headers."""
    for status in (401, 403):
        with answering(status) as url:
            done = doctor(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf")
        (line,) = lines(done, "wrong")
        assert "OTEL_EXPORTER_OTLP_HEADERS" in line


def test_duplicate_exporters(tmp_path: Path, receiver: Receiver) -> None:
    """Two exporters to one place, of either protocol: each span would arrive twice."""
    body = f"""
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint={receiver.grpc!r})))
        provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint={receiver.grpc!r})))
        trace.set_tracer_provider(provider)
        """
    done = doctor(tmp_path, script(tmp_path, body), RUNNABLE_TELEMETRY_CONSOLE="true")
    assert done.returncode == 1
    (line,) = lines(done, "wrong")
    assert line.startswith(f"exporters: 2 send each span to {receiver.grpc.removeprefix('http://')}")
    assert any(line.startswith("provider: is the global one") for line in lines(done, "ok"))


def test_under_the_launcher(tmp_path: Path, receiver: Receiver) -> None:
    """Under `opentelemetry-instrument` it sees what that set up."""
    done = doctor(tmp_path, launcher=True, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    assert done.returncode == 0, done.stdout
    assert any("answers, in" in line for line in lines(done, "ok"))


def test_threads_before_a_fork(tmp_path: Path) -> None:
    """A thread that the file starts at its top level is in danger where pools fork: a warning, and no error."""
    body = """
        import multiprocessing
        from threading import Event, Thread

        multiprocessing.set_start_method("fork")
        Thread(target=Event().wait, name="of-mine", daemon=True).start()
        """
    done = doctor(tmp_path, script(tmp_path, body))
    assert done.returncode == 0
    (line,) = lines(done, "warning")
    assert line.startswith("pools: fork")
    assert "of-mine" in line


def test_settings_out_of_range(tmp_path: Path) -> None:
    """A value out of range is named, with what is allowed; the value of a secret is not."""
    done = doctor(tmp_path, RUNNABLE_OTEL_CAPTURE="everything", RUNNABLE_TELEMETRY_CONSOLE="true")
    assert done.returncode == 1
    assert any("RUNNABLE_OTEL_CAPTURE='everything': expected values, keys or none" in x for x in lines(done, "wrong"))
    done = doctor(tmp_path, RUNNABLE_OTEL_SINKS="nope:,udp://me:hunter2@host")
    assert done.returncode == 1
    assert "hunter2" not in done.stdout + done.stderr


def test_a_provider_that_can_not_be_made(tmp_path: Path) -> None:
    """The line says why, as a run does: a protocol or an exporter that is not installed."""
    endpoint, hidden = "http://127.0.0.1:1", without_http(tmp_path)
    done = doctor(
        tmp_path, PYTHONPATH=hidden, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf"
    )
    (line,) = lines(done, "wrong")
    assert line.startswith("provider: could not be made: OTEL_EXPORTER_OTLP_PROTOCOL='http/protobuf': ")
    assert line.endswith("pip install 'runnable-otel[http]'")
    done = doctor(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_TRACES_EXPORTER="zipkin")
    (line,) = lines(done, "wrong")
    assert line.startswith("provider: could not be made: OTEL_TRACES_EXPORTER='zipkin': expected one of ")


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("RUNNABLE_OTEL_CAPTURE", "all", "RUNNABLE_OTEL_CAPTURE='all': expected values, keys or none"),
        ("RUNNABLE_OTEL_ENABLED", "No", "RUNNABLE_OTEL_ENABLED is No"),
        (
            "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS",
            "redis,runnable",
            "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS names runnable",
        ),
    ],
)
def test_telemetry_is_off(tmp_path: Path, receiver: Receiver, variable: str, value: str, why: str) -> None:
    """Why it is off is said once, and no line looks at where nothing goes."""
    variables = {variable: value, "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.grpc, "RUNNABLE_OTEL_SINKS": "otlp:"}
    done = doctor(tmp_path, launcher=False, RUNNABLE_OTEL_SPOOL="spool", **variables)
    assert (done.returncode, lines(done, "wrong")) == (1, [f"settings: telemetry is off: {why}"])
    about = {line.split(":")[0].split(" ")[0] for line in lines(done, "ok") + lines(done, "note")}
    assert not about & {"settings", "provider", "spans", "events", "spool"}


def test_an_unusable_spool(tmp_path: Path) -> None:
    """A folder in which nothing can be kept is wrong; one that is not there yet is none, and stays so."""
    (tmp_path / "file").touch()
    for name in ("file", "file/below", "/proc/nowhere/spool"):
        done = doctor(tmp_path, RUNNABLE_OTEL_SPOOL=name)
        (line,) = lines(done, "wrong")
        assert line.startswith(f"spool: nothing can be kept in {tmp_path / name}: ")
        assert done.returncode == 1
    done = doctor(tmp_path, RUNNABLE_OTEL_SPOOL="new/spool")
    assert f"spool: {tmp_path / 'new' / 'spool'}" in lines(done, "ok")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file"]


def test_nothing_goes_to_logfire(tmp_path: Path) -> None:
    """A token without OTLP over HTTP is wrong, in the words that a run has for it; with it nothing is sent there."""
    token = "pylf_v1_eu_abcdefgh"
    done = doctor(tmp_path, PYTHONPATH=without_http(tmp_path), LOGFIRE_TOKEN=token)
    (line,) = lines(done, "wrong")
    assert line.startswith("logfire: nothing is sent to it: LOGFIRE_TOKEN=")
    assert line.endswith("pip install 'runnable-otel[http]'")
    done = doctor(tmp_path, LOGFIRE_TOKEN=token)
    assert (done.returncode, lines(done, "wrong")) == (0, [])
    assert token not in done.stdout + done.stderr


def test_bad_input(tmp_path: Path) -> None:
    """No such file: one line, exit code 2. A file that raises or exits is a finding, with its words on one line."""
    done = doctor(tmp_path, "nowhere.py")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "runnable-otel doctor: nowhere.py: no such file\n"
    for body, said in (("raise ValueError('a\\n\\x1b[31mb')", "ValueError: a �[31mb"), ("exit(3)", "SystemExit: 3")):
        done = doctor(tmp_path, script(tmp_path, body))
        assert done.returncode == 1
        assert f"import FILE: {said}" in lines(done, "wrong")

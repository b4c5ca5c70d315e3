"""`otlp:`: what a real receiver gets is what the caller's queue got."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from runnable_otel.events import Event, rfc3339
from runnable_otel.settings import SettingError
from runnable_otel.sinks import open_sink
from runnable_otel.sinks.otlp import OtlpSink
from runnable_otel.worker import Counts, Worker
from support.project import Project, environment
from support.receiver import ReceivedLog, Receiver
from support.waiting import free_port, wait_until
from test_worker import LONG, check, queue_of

TOKEN = "t0ken-of-the-sink"


def event(number: int = 1, kind: str = "task_completed", **fields: Any) -> Event:
    ids = {"trace_id": f"{number + 1:032x}", "span_id": f"{number + 2:016x}"}
    common = {"name": "näme", "time": rfc3339(1_795_470_000_123_456_000), "run_id": "run", "step": "one", **ids}
    return Event(kind, f"uid:{number}", {**common, **fields})


def compare(logs: list[ReceivedLog], queued: list[dict[str, Any]]) -> None:
    """The records are the events: each once, in order, same JSON, with the ids and attributes of the contract."""
    assert [json.loads(log.body) for log in logs] == queued
    assert max(Counter(log.attributes["uid"] for log in logs).values()) == 1
    seen: set[str] = set()
    for log, sent in zip(logs, queued, strict=True):
        assert log.name == f"runnable.{sent['type']}"
        assert (log.trace, log.span) == (sent["trace_id"], sent["span_id"])
        assert rfc3339(log.time) == sent["time"]
        expected = {"uid": sent["uid"], "run_id": sent["run_id"], "step": sent.get("step")}
        assert log.attributes == {name: value for name, value in expected.items() if value is not None}
        if sent["uid"].endswith(":end"):
            assert sent["uid"].replace(":end", ":start") in seen
        seen.add(sent["uid"])


@pytest.mark.parametrize("sampler", ["always_on", "always_off"])
@pytest.mark.parametrize(("protocol", "name"), [("grpc", "parallel_fails"), ("http/protobuf", "mapped")])
def test_same_as_the_queue(project: Project, receiver: Receiver, protocol: str, name: str, sampler: str) -> None:
    """The events at the receiver are those at the caller's queue, over both protocols, sampled and unsampled."""
    done = project.pipeline(
        name,
        QUEUE="1",
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc if protocol == "grpc" else receiver.http,
        OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
        OTEL_TRACES_SAMPLER=sampler,
        OTEL_SERVICE_NAME="mine",
        RUNNABLE_OTEL_SINKS="otlp:",
        OTEL_RUNNABLE_SINK_TOKEN=TOKEN,
    )
    compare(receiver.logs, queue_of(done.stdout))
    assert bool(receiver.spans) == (sampler == "always_on")
    for span in receiver.spans:
        assert span.resource == receiver.logs[0].resource
    assert receiver.logs[0].resource["service.name"] == "mine"
    assert {log.headers["authorization"] for log in receiver.logs} == {f"Bearer {TOKEN}"}
    assert TOKEN not in done.stdout + done.stderr


def test_another_endpoint(project: Project, receiver: Receiver) -> None:
    """A URL names the endpoint, over HTTP unless told otherwise; spans go where the variables say."""
    with Receiver() as other:
        done = project.pipeline(
            "python", QUEUE="1", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc, RUNNABLE_OTEL_SINKS=f"otlp:{other.http}"
        )
        compare(other.logs, queue_of(done.stdout))
        assert not other.spans
    assert receiver.spans
    assert not receiver.logs


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_an_endpoint_that_is_down(project: Project, protocol: str) -> None:
    """Nobody listens: output and exit code are as ever, and what was lost is said in one line."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        done = project.pipeline(
            "python",
            QUEUE="1",
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            RUNNABLE_OTEL_SINKS=f"otlp:http://{address}",
            OTEL_RUNNABLE_SINK_TOKEN=TOKEN,
        )
    number = len(queue_of(done.stdout))
    (line,) = [line for line in done.stderr.splitlines() if re.search("OtlpSink|xport|lost", line)]
    assert line.startswith(f"not delivered: {number} of {number} events to {address} lost ")
    assert line.endswith(f" (unavailable {number}; last error: connection refused)")
    assert TOKEN not in done.stderr


LATE = """
import atexit, json, sys
from runnable_otel.events import Event
from runnable_otel.sinks.otlp import OtlpSink
from runnable_otel.spool.keeping import KEEPER
from runnable_otel.worker import Worker

def late():
    assert "opentelemetry.sdk._logs" not in sys.modules
    worker = Worker(OtlpSink(sys.argv[1]))
    worker.emit(Event.from_json(sys.argv[2]))
    worker.begin_close()
    worker.close(30)
    counts = worker.counts()
    print(json.dumps([counts.delivered, counts.spooled, dict(counts.dropped)]))

KEEPER.use("spool")
atexit.register(late)
"""
"""Its first event comes when the interpreter shuts down; what makes log records is not imported before."""


def send_late(folder: Path, url: str, protocol: str) -> list[Any]:
    done = subprocess.run(
        [sys.executable, "-c", LATE, url, event().to_json()],
        cwd=folder,
        env=environment(
            folder,
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            OTEL_EXPERIMENTAL_RESOURCE_DETECTORS="runnable,process",
            OTEL_SERVICE_NAME="late",
        ),
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_the_first_event_is_the_last_thing(receiver: Receiver, tmp_path: Path, protocol: str) -> None:
    """It arrives, with its resource, though none of the SDK's resource detectors can have a thread by then."""
    url = f"otlp:{receiver.grpc if protocol == 'grpc' else receiver.http}"
    assert send_late(tmp_path, url, protocol) == [1, 0, {}]
    (log,) = receiver.logs
    assert json.loads(log.body) == event().to_dict()
    assert log.resource["service.name"] == "late"
    assert log.resource["runnable.version"]
    assert log.resource["process.pid"]


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_the_first_event_is_the_last_thing_and_nobody_listens(tmp_path: Path, protocol: str) -> None:
    """It is in the spool."""
    assert send_late(tmp_path, f"otlp:http://127.0.0.1:{free_port()}", protocol) == [0, 1, {}]
    (file,) = (tmp_path / "spool").glob("*.jsonl")
    assert event().uid in file.read_text()


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_counts_when_it_is_down(monkeypatch: pytest.MonkeyPatch, protocol: str) -> None:
    """What a dead endpoint loses is counted to the event, with the reason, and the end does not wait."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        worker = Worker(OtlpSink(f"otlp:http://127.0.0.1:{unused.getsockname()[1]}"))
        for number in range(700):
            worker.emit(event(number))
        assert worker.close(LONG)
    assert check(worker.counts()) == Counts(700, 0, {"unavailable": 700}, 0)
    assert worker._error == "connection refused"


@pytest.mark.parametrize("at", ["the end", "once"])
@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_an_endpoint_that_comes_back(monkeypatch: pytest.MonkeyPatch, protocol: str, at: str) -> None:
    """What an endpoint missed while it was away arrives once it is back, even if the process ends while we wait."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    if at == "once":
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.5")  # the exporter gives up at once; we do not
        monkeypatch.setattr("runnable_otel.worker.PAUSES", (0.05,))
    port = free_port()
    worker = Worker(sink := OtlpSink(f"otlp:http://127.0.0.1:{port}"))
    for number in range(700):
        worker.emit(event(number))
    wait_until(lambda: sink._notes.away)
    with Receiver(**{protocol.partition("/")[0]: port}) as receiver:
        assert at == "the end" or worker.flush(LONG)
        assert worker.close(LONG)
        assert check(worker.counts()) == Counts(700, 700, {}, 0)
        assert [log.attributes["uid"] for log in receiver.logs] == [f"uid:{number}" for number in range(700)]


def test_an_endpoint_that_comes_back_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last try is over a connection of its own, though the user's exporter of spans still waits for the endpoint.

    Channels share a connection, and gRPC's pause after so many failures.
    """
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "60")
    port = free_port()
    spans = OTLPSpanExporter(endpoint=f"http://127.0.0.1:{port}")
    users = threading.Thread(target=spans.export, args=([],))
    worker = Worker(sink := OtlpSink(f"otlp:http://127.0.0.1:{port}"))
    users.start()
    worker.emit(event(1))
    wait_until(lambda: (pause := re.search(r"retrying in ([0-9.]+)s", sink._notes.last)) and float(pause[1]) > 6)
    with Receiver(grpc=port) as receiver:
        assert worker.close(LONG)
        assert check(worker.counts()) == Counts(1, 1, {}, 0)
        assert [log.attributes["uid"] for log in receiver.logs] == ["uid:1"]
        spans.shutdown()
        users.join(LONG)


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_batch_that_is_refused(monkeypatch: pytest.MonkeyPatch, protocol: str) -> None:
    """What an endpoint will never take is not sent again, and is in nobody's way: also at the end."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    with Receiver() as receiver:
        receiver.refused = "uid:0"
        sink = OtlpSink(f"otlp:{receiver.grpc if protocol == 'grpc' else receiver.http}")
        sink.hurry()
        with pytest.raises(RuntimeError, match=r"400|INVALID_ARGUMENT"):
            sink.emit(event(0))
        sink.emit(event(1))
        sink.close()
        assert [log.attributes["uid"] for log in receiver.logs] == ["uid:1"]
        assert receiver.log_batches == [1]


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_batches(receiver: Receiver, monkeypatch: pytest.MonkeyPatch, protocol: str) -> None:
    """Events leave in few requests of at most 512, each once and in order, whatever is in them."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", protocol)
    sink = OtlpSink(f"otlp:{receiver.grpc if protocol == 'grpc' else receiver.http}/")
    worker = Worker(sink)
    for number in range(1500):
        worker.emit(event(number))
    worker.emit(event(1500, "task_error", error="\ud800 \x00 \n", big=2**70))
    worker.emit(Event("chunk", "uid:1501", {"trace_id": "none", "time": 7}))
    assert worker.close(LONG)
    assert check(worker.counts()) == Counts(1502, 1502, {}, 0)
    assert [log.attributes["uid"] for log in receiver.logs] == [f"uid:{number}" for number in range(1502)]
    assert max(receiver.log_batches) <= 512
    assert len(receiver.log_batches) < 150
    assert (receiver.logs[5].trace, receiver.logs[5].span) == (f"{6:032x}", f"{7:016x}")
    hostile, strange = receiver.logs[-2:]
    assert json.loads(hostile.body) == {
        **event(1500).to_dict(),
        "type": "task_error",
        "error": "? \x00 \n",
        "big": 2**70,
    }
    assert hostile.time == 1_795_470_000_123_456_000
    assert (hostile.severity, strange.severity) == (17, 9)
    assert (strange.trace, strange.attributes) == ("", {"uid": "uid:1501"})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")  # that is what is tried
def test_fork(receiver: Receiver) -> None:
    """A forked child sends over a connection of its own, and nothing of the parent's."""
    worker = Worker(sink := OtlpSink(f"otlp:{receiver.http}"))
    worker.emit(event(1))
    assert worker.flush(LONG)
    of_the_parent = sink._exporter
    pid = os.fork()
    if pid == 0:
        worker.emit(event(2))
        os._exit(0 if worker.flush(LONG) and sink._exporter is not of_the_parent else 1)
    assert os.waitpid(pid, 0)[1] == 0
    worker.emit(event(3))
    assert worker.close(LONG)
    assert [log.attributes["uid"] for log in receiver.logs] == ["uid:1", "uid:2", "uid:3"]


def test_headers(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers are those of the variables for logs, and the token beside them."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-all=1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "x-team=a%20b,authorization=old")
    for protocol, endpoint in (("grpc", receiver.grpc), ("http/protobuf", receiver.http)):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", protocol)
        for token, expected in (("", "old"), (TOKEN, f"Bearer {TOKEN}")):
            monkeypatch.setenv("OTEL_RUNNABLE_SINK_TOKEN", token)
            sink = OtlpSink(f"otlp:{endpoint}")
            sink.emit(event())
            sink.close()
            sink.close()
            headers = receiver.logs[-1].headers
            assert (headers["x-team"], headers["authorization"]) == ("a b", expected)
            assert "x-all" not in headers
    assert len(receiver.logs) == 4


def test_others_keep_their_log_lines(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    """While our exporter works, what the user's own exporters say on their threads is still logged."""
    import logging

    sink = OtlpSink(f"otlp:{receiver.http}")
    name = "opentelemetry.exporter.otlp.proto.grpc.exporter"
    with sink._notes:
        logging.getLogger(name).error("ours")
        thread = threading.Thread(target=lambda: logging.getLogger(name).error("theirs"))
        thread.start()
        thread.join(LONG)
    logging.getLogger(name).error("after")
    assert [record.getMessage() for record in caplog.records] == ["theirs", "after"]
    assert sink._notes not in logging.getLogger(name).filters


@pytest.mark.parametrize(
    "url",
    ["otlp:localhost:4318", "otlp:ftp://host", "otlp:http://", "otlp:http://host:port", "otlp:http://u:hunter2@host"],
)
def test_bad_url(url: str) -> None:
    """A URL that names no endpoint is an error that says so, without credentials."""
    with pytest.raises(SettingError, match=r"RUNNABLE_OTEL_SINKS=") as caught:
        open_sink(url)
    assert "hunter2" not in str(caught.value)


def test_bad_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    """A protocol that is not known, or whose package is missing, is one clear line."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
    with pytest.raises(SettingError, match=r"OTEL_EXPORTER_OTLP_PROTOCOL='http/json': expected grpc or http/protobuf"):
        open_sink("otlp:")


def test_http_is_missing(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Without the HTTP exporter one line says what to install, and the pipeline runs."""
    folder = tmp_path_factory.mktemp("hide")
    (folder / "hidden.py").write_text(
        "import importlib.util as u\nfind = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'opentelemetry.exporter.otlp.proto.http' else find(name, *a)\n"
        "import runpy, sys\nsys.path.insert(0, '.')\nrunpy.run_path('pipelines.py', run_name='__main__')\n"
    )
    done = project.command(
        sys.executable,
        str(folder / "hidden.py"),
        check=False,
        PIPELINE="python",
        RUNNABLE_OTEL_SINKS="otlp:http://127.0.0.1:1",
    )
    assert (
        "RUNNABLE_OTEL_SINKS='otlp:http://127.0.0.1:1': "
        "needs opentelemetry-exporter-otlp-proto-http: pip install 'runnable-otel[http]'"
    ) in done.stderr

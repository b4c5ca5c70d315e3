"""The spool: what could not be delivered is kept, bounded and private, and arrives later, at least once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.json.common import trace_encoder as their_encoder
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from runnable_otel.events import Event
from runnable_otel.sinks.otlp_record import record
from runnable_otel.spool import Spool, SpoolFull, claimed
from runnable_otel.spool.keeping import Keeper
from runnable_otel.spool.otlpjson import line_of, records_of, spans_of
from runnable_otel.spool.replaying import replay
from support.hole import Hole, refusing
from support.project import Project, environment
from support.receiver import Receiver
from support.waiting import LONG, free_port

TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"


def spans() -> Any:
    """One of each kind of thing that a span can hold, as the exporters get it."""
    kept = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "mine", "n": 1}, "http://resource"))
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer("scope", "1.2", "http://scope", {"a": True})
    state = trace.TraceState([("a", "b"), ("c", "d")])
    far = trace.SpanContext(2**127 + 5, 2**63 + 7, True, trace.TraceFlags(trace.TraceFlags.SAMPLED), state)
    context = trace.set_span_in_context(trace.NonRecordingSpan(far))
    values = {
        "text": "ä\n\u2028", "whole": -(2**63), "broken": 0.1, "flag": False, "list": ["a", "b"], "numbers": [1, 2],
        "nan": float("nan"), "inf": float("-inf"), "empty": "", "bytes": b"\x00\xff",
    }  # fmt: skip
    with tracer.start_as_current_span("outer", context, kind=trace.SpanKind.CLIENT, attributes=values) as outer:
        outer.add_event("event", {"k": "v"}, timestamp=5)
        links = [trace.Link(far, {"q": 1})]
        with tracer.start_as_current_span("inner", links=links) as inner:
            inner.set_status(trace.StatusCode.ERROR, "bad")
    provider.get_tracer("other").start_span("root").end()
    return kept.get_finished_spans()


def event(number: int = 1) -> Event:
    ids = {"trace_id": f"{number + 1:032x}", "span_id": f"{number + 2:016x}", "time": "2026-11-25T01:02:03.000004Z"}
    return Event("task_completed", f"uid:{number}", {"name": "näme", "run_id": "run", "step": "one", **ids})


def test_spans_as_json_and_back() -> None:
    """A span that comes out of the spool is the one that went in, to the byte of what goes over the wire."""
    request = encode_spans(spans())
    line = line_of(request)
    assert len(spans_of(line)) == 3
    assert b"\n" not in line
    assert encode_spans(spans_of(line)).SerializeToString(deterministic=True) == request.SerializeToString(
        deterministic=True
    )
    assert records_of(line) == []


def test_log_records_as_json_and_back() -> None:
    """The same for an event, which is a log record."""
    request = encode_logs([record(event(), Resource({"service.name": "mine"}))])
    line = line_of(request)
    assert encode_logs(records_of(line)).SerializeToString(deterministic=True) == request.SerializeToString(
        deterministic=True
    )
    assert spans_of(line) == []


def test_the_ecosystems_encoder_agrees() -> None:
    """Ids are hexadecimal, enums numbers, 64-bit integers strings: as OpenTelemetry's own JSON encoder writes them."""
    made = spans()
    theirs = json.loads(their_encoder.encode_spans(made).to_json())
    assert json.loads(line_of(encode_spans(made))) == theirs


def with_span(span: object) -> bytes:
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()


NO_OTLP = {
    **{repr(line): line for line in (b"", b"{", b"[]", b"7", b'{"resourceSpans": 5}', b"\xff")},
    "deep": b"[" * 100_000,
    "resource": b'{"resourceSpans": [{"resource": 5, "scopeSpans": [{"spans": [{}]}]}]}',
    "scope": b'{"resourceSpans": [{"scopeSpans": [{"scope": [], "spans": [{}]}]}]}',
    **{
        f"span {span}": with_span(span)
        for span in (5, None, "x", {"traceId": 5}, {"kind": 99}, {"kind": 1e400}, {"events": 5}, {"attributes": [5]})
    },
}


@pytest.mark.parametrize("line", NO_OTLP.values(), ids=NO_OTLP)
def test_no_otlp_json(line: bytes) -> None:
    """A line of another program's, or one that is cut, is said to be none of ours."""
    with pytest.raises(ValueError, match="no OTLP JSON"):
        spans_of(line)


@pytest.mark.parametrize("line", [with_span(5), with_span({"traceId": "f" * 40, "spanId": "1" * 16})])
def test_a_stranger_in_the_spool(tmp_path: Path, line: bytes) -> None:
    """A file that holds no spans, or such as no exporter can send, stays there; who delivers is not disturbed."""
    keeper = Keeper()
    keeper.use(str(tmp_path))
    assert keeper.spool is not None
    keeper.spool.add("traces", "host:1", line)
    exporter = OTLPSpanExporter(endpoint=refusing(), timeout=1)
    try:
        assert keeper.replay("traces", "host:1", lambda each: exporter.export(each).name == "SUCCESS") is False
    finally:
        exporter.shutdown()
    assert len(keeper.spool.files()) == 1


def test_what_is_raised_while_a_batch_is_claimed(tmp_path: Path) -> None:
    """An error of who sends it is that error, also one that could have come from the file itself."""
    Spool(tmp_path).add("traces", "host:1", line_of(encode_spans(spans())))
    (file,) = Spool(tmp_path).files()

    def send(each: object) -> bool:
        raise FileNotFoundError("a certificate")

    with pytest.raises(FileNotFoundError, match="a certificate"):
        replay(file, {"traces": send})
    with claimed(file) as lines:  # nobody holds it any more
        assert lines is not None


def test_files(tmp_path: Path) -> None:
    """A file a batch, private, complete by its name; found by signal and address, the oldest first."""
    spool = Spool(tmp_path / "a" / "spool")
    assert spool.files() == []
    for number in range(3):
        spool.add("traces", "host:1", b"%d" % number)
    spool.add("logs", "host:1", b"logs")
    spool.add("traces", "../[::1]:4317", b"elsewhere")
    assert [file.read_bytes() for file in spool.files("traces", "host:1")] == [b"0\n", b"1\n", b"2\n"]
    assert [file.read_bytes() for file in spool.files("logs", "host:1")] == [b"logs\n"]
    assert [file.read_bytes() for file in spool.files("traces", "../[::1]:4317")] == [b"elsewhere\n"]
    assert len(spool.files("traces")) == 4
    assert len(spool.files()) == 5
    assert spool.folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in spool.folder.iterdir()} == {0o600}
    assert {file.parent for file in tmp_path.rglob("*.jsonl")} == {spool.folder}


def test_bounded(tmp_path: Path) -> None:
    """What does not fit is refused, and nothing of what is there is lost for it."""
    spool = Spool(tmp_path, limit=1000)
    for _ in range(9):
        spool.add("traces", "host:1", b"x" * 99)
    with pytest.raises(SpoolFull):
        spool.add("traces", "host:1", b"x" * 500)
    spool.add("traces", "host:1", b"x" * 99)
    with pytest.raises(SpoolFull):
        spool.add("logs", "host:1", b"")
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) == 1000
    assert len(spool.files()) == 10


def test_what_a_killed_process_left(tmp_path: Path) -> None:
    """An unfinished file is no batch; an old one goes when there is something to write."""
    spool = Spool(tmp_path, limit=1000)
    for name, when in ((".old.part", 0), (".new.part", None)):
        (tmp_path / name).write_bytes(b"x" * 400)
        if when is not None:
            os.utime(tmp_path / name, (when, when))
    spool.add("traces", "host:1", b"x" * 500)
    assert len(spool.files()) == 1
    assert not (tmp_path / ".old.part").exists()
    assert (tmp_path / ".new.part").exists()


WRITER = """
import sys
from runnable_otel.spool import Spool, SpoolFull
spool, kept = Spool(sys.argv[1], limit=200_000), 0
for number in range(200):
    try:
        spool.add("traces", "host:1", b"x" * 999)
        kept += 1
    except SpoolFull:
        pass
print(kept)
"""


def test_several_processes_at_once(tmp_path: Path) -> None:
    """Four processes that write at once keep within the limit, and each knows exactly what it has kept."""
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    kept = sum(int(writer.communicate(timeout=LONG)[0]) for writer in writers)
    assert kept == 200
    assert [file.stat().st_size for file in Spool(tmp_path).files()] == [1000] * 200


def test_one_process_at_a_time_sends_a_batch(tmp_path: Path) -> None:
    """A batch that somebody sends, or has sent, is passed over."""
    spool = Spool(tmp_path)
    spool.add("traces", "host:1", line_of(encode_spans(spans())))
    (file,) = spool.files()
    sent: list[Any] = []
    with claimed(file) as lines:
        assert lines is not None
        assert replay(file, {"traces": lambda each: sent.append(each) or True}) is None
    assert sent == []
    assert replay(file, {"traces": lambda each: False}) == 0
    assert file.exists()
    assert replay(file, {"traces": lambda each: sent.append(each) or True}) == 3
    assert len(sent[0]) == 3
    assert not file.exists()
    assert replay(file, {}) is None


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_is_full_or_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can't be written is lost for that reason, and nothing is left of it."""
    keeper = Keeper()
    assert keeper.keep("traces", "host:1", lambda: encode_spans(spans())) is None
    keeper.use(str(tmp_path / "spool"))
    assert keeper.keep("traces", "host:1", lambda: encode_spans(spans())) == ""
    original = os.open

    def full(path: Any, flags: int, mode: int = 0o777) -> int:
        return original("/dev/full", os.O_WRONLY) if str(path).endswith(".part") else original(path, flags, mode)

    monkeypatch.setattr(os, "open", full)
    assert keeper.keep("traces", "host:1", lambda: encode_spans(spans())) == "spool_failed"
    assert "No space left" in keeper.error
    monkeypatch.undo()
    assert len(list((tmp_path / "spool").glob("*.jsonl"))) == 1
    keeper.use("/proc/nowhere")
    assert keeper.keep("traces", "host:1", lambda: encode_spans(spans())) == "spool_failed"
    keeper.use(str(tmp_path / "spool"))
    assert keeper.keep("logs", "host:1", lambda: encode_spans([object()])) == "spool_failed"  # type: ignore[list-item]


def lines_of(folder: Path) -> Counter[str]:
    """How many spans and log records lie in a spool."""
    found: Counter[str] = Counter()
    for file in folder.glob("*.jsonl"):
        for line in file.read_bytes().splitlines():
            found["spans"] += len(spans_of(line))
            found["logs"] += len(records_of(line))
    return found


@pytest.mark.parametrize("way", ["refused", "hole"])
def test_a_run_keeps_what_it_could_not_deliver(project: Project, way: str) -> None:
    """Each span and event of a run lies in the spool, once, redacted; the line says so; the run is as ever."""
    spool = project.folder / "spool"
    with Hole() as hole:
        endpoint = refusing() if way == "refused" else hole
        done = project.pipeline(
            "python",
            QUEUE="1",
            OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
            RUNNABLE_OTEL_SINKS="otlp:",
            RUNNABLE_OTEL_SPOOL="spool",
        )
    assert "Pipeline executed successfully!" in done.stdout
    assert lines_of(spool) == {"spans": 4, "logs": 8}
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("not delivered: ")]
    assert "4 of 4 spans" in line
    assert f"8 of 8 events to {endpoint.removeprefix('http://')} spooled" in line
    assert {file.stat().st_mode & 0o777 for file in spool.iterdir()} == {0o600}


def test_the_next_run_sends_it(project: Project) -> None:
    """A run that finds its endpoint alive sends what runs before it could not, with their own ids and times."""
    port = free_port()
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "RUNNABLE_OTEL_SINKS": "otlp:",
        "RUNNABLE_OTEL_SPOOL": "spool",
    }
    for _ in range(2):
        project.pipeline("python", **variables)
    before = lines_of(project.folder / "spool")
    assert before == {"spans": 8, "logs": 16}
    with Receiver(grpc=port) as receiver:
        for _ in range(3):  # a short run sends as much as there is time for
            project.pipeline("python", **variables)
        assert lines_of(project.folder / "spool") == {}
        assert len({span.span for span in receiver.spans}) == len(receiver.spans) == 5 * 4
        assert len({log.attributes["uid"] for log in receiver.logs}) == len(receiver.logs) == 5 * 8
        assert len({span.trace for span in receiver.spans}) == 5
        assert all(span.end > span.start for span in receiver.spans)


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_replay(project: Project, receiver: Receiver, protocol: str) -> None:
    """`runnable-otel replay` sends it wherever the variables say now; what is sent is gone; it can be called again."""
    project.pipeline(
        "python", OTEL_EXPORTER_OTLP_ENDPOINT=refusing(), RUNNABLE_OTEL_SINKS="otlp:", RUNNABLE_OTEL_SPOOL="spool"
    )
    command = str(Path(project.python).parent / "runnable-otel")
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.grpc if protocol == "grpc" else receiver.http,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
    }
    done = project.command(command, "replay", "spool", **variables)
    assert done.stdout.startswith("12 spans and events in ")
    assert done.stdout.endswith(" batches sent, 0 batches left\n")
    assert (len(receiver.spans), len(receiver.logs)) == (4, 8)
    assert {json.loads(log.body)["uid"] for log in receiver.logs} == {log.attributes["uid"] for log in receiver.logs}
    done = project.command(command, "replay", RUNNABLE_OTEL_SPOOL="spool", **variables)
    assert done.stdout == "0 spans and events in 0 batches sent, 0 batches left\n"


def test_replay_in_vain(project: Project) -> None:
    """Without a folder or an endpoint it says so; what is no OTLP JSON is left and named, as is what nobody takes."""
    command = str(Path(project.python).parent / "runnable-otel")

    def call(*words: str, **variables: str) -> tuple[int, str]:
        done = subprocess.run(
            [command, "replay", *words],
            cwd=project.folder,
            env=environment(project.folder, **variables),
            capture_output=True,
            text=True,
            timeout=LONG,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    assert call() == (2, "runnable-otel replay: there is no FOLDER, and RUNNABLE_OTEL_SPOOL names none\n")
    assert call("nowhere") == (1, "runnable-otel replay: nowhere is no folder\n")
    spool = Spool(project.folder / "spool")
    spool.add("traces", "host:1", line_of(encode_spans(spans())))
    nowhere = "0 spans and events in 0 batches sent, 1 batch left\n"
    nowhere += "runnable-otel replay: nothing says where to send it: set OTEL_EXPORTER_OTLP_ENDPOINT\n"
    assert call("spool") == (1, nowhere)
    (spool.folder / "other.jsonl").write_text('{"not": "otlp"}\n')
    (spool.folder / "foreign.jsonl").write_bytes(with_span(5) + b"\n")
    (spool.folder / "long.jsonl").write_bytes(with_span({"traceId": "f" * 40, "spanId": "1" * 16}) + b"\n")
    code, said = call("spool", OTEL_EXPORTER_OTLP_ENDPOINT=refusing(), OTEL_EXPORTER_OTLP_TIMEOUT="0.5")
    assert code == 1
    assert "other.jsonl is left: it holds no spans and no logs" in said
    assert "foreign.jsonl is left: no OTLP JSON" in said
    assert "long.jsonl is left: " in said
    assert "0 spans and events in 0 batches sent, 4 batches left" in said
    assert "Traceback" not in said
    elsewhere = Spool(project.folder / "elsewhere")
    elsewhere.add("traces", "logfire-us.pydantic.dev:443", line_of(encode_spans(spans())))
    assert "LOGFIRE_TOKEN is not set" in call("elsewhere", OTEL_EXPORTER_OTLP_ENDPOINT=refusing())[1]
    events = Spool(project.folder / "events")
    events.add("logs", "host:1", line_of(encode_logs([record(event(), Resource({}))])))
    quick = {"OTEL_EXPORTER_OTLP_TIMEOUT": "0.5"}
    assert call("events", **quick) == (1, nowhere)
    assert call("events", OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=refusing(), **quick) == (1, nowhere)
    assert len(events.files()) == 1
    events.add("logs", "host:1", line_of(encode_logs([record(event(), Resource({}))])))
    assert call("events", **quick) == (1, nowhere.replace("1 batch ", "2 batches "))

"""OTLP over gRPC into a log: real exporters, and what no exporter would send."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from runnable_otel import ingest
from runnable_otel.events import Event, rfc3339
from runnable_otel.ingest.rpc import GrpcServer
from runnable_otel.ingest.waiting import WAITING
from runnable_otel.log import EventLog, Record, StoreUnavailable
from runnable_otel.sinks.otlp import OtlpSink
from runnable_otel.sinks.otlp_record import record
from support import otlp

TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
METRICS = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
LOGS = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
TOKEN = "s3cret"


class Collecting:
    """What a server needs of a log; `broken` is raised instead of taking anything."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.signs: dict[str, str] = {}
        self.broken: Exception | None = None

    def extend(self, records: Sequence[Record]) -> int:
        if self.broken is not None:
            raise self.broken
        self.records.extend(records)
        return len(records)

    def alive(self, traces: Mapping[str, str]) -> None:
        self.signs.update(traces)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(each.text) for each in self.records]


@pytest.fixture
def log() -> Collecting:
    return Collecting()


@contextmanager
def serving(log: Collecting, **options: Any) -> Iterator[GrpcServer]:
    with ingest.grpc_server(cast("EventLog", log), 0, **options) as server:
        yield server


Call = Callable[..., bytes]


@contextmanager
def calling(server: GrpcServer, method: str = LOGS, **options: Any) -> Iterator[Call]:
    limits = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{server.port}", options=limits) as channel:
        stub = channel.unary_unary(method)
        yield lambda body, **more: stub(body, timeout=30, **{**options, **more})


def refused(call: Call, body: bytes, **options: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(body, **options)
    return caught.value.code(), caught.value.details()


@pytest.mark.parametrize(
    "compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip, grpc.Compression.Deflate]
)
def test_exporters(log: Collecting, compression: grpc.Compression) -> None:
    """The SDK's own exporters, compressed or not: a span and a log record arrive once."""
    with serving(log) as server:
        endpoint = f"http://127.0.0.1:{server.port}"
        provider = TracerProvider(resource=Resource({"service.name": "mine"}))
        provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=endpoint, compression=compression)))
        with provider.get_tracer("t").start_as_current_span("a span", attributes={"n": (1, 2)}):
            pass
        provider.shutdown()
        logs = OTLPLogExporter(endpoint=endpoint, compression=compression)
        assert logs.export([record(otlp.event(), Resource({}))]).name == "SUCCESS"
        logs.shutdown()
    span, event = log.events
    assert (span["type"], span["name"], span["service"], span["attributes"]) == (
        "span",
        "a span",
        "mine",
        {"n": [1, 2]},
    )
    assert event == otlp.event().to_dict()


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_metrics(log: Collecting, compression: grpc.Compression) -> None:
    """Metrics, which the SDK's launcher sends to the same endpoint, are taken, and nothing is kept of them."""
    provider = MeterProvider([reader := InMemoryMetricReader()])
    provider.get_meter("t").create_counter("c").add(1)
    data = reader.get_metrics_data()
    provider.shutdown()
    assert data is not None
    with serving(log) as server:
        exporter = OTLPMetricExporter(endpoint=f"http://127.0.0.1:{server.port}", compression=compression)
        assert exporter.export(data).name == "SUCCESS"
        exporter.shutdown()
    assert (log.records, log.signs) == ([], {})


def test_metrics_are_bounded(log: Collecting) -> None:
    """They need the token as all else does, and a request is no larger."""
    with serving(log, token=TOKEN) as server, calling(server, METRICS) as call:
        assert refused(call, b"")[0] is grpc.StatusCode.UNAUTHENTICATED
        named = [("authorization", f"Bearer {TOKEN}")]
        assert call(b"", metadata=named) == b""
        assert refused(call, bytes(ingest.BODY_BYTES + 1), metadata=named)[0] is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_sink(log: Collecting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own sink, with the token that it is told; its events are those that were emitted."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    monkeypatch.setenv("OTEL_RUNNABLE_SINK_TOKEN", TOKEN)
    events = [otlp.event(number) for number in range(300)]
    sign = Event("sign_of_life", "n:1", {"time": rfc3339(otlp.TIME), "trace_id": otlp.TRACE, "span_id": otlp.SPAN})
    with serving(log, token=TOKEN) as server:
        sink = OtlpSink(f"otlp:http://127.0.0.1:{server.port}")
        sink.emit_batch([*events, sign])
        sink.close()
    assert log.events == [event.to_dict() for event in events]
    assert log.signs == {otlp.TRACE: rfc3339(otlp.TIME)}


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        [("authorization", "Bearer ")],
        [("authorization", TOKEN)],
        [("authorization", f"Basic {TOKEN}")],
        [("authorization", f"Bearer {TOKEN}x")],
        [("authorization", "Bearer wrong"), ("authorization", f"Bearer {TOKEN}")],
        [("authorization-bin", f"Bearer {TOKEN}".encode())],
    ],
)
def test_token(log: Collecting, metadata: list[tuple[str, Any]]) -> None:
    """Without the token nothing is taken, by either service; with it, all is."""
    body = otlp.logs(otlp.event_log(otlp.event())).SerializeToString()
    with serving(log, token=TOKEN) as server:
        for method in (LOGS, TRACES):
            with calling(server, method) as call:
                code, details = refused(call, body, metadata=metadata)
                assert (code, TOKEN in details) == (grpc.StatusCode.UNAUTHENTICATED, False)
        assert log.records == []
        with calling(server, metadata=[("authorization", f"bearer {TOKEN}")]) as call:
            assert call(body) == b""
    assert len(log.records) == 1


def test_partial_success(log: Collecting) -> None:
    """What is not taken is counted in the answer."""
    body = otlp.logs(otlp.event_log(otlp.event()), otlp.event_log(otlp.event(), body="{")).SerializeToString()
    with serving(log) as server, calling(server) as call:
        answer = ExportLogsServiceResponse.FromString(call(body)).partial_success
    assert (answer.rejected_log_records, len(log.records)) == (1, 1)
    assert "no JSON" in answer.error_message


GZIP, PLAIN = grpc.Compression.Gzip, grpc.Compression.NoCompression


@pytest.mark.parametrize(
    ("body", "compression", "code"),
    [
        (b"\x0a\x05ab", PLAIN, grpc.StatusCode.INVALID_ARGUMENT),
        (b"\xff" * 5000, GZIP, grpc.StatusCode.INVALID_ARGUMENT),
        (b"\x1f\x8b\x08rubbish", PLAIN, grpc.StatusCode.INVALID_ARGUMENT),
        (b"\0" * (4 * 2**20 + 1), PLAIN, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (b"\0" * 100_000_000, GZIP, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (otlp.field(1, otlp.field(2, b"\x12\x00" * 10_001)), GZIP, grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
)
def test_bad_requests(log: Collecting, body: bytes, compression: Any, code: grpc.StatusCode) -> None:
    """What is no OTLP, too large, or too many is refused for good, by either service, and the next request is taken."""
    with serving(log) as server:
        for method in (LOGS, TRACES):
            with calling(server, method, compression=compression) as call:
                assert refused(call, body)[0] == code
        with calling(server) as call:
            assert call(otlp.logs(otlp.event_log(otlp.event())).SerializeToString()) == b""
    assert len(log.records) == 1


def test_store_is_unavailable(log: Collecting) -> None:
    """While the log can't take events a sender is told when to come again, in both ways that SDKs read."""
    body = otlp.logs(otlp.event_log(otlp.event())).SerializeToString()
    log.broken = StoreUnavailable("The disk is full.", 7)
    with serving(log) as server, calling(server) as call:
        with pytest.raises(grpc.RpcError) as caught:
            call(body)
        error: Any = caught.value
        assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "The disk is full.")
        trailing = dict(error.trailing_metadata())
        info, status = RetryInfo(), Status.FromString(trailing["grpc-status-details-bin"])
        assert status.details[0].Unpack(info)
        assert info.retry_delay.seconds == 7
        assert RetryInfo.FromString(trailing["google.rpc.retryinfo-bin"]) == info
        log.broken = None
        assert call(body) == b""


def test_exporter_comes_again(log: Collecting) -> None:
    """The SDK's exporter waits as it is told, and what it sends then is taken."""
    log.broken = StoreUnavailable("Not yet.", 1)
    refusals = threading.Event()
    extend = log.extend

    def refuse_once(records: Sequence[Record]) -> int:
        try:
            return extend(records)
        finally:
            log.broken = None
            refusals.set()

    log.extend = refuse_once  # type: ignore[method-assign]
    with serving(log) as server:
        exporter = OTLPLogExporter(endpoint=f"http://127.0.0.1:{server.port}")
        assert exporter.export([record(otlp.event(), Resource({}))]).name == "SUCCESS"
        exporter.shutdown()
    assert refusals.is_set()
    assert len(log.records) == 1


def test_many_at_once(log: Collecting) -> None:
    """Senders at the same time: each event arrives once."""
    bodies = [
        otlp.logs(*(otlp.event_log(otlp.event(100 * sender + n)) for n in range(100))).SerializeToString()
        for sender in range(16)
    ]
    with serving(log) as server:

        def send(body: bytes) -> None:
            with calling(server) as call:
                call(body)

        threads = [threading.Thread(target=send, args=[body]) for body in bodies]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len({record.event.uid for record in log.records}) == len(log.records) == 1600


def test_port_in_use(log: Collecting, capfd: pytest.CaptureFixture[str]) -> None:
    """A port that is taken, by anybody or by a server like this one, is one clear error; nothing else is printed."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"port {port} of 127.0.0.1 is in use"):
            ingest.grpc_server(cast("EventLog", log), port)
    with serving(log) as server, pytest.raises(OSError, match="is in use"):
        ingest.grpc_server(cast("EventLog", log), server.port)
    with pytest.raises(OSError, match=r"203\.0\.113\.1"):
        ingest.grpc_server(cast("EventLog", log), 0, "203.0.113.1")
    assert capfd.readouterr().err == ""


def test_port_again(log: Collecting) -> None:
    """A server that has stopped leaves its port to the next one, at once."""
    with serving(log) as server, calling(server) as call:
        call(b"")
        port = server.port
    with ingest.grpc_server(cast("EventLog", log), port) as again:
        assert again.port == port


def test_ipv6(log: Collecting) -> None:
    """An address of IPv6 is written as such."""
    if not socket.has_ipv6:
        pytest.skip("needs IPv6")
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("needs IPv6")
    with serving(log, host="::1") as server, grpc.insecure_channel(f"[::1]:{server.port}") as channel:
        assert channel.unary_unary(LOGS)(b"", timeout=30) == b""


@contextmanager
def hanging(channel: grpc.Channel, number: int, **options: Any) -> Iterator[list[Any]]:
    """Requests whose message never comes, on a channel that is open: they reach the server before what follows them."""
    over = threading.Event()

    def never() -> Iterator[bytes]:
        over.wait()
        yield from ()

    call: Any = channel.stream_unary(TRACES)
    futures = [call.future(never(), **options) for _ in range(number)]
    try:
        yield futures
    finally:
        over.set()
        for future in futures:
            future.cancel()


MINUTES = 600.0
ONE = otlp.logs(otlp.event_log(otlp.event())).SerializeToString()


@pytest.mark.parametrize("metadata", [[], [("authorization", "Bearer wrong")]])
def test_hung_without_token(log: Collecting, metadata: list[tuple[str, str]]) -> None:
    """Who lacks the token is turned away without a wait for the message, and all others are served."""
    named = [("authorization", f"Bearer {TOKEN}")]
    with (
        serving(log, token=TOKEN, patience=MINUTES) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        export = channel.unary_unary(LOGS)
        export(b"", timeout=30, metadata=named)
        with hanging(channel, 100, metadata=metadata) as hung:
            # Those beyond what is taken at once get the library's answer: without a wait, too.
            codes = {future.exception(timeout=30).code() for future in hung}
            assert codes <= {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED}
            assert grpc.StatusCode.UNAUTHENTICATED in codes
            export(ONE, timeout=30, metadata=named)
    assert len(log.records) == 1


@pytest.mark.parametrize("token", [None, TOKEN])
def test_hung(log: Collecting, token: str | None) -> None:
    """Requests without a message hold nobody up who has one to send, and the server's end does not wait for them."""
    named = [("authorization", f"Bearer {token}")]
    with (
        serving(log, token=token, patience=MINUTES) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        export = channel.unary_unary(LOGS)
        export(b"", timeout=30, metadata=named)
        with hanging(channel, 8, metadata=named) as hung:
            export(ONE, timeout=30, metadata=named)
            assert not any(future.done() for future in hung)
            server.stop()
            codes = {future.exception(timeout=30).code() for future in hung}
            assert codes <= {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE}
    assert len(log.records) == 1


def test_hung_in_numbers(log: Collecting) -> None:
    """However many hang, the oldest of them gives way to who comes after it."""
    with (
        serving(log, patience=MINUTES) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        export = channel.unary_unary(LOGS)
        export(b"", timeout=30)
        gone = threading.Semaphore(0)
        with hanging(channel, 200) as hung:
            for future in hung:
                future.add_done_callback(lambda _: gone.release())
            for _ in range(200 - WAITING):
                assert gone.acquire(timeout=30)
            for _ in range(WAITING):
                export(ONE, timeout=30)
            assert {future.done() for future in hung[: len(hung) // 4]} == {True}
    assert len(log.records) == WAITING


def test_deadline(log: Collecting) -> None:
    """A message that does not come in time is waited for no more; its sender may come again."""
    with (
        serving(log, patience=0.1) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        hanging(channel, 4) as hung,
    ):
        assert {future.exception(timeout=30).code() for future in hung} == {grpc.StatusCode.CANCELLED}
        channel.unary_unary(LOGS)(ONE, timeout=30)
    assert len(log.records) == 1


@pytest.mark.parametrize("method", [TRACES, LOGS, METRICS])
def test_no_message(log: Collecting, method: str) -> None:
    """A request that ends without a message is refused."""
    with serving(log) as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call: Any = channel.stream_unary(method)
        with pytest.raises(grpc.RpcError) as caught:
            call(iter([]), timeout=30)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert log.records == []


def test_first_message(log: Collecting) -> None:
    """A request is its first message: it is answered before the client ends it, and a second one is not read."""
    over = threading.Event()

    def two() -> Iterator[bytes]:
        yield ONE
        yield ONE
        over.wait()

    with serving(log, patience=MINUTES) as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call: Any = channel.stream_unary(LOGS)
        try:
            call(two(), timeout=30)
        finally:
            over.set()
    assert len(log.records) == 1


def test_too_much_at_once(log: Collecting) -> None:
    """Messages that wait to be stored are bounded together; who comes then is told when to come again."""
    body = ONE + otlp.field(99, bytes(ingest.BODY_BYTES - 64 * 2**10 - len(ONE)))
    full, number = threading.Event(), 16
    stored = threading.Semaphore(0)
    extend = log.extend

    def slow(records: Sequence[Record]) -> int:
        stored.release()
        full.wait()
        return extend(records)

    log.extend = slow  # type: ignore[method-assign]
    with (
        serving(log) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        calling(server) as call,
    ):
        try:
            futures: list[Any] = [channel.unary_unary(LOGS).future(body) for _ in range(number)]
            for _ in range(number):
                assert stored.acquire(timeout=30)
            big = otlp.field(99, bytes(ingest.BODY_BYTES - 64))
            assert refused(call, big) == (grpc.StatusCode.UNAVAILABLE, "Too many requests at once.")
        finally:
            full.set()
        assert {future.exception(timeout=30) for future in futures} == {None}
        call(big)
    assert len(log.records) == number

"""Before a batch processor's exporter: exact counts, no span lost to another one, and nobody who waits for ever."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HTTPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from runnable_otel.delivery import spans as guarded
from runnable_otel.delivery.guard import guard_of
from runnable_otel.delivery.patience import PATIENCE
from runnable_otel.delivery.spans import SpanGuard
from runnable_otel.worker import Counts
from support.hole import Answering, Hole, refusing
from support.receiver import Receiver
from support.waiting import LONG, wait_until

SURROGATE = "\ud800"


@pytest.fixture(autouse=True)
def the_end_is_over() -> Iterator[None]:
    """An end that a test began is none for the next one."""
    yield
    PATIENCE.renew()


class Gate(SpanExporter):
    """An exporter that waits at its gate, and keeps what it got."""

    def __init__(self, *, is_open: bool = True, result: Any = SpanExportResult.SUCCESS) -> None:
        self.gate, self.entered = threading.Event(), threading.Event()
        if is_open:
            self.gate.set()
        self.result = result
        self.names: list[str] = []

    def export(self, spans: Sequence[ReadableSpan]) -> Any:
        self.entered.set()
        self.gate.wait(LONG)
        if isinstance(self.result, BaseException):
            raise self.result
        self.names += [span.name for span in spans]
        return self.result


class Bench:
    """A provider with one batch processor, and a guard before its exporter."""

    def __init__(
        self,
        exporter: SpanExporter,
        *,
        ours: bool = True,
        before: Callable[[Bench], None] = lambda bench: None,
        **options: Any,
    ) -> None:
        self.exporter = exporter
        self.processor = BatchSpanProcessor(exporter, **options)
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(self.processor)
        self.tracer = self.provider.get_tracer("bench")
        before(self)
        self.kept: list[str] = []
        self.lost: list[tuple[str, int]] = []
        self.answer: str | None = None
        self.guard = SpanGuard(
            self.processor,
            ours=ours,
            keep=self.keep,
            replay=lambda address, send: False,
            on_drop=lambda reason, number: self.lost.append((reason, number)),
        )

    def keep(self, address: str, spans: Sequence[ReadableSpan]) -> str | None:
        if self.answer == "":
            self.kept += [span.name for span in spans]
        return self.answer

    def make(self, *names: str) -> None:
        for name in names:
            self.tracer.start_span(name).end()

    def counts(self) -> Counts:
        """Settled, and exact."""
        self.guard.account.settle(self.guard.waiting)
        counts = self.guard.account.counts(self.guard.waiting)
        assert counts.accepted == counts.delivered + counts.spooled + sum(counts.dropped.values()) + counts.pending
        assert sum(number for _, number in self.lost) == sum(counts.dropped.values())
        return counts


@pytest.mark.parametrize("ours", [True, False])
def test_delivered(ours: bool) -> None:
    """Spans reach the exporter as without a guard, in order, and the processor shows the user's own exporter."""
    bench = Bench(Gate(), ours=ours)
    bench.make(*map(str, range(100)))
    assert bench.provider.force_flush()
    assert bench.exporter.names == [str(number) for number in range(100)]  # type: ignore[attr-defined]
    assert bench.counts() == Counts(100, 100, {}, 0)
    assert bench.processor.span_exporter is bench.exporter
    bench.guard.release()
    assert "export" not in vars(bench.exporter)
    assert guard_of(bench.exporter) is None
    bench.make("later")
    bench.provider.shutdown()
    assert bench.exporter.names[-1] == "later"  # type: ignore[attr-defined]
    assert bench.counts().accepted == 100


@pytest.mark.parametrize("ours", [True, False])
def test_what_waits_already(ours: bool) -> None:
    """Spans that lie in the queue when the guard comes are counted, and weighed, as those that come later."""
    big = "x" * (guarded.LIMIT_BYTES // 4)

    def fill(bench: Bench) -> None:
        bench.make("first")
        for _ in range(3):
            bench.tracer.start_span("big", attributes={"big": big}).end()

    bench = Bench(Gate(), ours=ours, before=fill, schedule_delay_millis=60_000)
    assert bench.counts() == Counts(4, 0, {}, 4)
    bench.tracer.start_span("big", attributes={"big": big}).end()
    bench.processor.force_flush()
    assert bench.counts() == (Counts(5, 4, {"full": 1}, 0) if ours else Counts(5, 5, {}, 0))
    bench.tracer.start_span("later", attributes={"big": big}).end()
    bench.provider.shutdown()
    assert bench.counts() == (Counts(6, 5, {"full": 1}, 0) if ours else Counts(6, 6, {}, 0))


def test_what_is_on_its_way_already() -> None:
    """A batch that the exporter has in hand when the guard comes is not the guard's; nobody waits for it."""
    gate = Gate(is_open=False)
    flushing: list[threading.Thread] = []

    def begin(bench: Bench) -> None:
        bench.make("in hand", "in hand")
        flushing.append(threading.Thread(target=bench.processor.force_flush, daemon=True))
        flushing[0].start()
        assert gate.entered.wait(LONG)
        bench.make("waits")

    bench = Bench(gate, before=begin, schedule_delay_millis=60_000)
    assert bench.counts() == Counts(1, 0, {}, 1)
    gate.gate.set()
    flushing[0].join(LONG)
    bench.provider.shutdown()
    assert gate.names == ["in hand", "in hand", "waits"]
    assert bench.counts() == Counts(1, 1, {}, 0)


@pytest.mark.parametrize("ours", [True, False])
def test_a_burst(ours: bool) -> None:
    """10,000 spans in four threads, and an exporter that stands still: what finds no room is counted, to the span."""
    bench = Bench(gate := Gate(is_open=False), ours=ours)
    threads = [threading.Thread(target=bench.make, args=[str(number) for number in range(2500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    gate.gate.set()
    bench.provider.shutdown()
    counts = bench.counts()
    assert counts.accepted == 10_000
    assert counts.delivered == len(gate.names)
    assert counts.dropped == {"full": 10_000 - len(gate.names)}
    assert 2048 <= len(gate.names) <= 2048 + 512


def test_bytes_are_bounded() -> None:
    """On a provider of ours the spans that wait are bounded in bytes too; there is room again when they have left."""
    bench = Bench(gate := Gate(is_open=False))
    bench.make("first")
    threading.Thread(target=bench.processor.force_flush, daemon=True).start()
    assert gate.entered.wait(LONG)
    big = "x" * (guarded.LIMIT_BYTES // 4)
    for _ in range(6):
        bench.tracer.start_span("big", attributes={"big": big}).end()
    bench.tracer.start_span("huge", attributes={"huge": big * 5}).end()
    gate.gate.set()
    bench.processor.force_flush()
    assert bench.counts() == Counts(8, 4, {"full": 4}, 0)
    bench.tracer.start_span("later", attributes={"big": big}).end()
    bench.provider.shutdown()
    assert bench.counts() == Counts(9, 5, {"full": 4}, 0)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_hostile_span_costs_no_other(receiver: Receiver, protocol: str) -> None:
    """Lone surrogates, times before 1970 and names that are no text: all innocent spans arrive, the hostile mended."""
    bench = Bench(
        OTLPSpanExporter(endpoint=receiver.grpc)
        if protocol == "grpc"
        else HTTPSpanExporter(endpoint=f"{receiver.http}/v1/traces")
    )
    bench.make("before", f"name {SURROGATE}")
    span = bench.tracer.start_span("status")
    span.set_status(trace.StatusCode.ERROR, f"status {SURROGATE}")
    span.end()
    span = bench.tracer.start_span("event")
    span.add_event(f"event {SURROGATE}", {"kept": 1})
    span.end()
    bench.tracer.start_span("time", start_time=-5).end(2**70)
    bench.tracer.start_span(42, attributes={"kept": 1}).end()  # type: ignore[arg-type]
    other = bench.provider.get_tracer(f"scope {SURROGATE}")
    other.start_span("scope").end()
    bench.make("after")
    bench.provider.shutdown()
    assert bench.counts() == Counts(8, 8, {}, 0)
    arrived = {span.name: span for span in receiver.spans}
    assert set(arrived) == {"before", "name ?", "status", "event", "time", "<int>", "scope", "after"}
    assert arrived["status"].message == "status ?"
    assert arrived["event"].events == [("event ?", {"kept": 1})]
    assert (arrived["time"].start, arrived["time"].end) == (0, 2**64 - 1)
    assert arrived["<int>"].attributes == {"kept": 1}
    assert arrived["scope"].scope == "scope ?"


def test_an_endpoint_that_refuses(caplog: pytest.LogCaptureFixture) -> None:
    """What an endpoint will never take is lost as `refused`, and never kept for later."""
    with Answering(400) as server:
        bench = Bench(HTTPSpanExporter(endpoint=f"{server.url}/v1/traces"))
        bench.answer = ""
        bench.make("one", "two")
        bench.provider.shutdown()
    assert bench.counts() == Counts(2, 0, {"refused": 2}, 0)
    assert bench.kept == []
    assert [record.message for record in caplog.records if "lost" in record.message] == [
        "2 spans lost so far (refused 2; last error: Failed to export spans batch code: 400, reason: Bad Request)"
    ]


@pytest.mark.parametrize(
    ("answer", "spooled", "dropped"),
    [
        ("", 2, {}),
        ("spool_full", 0, {"spool_full": 2}),
        (None, 0, {"unavailable": 2}),
    ],
)
def test_kept(monkeypatch: pytest.MonkeyPatch, answer: str | None, spooled: int, dropped: dict[str, int]) -> None:
    """What an endpoint that is away did not take is kept, or lost for the reason that it could not be."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    bench = Bench(OTLPSpanExporter(endpoint=refusing()))
    bench.answer = answer
    bench.make("one", f"two {SURROGATE}")
    bench.provider.shutdown()
    assert bench.counts() == Counts(2, 0, dropped, 0, spooled)
    assert bench.kept == (["one", "two ?"] if answer == "" else [])


def test_lines_are_rare(caplog: pytest.LogCaptureFixture) -> None:
    """Ten batches that fail cost one line in a minute, not ten; on a provider of the user's the SDK says it."""
    bench = Bench(Gate(result=RuntimeError("no")), schedule_delay_millis=60_000)
    for _ in range(10):
        bench.make("one")
        bench.processor.force_flush()
    assert bench.counts() == Counts(10, 0, {"failed": 10}, 0)
    assert [record.message for record in caplog.records] == [
        "1 span lost so far (failed 1; last error: RuntimeError: no)"
    ]
    caplog.clear()
    theirs = Bench(Gate(result=RuntimeError("no")), ours=False)
    theirs.make("one")
    theirs.processor.force_flush()
    assert [record.message for record in caplog.records] == ["Exception while exporting Span."]
    for each in (bench, theirs):
        each.provider.shutdown()


@pytest.mark.parametrize("exporter", ["grpc", "http", "gate"])
def test_who_waits_can_stop(exporter: str) -> None:
    """At the end nobody waits longer than told: what the exporter has in hand, and what comes after, is settled."""
    gate = Gate(is_open=False)
    with Hole() as hole:
        bench = Bench(
            {
                "grpc": lambda: OTLPSpanExporter(endpoint=hole, timeout=3 * LONG),
                "http": lambda: HTTPSpanExporter(endpoint=hole, timeout=3 * LONG),
                "gate": lambda: gate,
            }[exporter](),
            max_export_batch_size=2,
        )
        bench.make(*map(str, range(7)))
        flushing = threading.Thread(target=bench.processor.force_flush)
        flushing.start()
        PATIENCE.begin(0.2)
        flushing.join(LONG)
        assert not flushing.is_alive()
        assert bench.counts() == Counts(7, 0, {"timeout": 7}, 0)
        bench.make("later")
        bench.provider.shutdown()
        assert bench.counts() == Counts(8, 0, {"timeout": 8}, 0)
        gate.gate.set()


def test_an_exporter_that_calls_itself() -> None:
    """An exporter that sends a batch in halves, as Logfire's does, does not wait for itself."""

    class Halves(Gate):
        def export(self, spans: Sequence[ReadableSpan]) -> Any:
            if len(spans) == 1:
                return super().export(spans)
            half = len(spans) // 2
            self.export(spans[:half])
            return self.export(spans[half:])

    bench = Bench(halves := Halves())
    bench.make(*map(str, range(8)))
    bench.provider.shutdown()
    assert halves.names == [str(number) for number in range(8)]
    assert bench.counts() == Counts(8, 8, {}, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_with_spans_pending() -> None:
    """A forked child delivers what it makes itself, on threads of its own, and nothing of its parent's."""
    bench = Bench(Gate(), schedule_delay_millis=60_000)
    bench.make("parents")
    bench.guard.prepare()
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            bench.make("childs")
            bench.processor.force_flush()
            os.write(write, repr((bench.exporter.names, bench.counts())).encode())  # type: ignore[attr-defined]
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as stream:
        assert stream.read() == repr((["childs"], Counts(1, 1, {}, 0)))
    os.waitpid(child, 0)
    bench.provider.shutdown()
    assert bench.exporter.names == ["parents"]  # type: ignore[attr-defined]
    assert bench.counts() == Counts(1, 1, {}, 0)


def test_the_sdk_is_quiet_about_ours(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the SDK's exporter says of a provider of ours is said by us, once; of the user's it stays as it is."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    with caplog.at_level(logging.WARNING):
        for ours, said in ((True, False), (False, True)):
            caplog.clear()
            bench = Bench(OTLPSpanExporter(endpoint=refusing()), ours=ours)
            bench.make("one")
            bench.provider.shutdown()
            assert any(record.name.startswith("opentelemetry.exporter") for record in caplog.records) == said
            wait_until(lambda bench=bench: bench.counts().dropped == {"unavailable": 1})

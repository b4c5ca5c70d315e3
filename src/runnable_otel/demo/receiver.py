"""A real OTLP/gRPC receiver on loopback that keeps the spans it gets."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types import TracebackType

_ERROR: Final = 2
"""`STATUS_CODE_ERROR` of OTLP."""


@dataclass(frozen=True)
class ReceivedSpan:
    """One span as it came over the wire.

    Attributes:
        name: `pipeline:…`, `task:…`, ….
        trace_id: 32 hexadecimal digits.
        span_id: 16 hexadecimal digits.
        parent_id: 16 hexadecimal digits, or the empty string.
        start_ns: nanoseconds since 1970.
        end_ns: nanoseconds since 1970.
        failed: whether its status is ERROR.
        attributes: as they were set.
    """

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    failed: bool
    attributes: dict[str, Any]

    @property
    def kind(self) -> str:
        """What stands before the colon: `pipeline`, `task`, …"""
        return self.name.partition(":")[0]


class Receiver:
    """`with Receiver() as receiver:` listens at `receiver.endpoint`, on a free port."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans: list[ReceivedSpan] = []

    def keep(self, spans: list[ReceivedSpan]) -> None:
        """Take one export request's spans. The exporter gets its answer after this, so what was sent is here."""
        with self._lock:
            self._spans.extend(spans)

    def take(self) -> list[ReceivedSpan]:
        """The spans that came since the last call."""
        with self._lock:
            spans, self._spans = self._spans, []
        return spans

    def __enter__(self) -> Receiver:
        # grpc has no types: what comes from it is Any.
        grpc: Any = import_module("grpc")
        messages: Any = import_module("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
        service: Any = import_module("opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc")
        keep = self.keep

        class Traces(service.TraceServiceServicer):
            def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - the service's word
                keep(_spans(request))
                return messages.ExportTraceServiceResponse()

        self._server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
        service.add_TraceServiceServicer_to_server(Traces(), self._server)
        self.endpoint = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.stop(0).wait()


def _spans(request: Any) -> list[ReceivedSpan]:
    return [
        ReceivedSpan(
            name=span.name,
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_id=span.parent_span_id.hex(),
            start_ns=span.start_time_unix_nano,
            end_ns=span.end_time_unix_nano,
            failed=span.status.code == _ERROR,
            attributes={pair.key: _value(pair.value) for pair in span.attributes},
        )
        for resource_spans in request.resource_spans
        for scope_spans in resource_spans.scope_spans
        for span in scope_spans.spans
    ]


def _value(value: Any) -> Any:
    """An attribute's value; the demo's own are plain, so lists and maps stay as OTLP has them."""
    which = value.WhichOneof("value")
    return getattr(value, which) if which else None

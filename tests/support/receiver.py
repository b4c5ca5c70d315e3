"""A real OTLP receiver on loopback, gRPC and HTTP/protobuf, that keeps what it gets."""

from __future__ import annotations

import gzip
import threading
from concurrent import futures
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


@dataclass(frozen=True)
class Received:
    """One span as it came over the wire."""

    name: str
    trace: str
    span: str
    parent: str
    status: int
    message: str
    scope: str
    attributes: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]
    links: list[tuple[str, str]]
    start: int
    end: int
    resource: dict[str, Any] = field(repr=False)

    @property
    def kind(self) -> str:
        return self.name.partition(":")[0]


@dataclass(frozen=True)
class ReceivedLog:
    """One log record as it came over the wire."""

    name: str
    body: Any
    trace: str
    span: str
    time: int
    severity: int
    scope: str
    attributes: dict[str, Any]
    resource: dict[str, Any] = field(repr=False)
    headers: dict[str, str] = field(repr=False)


def value(any_value: Any) -> Any:
    which = any_value.WhichOneof("value")
    if which == "array_value":
        return [value(each) for each in any_value.array_value.values]
    if which == "kvlist_value":
        return {each.key: value(each.value) for each in any_value.kvlist_value.values}
    return getattr(any_value, which) if which else None


def attributes(pairs: Any) -> dict[str, Any]:
    keys = [pair.key for pair in pairs]
    assert len(keys) == len(set(keys)), f"an attribute twice: {keys}"
    return {pair.key: value(pair.value) for pair in pairs}


def spans_of(request: Any) -> list[Received]:
    return [
        Received(
            name=span.name,
            trace=span.trace_id.hex(),
            span=span.span_id.hex(),
            parent=span.parent_span_id.hex(),
            status=span.status.code,
            message=span.status.message,
            scope=scope_spans.scope.name,
            attributes=attributes(span.attributes),
            events=[(event.name, attributes(event.attributes)) for event in span.events],
            links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
            start=span.start_time_unix_nano,
            end=span.end_time_unix_nano,
            resource=attributes(resource_spans.resource.attributes),
        )
        for resource_spans in request.resource_spans
        for scope_spans in resource_spans.scope_spans
        for span in scope_spans.spans
    ]


def logs_of(request: Any, headers: dict[str, str]) -> list[ReceivedLog]:
    return [
        ReceivedLog(
            name=log.event_name,
            body=value(log.body),
            trace=log.trace_id.hex(),
            span=log.span_id.hex(),
            time=log.time_unix_nano,
            severity=log.severity_number,
            scope=scope_logs.scope.name,
            attributes=attributes(log.attributes),
            resource=attributes(resource_logs.resource.attributes),
            headers=headers,
        )
        for resource_logs in request.resource_logs
        for scope_logs in resource_logs.scope_logs
        for log in scope_logs.log_records
    ]


class Receiver:
    """`with Receiver() as receiver:`; `receiver.grpc` and `receiver.http` are its endpoints, on free or given ports.

    Logs with a record whose uid is `refused` are refused for good.
    """

    def __init__(self, *, grpc: int = 0, http: int = 0) -> None:
        self._ports = grpc, http
        self.refused = ""
        self.spans: list[Received] = []
        self.logs: list[ReceivedLog] = []
        self.log_batches: list[int] = []
        self.metrics: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self._lock = threading.Lock()

    def take(self, spans: list[Received]) -> None:
        with self._lock:
            self.spans.extend(spans)

    def take_logs(self, logs: list[ReceivedLog]) -> bool:
        if self.refused and self.refused in [log.attributes.get("uid") for log in logs]:
            return False
        with self._lock:
            self.logs.extend(logs)
            self.log_batches.append(len(logs))
        return True

    def clear(self) -> None:
        with self._lock:
            self.spans.clear()
            self.logs.clear()
            self.log_batches.clear()

    def __enter__(self) -> Receiver:
        self._grpc = grpc.server(futures.ThreadPoolExecutor(4))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(_Traces(self), self._grpc)
        metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(_Metrics(self), self._grpc)
        logs_service_pb2_grpc.add_LogsServiceServicer_to_server(_Logs(self), self._grpc)
        self.grpc = f"http://127.0.0.1:{self._grpc.add_insecure_port(f'127.0.0.1:{self._ports[0]}')}"
        self._grpc.start()
        self._http = ThreadingHTTPServer(
            ("127.0.0.1", self._ports[1]), type("Handler", (_Handler,), {"receiver": self})
        )
        self.http = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._grpc.stop(0).wait()
        self._http.shutdown()
        self._http.server_close()


class _Traces(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - the service's word
        self.receiver.take(spans_of(request))
        return trace_service_pb2.ExportTraceServiceResponse()


class _Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - the service's word
        self.receiver.metrics.append(request)
        return metrics_service_pb2.ExportMetricsServiceResponse()


class _Logs(logs_service_pb2_grpc.LogsServiceServicer):
    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - the service's word
        headers = {name: each for name, each in context.invocation_metadata() if isinstance(each, str)}
        if not self.receiver.take_logs(logs_of(request, headers)):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "refused")
        return logs_service_pb2.ExportLogsServiceResponse()


class _Handler(BaseHTTPRequestHandler):
    receiver: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        headers = {name.lower(): each for name, each in self.headers.items()}
        self.receiver.headers.append(headers)
        taken = True
        if self.path == "/v1/traces":
            request = trace_service_pb2.ExportTraceServiceRequest()
            request.ParseFromString(body)
            self.receiver.take(spans_of(request))
        elif self.path == "/v1/logs":
            logs = logs_service_pb2.ExportLogsServiceRequest()
            logs.ParseFromString(body)
            taken = self.receiver.take_logs(logs_of(logs, headers))
        self.send_response(200 if taken else 400)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing to standard error."""

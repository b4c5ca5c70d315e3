"""An OTLP endpoint on loopback, over gRPC or HTTP, that fails in the way that it is told to, and keeps what it took.

    with Endpoint("throttled", "grpc") as endpoint: …endpoint.url…

`spans` and `logs` hold those of the requests that were answered with success, as a client counts them; `wire` holds
the bytes of every request that arrived, refused ones too.
"""

from __future__ import annotations

import contextlib
import gzip
import socket
import struct
import threading
from collections.abc import Callable
from concurrent import futures
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, NamedTuple

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from support.receiver import Received, ReceivedLog, logs_of, spans_of
from support.waiting import free_port

SLOW: Final = 5.0
"""Seconds that a slow endpoint takes for its answer."""
CUT_AFTER: Final = 1500
"""Bytes of a request after which an endpoint that resets its connections does so: within the body of a small one."""


class Answer(NamedTuple):
    """How an endpoint refuses."""

    http: int
    grpc: grpc.StatusCode
    text: str
    retry_after: int = 0


ANSWERS: Final = {
    "unavailable": Answer(503, grpc.StatusCode.UNAVAILABLE, "try again"),
    "throttled": Answer(429, grpc.StatusCode.RESOURCE_EXHAUSTED, "too many requests", retry_after=30),
    "bad_request": Answer(400, grpc.StatusCode.INVALID_ARGUMENT, "no"),
    "unauthorized": Answer(401, grpc.StatusCode.UNAUTHENTICATED, "who are you"),
    "insults": Answer(400, grpc.StatusCode.INVALID_ARGUMENT, "no\x1b[31m\r\nCRITICAL all is lost"),
    "too_large": Answer(413, grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max (9 vs. 1)"),
}
_SILENT: Final = ("refused", "black_hole", "unanswered")
TROUBLES: Final = ("healthy", "recovers", "slow", "reset", *_SILENT, *ANSWERS)
"""
healthy: takes all; recovers: 503 to the first request, takes all after that; slow: takes it, after `SLOW` seconds;
reset: the connection is reset in the middle of a body; refused: nobody listens; black_hole: the connection is taken,
and no byte ever comes; unanswered: no answer to the connection's first packet either.
"""

_SERVICES: Final[dict[str, tuple[Any, Any]]] = {
    "traces": (trace_service_pb2.ExportTraceServiceRequest, trace_service_pb2.ExportTraceServiceResponse),
    "logs": (logs_service_pb2.ExportLogsServiceRequest, logs_service_pb2.ExportLogsServiceResponse),
    "metrics": (metrics_service_pb2.ExportMetricsServiceRequest, metrics_service_pb2.ExportMetricsServiceResponse),
}


class Endpoint:
    """One endpoint, for one protocol: `grpc` or `http/protobuf`. Without `keep` it only counts the spans."""

    def __init__(self, trouble: str = "healthy", protocol: str = "grpc", *, keep: bool = True) -> None:
        assert trouble in TROUBLES, trouble
        self.trouble, self.protocol, self.keep = trouble, protocol, keep
        self.count = 0
        self.spans: list[Received] = []
        self.logs: list[ReceivedLog] = []
        self.wire: list[bytes] = []
        self.port = 0
        self._asked = False
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._close = contextlib.ExitStack()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Endpoint:
        if self.trouble == "refused":
            self.port = free_port()
        elif self.trouble in _SILENT:
            self._be_silent()
        else:
            port = self._serve_grpc() if self.protocol == "grpc" else self._serve_http()
            self.port = self._cutting(port) if self.trouble == "reset" else port
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._close.close()

    # What it does with a request.

    def answer(self, kind: str, body: bytes, is_there: Callable[[], bool]) -> Answer | None:
        """How it refuses this request; None where it takes it, which it does only while the client is there."""
        with self._lock:
            first = not self._asked
            self._asked = True
            self.wire += [body] if self.keep else []
        if self.trouble == "recovers" and first:
            return ANSWERS["unavailable"]
        if self.trouble in ANSWERS:
            return ANSWERS[self.trouble]
        if self.trouble == "slow":
            self._over.wait(SLOW)
        self._take(kind, body, is_there)
        return None

    def _take(self, kind: str, body: bytes, is_there: Callable[[], bool]) -> None:
        """Read it first: a busy machine takes its time for that, and a client may give up meanwhile."""
        request = _SERVICES[kind][0].FromString(body)
        spans = spans_of(request) if kind == "traces" and self.keep else []
        logs = logs_of(request, {}) if kind == "logs" and self.keep else []
        with self._lock:
            if not is_there():
                return
            if kind == "traces":
                self.count += sum(len(scope.spans) for group in request.resource_spans for scope in group.scope_spans)
            self.spans += spans
            self.logs += logs

    # gRPC.

    def _serve_grpc(self) -> int:
        server = grpc.server(futures.ThreadPoolExecutor(8))
        server.add_generic_rpc_handlers((_Calls(self),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        self._close.callback(lambda: server.stop(0).wait())
        return port

    # HTTP.

    def _serve_http(self) -> int:
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Posts,), {"endpoint": self}))
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self._close.callback(server.server_close)
        self._close.callback(server.shutdown)
        return server.server_address[1]

    # No answers.

    def _be_silent(self) -> None:
        listener = socket.socket()
        self._close.enter_context(listener)
        listener.bind(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        if self.trouble == "black_hole":
            listener.listen(64)  # the kernel takes connections, and nobody reads
            return
        listener.listen(0)  # with its one place taken, the kernel drops further first packets
        for _ in range(3):
            client = self._close.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", self.port))

    def _cutting(self, target: int) -> int:
        """A port in front of `target` that passes on some bytes of each connection, and resets it."""
        listener = socket.create_server(("127.0.0.1", 0))
        self._close.callback(listener.close)
        self._close.callback(lambda: listener.shutdown(socket.SHUT_RDWR))
        threading.Thread(target=self._accept, args=(listener, target), daemon=True).start()
        return listener.getsockname()[1]

    def _accept(self, listener: socket.socket, target: int) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=_cut, args=(client, target), daemon=True).start()


def _cut(client: socket.socket, target: int) -> None:
    with socket.create_connection(("127.0.0.1", target)) as server, client:
        back = threading.Thread(target=_pass_on, args=(server, client), daemon=True)
        back.start()
        with contextlib.suppress(OSError):
            _pass_on(client, server, CUT_AFTER)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close is a reset
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        back.join()


def _pass_on(source: socket.socket, target: socket.socket, most: int = 1 << 60) -> None:
    with contextlib.suppress(OSError):
        while most and (data := source.recv(min(65536, most))):
            most -= len(data)
            if most:  # the last bytes are kept: the body never gets there whole
                target.sendall(data)


class _Calls(grpc.GenericRpcHandler):
    """Every OTLP service, with requests as their bytes."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def service(self, handler_call_details: Any) -> Any:
        for kind, (_, response) in _SERVICES.items():
            if f"{kind[:-1]}.v1" in handler_call_details.method or f"{kind}.v1" in handler_call_details.method:
                return grpc.unary_unary_rpc_method_handler(partial(self._export, kind, response))
        return None

    def _export(self, kind: str, response: Any, body: bytes, context: Any) -> bytes:
        answer = self._endpoint.answer(kind, body, context.is_active)
        if answer is not None:
            if answer.retry_after:
                info = RetryInfo(retry_delay=Duration(seconds=answer.retry_after))
                context.set_trailing_metadata((("google.rpc.retryinfo-bin", info.SerializeToString()),))
            context.abort(answer.grpc, answer.text)
        return response().SerializeToString()


class _Posts(BaseHTTPRequestHandler):
    endpoint: Endpoint

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        body = self.rfile.read(length)
        if len(body) < length:
            return  # cut off
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        answer = self.endpoint.answer(self.path.rpartition("/")[2], body, self._is_there)
        self.send_response(answer.http if answer else 200, ascii(answer.text) if answer else None)
        if answer and answer.retry_after:
            self.send_header("Retry-After", str(answer.retry_after))
        self.send_header("Content-Length", "0")
        with contextlib.suppress(OSError):  # the client is gone
            self.end_headers()

    def _is_there(self) -> bool:
        """Whether the client still waits: one that has left has closed its connection, which reads as its end."""
        self.connection.setblocking(False)
        try:
            return self.connection.recv(1, socket.MSG_PEEK) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            self.connection.setblocking(True)

    def log_message(self, *_: Any) -> None:
        """Nothing to standard error."""

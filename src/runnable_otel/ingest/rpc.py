"""OTLP over gRPC: spans and logs, with the same limits as over HTTP, into a log; metrics are taken and thrown away."""

from __future__ import annotations

import hmac
import os
import socket
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from errno import EADDRINUSE
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from runnable_otel.ingest import decode
from runnable_otel.ingest.inflate import inflate
from runnable_otel.ingest.limits import BODY_BYTES, Refused
from runnable_otel.ingest.reply import PROTOBUF, reply
from runnable_otel.ingest.waiting import WAITING, Waiting
from runnable_otel.log import EventLog, StoreUnavailable

if TYPE_CHECKING:
    from runnable_otel.ingest import Signal

_SERVICES: Final[dict[str, Signal]] = {
    "opentelemetry.proto.collector.trace.v1.TraceService": "traces",
    "opentelemetry.proto.collector.logs.v1.LogsService": "logs",
}
_METRICS: Final = "opentelemetry.proto.collector.metrics.v1.MetricsService"
"""The SDK's launcher sends metrics to where the spans go: refused, each run would end with an error."""
_REQUESTS: Final = WAITING + 16
"""At once, each with a thread of its own: none stands behind one that waits. The 16 have come, or are leaving."""
_HELD: Final = 64 * 2**20  # of all messages that have come, as over HTTP
_METADATA_BYTES: Final = 16 * 1024
_COMPRESSED: Final = (b"\x1f\x8b", b"\x78")  # gzip and zlib; no OTLP request begins so
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", BODY_BYTES),
    ("grpc.max_metadata_size", _METADATA_BYTES),
    ("grpc.so_reuseport", 0),  # else a second server on the port gets half of what comes, and nobody hears of it
    # The library decompresses a message whole before it measures it: we do it, piece by piece.
    ("grpc.per_message_decompression", 0),
)


class GrpcServer:
    """A server that runs from its making to `stop()`; see `ingest.grpc_server`.

    Attributes:
        port: where it listens.
    """

    def __init__(self, log: EventLog, port: int, host: str, *, token: str | None, patience: float) -> None:
        self._log = log
        self._token = None if token is None else token.encode()
        self._decoding = threading.Lock()  # one request at a time is objects: threads win nothing there
        self._held, self._counting = 0, threading.Lock()
        _check_free(host, port)
        self._server = grpc.server(
            ThreadPoolExecutor(_REQUESTS, "runnable-otel-grpc"), options=_OPTIONS, maximum_concurrent_rpcs=_REQUESTS
        )
        methods = {service: self._method(signal) for service, signal in _SERVICES.items()}
        for service, export in {**methods, _METRICS: self._discard}.items():
            # To the client it is unary. A unary handler is called when the message is there, however long that takes.
            method: Any = cast("Any", grpc).stream_unary_rpc_method_handler(export)
            self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {"Export": method})])
        shown = f"[{host}]" if ":" in host else host
        try:
            self.port: int = self._server.add_insecure_port(f"{shown}:{port}")
        except RuntimeError:
            self.port = 0
        if not self.port:  # another process was faster
            raise OSError(EADDRINUSE, f"port {port} of {host} is in use")
        self._waiting = Waiting(patience)
        self._server.start()

    def stop(self, grace: float = 0.5) -> None:
        """Take no more, and wait at most so many seconds for what is being taken."""
        self._server.stop(grace).wait()
        self._waiting.close()

    def __enter__(self) -> GrpcServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _method(self, signal: Signal) -> Callable[[Iterator[bytes], grpc.ServicerContext], bytes]:
        def export(messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
            self._authorise(context)
            message = self._waiting.first(messages, context)
            try:
                with self._holding(len(message)):
                    with self._decoding:
                        # Its sender has gone, or the server stops, which does not wait for a line of large ones.
                        if not context.is_active():
                            context.abort(grpc.StatusCode.CANCELLED, "The request was given up.")
                        body = inflate(message) if message.startswith(_COMPRESSED) else message
                        decoded = decode(body, PROTOBUF, signal)
                    if decoded.records:
                        self._log.extend(decoded.records)
                    if decoded.alive:
                        self._log.alive(decoded.alive)
            except Refused as error:
                code = grpc.StatusCode.RESOURCE_EXHAUSTED if error.status == 413 else grpc.StatusCode.INVALID_ARGUMENT
                context.abort(code, error.reason)
            except StoreUnavailable as error:
                _abort_for_now(context, error)
            return reply(signal, PROTOBUF, decoded.rejected, decoded.reason)

        return export

    def _discard(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        """Take what is not kept; it is not even decoded."""
        self._authorise(context)
        self._waiting.first(messages, context)
        return b""

    @contextmanager
    def _holding(self, size: int) -> Generator[None, None, None]:
        """Count what is held until it is stored.

        Raises:
            StoreUnavailable: it is too much.
        """
        with self._counting:
            if self._held + size > _HELD:
                raise StoreUnavailable("Too many requests at once.", 1)
            self._held += size
        try:
            yield
        finally:
            with self._counting:
                self._held -= size

    def _authorise(self, context: grpc.ServicerContext) -> None:
        """Turn away who may not write, before anything is waited for."""
        if self._token is None:
            return
        named = (value for name, value in context.invocation_metadata() if name == "authorization")
        scheme, _, given = str(next(named, "")).partition(" ")
        same = hmac.compare_digest(given.strip().encode(), self._token)
        if scheme.lower() != "bearer" or not same:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "A bearer token is needed to send telemetry here.")


def _abort_for_now(context: grpc.ServicerContext, error: StoreUnavailable) -> NoReturn:
    """Say when to come again, as the OTLP specification wants it and as the SDK for Python reads it."""
    info = RetryInfo(retry_delay=Duration(seconds=error.retry_after))
    status = Status(code=grpc.StatusCode.UNAVAILABLE.value[0], message=error.reason)
    status.details.add().Pack(info)
    context.set_trailing_metadata(
        (
            ("grpc-status-details-bin", status.SerializeToString()),
            ("google.rpc.retryinfo-bin", info.SerializeToString()),
        )
    )
    context.abort(grpc.StatusCode.UNAVAILABLE, error.reason)


def _check_free(host: str, port: int) -> None:
    """See that a port can be had: the library only says that it can't, and prints why.

    Raises:
        OSError: it can't.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, kind, protocol, _, address in found[:1]:
        with socket.socket(family, kind, protocol) as probe:
            if os.name == "posix":  # elsewhere it means that the port may be taken away
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
                if port:
                    probe.listen(1)
            except OSError as error:
                if error.errno == EADDRINUSE:
                    raise OSError(EADDRINUSE, f"port {port} of {host} is in use") from None
                raise OSError(error.errno, f"port {port} of {host}: {error.strerror}") from None

"""OTLP in: the bytes of an export request, spans or log records of any source, as events for the log.

`decode` is a function; `grpc_server` waits for requests, and hands what it decodes to a log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from runnable_otel.ingest.inflate import Body, inflate
from runnable_otel.ingest.limits import BODY_BYTES, PATIENCE, Refused, too_large
from runnable_otel.ingest.model import Decoded
from runnable_otel.ingest.reply import JSON, PROTOBUF, media_type, reply

if TYPE_CHECKING:
    from runnable_otel.ingest.rpc import GrpcServer
    from runnable_otel.log import EventLog

__all__ = ["BODY_BYTES", "JSON", "PROTOBUF", "Body", "Decoded", "Refused", "decode", "grpc_server", "inflate", "reply"]

Signal = Literal["traces", "logs"]


def decode(body: bytes, content_type: str, signal: Signal) -> Decoded:
    """The events that an export request holds.

    Args:
        body: the request, decompressed: see `Body`.
        content_type: `application/x-protobuf` or `application/json`.
        signal: what the request exports.

    Raises:
        Refused: 400, it is no OTLP; 413, it is too large, too deep, or holds too much; 415, another content type.
    """
    kind = media_type(content_type)
    if len(body) > BODY_BYTES:
        raise too_large()
    if kind == JSON:
        from runnable_otel.ingest import otlpjson

        return otlpjson.traces(body) if signal == "traces" else otlpjson.logs(body)
    from runnable_otel.ingest import protobuf

    return protobuf.traces(body) if signal == "traces" else protobuf.logs(body)


def grpc_server(
    log: EventLog, port: int = 4317, host: str = "127.0.0.1", *, token: str | None = None, patience: float = PATIENCE
) -> GrpcServer:
    """Serve OTLP/gRPC into a log, until `stop()`.

    Args:
        log: takes what comes.
        port: 0 for one that is free; `GrpcServer.port` says which.
        host: a name or an address of this machine.
        token: what a request must carry as `authorization: Bearer …`; None: nothing.
        patience: seconds that a request's message may take to come.

    Raises:
        OSError: the port is in use, or is not this machine's.
    """
    from runnable_otel.ingest.rpc import GrpcServer

    return GrpcServer(log, port, host, token=token, patience=patience)

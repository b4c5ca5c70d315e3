"""`otlp:`: each event as an OTLP log record, to a live server or any Collector; `otlp-logs:`, what tasks wrote."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from runnable_otel.delivery.endpoints import address, nobody_listens
from runnable_otel.delivery.guard import NO_ANSWER, NO_ANSWER_EITHER
from runnable_otel.delivery.notes import Notes
from runnable_otel.delivery.patience import PATIENCE
from runnable_otel.events import TASK_LOG, Event
from runnable_otel.exporters import HTTP_PACKAGE, draw_apart
from runnable_otel.late import despite_shutdown
from runnable_otel.settings import SettingError, sdk_disabled
from runnable_otel.sinks.otlp_record import record
from runnable_otel.spool.keeping import KEEPER
from runnable_otel.worker import Refused, Unavailable

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.resources import Resource

_HTTP: Final = "http/protobuf"
_GLANCE: Final = 0.1
"""Seconds to see whether nobody listens, once an exporter has failed."""


class OtlpSink:
    """Sends events as log records with the SDK's own exporter: batches are made by the worker before this sink.

    A record's event name is `runnable.{type}`; its body is the event's JSON as one string; its attributes are `uid`,
    `run_id` and `step`. Headers, certificates, compression and time-outs are those of `OTEL_EXPORTER_OTLP_LOGS_*`, else
    `OTEL_EXPORTER_OTLP_*`; `OTEL_RUNNABLE_SINK_TOKEN` becomes the header `Authorization: Bearer …`.

    Args:
        url: `otlp:`, with the endpoint of those variables, or `otlp:http://host:port`, which speaks HTTP unless
            `OTEL_EXPORTER_OTLP_PROTOCOL` says grpc.

    Raises:
        SettingError: the protocol is not known, or its package is not installed.
        ValueError: the URL names no endpoint.
    """

    slow = True
    signs_of_life = True

    def __init__(self, url: str) -> None:
        self._protocol, self._endpoint = _target(url)
        self._make_record: Callable[[Event], ReadableLogRecord] = lambda event: record(event, _own_resource())
        self._exporter: Any = None
        self._pid = 0
        self._notes = Notes(self._stop_waiting)
        self._hurried = self._given_up = False
        self._why = ""

    @property
    def address(self) -> str:
        """`host:port` of the endpoint; empty where nothing names one."""
        return address(self._endpoint or logs_endpoint())

    @property
    def gone(self) -> str:
        """Why nobody can be reached there, where the end of the process has found that out; else empty."""
        dead = PATIENCE.endpoint(self.address).dead
        return "" if dead in (NO_ANSWER, NO_ANSWER_EITHER) else dead

    def emit(self, event: Event) -> None:
        """Send one event; see `emit_batch`."""
        self.emit_batch([event])

    def emit_batch(self, events: Sequence[Event]) -> None:
        """Send events in one request.

        Raises:
            Unavailable: the endpoint is away, and the exporter has tried for its time-out; they may be sent again.
            Refused: it will never take them, for the reason that it gives.
            RuntimeError: they were not taken.
        """
        if self._given_up:
            raise Unavailable(self._why)
        error = self._send(events)
        if self._hurried and isinstance(error, Unavailable):
            error = self._send(events)  # it may have come back while the exporter waited; over a new connection
            self._given_up = isinstance(error, Unavailable)
        if isinstance(error, Unavailable):
            self._why = self.gone or nobody_listens(self.address, _GLANCE) or str(error)
            error = Unavailable(self._why)
        if error is not None:
            raise error

    def keep(self, events: Sequence[Event]) -> str | None:
        """Put events that could not be sent into the spool; see `Keeper.keep`."""

        def encoded() -> Message:
            from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs

            return encode_logs([self._make_record(event) for event in events])

        return KEEPER.keep("logs", self.address, lambda: despite_shutdown(encoded))

    def hurry(self) -> None:
        """The process ends: an endpoint that is away is tried once more, at once, and never again."""
        self._hurried = True
        if self._notes.away:
            self._stop_waiting()

    def close(self) -> None:
        """Let go of the connection."""
        self._hurried = True
        exporter, self._exporter = self._exporter, None
        if exporter is not None and self._pid == os.getpid():
            with self._notes:
                exporter.shutdown()

    def _send(self, events: Sequence[Event]) -> Exception | None:
        # Open it the first time; in a forked child, since a connection can't be shared; and after `_stop_waiting`.
        if self._pid != os.getpid() or getattr(self._exporter, "_shutdown", False):
            self._open()
        with self._notes:
            result = self._exporter.export([self._make_record(event) for event in events])
        if result.name == "SUCCESS":
            PATIENCE.succeeded(PATIENCE.endpoint(self.address), ours=True)
            KEEPER.replay("logs", self.address, self._send_again)
            return None
        if self._notes.away:
            return Unavailable(self._notes.last)
        return (Refused if self._notes.refused else RuntimeError)(self._notes.last or "not exported")

    def _send_again(self, records: Sequence[ReadableLogRecord]) -> bool:
        """Send records of the spool; whether they were taken."""
        with self._notes:
            return self._exporter.export(records).name == "SUCCESS"

    def _stop_waiting(self) -> None:
        """End the exporter's wait before it tries again, if the process ends."""
        exporter = self._exporter
        if self._hurried and exporter is not None and not getattr(exporter, "_shutdown", False):
            exporter.shutdown()

    def _open(self) -> None:
        """Make the exporter here, on the worker's thread: gRPC is slow to import."""
        from runnable_otel.resource import RunnableResourceDetector

        if self._pid != os.getpid():
            resource = despite_shutdown(_sdk_resource).merge(RunnableResourceDetector().detect())
            self._make_record = lambda event: record(event, resource)
        self._exporter = despite_shutdown(lambda: _exporter(self._protocol, self._endpoint, _headers(os.environ)))
        self._pid = os.getpid()


class OtlpLogsSink(OtlpSink):
    """`otlp-logs:`: as `otlp:`, of what tasks wrote, and of nothing else."""

    signs_of_life = False
    takes = frozenset({TASK_LOG})


def takes_logs(sinks: Iterable[object], environ: Mapping[str, str] | None = None) -> bool:
    """Whether `otlp-logs:` has a use: the environment names an endpoint, and none of these sinks sends to one."""
    environ = os.environ if environ is None else environ
    endpoints = ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    exporters = environ.get("OTEL_LOGS_EXPORTER") or "otlp"
    wanted = any(map(environ.get, endpoints)) and "otlp" in exporters and not sdk_disabled(environ)
    return wanted and not any(isinstance(sink, OtlpSink) for sink in sinks)


def _sdk_resource() -> Resource:
    from opentelemetry.sdk.resources import Resource

    return Resource.create()


def _own_resource() -> Any:
    """What we know without the SDK's detectors, which it asks in threads: for events that the end overtakes."""
    from runnable_otel.resource import RunnableResourceDetector

    return RunnableResourceDetector().detect()


def logs_endpoint() -> str:
    """The OTLP endpoint for logs that the environment names, or the empty string."""
    environ = os.environ
    return environ.get("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or ""


def log_exporter(url: str) -> Any:
    """The exporter of log records that the sink of a URL uses.

    Raises:
        SettingError: the protocol is not known, or its package is not installed.
        ValueError: the URL names no endpoint.
    """
    return _exporter(*_target(url), _headers(os.environ))


def _target(url: str) -> tuple[str, str | None]:
    """Protocol and endpoint; without one in the URL the exporter reads the variables, which it knows to complete."""
    base = _endpoint(url)
    protocol = _protocol(url, _HTTP if base else "grpc")
    return protocol, f"{base}/v1/logs" if base and protocol == _HTTP else base or None


def _endpoint(url: str) -> str:
    """`http://host:port` of `otlp:http://host:port`, or the empty string for `otlp:`."""
    base = url.partition(":")[2].strip().rstrip("/")
    if not base:
        return ""
    parts = urlsplit(base)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("expected otlp: or otlp:http://host:port")
    if "@" in parts.netloc:
        raise ValueError("credentials belong into OTEL_RUNNABLE_SINK_TOKEN")
    parts.port  # noqa: B018 - raises ValueError where it is no number
    return base.removesuffix("/v1/logs")


def _protocol(url: str, default: str, environ: Mapping[str, str] | None = None) -> str:
    """The OTLP protocol for logs that the environment names.

    Raises:
        SettingError: it is not known, or its package is not installed.
    """
    environ = os.environ if environ is None else environ
    variables = ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    variable = next((name for name in variables if environ.get(name, "").strip()), variables[1])
    protocol = (environ.get(variable) or default).strip().lower()
    if protocol not in ("grpc", _HTTP):
        raise SettingError(variable, protocol, f"grpc or {_HTTP} for the events")
    if protocol == _HTTP and find_spec("opentelemetry.exporter.otlp.proto.http") is None:
        raise SettingError("RUNNABLE_OTEL_SINKS", url, HTTP_PACKAGE, says="needs")
    return protocol


def _headers(environ: Mapping[str, str]) -> dict[str, str] | None:
    """The variables' headers and our token; None where there is no token, and the exporter reads the variables."""
    from opentelemetry.util.re import parse_env_headers

    token = environ.get("OTEL_RUNNABLE_SINK_TOKEN", "").strip()
    if not token:
        return None
    named = environ.get("OTEL_EXPORTER_OTLP_LOGS_HEADERS") or environ.get("OTEL_EXPORTER_OTLP_HEADERS") or ""
    return {**parse_env_headers(named, liberal=True), "authorization": f"Bearer {token}"}


def _exporter(protocol: str, endpoint: str | None, headers: dict[str, str] | None) -> Any:
    made = _made(protocol, endpoint, headers)
    draw_apart()
    return made


def _made(protocol: str, endpoint: str | None, headers: dict[str, str] | None) -> Any:
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter

        # Channels share their connections, and with them the pause after a failure, unless told not to: a new exporter
        # has to find an endpoint that has just come back.
        own: Any = (("grpc.use_local_subchannel_pool", 1),)
        return OTLPLogExporter(endpoint=endpoint, headers=headers, channel_options=own)
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HTTPLogExporter

    return HTTPLogExporter(endpoint=endpoint, headers=headers)

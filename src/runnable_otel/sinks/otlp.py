"""`otlp:`: each event as an OTLP log record, to a live server or any Collector."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.context import Context

from runnable_otel._version import __version__
from runnable_otel.events import PIPELINE_COMPLETED, TASK_ERROR, Event
from runnable_otel.semconv import SCOPE
from runnable_otel.settings import SettingError

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadableLogRecord

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_HTTP: Final = "http/protobuf"
_ATTRIBUTES: Final = ("run_id", "step")


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

    def __init__(self, url: str) -> None:
        base = _endpoint(url)
        self._protocol = _protocol(url, _HTTP if base else "grpc")
        # Without an endpoint of its own the exporter reads the variables, and knows what to add to which.
        self._endpoint = f"{base}/v1/logs" if base and self._protocol == _HTTP else base or None
        self._export: Callable[[Sequence[ReadableLogRecord]], str] | None = None
        self._make_record: Callable[[Event], ReadableLogRecord] = lambda event: record(event, None)
        self._exporter: Any = None
        self._pid = 0
        self._notes = _Notes(self._stop_waiting)
        self._hurried = False

    def emit(self, event: Event) -> None:
        """Send one event."""
        self.emit_batch([event])

    def emit_batch(self, events: Sequence[Event]) -> None:
        """Send events in one request.

        Raises:
            RuntimeError: the exporter has given up on them, for the reason that it says.
        """
        if self._pid != os.getpid():  # the first time, and in a forked child: a connection can't be shared
            self._open()
        if self._hurried and self._notes.failing:
            self._stop_waiting()
        with self._notes:
            result = self._exporter.export([self._make_record(event) for event in events])
        if result.name != "SUCCESS":
            raise RuntimeError(self._notes.last or "not exported")
        self._notes.failing, self._notes.last = False, ""

    def hurry(self) -> None:
        """The process ends: what an endpoint has refused is not tried again."""
        self._hurried = True
        if self._notes.failing:
            self._stop_waiting()

    def close(self) -> None:
        """Let go of the connection."""
        self._hurried = True
        exporter, self._exporter = self._exporter, None
        if exporter is not None and self._pid == os.getpid():
            with self._notes:
                exporter.shutdown()

    def _stop_waiting(self) -> None:
        """End the exporter's wait before it tries again, and all that comes after, if the process ends."""
        exporter = self._exporter
        if self._hurried and exporter is not None and not getattr(exporter, "_shutdown", False):
            exporter.shutdown()

    def _open(self) -> None:
        """Make the exporter here, on the worker's thread: gRPC is slow to import."""
        from opentelemetry.sdk.resources import Resource

        from runnable_otel.resource import RunnableResourceDetector

        resource = Resource.create().merge(RunnableResourceDetector().detect())
        self._exporter = _exporter(self._protocol, self._endpoint, _headers(os.environ))
        self._make_record = lambda event: record(event, resource)
        self._notes.failing = False
        self._pid = os.getpid()


class _Notes(logging.Filter):
    """What the exporter says while we wait for it: kept, and not logged, since the worker says it once a minute.

    `with` it, records of this thread are caught, those of other threads (the user's own exporters) pass.
    """

    _LOGGERS = (
        "opentelemetry.exporter.otlp.proto.grpc.exporter",
        "opentelemetry.exporter.otlp.proto.http._log_exporter",
    )

    def __init__(self, on_failure: Callable[[], None]) -> None:
        super().__init__()
        self._on_failure = on_failure
        self._thread: int | None = None
        self.last = ""
        self.failing = False

    def __enter__(self) -> None:
        self._thread = threading.get_ident()
        for name in self._LOGGERS:
            logging.getLogger(name).filters.insert(0, self)  # before the SDK's own filter of repeated lines

    def __exit__(self, *_: object) -> None:
        for name in self._LOGGERS:
            logging.getLogger(name).removeFilter(self)
        self._thread = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is another's."""
        if record.thread != self._thread:
            return True
        if "hutdown" not in record.getMessage():  # that is only what `hurry` makes of the reason before
            self.last = record.getMessage()
        if not self.failing:
            self.failing = True
            self._on_failure()
        return False


def record(event: Event, resource: Any) -> ReadableLogRecord:
    """An event as a log record of the SDK's."""
    from opentelemetry._logs import LogRecord, SeverityNumber
    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    fields = event.fields
    failed = event.type == TASK_ERROR or (event.type == PIPELINE_COMPLETED and fields.get("status") == "error")
    known = {name: _text(fields[name]) for name in _ATTRIBUTES if fields.get(name)}
    made = LogRecord(
        timestamp=_nanoseconds(fields.get("time")),
        observed_timestamp=time.time_ns(),
        context=_context(fields),
        severity_number=SeverityNumber.ERROR if failed else SeverityNumber.INFO,
        body=_text(event.to_json()),
        attributes={"uid": _text(event.uid), **known},
        event_name=_text(f"runnable.{event.type}"),
    )
    return ReadableLogRecord(made, resource, InstrumentationScope(SCOPE, __version__))


def _text(value: object) -> str:
    """Text that protobuf takes: a lone surrogate would cost the whole batch."""
    return str(value).encode("utf-8", "replace").decode()


def _nanoseconds(text: object) -> int:
    """RFC 3339 as nanoseconds since 1970; now where it is none."""
    try:
        moment = datetime.fromisoformat(str(text).replace("Z", "+00:00"))
        return (moment - _EPOCH) // timedelta(microseconds=1) * 1000
    except (ValueError, TypeError):
        return time.time_ns()


def _context(fields: Mapping[str, Any]) -> Context:
    """A context with the event's span in it, which is where a log record has its trace id from."""
    try:
        ids = int(str(fields["trace_id"]), 16), int(str(fields["span_id"]), 16)
    except (KeyError, ValueError):
        ids = 0, 0
    span = trace.NonRecordingSpan(trace.SpanContext(*ids, is_remote=False))
    return trace.set_span_in_context(span, Context({"runnable_otel": True}))  # an empty one would be taken for none


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
        package = "opentelemetry-exporter-otlp-proto-http"
        raise SettingError("RUNNABLE_OTEL_SINKS", url, f"{package} for {_HTTP}: pip install 'runnable-otel[http]'")
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
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter

        return OTLPLogExporter(endpoint=endpoint, headers=headers)
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HTTPLogExporter

    return HTTPLogExporter(endpoint=endpoint, headers=headers)

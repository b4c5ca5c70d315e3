"""Span exporters as the environment names them; each package is imported only when it is named."""

from __future__ import annotations

import logging
import os
import random
import re
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Final

from opentelemetry.sdk.trace.export import SpanExporter

from runnable_otel.settings import SettingError
from runnable_otel.tracing import endpoint, protocol

logger = logging.getLogger(__name__)

_LOGFIRE = "https://logfire-{region}.pydantic.dev"
HTTP_PACKAGE = "opentelemetry-exporter-otlp-proto-http: pip install 'runnable-otel[http]'"
"""What OTLP over HTTP needs."""


_RETRYING: Final = ("opentelemetry.exporter.otlp.proto.grpc.exporter", "opentelemetry.exporter.otlp.common.http")
_RANDOM: Final = random.SystemRandom()


def draw_apart() -> None:
    """Have the OTLP exporters that are loaded draw the jitter of their retries from a generator of their own.

    They draw it from the module `random`, on a thread of theirs: what a task that has called `random.seed` draws next
    would depend on whether an endpoint answers. It stays so for good: an exporter that was made may try again for long.
    """
    for name in _RETRYING:
        module = sys.modules.get(name)
        if getattr(module, "random", None) is random:
            vars(module)["random"] = _RANDOM


def exporters(environ: Mapping[str, str] | None = None) -> list[SpanExporter]:
    """The exporters that `OTEL_TRACES_EXPORTER` names; OTLP where it names none and there is an endpoint.

    Raises:
        SettingError: an exporter, or the protocol of OTLP, is not known or not installed.
    """
    environ = os.environ if environ is None else environ
    named = environ.get("OTEL_TRACES_EXPORTER") or ("otlp" if endpoint(environ) else "none")
    names = dict.fromkeys(name.strip().lower() for name in named.split(",") if name.strip())
    return [] if "none" in names else [_exporter(name, environ) for name in names]


def _exporter(name: str, environ: Mapping[str, str]) -> SpanExporter:
    if name == "otlp":
        return otlp_exporter(protocol(environ))
    if name == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter()
    for entry in entry_points(group="opentelemetry_traces_exporter", name=name):
        make: Callable[[], SpanExporter] = entry.load()
        return make()
    known = sorted({"otlp", "console", "none"} | {e.name for e in entry_points(group="opentelemetry_traces_exporter")})
    raise SettingError("OTEL_TRACES_EXPORTER", name, f"one of {', '.join(known)}")


def otlp_exporter(protocol: str) -> SpanExporter:
    """The OTLP exporter of a protocol; endpoint, headers and certificates are read by the exporter itself.

    Raises:
        SettingError: the protocol is not known, or its package is not installed.
    """
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter()
    if protocol == "http/protobuf":
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HTTPSpanExporter
        except ImportError as error:
            raise SettingError("OTEL_EXPORTER_OTLP_PROTOCOL", protocol, HTTP_PACKAGE, says="needs") from error
        return HTTPSpanExporter()
    raise SettingError("OTEL_EXPORTER_OTLP_PROTOCOL", protocol, "grpc or http/protobuf")


def logfire_exporter(token: str, environ: Mapping[str, str] | None = None) -> SpanExporter:
    """The exporter to Logfire, for a token, without the logfire package. The token's own text names the region.

    Raises:
        SettingError: the package of OTLP over HTTP, which is all that Logfire speaks, is not installed.
    """
    environ = os.environ if environ is None else environ
    region = re.match(r"pylf_v\d+_([a-z]+)_", token)
    base = environ.get("LOGFIRE_BASE_URL") or _LOGFIRE.format(region=region[1] if region else "us")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise SettingError("LOGFIRE_TOKEN", "…", HTTP_PACKAGE, says="needs") from error
    return OTLPSpanExporter(endpoint=f"{base.rstrip('/')}/v1/traces", headers={"Authorization": token})

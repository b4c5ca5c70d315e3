"""Who owns the provider that runnable's spans would go to now, and what hangs on it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.trace import TracerProvider

from runnable_otel.doctor.finding import Finding
from runnable_otel.exporters import logfire_exporter
from runnable_otel.provider import OWNER
from runnable_otel.settings import SettingError, activated, sdk_disabled
from runnable_otel.telemetry import TELEMETRY
from runnable_otel.tracing import endpoint, logfire_speaks_wrong_protocol, processors, sdk_provider


def ownership(_: Callable[[], None]) -> Iterator[Finding]:
    """Which provider it is, and whether each span would leave exactly once."""
    tracing = TELEMETRY.tracing
    by_logfire, by_user = tracing.configured_logfire(), tracing.global_provider()
    provider = tracing.provider()
    if sdk_provider(provider) is None:
        yield _nobody(provider)
        return
    owner = "is ours, made for this environment"
    if provider is tracing.explicit:
        owner = "is the one that instrument() was given"
    elif provider is by_logfire:
        owner = "is logfire's, which code configured"
    elif provider is by_user:
        owner = "is the global one, set by code or by opentelemetry-instrument"
    yield Finding("ok", "provider", owner)
    if by_logfire is not None and by_user is not None and provider is not by_user and provider is not by_logfire:
        yield Finding("note", "provider", "there are two more: logfire's and the global one")
    yield from _duplicates(provider)
    yield from _logfire(provider)
    if by_logfire is not None and logfire_speaks_wrong_protocol():
        yield Finding(
            "wrong",
            "logfire",
            f"exports over HTTP to {_shown(endpoint())}, which OTEL_EXPORTER_OTLP_PROTOCOL says speaks grpc: "
            "set OTEL_TRACES_EXPORTER=none, and give logfire.configure an exporter of your own",
        )


def _logfire(provider: TracerProvider) -> Iterator[Finding]:
    """Whether a run could send to Logfire, where a token asks for it and logfire itself does not see to it."""
    token = os.environ.get("LOGFIRE_TOKEN")
    if not token or sdk_provider(provider) is not provider or sdk_disabled():
        return
    try:
        logfire_exporter(token).shutdown()
    except SettingError as error:
        yield Finding("wrong", "logfire", f"nothing is sent to it: {error}")
    else:
        yield Finding("ok", "logfire", "gets the spans, and is not asked")


def _nobody(provider: TracerProvider) -> Finding:
    if sdk_disabled() or not activated():
        return Finding("note", "provider", "nobody has set one, and no variable asks for ours: there are no spans")
    if isinstance(provider, trace.ProxyTracerProvider):
        return Finding("wrong", "provider", f"could not be made: {OWNER.failed}")
    return Finding(
        "warning", "provider", f"is none of the SDK's ({type(provider).__name__}): its exporters are not known"
    )


def _duplicates(provider: TracerProvider) -> Iterator[Finding]:
    places = Counter(_place(each) for each in exporters(provider))
    for place, number in places.items():
        if number > 1 and place:
            yield Finding(
                "wrong",
                "exporters",
                f"{number} send each span to {place}: it arrives {number} times; take one out, or set "
                "OTEL_TRACES_EXPORTER=none where the other one is in code",
            )
    if not places and activated() and endpoint():
        yield Finding("warning", "exporters", "there is an endpoint, and the provider of the spans has no exporter")


def exporters(provider: TracerProvider) -> list[Any]:
    """The span exporters behind the processors of a provider, as far as these are the SDK's or wrap one."""
    found: list[Any] = []
    for processor in processors(provider):
        batch = getattr(processor, "_batch_processor", None)
        exporter = getattr(processor, "span_exporter", None) or getattr(batch, "_exporter", None)
        while exporter is not None and getattr(exporter, "wrapped_exporter", None) is not None:
            exporter = exporter.wrapped_exporter  # logfire's own wrappers
        if exporter is not None and not any(exporter is each for each in found):
            found.append(exporter)
    return found


def _place(exporter: Any) -> str:
    """`host:port` of an OTLP exporter, whatever its protocol; empty for any other."""
    url = getattr(exporter, "_endpoint", None)
    if not isinstance(url, str):
        return ""
    parts = urlsplit(url if "://" in url else f"//{url}")
    try:
        return f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
    except ValueError:
        return _shown(url)


def _shown(url: str) -> str:
    return TELEMETRY.redactor.text(url)

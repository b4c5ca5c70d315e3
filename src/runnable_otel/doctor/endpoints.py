"""What the endpoints answer to an empty request, by the very exporters that a run would use."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

from runnable_otel.doctor.finding import Finding
from runnable_otel.doctor.ownership import exporters
from runnable_otel.settings import SettingError, Settings, sdk_disabled
from runnable_otel.sinks import open_sink
from runnable_otel.telemetry import TELEMETRY

SECONDS: Final = 3.0
"""How long an endpoint may take to answer."""
_LOGGER: Final = "opentelemetry.exporter.otlp"
_OTHER: Final = "it does not speak this protocol there: see OTEL_EXPORTER_OTLP_PROTOCOL"
_MEANINGS: Final = {
    "refused": "nobody listens there",
    "UNAUTHENTICATED": "it wants credentials: see OTEL_EXPORTER_OTLP_HEADERS",
    "401": "it wants credentials: see OTEL_EXPORTER_OTLP_HEADERS",
    "PERMISSION_DENIED": "the credentials are not the right ones: see OTEL_EXPORTER_OTLP_HEADERS",
    "403": "the credentials are not the right ones: see OTEL_EXPORTER_OTLP_HEADERS",
    "UNIMPLEMENTED": "it does not take this signal",
    "404": "it does not take this signal at this path",
    "BadStatusLine": _OTHER,
    "Connection aborted": _OTHER,
    "Socket closed": _OTHER,
    "http2": _OTHER,
    "SETTINGS frame": _OTHER,
}
"""What a piece of an exporter's words means to a user; the first that is there counts."""


class _Listener(logging.Handler):
    """Hears what an exporter says of the endpoint: its first word is the reason, what follows are its retries."""

    def __init__(self) -> None:
        super().__init__()
        self.said = ""
        self.heard = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.said = self.said or record.getMessage()
        self.heard.set()


def spans(_: Callable[[], None]) -> Iterator[Finding]:
    """Each OTLP exporter of the provider that runnable's spans go to."""
    asked: set[tuple[str, str]] = set()
    for exporter in exporters(TELEMETRY.tracing.provider()) if not sdk_disabled() else ():
        url = getattr(exporter, "_endpoint", None)
        if not isinstance(url, str):
            yield Finding("ok", "spans", f"go to {type(exporter).__name__}, which is not asked")
        elif (kind := type(exporter).__module__, url) not in asked:
            asked.add((kind, url))
            yield _asked(f"spans to {TELEMETRY.redactor.text(url)}", lambda exporter=exporter: exporter.export([]))


def sinks(_: Callable[[], None]) -> Iterator[Finding]:
    """Each sink of `RUNNABLE_OTEL_SINKS`; one that speaks to an endpoint asks it."""
    try:
        urls = Settings.read().sinks
    except SettingError:
        return  # said above
    for url in urls:
        if url.partition(":")[0].lower() == "file":
            yield Finding("ok", f"events to {url}", "not opened: it would make the file")
            continue
        try:
            sink: Any = open_sink(url)
        except SettingError as error:
            yield Finding("wrong", "events", str(error))
            continue
        if hasattr(sink, "emit_batch") and hasattr(sink, "hurry"):
            sink.hurry()
            yield _asked(f"events to {url}", lambda sink=sink: sink.emit_batch([]))
        else:
            yield Finding("ok", f"events to {url}", f"{type(sink).__name__} opens")
        with suppress(Exception):  # a third party's
            sink.close()


def _asked(what: str, ask: Callable[[], Any]) -> Finding:
    """Ask on a daemon thread: an endpoint that never answers holds nobody."""
    started, listener = time.monotonic(), _Listener()

    def run() -> None:
        try:
            ask()
        except Exception as error:  # noqa: BLE001 - a sink says so that it failed
            listener.said = listener.said or str(error) or type(error).__name__
        listener.heard.set()

    logger = logging.getLogger(_LOGGER)
    logger.addHandler(listener)
    try:
        threading.Thread(target=run, name="runnable-otel-doctor", daemon=True).start()
        answered = listener.heard.wait(SECONDS)
    finally:
        logger.removeHandler(listener)
    if not answered:
        return Finding("wrong", what, f"no answer within {SECONDS:g} s: is that the address, and does it speak OTLP?")
    if listener.said:
        return Finding("wrong", what, _reason(TELEMETRY.redactor.text(listener.said)))
    return Finding("ok", what, f"answers, in {(time.monotonic() - started) * 1000:.0f} ms")


def _reason(said: str) -> str:
    """The exporter's words, with what they mean in front where that is known."""
    return next((f"{meaning} ({said})" for mark, meaning in _MEANINGS.items() if _is_in(mark, said)), said)


def _is_in(mark: str, said: str) -> bool:
    # A status is a number of its own: those of ports and addresses may hold its digits.
    return bool(re.search(rf"(?<![\d.:]){mark}(?![\d.:])", said)) if mark.isdigit() else mark in said

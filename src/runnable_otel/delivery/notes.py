"""What the SDK's exporters say in their log when they fail: they tell their caller only that they did."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from typing import Final

# What the SDK's exporters say of an endpoint that can't be reached, or is busy: what failed so may be sent again, see
# the OTLP specification, "Failures". A message that is larger than the endpoint takes is busy for ever.
_AWAY: Final = re.compile(
    "^Transient|due to timeout|batch code: None|already shutdown"
    r"|error code: StatusCode\.(CANCELLED|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED|ABORTED|OUT_OF_RANGE|UNAVAILABLE"
    "|DATA_LOSS)"
)
_TOO_LARGE: Final = "larger than max"
# What an endpoint will never take, whoever asks and whenever: not for want of credentials, or at another path.
_REFUSED: Final = re.compile(
    r"batch code: 4(00|13|15|22)|error code: StatusCode\.INVALID_ARGUMENT|exceeds max_request_size"
)

LOGGERS: Final = (
    "opentelemetry.exporter.otlp.proto.grpc.exporter",
    "opentelemetry.exporter.otlp.proto.http._log_exporter",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
)


class Notes(logging.Filter):
    """What the exporter says while we wait for it.

    `with` it, records of this thread are noted, those of other threads pass.

    Args:
        on_away: called when an exporter has said that its endpoint is away, on the thread that it says so on.
        quiet: whether the records go no further: who keeps them says it once a minute.

    Attributes:
        last: what it said last.
        away: that was that the endpoint is away; else it has refused what it got, or all is well.
    """

    def __init__(self, on_away: Callable[[], None] = lambda: None, *, quiet: bool = True) -> None:
        super().__init__()
        self._on_away, self._quiet = on_away, quiet
        self._thread: int | None = None
        self.last = ""
        self.away = False

    @property
    def refused(self) -> bool:
        """Whether the endpoint is there, and will never take what it got."""
        return _TOO_LARGE in self.last or _REFUSED.search(self.last) is not None

    def __enter__(self) -> None:
        self.last, self.away = "", False
        self._thread = threading.get_ident()
        for name in LOGGERS:
            logging.getLogger(name).filters.insert(0, self)  # before the SDK's own filter of repeated lines

    def __exit__(self, *_: object) -> None:
        for name in LOGGERS:
            logging.getLogger(name).removeFilter(self)
        self._thread = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record goes on to who listens."""
        if record.thread != self._thread:
            return True
        message = record.getMessage()
        if "hutdown" not in message or not self.last:  # else that is what a stop makes of the reason before
            self.last = message
            self.away = _AWAY.search(message) is not None and _TOO_LARGE not in message
        if self.away:
            self._on_away()
        return not self._quiet

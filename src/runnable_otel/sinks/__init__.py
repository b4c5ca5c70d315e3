"""Where events go: the `Sink` protocol, the URL table, and the hub that hands each event to every sink once."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Final, Protocol, runtime_checkable

from runnable_otel.events import Event
from runnable_otel.settings import SettingError

logger = logging.getLogger(__name__)

GROUP: Final = "runnable_otel_sink"
"""Entry-point group: name = URL scheme, value = `module:callable`; the callable takes the URL and returns a sink."""


@runtime_checkable
class Sink(Protocol):
    """What gets events. `emit` is called on the user's thread: it must not block, and what it raises is counted."""

    def emit(self, event: Event) -> None:
        """Take one event."""
        ...

    def close(self) -> None:
        """Hand on what is held, and let go; may be called twice."""
        ...


BUILT_IN: dict[str, str] = {
    "console": "runnable_otel.sinks.console:ConsoleSink",
    "file": "runnable_otel.sinks.file:FileSink",
}
"""URL scheme to `module:callable` of the sinks in this package."""


def open_sink(url: str) -> Sink:
    """The sink that a URL names.

    Raises:
        SettingError: no sink has that scheme, or the one that has it can't be made. The message lists the known ones.
    """
    scheme = url.partition(":")[0].lower()
    makers: dict[str, Callable[[], Callable[[str], Sink]]] = {
        name: lambda target=target: _load(target) for name, target in BUILT_IN.items()
    }
    for entry in entry_points(group=GROUP):
        makers.setdefault(entry.name, entry.load)
    if scheme not in makers:
        raise SettingError("RUNNABLE_OTEL_SINKS", url, f"a URL of one of {', '.join(f'{m}:' for m in sorted(makers))}")
    try:
        return makers[scheme]()(url)
    except Exception as error:  # a third party's code: whatever it raises is the reason
        raise SettingError("RUNNABLE_OTEL_SINKS", url, f"a sink that can be opened ({error})") from error


def _load(target: str) -> Callable[[str], Sink]:
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


class Hub:
    """Hands each event to the caller's queue and to every sink, and counts what they would not take."""

    def __init__(self) -> None:
        self._sinks: tuple[Sink, ...] = ()
        self._lock = threading.Lock()
        self._warned_at: dict[str, float] = {}
        self.dropped: Counter[str] = Counter()
        self.on_drop: Callable[[str], None] = lambda reason: None

    @property
    def sinks(self) -> tuple[Sink, ...]:
        return self._sinks

    def add(self, sinks: Iterable[Sink]) -> None:
        """Add sinks; one that is there already is not added again."""
        with self._lock:
            self._sinks += tuple(sink for sink in sinks if not any(sink is known for known in self._sinks))

    def remove(self, sinks: Iterable[Sink]) -> None:
        """Take sinks out again, without closing them."""
        gone = tuple(sinks)
        with self._lock:
            self._sinks = tuple(sink for sink in self._sinks if not any(sink is each for each in gone))

    def emit(self, event: Event, queue: Any = None) -> None:
        """Hand on one event. Never blocks on a full queue, never raises."""
        if queue is not None:
            self._guarded("queue", queue.put_nowait, event.to_dict())
        for sink in self._sinks:
            self._guarded(type(sink).__name__, sink.emit, event)

    def put(self, item: Any, queue: Any) -> None:
        """Put a task's own event into the caller's queue, unchanged."""
        self._guarded("queue", queue.put_nowait, item)

    def close(self) -> None:
        """Close every sink, and keep none."""
        with self._lock:
            sinks, self._sinks = self._sinks, ()
        for sink in sinks:
            self._guarded(type(sink).__name__, sink.close)

    def _guarded(self, reason: str, function: Callable[..., Any], *arguments: Any) -> None:
        try:
            function(*arguments)
        except Exception as error:  # noqa: BLE001 - a sink's failure is never the task's
            self.dropped[reason] += 1
            self.on_drop(reason)
            self._say(reason, error)

    def _say(self, reason: str, error: Exception) -> None:
        now = time.monotonic()
        if now - self._warned_at.get(reason, -60.0) >= 60.0:
            self._warned_at[reason] = now
            logger.warning(
                "%s took no event (%s); %d dropped so far", reason, type(error).__name__, self.dropped[reason]
            )

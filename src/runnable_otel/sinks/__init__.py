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
from runnable_otel.worker import Worker

logger = logging.getLogger(__name__)

GROUP: Final = "runnable_otel_sink"
"""Entry-point group: name = URL scheme, value = `module:callable`; the callable takes the URL and returns a sink."""


@runtime_checkable
class Sink(Protocol):
    """What gets events: `emit` is called for each, `close` once at the end, and what they raise is counted.

    A sink that writes to a disk, a terminal or a network says `slow = True` as a class attribute. It is then called on
    a thread of its own, behind a bounded queue (`worker.Worker`), one call at a time; where it has a method
    `emit_batch(events)`, that is called instead of `emit`, with up to 512 events, and where it has `hurry()`, that is
    called, on another thread, when the process ends. What it could not deliver in the end is given to `keep(events)`,
    where it has that: it returns the empty string if it keeps them, else None. One with `takes`, a set of types, gets
    events of these only. Without `slow`, `emit` runs on the user's thread and must not block.

    One that says `signs_of_life = True` gets an event of type `sign_of_life` every ten seconds for what is open in this
    process, which is no fact and need not be stored.
    """

    def emit(self, event: Event) -> None:
        """Take one event."""
        ...

    def close(self) -> None:
        """Hand on what is held, and let go; may be called twice."""
        ...


BUILT_IN: dict[str, str] = {
    "console": "runnable_otel.sinks.console:ConsoleSink",
    "file": "runnable_otel.sinks.file:FileSink",
    "memory": "runnable_otel.sinks.memory:MemorySink",
    "otlp": "runnable_otel.sinks.otlp:OtlpSink",
    "otlp-logs": "runnable_otel.sinks.otlp:OtlpLogsSink",
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
        raise SettingError("RUNNABLE_OTEL_SINKS", url, one_of(makers))
    try:
        return makers[scheme]()(url)
    except SettingError:  # says itself which setting it is
        raise
    except Exception as error:  # a third party's code: whatever it raises is the reason
        raise SettingError("RUNNABLE_OTEL_SINKS", url, f"a sink that can be opened ({error})") from error


def one_of(schemes: Iterable[str]) -> str:
    """What a URL with an unknown scheme should have been; without the sink that we open by ourselves."""
    return f"a URL of one of {', '.join(f'{scheme}:' for scheme in sorted({*schemes} - {'otlp-logs'}))}"


def _load(target: str) -> Callable[[str], Sink]:
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


class Hub:
    """Hands each event to the caller's queue and to every sink, and counts what they would not take."""

    def __init__(self) -> None:
        self._doors: tuple[Sink | Worker, ...] = ()  # each sink, or the worker before it
        self._owners: Counter[int] = Counter()  # of each sink that a URL opened, by its id: how often
        self._by_url: dict[str, Sink] = {}
        self._lock = threading.Lock()
        self._warned_at: dict[str, float] = {}
        self.dropped: Counter[str] = Counter()
        self.on_drop: Callable[[str], None] = lambda reason: None

    @property
    def sinks(self) -> tuple[Sink, ...]:
        return tuple(map(_behind, self._doors))

    @property
    def workers(self) -> tuple[Worker, ...]:
        """The workers before those sinks that are slow."""
        return tuple(door for door in self._doors if isinstance(door, Worker))

    def open(self, url: str) -> Sink:
        """The sink that a URL names; the same one as long as it is there.

        runnable imports the user's module a second time, and a set-up at its top opens the same URL twice.

        Raises:
            SettingError: as `open_sink`.
        """
        known = self._by_url.get(url)
        if known is None or not any(known is sink for sink in self.sinks):
            known = self._by_url[url] = open_sink(url)
        self._owners[id(known)] += 1
        return known

    def add(self, sinks: Iterable[Sink]) -> None:
        """Add sinks; one that is there already is not added again. One that says it is slow gets a worker."""
        with self._lock:
            for sink in sinks:
                if not any(sink is known for known in self.sinks):
                    slow = getattr(sink, "slow", False) is True
                    self._doors += (Worker(sink, on_drop=self._count) if slow else sink,)

    def remove(self, sinks: Iterable[Sink], timeout: float) -> None:
        """Take out and close the sinks that nobody else added, those that are slow within `timeout` seconds in all."""
        gone: list[Sink] = []
        with self._lock:
            for sink in sinks:
                self._owners[id(sink)] -= 1
                if self._owners[id(sink)] <= 0:
                    del self._owners[id(sink)]
                    gone.append(sink)
            out = tuple(door for door in self._doors if any(_behind(door) is each for each in gone))
            self._doors = tuple(door for door in self._doors if door not in out)
        self._close(out, timeout)

    def wanted(self, queue: Any = None) -> bool:
        """Whether anybody takes events."""
        return queue is not None or bool(self._doors)

    def emit(self, event: Event, queue: Any = None) -> None:
        """Hand on one event. Never blocks on a full queue, never raises."""
        if queue is not None:
            # A task may give its own events whatever type and uid: a queue that has to tell them from ours can.
            self._guarded("queue", getattr(queue, "put_event", queue.put_nowait), event.to_dict())
        for door in self._doors:
            self._guarded(type(door).__name__, door.emit, event)

    def emit_sign(self, event: Event) -> None:
        """Hand on a sign of life, to those who ask for it."""
        for door in self._doors:
            if getattr(_behind(door), "signs_of_life", False) is True:
                self._guarded(type(door).__name__, door.emit, event)

    @property
    def wants_signs(self) -> bool:
        """Whether a sink asks for signs of life."""
        return any(getattr(sink, "signs_of_life", False) is True for sink in self.sinks)

    def put(self, item: Any, queue: Any) -> None:
        """Put a task's own event into the caller's queue, unchanged."""
        self._guarded("queue", queue.put_nowait, item)

    def flush(self, timeout: float) -> bool:
        """Wait until the slow sinks have what was emitted, at most `timeout` seconds in all; whether they have."""
        end = time.monotonic() + timeout
        return all(worker.flush(max(0.0, end - time.monotonic())) for worker in self.workers)

    def begin_close(self, on_finish: Callable[[], None]) -> None:
        """Let the slow sinks take no more, and call `on_finish` as each of them is done. Does not wait."""
        for worker in self.workers:
            worker.on_finish = on_finish
            worker.begin_close()

    def close(self, timeout: float, *, quiet: bool = False) -> None:
        """Close every sink, those that are slow within `timeout` seconds in all, and keep none.

        Args:
            quiet: whether somebody else says what was lost.
        """
        with self._lock:
            out, self._doors = self._doors, ()
            self._owners.clear()
            self._by_url.clear()
        self._close(out, timeout, quiet=quiet)

    def _close(self, doors: Iterable[Sink | Worker], timeout: float, *, quiet: bool = False) -> None:
        end = time.monotonic() + timeout
        workers = [door for door in doors if isinstance(door, Worker)]
        for worker in workers:  # all at once: one that hangs does not take the others' time
            worker.begin_close()
        for door in doors:
            if not isinstance(door, Worker):
                self._guarded(type(door).__name__, door.close)
        for worker in workers:
            worker.close(max(0.0, end - time.monotonic()), quiet=quiet)

    def _count(self, reason: str) -> None:
        self.on_drop(reason)

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


def _behind(door: Sink | Worker) -> Sink:
    return door.sink if isinstance(door, Worker) else door

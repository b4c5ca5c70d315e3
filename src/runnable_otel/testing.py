"""For your own tests: the events of what runs meanwhile, and the live server on a port of its own."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from runnable_otel.events import Event
from runnable_otel.hooks import HOOKS, switch_off, switch_on
from runnable_otel.telemetry import TELEMETRY

if TYPE_CHECKING:
    from runnable_otel.server.threaded import LiveServer

__all__ = ["capture_events", "live_server"]


class _Capture:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def close(self) -> None: ...


@contextmanager
def capture_events() -> Generator[list[Event], None, None]:
    """The events of every run in this process and its pools, in the order in which a sink gets them.

    It needs no provider and no variable: what is not instrumented yet is so until the end of the block.

    Returns:
        The list, which grows while pipelines run.

    Example:
        with capture_events() as events:
            main()  # which executes a pipeline, and returns it
        assert events[-1].type == "pipeline_completed"
    """
    was_on, capture = HOOKS.is_on, _Capture()
    switch_on()
    TELEMETRY.hub.add([capture])
    try:
        yield capture.events
    finally:
        TELEMETRY.hub.remove([capture], 0)
        if not was_on:
            switch_off()


@contextmanager
def live_server() -> Generator[LiveServer, None, None]:
    """What `runnable-otel serve` runs, in a thread, with a store in memory of its own, on a free port of 127.0.0.1.

    Raises:
        ModuleNotFoundError: `pip install 'runnable-otel[serve]'`.
    """
    from runnable_otel.log.memory import MemoryLog
    from runnable_otel.server.threaded import serving

    log = MemoryLog()
    try:
        with serving(log) as server:
            yield server
    finally:
        log.close()

"""The caller's queue: runnable's `set_stream_queue` and ours are one switch."""

from __future__ import annotations

from typing import Any


def set_stream_queue(queue: Any) -> None:
    """Send the events of runs that start in this context to `queue`, as dicts; None ends that.

    Args:
        queue: anything with `put_nowait`, such as `queue.Queue` or `asyncio.Queue`. A full one loses events, which are
            counted; it never blocks the task.
    """
    from runnable_otel.hooks import switch_on

    switch_on()
    import runnable.telemetry

    telemetry: Any = runnable.telemetry
    telemetry.set_stream_queue(queue)

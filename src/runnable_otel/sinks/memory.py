"""`memory:`: each event into the log of this process, for `sse_response` and whoever else shows runs in here."""

from __future__ import annotations

from runnable_otel.events import Event
from runnable_otel.log.memory import LOG


class MemorySink:
    """Appends events to `runnable_otel.log.memory.LOG`.

    Args:
        url: `memory:`.

    Raises:
        ValueError: there is more in the URL.
    """

    signs_of_life = True

    def __init__(self, url: str = "memory:") -> None:
        if url.partition(":")[2].strip("/"):
            raise ValueError("expected memory:")

    def emit(self, event: Event) -> None:
        """Append one event."""
        LOG.append(event)

    def close(self) -> None:
        """Nothing to let go: what the log holds stays readable."""

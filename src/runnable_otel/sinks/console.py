"""`console:`: each event as one line of JSON on standard error."""

from __future__ import annotations

import sys

from runnable_otel.events import Event


class ConsoleSink:
    """Writes events to standard error as JSON lines, in ASCII: no control character of a task reaches a terminal.

    Args:
        url: `console:`.
    """

    slow = True

    def __init__(self, url: str) -> None:
        del url

    def emit(self, event: Event) -> None:
        """Write one line."""
        import json

        print(json.dumps(event.to_dict()), file=sys.stderr, flush=True)  # noqa: T201 - what this sink is for

    def close(self) -> None:
        """Nothing is held."""

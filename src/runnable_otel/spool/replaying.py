"""A batch of the spool on its way to an endpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from runnable_otel.spool import Signal, claimed
from runnable_otel.spool.otlpjson import records_of, spans_of

Send = Callable[[Sequence[Any]], bool]

_READERS: Final[Mapping[Signal, Callable[[bytes], list[Any]]]] = {"traces": spans_of, "logs": records_of}


def replay(file: Path, senders: Mapping[Signal, Send]) -> int | None:
    """Send what a file holds, and remove it once all is taken.

    Args:
        file: OTLP JSON, a request a line.
        senders: what sends spans, and what sends log records; a signal that has none counts as not taken.

    Returns:
        How many were sent; 0 where not all were taken, and the file stays; None where another process has it.

    Raises:
        ValueError: it holds something else.
        OSError: it can't be read or removed.
    """
    with claimed(file) as lines:
        if lines is None:
            return None
        sent = 0
        for line in lines:
            found = [(senders.get(signal), each) for signal, read in _READERS.items() if (each := read(line))]
            if not found:
                raise ValueError("it holds no spans and no logs")
            for send, each in found:
                if send is None or not send(each):
                    return 0
                sent += len(each)
        file.unlink(missing_ok=True)
        return sent

"""Waiting for a fact."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Final

LONG: Final = 60.0
"""Seconds to wait for a fact: only a failure takes that long."""


def wait_until(fact: Callable[[], object], what: str = "") -> None:
    """Return when it is so.

    Raises:
        AssertionError: it was not so for `LONG` seconds.
    """
    end = time.monotonic() + LONG
    while not fact():
        assert time.monotonic() < end, what or "it did not come to pass"
        time.sleep(0.005)


def free_port() -> int:
    """A port on loopback on which nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]

"""The sign of life: while spans are open here, the sinks that ask for it hear every ten seconds that we are there.

A task may be silent for hours. Without the sign nobody could tell it from one whose process was killed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from runnable_otel.forks import renew_after_fork

SECONDS: Final = 10.0


class Pulse:
    """Calls back for each thing that is open, again and again, on a daemon thread that lives while anything is.

    Args:
        seconds: between two signs; the first comes that long after the first opening.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self.renew()
        renew_after_fork(self.renew)

    def renew(self) -> None:
        """Forget what is open: a forked child has neither the thread nor those spans, and maybe a locked lock."""
        self._lock = threading.Lock()
        self._open: dict[int, Callable[[], None]] = {}
        self._over: threading.Event | None = None  # set when nothing is open any more; one for each thread

    def begin(self, key: int, tell: Callable[[], None]) -> None:
        """From now on call `tell`, on another thread; it must not raise.

        Args:
            key: what `end` takes that back with.
            tell: gives the sign.
        """
        with self._lock:
            self._open[key] = tell
            if self._over is None:
                over = threading.Event()
                thread = threading.Thread(target=self._beat, args=(over,), name="runnable-otel-pulse", daemon=True)
                thread.start()
                self._over = over

    def end(self, key: int) -> None:
        """Call no more; a key that is not there is passed over."""
        with self._lock:
            self._open.pop(key, None)
            if not self._open and self._over is not None:
                self._over.set()
                self._over = None

    def _beat(self, over: threading.Event) -> None:
        while not over.wait(self._seconds):
            with self._lock:
                open_now = list(self._open.values())
            for tell in open_now:
                tell()

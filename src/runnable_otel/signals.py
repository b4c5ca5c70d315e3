"""SIGTERM during a run: what is open ends as cancelled, what waits leaves, and then the signal does what it does.

The handler is there only while a run goes on in the main thread, and only where the signal would have ended the process
at once. It takes no lock and touches no span: the code that it has stopped may be in the middle of either. A helper
thread does the work, the handler waits for it no longer than the exit budget, and raises the signal again.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Final

from runnable_otel.helper import HELPER
from runnable_otel.telemetry import TELEMETRY

_SIGNAL: Final = signal.SIGTERM


class Terminations:
    """Handles SIGTERM while something is inside.

    Args:
        work: what the helper does; it must not raise.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._inside: set[int] = set()
        self._local = threading.local()  # the signal mask of each thread that forks
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self._before_fork, after_in_parent=self._after_fork, after_in_child=self._after_fork_in_child
            )

    def _renew(self) -> None:
        self._inside.clear()
        self._asked = False
        self._done: SimpleQueue[None] = SimpleQueue()

    # A child that is forked must die of the signal as it would without us, from its first moment on: Python forgets
    # what comes for a handler before the child is ready, and a pool that ends its workers then waits for ever.

    def _before_fork(self) -> None:
        if signal.getsignal(_SIGNAL) == self._handle:
            self._local.mask = signal.pthread_sigmask(signal.SIG_BLOCK, {_SIGNAL})

    def _after_fork(self) -> None:
        mask = getattr(self._local, "mask", None)
        if mask is not None:
            self._local.mask = None
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _after_fork_in_child(self) -> None:
        self._renew()
        if signal.getsignal(_SIGNAL) == self._handle:
            signal.signal(_SIGNAL, signal.SIG_DFL)
        self._after_fork()

    def enter(self, thing: object) -> None:
        """A run begins: in the main thread, and where nobody handles the signal, it is handled from now on."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._inside.add(id(thing))
        if signal.getsignal(_SIGNAL) == signal.SIG_DFL and HELPER.start():
            signal.signal(_SIGNAL, self._handle)

    def leave(self, thing: object) -> None:
        """It is over: the signal is as it was, unless somebody has changed it since."""
        self._inside.discard(id(thing))
        if self._inside or threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(_SIGNAL) == self._handle:
            signal.signal(_SIGNAL, signal.SIG_DFL)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        try:
            if not self._asked:  # a second signal does not wait
                self._asked = True
                HELPER.post(self._help)
                with suppress(Empty):
                    self._done.get(timeout=TELEMETRY.settings.exit_timeout)
        finally:  # whatever another signal's handler raises meanwhile
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _help(self) -> None:
        try:
            self._work()
        finally:
            self._done.put(None)

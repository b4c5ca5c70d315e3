"""One daemon thread that waits for the end of the process: from 3.12 on Python starts no thread once that has begun."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Final

from runnable_otel.forks import renew_after_fork


class Helper:
    """Does what it is given, one after the other. `post` may be called in a signal handler: it takes no lock."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.renew()
        renew_after_fork(self.renew)

    def renew(self) -> None:
        """Without a thread: a forked child has none."""
        self._tasks: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self) -> bool:
        """Have a thread; whether there is one."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, args=(self._tasks,), name=self._name, daemon=True)
            with suppress(RuntimeError):  # no more threads, or the interpreter ends
                thread.start()
                self._thread = thread
        return self._thread is not None

    @property
    def is_current(self) -> bool:
        """Whether this is called on the helper's own thread."""
        return threading.current_thread() is self._thread

    def post(self, task: Callable[[], object]) -> None:
        """Do this soon. The task must not raise; without a thread nothing does it."""
        self._tasks.put(task)

    @staticmethod
    def _run(tasks: SimpleQueue[Callable[[], object]]) -> None:
        while True:
            tasks.get()()


HELPER: Final = Helper("runnable-otel-end")
"""For what happens at the end: who is still there, and what is still open."""

"""One warning for a queue that was set and never used.

A queue belongs to the context in which it was set: a run that starts in another thread, task or generator does not see
it. In runnable's own recipe for FastAPI that is so, and nothing would say why no event comes.
"""

from __future__ import annotations

import atexit
import logging
import weakref
from typing import Any

logger = logging.getLogger(__name__)


class UnusedQueues:
    """Knows the queues that were set, until a run takes them.

    It says something only when there is nothing more to wait for: the queue is gone, or the process ends, and since it
    was set a run has started without any. It says it at the next call or at the exit, never from a finaliser, which may
    run inside of somebody's lock.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[weakref.finalize[..., Any], int]] = {}
        self._gone: list[int] = []  # how many runs had started without a queue, when each of those was set
        self._runs = 0
        self._said = False
        self._watches = False

    def set(self, queue: Any) -> None:
        """A queue was set."""
        self._look()
        key = id(queue)
        if queue is None or self._said or key in self._waiting:
            return
        try:
            finalizer = weakref.finalize(queue, self._forget, key)
        except TypeError:  # no weak reference can be made of it
            return
        finalizer.atexit = False
        self._waiting[key] = finalizer, self._runs
        if not self._watches:
            self._watches = True
            atexit.register(self._at_exit)

    def used(self, queue: Any) -> None:
        """A run or a task has taken it."""
        found = self._waiting.pop(id(queue), None)
        if found is not None:
            found[0].detach()

    def run_without(self) -> None:
        """A run starts, and there is no queue in its context."""
        self._runs += 1
        self._look()

    def _forget(self, key: int) -> None:
        self._gone.append(self._waiting.pop(key)[1])

    def _at_exit(self) -> None:
        self._gone += [runs for _, runs in self._waiting.values()]
        self._look()

    def _look(self) -> None:
        gone, self._gone = self._gone, []
        if not self._said and any(runs < self._runs for runs in gone):
            self._said = True
            logger.warning(
                "a queue given to set_stream_queue was never used: no run started in the context in which it was set, "
                "and one did in another. runnable_otel.run_pipeline runs a pipeline in the right one, and streams it"
            )


UNUSED = UnusedQueues()

"""Before an exporter: who waits for an export can stop waiting once the process ends.

The SDK's exporters try again for ten seconds and more, and whoever called them waits: a processor's thread, and at the
end, for that thread, the process. So a guard calls the exporter on a thread of its own, and answers its caller when the
exporter has answered, or when `PATIENCE` is over. It stands in an attribute of the exporter, so processors, and whoever
looks at them, see the exporter that the user made.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Any, Final

from runnable_otel.delivery import away
from runnable_otel.delivery.endpoints import address_of
from runnable_otel.delivery.patience import PATIENCE
from runnable_otel.forks import renew_after_fork
from runnable_otel.helper import Helper

NO_ANSWER: Final = "no answer in time"
"""Why an endpoint is dead that somebody has waited for too long."""
NO_ANSWER_EITHER: Final = "no answer, as another process of the run has found"
"""The same, where nobody had to wait for so long."""


class Call:
    """One call of an exporter. `done()` says whether it is over, with a result or an error."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._done = False
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        """Make the call; what it raises is kept."""
        try:
            self.result = self._function()
        except BaseException as error:  # noqa: BLE001 - the caller's to see, on its own thread
            self.error = error
        self._done = True

    def done(self) -> bool:
        return self._done


class Guard:
    """Stands before the `export` of one exporter.

    Args:
        exporter: any exporter of the SDK's kind.
        failure: what `export` answers when nobody waits for the exporter any more.
        ours: whether it belongs to a provider of ours.

    Raises:
        AttributeError: the exporter's attributes can't be set.
    """

    def __init__(self, exporter: Any, failure: Any, *, ours: bool = False) -> None:
        self.ours = ours
        self.endpoint = PATIENCE.endpoint(address_of(exporter))
        self._exporter = weakref.ref(exporter)
        self._failure = failure
        self._export: Callable[..., Any] = exporter.export
        self._thread: Final = Helper("runnable-otel-export")
        self.renew()
        renew_after_fork(self.renew)
        exporter.export = self.export

    def renew(self) -> None:
        """As at the beginning: what a forked child's parent exports is the parent's."""
        self._abandoned: Call | None = None

    def prepare(self) -> None:
        """Have the thread while threads can be started."""
        self._thread.start()

    def export(self, *arguments: Any, **named: Any) -> Any:
        """As the exporter's own, which it stands for."""
        if self._thread.is_current:  # an exporter that calls itself with a part of its batch
            return self._export(*arguments, **named)
        call = self.ask(partial(self._export, *arguments, **named))
        if call is None:
            return self._failure
        if call.error is not None:
            raise call.error
        if is_success(call.result):
            PATIENCE.succeeded(self.endpoint, ours=self.ours)
        return call.result

    def ask(self, function: Callable[[], Any]) -> Call | None:
        """Make one call, on our thread and in this context, and wait for it; None where nobody waits (any more)."""
        if self._is_over():
            return None
        call = Call(partial(copy_context().run, function))
        if not self._thread.start():  # as it would be without us
            call.run()
            return call

        def run() -> None:
            call.run()
            PATIENCE.tell()

        self._thread.post(run)
        if PATIENCE.wait(self.endpoint, call.done):
            return call
        self._abandoned = call
        known = away.RUN.knows(self.endpoint.address)
        PATIENCE.give_up(self.endpoint, NO_ANSWER_EITHER if known else NO_ANSWER)
        return None

    def _is_over(self) -> bool:
        """Whether the process ends, and the endpoint is dead or the exporter still at what nobody waits for."""
        stuck = self._abandoned is not None and not self._abandoned.done()
        return stuck or (PATIENCE.ending and bool(self.endpoint.dead))

    def release(self) -> None:
        """Leave the exporter as it was."""
        exporter = self._exporter()
        with suppress(AttributeError, KeyError):
            del vars(exporter)["export"]


def is_success(result: Any) -> bool:
    """Whether an exporter's answer is no failure; there are exporters that answer nothing."""
    return getattr(result, "name", "") != "FAILURE"


def guard_of(exporter: Any) -> Guard | None:
    """The guard that stands before an exporter."""
    owner = getattr(getattr(exporter, "export", None), "__self__", None)
    return owner if isinstance(owner, Guard) else None

"""Parallel and map nodes whose branches run in a pool of processes, as if they ran here.

The pool's workers are told which run they work for, and tell what happens (spans, events, metrics) over a local socket
(`channel`). The thread that waits for the pool takes it from there (`replay`), so by the time that the pool is done all
of it is here, in order, on the provider and the sinks of this process.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterable
from functools import partial, wraps
from typing import Any

from runnable_otel.pools.carrier import Carrier
from runnable_otel.pools.channel import Channel
from runnable_otel.pools.messages import Report
from runnable_otel.pools.replay import Replay
from runnable_otel.pools.worker import before_call, enter, run_branch
from runnable_otel.run_scope import RunScope
from runnable_otel.scopes import Scope, current, harmless
from runnable_otel.still_open import OPEN
from runnable_otel.telemetry import TELEMETRY

__all__ = ["before_call", "observed"]


def observed(original: Callable[..., Any]) -> Callable[..., Any]:
    """What stands in for `multiprocessing.Pool`: makes the same pool, of the same start method, and watches it."""

    @wraps(original)
    def pool(
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
    ) -> Any:
        _rich_traceback_omit = True
        make = partial(original, processes)
        watch = _watch()
        if watch is None:
            return make(initializer, initargs, maxtasksperchild)
        try:
            made = make(enter, (watch.carrier, initializer, tuple(initargs)), maxtasksperchild)
        except BaseException:
            watch.channel.close()
            raise
        watch.attach(made)
        return made

    return pool


@harmless
def _watch() -> _Watch | None:
    scope = current.get()
    run = scope.run if scope else None
    if scope is None or scope.ids is None or run is None:
        return None
    return _Watch(scope, run)


class _Watch:
    """One pool, from its making to its end."""

    def __init__(self, scope: Scope, run: RunScope) -> None:
        queue = TELEMETRY.queue()
        queue = run.queue if queue is None else queue
        self._scope = scope
        self._replay = Replay(TELEMETRY, scope, run, queue)
        self.channel = Channel(self._replay.message, self._replay.gone)
        OPEN.add(self._replay)
        carrier = Carrier.of(
            scope,
            run,
            self.channel.address,
            has_queue=queue is not None,
            logfire=TELEMETRY.tracing.configured_logfire() is not None,
        )
        self.carrier = pickle.dumps(carrier, pickle.HIGHEST_PROTOCOL)

    def attach(self, pool: Any) -> None:
        """Stand before the two methods of the pool that runnable uses; leaving its `with` calls `terminate`."""
        self._pool = pool
        self._terminate = pool.terminate
        pool.starmap, pool.terminate = self.starmap, self.terminate

    def starmap(self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int | None = None) -> list[Any]:
        """As the pool's own, which waits idle, and this does not."""
        _rich_traceback_omit = True
        done = threading.Event()

        def finish(_: object) -> None:
            done.set()
            self.channel.wake()

        calls = [(func, tuple(arguments), self._salt(*arguments)) for arguments in iterable]
        result = self._pool.starmap_async(run_branch, calls, chunksize, finish, finish)
        while not (done.is_set() or result.ready()):
            self.channel.pump(1.0)  # the time matters to a pool that has nothing to do, and calls nobody back
        returned: list[tuple[Any, Report | None]] = result.get()
        for value, report in returned:
            self._judge(value, report)
        return [value for value, _ in returned]

    def _salt(self, branch: object, *_: object) -> str:
        return self._scope.salt + (harmless(self._scope.repeat)(str(branch)) or "")

    @harmless
    def _judge(self, value: Any, report: Report | None) -> None:
        """A branch that fails makes its node fail."""
        self._scope.failed |= value is False  # runnable's word for a branch that raised
        if report is not None:
            self._scope.failed |= report.failed
            self._scope.failure = report.failure or self._scope.failure

    def terminate(self) -> None:
        """End the pool; what a worker that is cut off had sent, and had open, arrives."""
        _rich_traceback_omit = True
        try:
            self._terminate()
        finally:
            self._end()

    @harmless
    def _end(self) -> None:
        self.channel.drain()
        self.channel.close()
        OPEN.discard(self._replay)

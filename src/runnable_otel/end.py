"""The end of the process: what is open ends, what waits leaves, and nobody is held longer than the setting allows.

Our handler runs before the SDK's own, which then find nothing to do or nobody to wait for: see `guard`.
"""

from __future__ import annotations

import atexit
import logging
import math
import multiprocessing.process
import sys
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.util import Finalize
from typing import Any, Final

from opentelemetry import _logs, metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace import TracerProvider as SDKTracerProvider

from runnable_otel.delivery import away
from runnable_otel.delivery.endpoints import nobody_listens
from runnable_otel.delivery.guard import Guard, guard_of
from runnable_otel.delivery.patience import PATIENCE, Endpoint
from runnable_otel.delivery.spans import SpanGuard
from runnable_otel.exporters import draw_apart
from runnable_otel.forks import renew_after_fork
from runnable_otel.helper import HELPER
from runnable_otel.signals import Terminations
from runnable_otel.spool.keeping import KEEPER
from runnable_otel.still_open import OPEN
from runnable_otel.telemetry import TELEMETRY
from runnable_otel.tracing import behind, processors
from runnable_otel.worker import Worker

logger = logging.getLogger(__name__)

SHARE: Final = 0.9
"""Of the budget for sending; the rest is for what could not be sent, and for the line about it."""
_PROBE_AFTER: Final = 0.05
"""Seconds that a healthy endpoint needs; after that somebody looks whether there is one."""
_GLANCE: Final = 0.1
"""Seconds for that where nothing else can happen meanwhile."""


class End:
    """Knows the providers, and what stands before their exporters."""

    def __init__(self) -> None:
        self._own: SDKTracerProvider | None = None
        self._providers: weakref.WeakSet[SDKTracerProvider] = weakref.WeakSet()
        self._spans: weakref.WeakSet[SpanGuard] = weakref.WeakSet()
        self._released = False
        self._terminations = Terminations(self.terminate)
        OPEN.on_enter, OPEN.on_leave = self.enter, self._terminations.leave
        self.renew()
        renew_after_fork(self.renew)

    def renew(self) -> None:
        """As if it had not begun."""
        self._over = threading.Event()
        self._locked = 0
        self._workers: Sequence[Worker] = ()
        self._is_known_to_multiprocessing = self._has_begun = False

    def enter(self, thing: object) -> None:
        """A run begins in this process."""
        self._terminations.enter(thing)
        if self._released:
            self._released = False
            self.guard()
        if not self._is_known_to_multiprocessing and multiprocessing.process.parent_process() is not None:
            self._is_known_to_multiprocessing = True
            Finalize(None, self.finish, exitpriority=0)  # its processes don't run what atexit knows

    def watch(self, provider: SDKTracerProvider, *, ours: bool = False) -> None:
        """Guard what exports for a provider, and for the others of the process; may be called again."""
        if ours:
            self._own = provider
        self._providers.add(provider)
        draw_apart()
        HELPER.start()
        self.guard()
        # What is registered last runs first: ahead of the SDK's own handler for this provider.
        atexit.unregister(self.finish)
        atexit.register(self.finish)

    def guard(self) -> None:
        """Stand before each exporter that has no guard."""
        for provider in list(self._providers):
            for processor in processors(provider) if provider is self._own or not self._released else ():
                self._guard_spans(processor, ours=provider is self._own)
        for exporter, failure in () if self._released else _other_exporters():
            if guard_of(exporter) is None:
                with suppress(AttributeError):  # an exporter whose attributes can't be set
                    Guard(exporter, failure).prepare()

    def release(self) -> None:
        """Leave the exporters that are the user's as they were, until a run begins again."""
        self._released = True
        theirs = [exporter for exporter, _ in _other_exporters()]
        for provider in list(self._providers):
            if provider is not self._own:
                theirs.extend(map(_exporter_of, processors(provider)))
        for guard in filter(None, map(guard_of, theirs)):
            guard.release()
            if isinstance(guard, SpanGuard):
                self._spans.discard(guard)

    def _guard_spans(self, processor: Any, *, ours: bool) -> None:
        exporter = _exporter_of(processor)
        if exporter is None or guard_of(exporter) is not None:
            return
        try:
            guard = SpanGuard(processor, ours=ours, keep=_keep, replay=partial(KEEPER.replay, "traces"), on_drop=_count)
        except AttributeError:  # this SDK is built in another way
            logger.debug("an exporter is not guarded", exc_info=True)
            return
        guard.prepare()
        self._spans.add(guard)

    def finish(self) -> None:
        """The process ends, and may wait for telemetry. Calling it again changes nothing."""
        if self._has_begun:
            return
        self._has_begun = True
        self.guard()
        PATIENCE.begin(TELEMETRY.settings.exit_timeout * SHARE)
        HELPER.post(self._watch)
        ended, self._locked = OPEN.cancel()
        for thing in ended:
            thing.tell_cancelled(time.time_ns())
        # Spans and events leave side by side: events have a thread for each sink.
        TELEMETRY.hub.begin_close(PATIENCE.tell)
        self._flush()
        for guard in list(self._spans):
            guard.replay(_PROBE_AFTER)
        if self._own is not None:
            with suppress(Exception):  # a processor of the user's
                self._own.shutdown()
        self._close_sinks()
        self._over.set()
        away.RUN.close()
        self.say()

    def terminate(self) -> None:
        """A signal ends the process: as `finish`, on the helper's thread, while the main thread is stopped anywhere.

        What it does first needs no lock that the main thread may hold; and nobody waits for it longer than the budget.
        """
        self._has_begun = True
        PATIENCE.begin(TELEMETRY.settings.exit_timeout * SHARE, hard=True)
        ended, self._locked = OPEN.cancel()
        self._look({guard.endpoint for guard in self._spans if guard.waiting}, _GLANCE)
        self._flush()
        for thing in ended:
            thing.tell_cancelled(time.time_ns())
        TELEMETRY.hub.begin_close(PATIENCE.tell)
        self._close_sinks()
        self.say()

    def _flush(self) -> None:
        for guard in list(self._spans):
            guard.flush()

    def _close_sinks(self) -> None:
        for worker in TELEMETRY.hub.workers:
            endpoint = PATIENCE.endpoint(getattr(worker.sink, "address", ""))
            PATIENCE.wait(endpoint, lambda worker=worker: worker.is_finished)
        self._workers = TELEMETRY.hub.workers
        TELEMETRY.hub.close(0, quiet=True)

    def _watch(self) -> None:
        """Look whether somebody listens, where an export takes long; on the helper's thread."""
        if not self._over.wait(_PROBE_AFTER):
            self._look(PATIENCE.asked())

    @staticmethod
    def _look(endpoints: Iterable[Endpoint], at_most: float = math.inf) -> None:
        for endpoint in endpoints:
            left = PATIENCE.left(endpoint)
            if left and (reason := nobody_listens(endpoint.address, min(left, at_most))):
                PATIENCE.give_up(endpoint, reason)

    def say(self) -> None:
        """One line about what was not delivered."""
        parts = list(self._parts())
        if parts:
            notes = [*parts, *([f"spool: {KEEPER.error}"] if KEEPER.error else ())]
            with suppress(Exception):  # a logging handler of the user's
                logger.warning("not delivered: %s", ", ".join(notes))

    def _parts(self) -> Iterator[str]:
        if self._locked:
            yield f"{self._locked} open spans lost (locked {self._locked})"
        for guard in list(self._spans):
            guard.account.settle(guard.waiting)
            yield from guard.undelivered()
        for worker in self._workers:
            yield from worker.undelivered()


def _keep(address: str, spans: Sequence[ReadableSpan]) -> str | None:
    return KEEPER.keep("traces", address, lambda: encode_spans(spans))


def _count(reason: str, number: int) -> None:
    with suppress(Exception):  # a meter of the user's
        TELEMETRY.metrics.dropped(reason, number)


def _exporter_of(processor: Any) -> Any:
    """The exporter behind a batch processor, of spans or of log records; None where it is another one."""
    return getattr(getattr(processor, "_batch_processor", None), "_exporter", None)


def _other_exporters() -> Iterator[tuple[Any, Any]]:
    """The exporters of the global meter and logger providers, each with its word for a failure."""
    meters = behind(metrics.get_meter_provider())
    readers = getattr(meters, "_metric_readers", None)
    if readers is None:  # as older versions of the SDK have them
        readers = getattr(getattr(meters, "_sdk_config", None), "metric_readers", ())
    for reader in readers:
        exporter = getattr(reader, "_exporter", None)
        if exporter is not None:
            yield exporter, _failure("opentelemetry.sdk.metrics.export", "MetricExportResult")
    multi = getattr(behind(_logs.get_logger_provider()), "_multi_log_record_processor", None)
    for processor in getattr(multi, "_log_record_processors", ()):
        exporter = _exporter_of(processor)
        if exporter is not None:
            yield exporter, _failure("opentelemetry.sdk._logs.export", "LogRecordExportResult")


def _failure(module: str, name: str) -> Any:
    """What such an exporter answers when it fails. Its module is there, since the exporter is."""
    return getattr(getattr(sys.modules.get(module), name, None), "FAILURE", None)


END: Final = End()
atexit.register(END.finish)

"""Before the exporter of a batch span processor: no span is lost to another one, and each loss has a reason."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from runnable_otel.delivery.account import Account
from runnable_otel.delivery.encodable import mend
from runnable_otel.delivery.endpoints import is_otlp
from runnable_otel.delivery.guard import NO_ANSWER, NO_ANSWER_EITHER, Guard, is_success
from runnable_otel.delivery.notes import Notes
from runnable_otel.delivery.patience import PATIENCE
from runnable_otel.jsontext import fold
from runnable_otel.worker import SAY_EVERY

logger = logging.getLogger(__name__)

Keep = Callable[[str, Sequence[ReadableSpan]], "str | None"]
Replay = Callable[[str, Callable[[Sequence[ReadableSpan]], bool]], bool]

LIMIT_BYTES: Final = 8 * 2**20
"""Bytes that the spans of a provider of ours may be while they wait, about."""

_SIZED: Final = (str, bytes, tuple)
_LATE: Final = (NO_ANSWER, NO_ANSWER_EITHER)


@dataclass
class _Outcome:
    """What the exporter made of a batch.

    Attributes:
        result: its answer.
        error: what it raised instead.
        delivered: how many it took.
        hopeless: how many can't be encoded.
        refused: whether the endpoint will never take them.
        away: whether it can't be reached, or is busy.
        said: what the exporter says of it.
    """

    result: Any = SpanExportResult.FAILURE
    error: Exception | None = None
    delivered: int = 0
    hopeless: int = 0
    refused: bool = False
    away: bool = False
    said: str = ""


class SpanGuard(Guard):
    """Stands before the exporter of one `BatchSpanProcessor`, and counts what comes to its queue.

    Args:
        processor: the SDK's `BatchSpanProcessor`.
        ours: whether it belongs to a provider of ours: then its queue is bounded in bytes too, and what the exporter
            says is said once a minute at most.
        keep: is given the address that spans were to go to, and the spans; returns the empty string where it keeps
            them, why it does not, or None where there is nothing to keep them in.
        replay: is given an address that takes spans, and what sends them; whether it has sent some and has more.
        on_drop: called with reason and number of the spans that are lost.

    Raises:
        AttributeError: this SDK's processor is built in another way.
    """

    def __init__(
        self,
        processor: Any,
        *,
        ours: bool,
        keep: Keep,
        replay: Replay,
        on_drop: Callable[[str, int], None],
    ) -> None:
        self._batch = processor._batch_processor  # noqa: SLF001 - the SDK has no public way to what it exports with
        self._queue, self._emit = self._batch._queue, self._batch.emit  # noqa: SLF001
        self._limit: float = self._queue.maxlen or math.inf
        self._keep, self._replay, self._on_drop = keep, replay, on_drop
        self._notes = Notes(quiet=ours)
        self.processor = processor
        exporter, lock = self._batch._exporter, self._batch._export_lock  # noqa: SLF001
        self._is_otlp = is_otlp(exporter)
        # No batch leaves the queue meanwhile. One that has left it already goes by the exporter's own `export`, and is
        # not counted: then the lock is held, maybe for as long as an endpoint does not answer, and nobody waits for it.
        is_still = lock.acquire(blocking=False)
        try:
            super().__init__(exporter, SpanExportResult.FAILURE, ours=ours)
            self._adopt()
            self._batch.emit = self.emit_bounded if ours else self.emit
        finally:
            if is_still:
                lock.release()

    def _adopt(self) -> None:
        """Count what waits already: the exporter will get it from us."""
        for span in reversed(tuple(self._queue)):  # the oldest, which leaves first, is the last
            self.account.accept()
            if self.ours:
                size = weigh(span)
                self._in += size
                self._sizes.append(size)

    def renew(self) -> None:
        super().renew()
        self.account = Account(self._on_drop)
        self._sizes: deque[int] = deque()  # of what waits, on a provider of ours
        self._in, self._out = 0, 0  # bytes that came and left
        self._said_at, self._said = -SAY_EVERY, 0
        self._in_hand = 0
        self.last_error = ""

    # On the user's thread.

    def emit(self, span: ReadableSpan) -> None:
        """As the processor's own."""
        self.account.accept()
        self._emit(span)

    def emit_bounded(self, span: ReadableSpan) -> None:
        """As the processor's own, unless there is no room."""
        self.account.accept()
        size = weigh(span)
        # Threads at once may miscount the bytes a little: with an empty queue the count begins anew.
        if len(self._queue) >= self._limit or self._in - self._out + size > LIMIT_BYTES:
            self.account.refuse()
            return
        self._in += size
        self._sizes.append(size)
        self._emit(span)

    # On the processor's thread.

    def export(self, *arguments: Any, **named: Any) -> Any:
        spans: Sequence[ReadableSpan] = arguments[0]
        if self._thread.is_current:
            return self._export(spans)
        self._in_hand = len(spans)
        try:
            call = self.ask(partial(self._deliver, spans))
            outcome = _Outcome(said=self.endpoint.dead) if call is None else call.result
            self._count(spans, outcome, late=call is None and self.endpoint.dead in _LATE)
        finally:
            self._in_hand = 0
            self._left(len(spans))
            self.account.tell()
        self.say()
        if outcome.error is not None and not self.ours:
            raise outcome.error
        return outcome.result

    def _left(self, number: int) -> None:
        """So many have left the queue."""
        if self._queue:
            self._out += sum(self._sizes.popleft() for _ in range(min(number, len(self._sizes))))
        else:
            self._sizes.clear()
            self._out = self._in

    def _deliver(self, spans: Sequence[ReadableSpan]) -> _Outcome:
        """Call the exporter, on our thread; where it is the batch that is wrong, once more with a better one."""
        outcome = self._call(spans)
        if not outcome.delivered and self._is_otlp and (mended := mend(spans)) is not None:
            spans, hopeless = mended
            outcome = self._call(spans)
            outcome.hopeless = hopeless
        if outcome.delivered:
            self._thread.post(self._replay_all)
        return outcome

    def _call(self, spans: Sequence[ReadableSpan]) -> _Outcome:
        outcome = _Outcome()
        notes = self._notes
        with notes:
            try:
                outcome.result = self._export(spans)
            except Exception as error:  # noqa: BLE001 - the processor's to log, if it is not ours
                outcome.error, outcome.said = error, f"{type(error).__name__}: {error}"
                return outcome
        if is_success(outcome.result):
            outcome.delivered = len(spans)
            PATIENCE.succeeded(self.endpoint, ours=self.ours)
        else:
            outcome.said, outcome.away, outcome.refused = notes.last, notes.away, notes.refused
        return outcome

    def _count(self, spans: Sequence[ReadableSpan], outcome: _Outcome, *, late: bool) -> None:
        if outcome.delivered:
            self.account.delivered += outcome.delivered
            self.account.drop("not_encodable", outcome.hopeless)
            return
        self.last_error = fold(outcome.said, 256) or self.last_error  # the endpoint's own words, into somebody's log
        away = outcome.away or bool(self.endpoint.dead)
        reason = "refused" if outcome.refused else "timeout" if late else "unavailable" if away else "failed"
        kept: str | None = None
        if self._is_otlp:
            spans, hopeless = mend(spans) or (spans, 0)
            self.account.drop("not_encodable", hopeless)
            kept = None if outcome.refused else self._keep(self.endpoint.address, spans)
        if kept == "":
            self.account.spooled += len(spans)
        else:
            self.account.drop(kept or reason, len(spans))

    def _replay_all(self) -> None:
        """Send what lies in the spool, a batch at a time; on our thread, between two batches of the processor's."""
        if not PATIENCE.ending and self._replay(self.endpoint.address, self._send_again):
            self._thread.post(self._replay_all)

    def replay(self, seconds: float) -> None:
        """At the end of a process that delivers: send so much of the spool as begins within so many seconds."""

        def send() -> None:
            until = time.monotonic() + seconds
            while time.monotonic() < until and self._replay(self.endpoint.address, self._send_again):
                pass

        if self.account.delivered:
            self.ask(send)

    def _send_again(self, spans: Sequence[ReadableSpan]) -> bool:
        return self._call(spans).delivered > 0

    # The end.

    @property
    def waiting(self) -> int:
        """Spans that are not settled: in the queue, and with the exporter."""
        return len(self._queue) + self._in_hand

    def flush(self) -> None:
        """Export what waits, as long as there is patience."""
        with suppress(Exception):  # an exporter's, as the processor would log it
            self.processor.force_flush()

    def say(self) -> None:
        """One line about what was lost, a minute at most; of a processor of the user's the SDK says it."""
        lost, moment = sum(self.account.dropped.values()), time.monotonic()
        if lost == self._said or not self.ours or PATIENCE.ending or moment - self._said_at < SAY_EVERY:
            return
        self._said, self._said_at = lost, moment
        with suppress(Exception):  # a logging handler of the user's
            logger.warning("%s", self.describe())

    def describe(self) -> str:
        """What was lost so far, and why."""
        lost = sum(self.account.dropped.values())
        return f"{lost} {'span' if lost == 1 else 'spans'} lost so far ({self._reasons()})"

    def undelivered(self) -> Iterator[str]:
        """What was not delivered, in the end; nothing where all was."""
        counts = self.account.counts(0)
        lost, where = sum(counts.dropped.values()), f" to {self.endpoint.address}" if self.endpoint.address else ""
        if lost:
            yield f"{lost} of {counts.accepted} spans{where} lost ({self._reasons()})"
        if counts.spooled:
            yield f"{counts.spooled} of {counts.accepted} spans{where} spooled"

    def _reasons(self) -> str:
        reasons = ", ".join(f"{reason} {number}" for reason, number in self.account.dropped.items() if number)
        return f"{reasons}; last error: {self.last_error}" if self.last_error else reasons

    def release(self) -> None:
        super().release()
        with suppress(AttributeError, KeyError):
            del vars(self._batch)["emit"]


def weigh(span: ReadableSpan) -> int:
    """About how many bytes a span is in memory."""
    # Not by the public ways: they copy, and lock for each value. An ended span does not change.
    size = 1024 + _weigh_all(getattr(span, "_attributes", None))
    for event in getattr(span, "_events", ()):
        size += _weigh_all(event.attributes)
    return size


def _weigh_all(attributes: Any) -> int:
    if not attributes:
        return 0
    size = 0
    for value in getattr(attributes, "_dict", attributes).values():
        size += len(value) if type(value) in _SIZED else 8
    return size

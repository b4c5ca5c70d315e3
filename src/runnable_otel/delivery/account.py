"""What became of the spans of one batch processor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import count

from runnable_otel.worker import Counts


class _Tally:
    """A number that any thread adds one to, without a lock: a signal may come in between."""

    def __init__(self) -> None:
        self._count, self._asked = count(), 0

    def add(self) -> None:
        next(self._count)

    def read(self) -> int:
        """The number; for one thread at a time."""
        self._asked += 1
        return next(self._count) - self._asked + 1


class Account:
    """Counts: what comes, by any thread; what becomes of it, by one at a time.

    Args:
        on_drop: called with reason and number of what is lost, on the thread of an export.
    """

    def __init__(self, on_drop: Callable[[str, int], None]) -> None:
        self._on_drop = on_drop
        self._accepted, self._full = _Tally(), _Tally()
        self.delivered = self.spooled = 0
        self.dropped: Counter[str] = Counter()

    def accept(self) -> None:
        """One more came."""
        self._accepted.add()

    def refuse(self) -> None:
        """There is no room for it."""
        self._full.add()

    def drop(self, reason: str, number: int) -> None:
        """So many are lost."""
        if number > 0:
            self.dropped[reason] += number
            self._on_drop(f"spans.{reason}", number)

    def tell(self) -> None:
        """Count those that were refused so far."""
        self.drop("full", self._full.read() - self.dropped["full"])

    def settle(self, waiting: int) -> None:
        """Nothing is on its way: what came, does not wait and met no end found no place in the processor's queue."""
        counts = self.counts(waiting)
        self.drop("full", counts.accepted - counts.delivered - counts.spooled - sum(counts.dropped.values()) - waiting)

    def counts(self, waiting: int) -> Counts:
        """The state, with so many that wait."""
        dropped = {reason: number for reason, number in self.dropped.items() if number}
        return Counts(self._accepted.read(), self.delivered, dropped, waiting, self.spooled)

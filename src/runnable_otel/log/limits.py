"""How much a log keeps. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from runnable_otel.log.stream import MAX_EXPENDABLE, MAX_EXPENDABLE_BYTES
from runnable_otel.log.summary import ABANDONED, LINGER


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a log keeps, the same for each store.

    Whole finished runs are dropped, the one that has been over for longest first; inside a run only custom events,
    task output and log records are, oldest first. Where that does not make room the log is full: it takes no new run
    and nothing expendable; what else the known runs send as far as an eighth beyond the limit, and the ends of runs as
    far as a quarter, so that they can be over and be dropped.

    Attributes:
        max_runs: runs.
        max_bytes: characters of JSON, all runs together.
        max_expendable: custom events and logs of one run; an eighth more before the oldest are dropped.
        max_expendable_bytes: characters of those; at most a quarter of `max_bytes`.
        max_events: events of one run; beyond them what is expendable is refused, and counted.
        linger: seconds that a finished run with open tasks, or a finished trace, stays open.
        abandoned: seconds without an event or sign of life after which any run may be dropped.
    """

    max_runs: int
    max_bytes: int
    max_expendable: int = MAX_EXPENDABLE
    max_expendable_bytes: int = MAX_EXPENDABLE_BYTES
    max_events: int = 1_000_000
    linger: float = LINGER
    abandoned: float = ABANDONED

    def __post_init__(self) -> None:
        for name in ("max_runs", "max_bytes", "max_expendable", "max_expendable_bytes", "max_events"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: expected 1 or more")
        for name in ("linger", "abandoned"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}={getattr(self, name)}: expected seconds, 0 or more")
        object.__setattr__(self, "max_expendable_bytes", min(self.max_expendable_bytes, max(1, self.max_bytes // 4)))

    @property
    def runs_after_retention(self) -> int:
        """So many runs and no more stay when room is made: some at a time, so that not each new run has to."""
        return self.max_runs - self.max_runs // 16

    @property
    def bytes_after_retention(self) -> int:
        """So many characters and no more stay when room is made."""
        return self.max_bytes - self.max_bytes // 16

    def full(self, runs: int, size: int) -> str:
        """Why no new run can be taken; empty if one can."""
        if runs >= self.max_runs:
            return f"the log is full: {runs} runs, and none of them is over"
        return self.too_much(size, 0)

    def too_much(self, size: int, worth: int) -> str:
        """Why an event of a known run can't be taken; empty if it can. For `worth` see `records.worth`."""
        room = self.max_bytes + worth * (self.max_bytes // 8)
        return "" if size < room else f"the log is full: {size} bytes of runs, and none of them is over"

"""The events of one run, in memory."""

from __future__ import annotations

import secrets
import threading
from bisect import bisect_right
from collections.abc import Callable
from typing import Final

from runnable_otel.log import NOW, OLDEST, Batch, Entry, Gap, positions
from runnable_otel.log.waiting import Waiters, Wake

MAX_EXPENDABLE: Final = 10_000
MAX_EXPENDABLE_BYTES: Final = 16 * 1024 * 1024


class MemoryStream:
    """The events of one run, in memory. Threads write; threads and event loops read.

    The epoch belongs to this stream alone, so that a position of another run, or of this run before the process was
    started anew, is seen to be none.

    Args:
        max_expendable: how many custom events and logs are kept; the oldest are dropped, in batches of an eighth.
        max_bytes: how many characters of those are kept.
    """

    def __init__(self, *, max_expendable: int = MAX_EXPENDABLE, max_bytes: int = MAX_EXPENDABLE_BYTES) -> None:
        self._epoch = secrets.token_hex(8)
        self._max_expendable, self._max_bytes = max_expendable, max_bytes
        self._lock = threading.Lock()
        self._head = self._trimmed = 0  # all that was expendable up to there is gone
        self._sequences: list[int] = []
        self._entries: list[Entry] = []
        self._sequence_of: dict[str, int] = {}  # of events that were dropped too: who comes late with one adds nothing
        self._expendable: dict[int, int] = {}  # sequence to size, oldest first
        self._expendable_size = 0
        self._waiters = Waiters()
        self._ended = False
        self.size: int = 0

    def __contains__(self, uid: object) -> bool:
        return uid in self._sequence_of

    @property
    def events(self) -> int:
        """How many events are kept."""
        return len(self._entries)

    @property
    def ended(self) -> bool:
        """Whether the run is over."""
        return self._ended

    @property
    def head(self) -> str:
        """The position of the last event."""
        return positions.text(self._epoch, self._head)

    def append(self, text: str, *, uid: str = "", expendable: bool = False) -> str:
        """Add an event, and return its position.

        Args:
            text: the event as JSON text.
            uid: names the fact; the second event of a uid is not added. Empty: a fact of its own.
            expendable: it may be dropped before the run is.
        """
        known = self.position_of(uid)
        if known is None:
            known = self.add(text, uid, expendable=expendable)
            self._waiters.wake()
        return known

    def position_of(self, uid: str) -> str | None:
        """Where the event of a uid is, or was before it was dropped."""
        sequence = self._sequence_of.get(uid)
        return None if sequence is None else positions.text(self._epoch, sequence)

    def add(self, text: str, uid: str, *, expendable: bool) -> str:
        """As `append`, but wakes nobody: for who holds a lock."""
        with self._lock:
            known = self._sequence_of.get(uid) if uid else None
            if known is not None:
                return positions.text(self._epoch, known)
            self._head = head = self._head + 1
            position = f"{self._epoch}-{head}"
            self._sequences.append(head)
            self._entries.append(Entry(position, text))
            self.size += len(text) + len(uid)
            if uid:
                self._sequence_of[uid] = head
            if expendable:
                self._expendable[head] = len(text)
                self._expendable_size += len(text)
                self._trim()
        return position

    def end(self, *, ended: bool = True) -> None:
        """Nothing more comes; or, with false, something does after all."""
        self.mark(ended=ended)
        if ended:
            self._waiters.wake()

    def mark(self, *, ended: bool) -> None:
        """As `end`, but wakes nobody."""
        with self._lock:
            self._ended = ended

    def wakes(self) -> list[Wake]:
        """All that wait, to be called when no lock is held."""
        return self._waiters.take() if self._waiters else []

    def read(self, position: str = OLDEST, limit: int = 1000) -> Batch:
        """What lies after a position; see `EventStream`."""
        with self._lock:
            cursor = self._resolve(position)
            start, known = cursor or (0, self._trimmed)
            gap = None if cursor else Gap(positions.text(self._epoch, 0, known), "unknown", None)
            if lost := self._lost(max(start, known)):
                known = self._trimmed
                gap = Gap(positions.text(self._epoch, start, known), "trimmed", lost)
            first = bisect_right(self._sequences, start)
            entries = self._entries[first : first + limit]
            all_of_it = first + len(entries) == len(self._entries)
            last = self._head if all_of_it else self._sequences[first + len(entries) - 1] if entries else start
            return Batch(entries, positions.text(self._epoch, last, known), gap, self._ended and all_of_it)

    def when_more(self, position: str, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` when there is more; see `EventStream`."""
        with self._lock:
            cursor = self._resolve(position)
            if cursor and cursor[0] >= self._head and not self._ended:
                return self._waiters.add(wake)
        wake()
        return lambda: None

    def _resolve(self, position: str) -> tuple[int, int] | None:
        """Sequence of a position, and holes that are no news there; None if this stream never gave it out."""
        if position == OLDEST:
            return 0, self._trimmed
        if position == NOW:
            return self._head, 0
        cursor = positions.parse(position)
        if cursor is None or cursor.epoch != self._epoch or max(cursor.sequence, cursor.known) > self._head:
            return None
        return cursor.sequence, cursor.known

    def _lost(self, start: int) -> int:
        """How many events after a sequence have been dropped."""
        if start >= self._trimmed:
            return 0
        kept = bisect_right(self._sequences, self._trimmed) - bisect_right(self._sequences, start)
        return self._trimmed - start - kept

    def _trim(self) -> None:
        """Drop the oldest expendable events, many at a time: each time the lists are made anew."""
        most, size = self._max_expendable, self._max_bytes
        if len(self._expendable) <= most + most // 8 and self._expendable_size <= size + size // 8:
            return
        gone: set[int] = set()
        for sequence, length in self._expendable.items():
            if len(self._expendable) - len(gone) <= most and self._expendable_size <= size:
                break
            gone.add(sequence)
            self._trimmed = sequence
            self._expendable_size -= length
            self.size -= length
        for sequence in gone:
            del self._expendable[sequence]
        kept = [pair for pair in zip(self._sequences, self._entries, strict=True) if pair[0] not in gone]
        self._sequences, self._entries = [pair[0] for pair in kept], [pair[1] for pair in kept]

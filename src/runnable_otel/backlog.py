"""The events that wait for a slow sink: bounded, in order, and what matters least goes first when there is no room."""

from __future__ import annotations

from collections import deque
from itertools import chain
from typing import Final, NamedTuple

from runnable_otel.events import FACTS, PIPELINE_COMPLETED, TASK_COMPLETED, TASK_ERROR, Event

LIMIT: Final = 2048
"""Events that are held at most."""
LIMIT_BYTES: Final = 8 * 2**20
"""Bytes of JSON text that they are at most."""
BATCH: Final = 512
"""Events that are taken at once, at most."""
BATCH_BYTES: Final = 2**20
"""Bytes of JSON text of a batch of several events: OTLP receivers refuse a gRPC message of more than 4 MiB."""

_ENDS: Final = frozenset({TASK_COMPLETED, TASK_ERROR, PIPELINE_COMPLETED})


def _rank(kind: str) -> int:
    """Which events go first when there is no room: 0 a task's own and logs, 1 starts and the like, 2 ends."""
    if kind in _ENDS:
        return 2
    return 1 if kind in FACTS else 0


class Held(NamedTuple):
    """An event that waits.

    Attributes:
        number: its place in the order.
        size: bytes of its JSON text.
        event: the event.
    """

    number: int
    size: int
    event: Event


class Backlog:
    """Events on their way; `len()` is how many, with those in hand. Not for several threads at once: who has it locks.

    Args:
        limit: events held at most.
        limit_bytes: bytes of their JSON text at most.
    """

    def __init__(self, limit: int, limit_bytes: int) -> None:
        self._limit, self._limit_bytes = limit, limit_bytes
        self._queues: tuple[deque[Held], ...] = (deque(), deque(), deque())  # by rank
        self._bytes = 0
        self.in_hand: list[Held] = []
        """What was taken, and is not done."""

    def __len__(self) -> int:
        return len(self.in_hand) + sum(map(len, self._queues))

    @property
    def waiting(self) -> bool:
        """Whether there is anything to take."""
        return any(self._queues)

    def add(self, held: Held) -> int:
        """Add an event, and return how many were dropped: older ones, or this one where all others matter more.

        Of one rank the oldest goes: the end of a run is the last to come.
        """
        rank, lost = _rank(held.event.type), 0
        while len(self) >= self._limit or self._bytes + held.size > self._limit_bytes:
            victims = next((queue for queue in self._queues[: rank + 1] if queue), None)
            lost += 1
            if victims is None:
                return lost
            self._bytes -= victims.popleft().size
        self._queues[rank].append(held)
        self._bytes += held.size
        return lost

    def take(self, *, batches: bool) -> list[Held]:
        """The next events, oldest first: one, or a batch. They stay in hand until `done`."""
        size = 0
        while queues := [queue for queue in self._queues if queue]:
            queue = min(queues, key=lambda queue: queue[0].number)
            size += queue[0].size
            if self.in_hand and not (batches and len(self.in_hand) < BATCH and size <= BATCH_BYTES):
                break
            self.in_hand.append(queue.popleft())
        return list(self.in_hand)

    def done(self) -> None:
        """What is in hand is delivered, or given up."""
        self._bytes -= sum(held.size for held in self.in_hand)
        self.in_hand.clear()

    def clear(self, *, in_hand: bool) -> list[Event]:
        """Take out what waits, and what is in hand too if told so, and return it in order."""
        late = sorted(chain(self.in_hand if in_hand else (), *self._queues))  # by number: no two have the same
        if in_hand:
            self.in_hand.clear()
        for queue in self._queues:
            queue.clear()
        self._bytes = sum(held.size for held in self.in_hand)
        return [held.event for held in late]

    def oldest(self) -> float:
        """The number of the oldest event, infinity where there is none."""
        heads = chain(self.in_hand[:1], *(list(queue)[:1] for queue in self._queues))
        return min((held.number for held in heads), default=float("inf"))

"""Who waits for more, and what happens at a time: both without polling."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from heapq import heappop, heappush
from itertools import count
from typing import NamedTuple

Wake = Callable[[], None]


class Waiters:
    """Those who wait for more of the same thing. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wakes: dict[int, Wake] = {}
        self._numbers = count()

    def __bool__(self) -> bool:
        return bool(self._wakes)

    def add(self, wake: Wake) -> Wake:
        """Call `wake` the next time; what is returned takes that back."""
        with self._lock:
            number = next(self._numbers)
            self._wakes[number] = wake
        return lambda: self._forget(number)

    def take(self) -> list[Wake]:
        """All that wait; they wait no more. Call them when no lock is held: they run others' code."""
        with self._lock:
            wakes = list(self._wakes.values())
            self._wakes.clear()
        return wakes

    def wake(self) -> None:
        """Call all that wait."""
        for wake in self.take():
            wake()

    def _forget(self, number: int) -> None:
        with self._lock:
            self._wakes.pop(number, None)


class KeyedWaiters:
    """Those who wait for more of different things. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wakes: dict[Hashable, dict[int, Wake]] = {}
        self._numbers = count()

    def add(self, key: Hashable, wake: Wake) -> Waiting:
        """Call `wake` the next time something happens to that key; what is returned takes that back."""
        with self._lock:
            number = next(self._numbers)
            self._wakes.setdefault(key, {})[number] = wake
        return Waiting(self, key, number)

    def wake(self, key: Hashable) -> None:
        """Call all that wait for a key. No lock may be held: it runs others' code."""
        with self._lock:
            wakes = self._wakes.pop(key, {})
        for wake in wakes.values():
            wake()

    def wake_all(self) -> None:
        """Call all."""
        with self._lock:
            keys = list(self._wakes)
        for key in keys:
            self.wake(key)

    def forget(self, key: Hashable, number: int) -> Wake | None:
        """Who waited under that number, and waits no more; None: it was called before."""
        with self._lock:
            wakes = self._wakes.get(key, {})
            found = wakes.pop(number, None)
            if not wakes:
                self._wakes.pop(key, None)
        return found


class Waiting(NamedTuple):
    """One that waits. Calling it takes that back."""

    waiters: KeyedWaiters
    key: Hashable
    number: int

    def __call__(self) -> None:
        self.waiters.forget(self.key, self.number)

    def wake(self) -> None:
        """Call it now, if it was not called before: nobody is called twice."""
        if wake := self.waiters.forget(self.key, self.number):
            wake()


class Alarm:
    """Calls what is due, on one thread that lives only while something is to come."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: dict[Hashable, tuple[float, Callable[[], None]]] = {}
        self._heap: list[tuple[float, int, Hashable]] = []
        self._numbers = count()
        self._thread: threading.Thread | None = None

    def set(self, key: Hashable, seconds: float, call: Callable[[], None]) -> None:
        """Call in so many seconds; what was to be called for this key before is not."""
        due = time.monotonic() + seconds
        with self._changed:
            self._due[key] = due, call
            heappush(self._heap, (due, next(self._numbers), key))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="runnable-otel-alarm", daemon=True)
                self._thread.start()
            self._changed.notify()

    def unset(self, key: Hashable) -> None:
        """Call nothing for this key."""
        with self._changed:
            self._due.pop(key, None)
            self._changed.notify()

    def close(self) -> None:
        """Call nothing any more."""
        with self._changed:
            self._due.clear()
            self._changed.notify()

    def _run(self) -> None:
        while (call := self._next()) is not None:
            call()

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            while self._due:
                due, _, key = self._heap[0]
                current = self._due.get(key)
                if current is None or current[0] != due:
                    heappop(self._heap)  # set anew, or taken back
                    continue
                rest = due - time.monotonic()
                if rest <= 0:
                    heappop(self._heap)
                    return self._due.pop(key)[1]
                self._changed.wait(rest)
            self._heap.clear()
            self._thread = None
            return None

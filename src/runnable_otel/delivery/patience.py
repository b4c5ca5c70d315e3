"""How long exports may hold the process once it ends: one purse for all of them, and one state for each endpoint.

While a process runs an export takes as long as it takes. At the end all exports together may hold the process for the
budget and no longer, however many providers, signals and processors there are, and an endpoint that is found dead holds
it no more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from runnable_otel.delivery import away
from runnable_otel.forks import renew_after_fork

UNTRIED: Final = 0.25
"""Seconds for an endpoint that nobody has tried since the end began, where others have used up the budget."""
KNOWN: Final = 0.1
"""Seconds for an endpoint that another process of the run has just found dead: it may be back."""


@dataclass(eq=False)
class Endpoint:
    """Where exports go.

    Attributes:
        address: `host:port`, or empty where there is none.
        dead: why it takes nothing, once the end of the process has found out; else empty.
        asked: when the first export waited for it since the end began; 0 before.
    """

    address: str = ""
    dead: str = ""
    asked: float = 0.0


class Patience:
    """Waits for exports. Before `begin` nobody has to hurry.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._endpoints: dict[str, Endpoint] = {}
        self.renew()
        renew_after_fork(self.renew)

    def renew(self) -> None:
        """As before the end: a child that is forked has an end of its own."""
        self._changed = threading.Condition()
        self._budget: float | None = None
        self._hard = False
        self._used = self._since = 0.0
        self._waiting = 0
        for endpoint in self._endpoints.values():
            endpoint.dead, endpoint.asked = "", 0.0

    def endpoint(self, address: str) -> Endpoint:
        """The state of an endpoint: one for all that export to an address."""
        return self._endpoints.setdefault(address, Endpoint(address)) if address else Endpoint()

    def begin(self, seconds: float, *, hard: bool = False) -> None:
        """The process ends: exports may hold it for so many seconds in all.

        Args:
            seconds: the budget.
            hard: also where an export succeeds now and then, and so makes progress.
        """
        with self._changed:
            self._budget = seconds if self._budget is None else min(seconds, self._budget)
            self._hard |= hard
            self._changed.notify_all()

    @property
    def ending(self) -> bool:
        """Whether the process ends."""
        return self._budget is not None

    def wait(self, endpoint: Endpoint, done: Callable[[], bool]) -> bool:
        """Wait for an export to an endpoint as long as it may take; whether it is done.

        Args:
            done: asked at each `tell`.
        """
        with self._changed:
            while not done():
                left = self._left(endpoint)
                if left is not None and left <= 0:
                    return False
                if left is None:
                    self._changed.wait()
                    continue
                self._enter()
                try:
                    self._changed.wait(left)
                finally:
                    self._leave()
            return True

    def tell(self) -> None:
        """An export is done, or there is another reason to ask again."""
        with self._changed:
            self._changed.notify_all()

    def asked(self) -> list[Endpoint]:
        """The endpoints that somebody waits for, or has waited for, since the end began, and that may be alive."""
        with self._changed:
            return [each for each in self._endpoints.values() if each.asked and not each.dead]

    def left(self, endpoint: Endpoint) -> float | None:
        """Seconds that one may still wait for an endpoint; None for as long as one likes."""
        with self._changed:
            return self._left(endpoint)

    def _left(self, endpoint: Endpoint) -> float | None:
        if self._budget is None:
            return None
        now = self._clock()
        endpoint.asked = endpoint.asked or now
        if endpoint.dead or not self._budget:
            return 0.0
        spent = self._used + (now - self._since if self._waiting else 0.0)
        left = max(self._budget - spent, min(UNTRIED, self._budget) - (now - endpoint.asked))
        if away.RUN.knows(endpoint.address):
            left = min(left, KNOWN - (now - endpoint.asked))
        return left

    def _enter(self) -> None:
        """Somebody waits: what several wait for at once is spent once."""
        if not self._waiting:
            self._since = self._clock()
        self._waiting += 1

    def _leave(self) -> None:
        self._waiting -= 1
        if not self._waiting:
            self._used += self._clock() - self._since

    def succeeded(self, endpoint: Endpoint, *, ours: bool) -> None:
        """An export was taken. Where the provider is the user's, that is worth waiting for the next one."""
        away.RUN.forget(endpoint.address)
        with self._changed:
            endpoint.dead = ""
            if self._budget is not None and not self._hard and not ours:
                self._used, self._since = 0.0, self._clock()

    def give_up(self, endpoint: Endpoint, reason: str) -> None:
        """An endpoint takes nothing: nobody waits for it any more, here and in the other processes of the run."""
        with self._changed:
            if endpoint.dead:
                return
            endpoint.dead = reason
            self._changed.notify_all()
        away.RUN.note(endpoint.address)


PATIENCE: Final = Patience()

"""Where the telemetry itself went wrong: a trace with a gap must not look like a whole one.

It is said when no run or task is open: what is logged inside of a task is part of the task's own output.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Final

from runnable_otel.foreign import class_of, type_name
from runnable_otel.forks import renew_after_fork
from runnable_otel.jsontext import fold

logger = logging.getLogger(__name__)


class Gaps:
    """One line for each place, once in the life of the process."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self.renew()
        renew_after_fork(self.renew)

    def renew(self) -> None:
        """Nothing to say: what a forked child's parent has noted is the parent's."""
        self._unsaid: list[str] = []

    def note(self, where: str, error: Exception) -> None:
        """Something went wrong there, in the `except` that calls this; it is said with the next `say`."""
        with suppress(Exception):  # a logging handler of the user's
            logger.debug("telemetry failed in %s", where, exc_info=True)
        if where not in self._known:
            self._known.add(where)
            # The kind of the error, and not its text, which may hold anything.
            self._unsaid.append(f"{fold(type_name(class_of(error)), 64)} in {where}")

    def say(self) -> None:
        """Log what has been noted since."""
        if not self._unsaid:
            return
        unsaid, self._unsaid = self._unsaid, []
        for gap in unsaid:
            with suppress(Exception):  # a logging handler of the user's
                logger.warning("telemetry is incomplete: %s (said once; level DEBUG says more)", gap)


GAPS: Final = Gaps()

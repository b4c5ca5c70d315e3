"""By which run ids a trace is found: those of all its runs. Pure.

A trace may hold several runs, and a run id several traces, since retries reuse it: it means the newest of them. How new
is a number, of which the greatest wins: that of a start grows; what else says the id, as where the start is on its way,
is older than any start, and the newer the earlier it came, so that no late event takes an id away.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from runnable_otel.events import PIPELINE_STARTED, Event
from runnable_otel.log.records import common
from runnable_otel.log.summary import shown

MAX_RUN_IDS: Final = 64
"""Run ids by which one trace is found, the first that came: who sends ever new ones makes no log grow."""


def said_by(event: Event) -> tuple[str, bool]:
    """The run id that an event says, as a summary shows it; and whether that run starts with it."""
    value = common(event).get("run_id")
    return (shown(value), event.type == PIPELINE_STARTED) if isinstance(value, str) else ("", False)


def is_news(known: Mapping[str, int], run_id: str, begins: bool) -> bool:
    """Whether a trace is found by a run id from now on, or is newer by it; `known`: by which it is, and how new."""
    if not run_id or run_id in known:
        return begins and bool(run_id)
    return len(known) < MAX_RUN_IDS

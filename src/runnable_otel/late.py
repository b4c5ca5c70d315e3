"""What the SDK can't do any more once the interpreter shuts down, done all the same.

It asks its resource detectors in a pool of threads, and a pool takes nothing after the main thread's end. One of its
modules asks them when it is imported, so a process that ends soon after its first event could not send even that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from opentelemetry.sdk import resources
from opentelemetry.sdk.resources import Resource, ResourceDetector

_T = TypeVar("_T")


def despite_shutdown(make: Callable[[], _T]) -> _T:
    """Call what may ask the SDK's resource detectors; again, with them asked one by one, where no thread can start.

    Raises:
        Exception: whatever `make` raises.
    """
    try:
        return make()
    except RuntimeError as error:
        # "cannot schedule new futures after interpreter shutdown", "can't register atexit after shutdown": Python has
        # one for each place that a thread may come from.
        if "shutdown" not in str(error):
            raise
        resources.get_aggregated_resources = _one_by_one  # for good: the SDK's own can only fail from now on
        return make()


def _one_by_one(
    detectors: Sequence[ResourceDetector], initial_resource: Resource | None = None, timeout: int = 5
) -> Resource:
    """As the SDK's `get_aggregated_resources`, which this stands in for; what a detector raises costs its part only."""
    merged = initial_resource or Resource.create()
    for detector in detectors:
        with suppress(Exception):  # a detector of the user's
            merged = merged.merge(detector.detect())
    return merged

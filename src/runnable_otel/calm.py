"""The SDK's tracer provider as this package makes it: one that does next to nothing in a forked child."""

from __future__ import annotations

import os
import threading
from typing import Any

from opentelemetry.sdk import resources
from opentelemetry.sdk.resources import PROCESS_PARENT_PID, PROCESS_PID, SERVICE_INSTANCE_ID, Resource
from opentelemetry.sdk.trace import TracerProvider


class CalmProvider(TracerProvider):
    """Tells a forked child's spans from its parent's without asking the resource detectors there.

    The SDK asks them before `os.fork()` returns in the child, in a pool of threads: with an interpreter that shuts down
    that is a traceback for each fork, under gevent it may never end, and it always costs milliseconds, of a host that
    has made no provider itself.
    """

    _instance_is_made = False

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        named, made = self.resource.attributes.get(SERVICE_INSTANCE_ID), _instance_id()
        self._instance_is_made = named is not None and named == made

    def _handle_fork(self) -> None:
        """What the SDK (1.44 or later) calls in a forked child; an earlier one does nothing there."""
        if not (hasattr(self, "_tracers_lock") and hasattr(self, "_update_resource")):
            super()._handle_fork()  # it is built in another way
            return
        self._tracers_lock = threading.Lock()
        self._update_resource(Resource(self._of_this_process()))

    def _of_this_process(self) -> dict[str, Any]:
        """What the resource says of the process, where it does. An instance that the user named keeps its name."""
        now: dict[str, Any] = {PROCESS_PID: os.getpid(), PROCESS_PARENT_PID: os.getppid()}
        found = {key: value for key, value in now.items() if key in self.resource.attributes}
        if self._instance_is_made:
            found[SERVICE_INSTANCE_ID] = _instance_id()
        return found


def _instance_id() -> object:
    """The id that the SDK made for this process, and gives to all that asks; None from one that makes none."""
    detector: Any = getattr(resources, "ServiceInstanceIdResourceDetector", None)
    return None if detector is None else detector().detect().attributes.get(SERVICE_INSTANCE_ID)

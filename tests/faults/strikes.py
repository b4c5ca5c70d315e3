"""What a fault does to the process, in the middle of a pipeline: `FAULT` names it."""

import os
import signal
import sys
import threading
import time
from typing import NoReturn

from marks import mark


def strike() -> int:
    return STRIKES.get(os.environ["FAULT"], lambda: 1)()


def _wait() -> int:
    """A signal comes while the task works."""
    threading.Event().wait(60)
    return 1


def _signal(number: int) -> int:
    mark("strike")
    os.kill(os.getpid(), number)
    return _wait()


def _killed() -> int:
    """The kill comes from outside."""
    mark("strike")
    return _wait()


def _os_exit() -> int:
    mark("strike")
    _leave(7)


def _leave(code: int) -> NoReturn:
    """The way out that asks nobody: no handler of the exit runs, ours neither."""
    mark("left")
    os._exit(code)


def _sys_exit() -> int:
    mark("strike")
    sys.exit(7)


def _burst() -> int:
    """More spans at once than any queue holds."""
    from opentelemetry import trace

    tracer = trace.get_tracer("user")
    for number in range(10_000):
        tracer.start_span(f"burst {number % 10}").end()
    return 10_000


def _fork() -> int:
    """A child that is forked with spans pending, makes one of its own, and leaves as a child does."""
    from opentelemetry import trace

    pid = os.fork()
    if not pid:
        with trace.get_tracer("user").start_as_current_span("in the child"):
            pass
        _leave(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _fork_that_exits() -> int:
    """A child that leaves by the front door, with its handlers of the exit."""
    from opentelemetry import trace

    pid = os.fork()
    if not pid:
        with trace.get_tracer("user").start_as_current_span("in the child"):
            pass
        import atexit

        atexit._run_exitfuncs()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _replace_provider() -> int:
    """Somebody sets a provider in the middle of a run."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    if os.environ["WAY"] == "absent":
        return 1
    from app import exporter

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exporter()))
    trace.set_tracer_provider(provider)
    return 1


def _clock_jumps() -> int:
    """The clock that spans have their times from is set back by an hour.

    Not `time.time`: gRPC takes deadlines from it, for a clock that C reads, and only one of the two would jump.
    """
    real = time.time_ns

    def jumped() -> int:
        return real() - 3_600_000_000_000

    time.time_ns = jumped
    sdk = sys.modules.get("opentelemetry.sdk.trace")
    if sdk is not None:
        sdk.time_ns = jumped
    return 1


STRIKES = {
    "sigterm": lambda: _signal(signal.SIGTERM),
    "sigint": lambda: _signal(signal.SIGINT),
    "sigkill": _killed,
    "os_exit": _os_exit,
    "sys_exit": _sys_exit,
    "burst": _burst,
    "fork": _fork,
    "fork_that_exits": _fork_that_exits,
    "provider_replaced": _replace_provider,
    "clock_jump": _clock_jumps,
}

"""One exact OpenTelemetry trace, and a live event stream, of every runnable pipeline.

The door: what is named here is public. Nothing is loaded before it is used.
"""

from __future__ import annotations

from runnable_otel._version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:  # nothing is imported that an import of this package need not have, typing neither
    from typing import Any

    from runnable_otel.events import Event
    from runnable_otel.inapp import run_pipeline, sse_response
    from runnable_otel.instrumentor import RunnableInstrumentor
    from runnable_otel.processor import RunnableSpanProcessor
    from runnable_otel.provider import configure
    from runnable_otel.queues import set_stream_queue
    from runnable_otel.resource import RunnableResourceDetector
    from runnable_otel.server import create_app
    from runnable_otel.settings import SettingError
    from runnable_otel.sinks import Sink

__all__ = [
    "Event",
    "RunnableInstrumentor",
    "RunnableResourceDetector",
    "RunnableSpanProcessor",
    "SettingError",
    "Sink",
    "__version__",
    "configure",
    "create_app",
    "run_pipeline",
    "set_stream_queue",
    "sse_response",
]

_HOMES = {
    "Event": "events",
    "RunnableInstrumentor": "instrumentor",
    "RunnableResourceDetector": "resource",
    "RunnableSpanProcessor": "processor",
    "SettingError": "settings",
    "Sink": "sinks",
    "configure": "provider",
    "create_app": "server",
    "run_pipeline": "inapp",
    "set_stream_queue": "queues",
    "sse_response": "inapp",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

"""The live server: an ASGI app that takes OTLP, shows runs, and streams their events."""

from __future__ import annotations

from runnable_otel.server.app import create_app

__all__ = ["create_app"]

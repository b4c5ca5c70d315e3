"""Messages that are still to come over gRPC: none is waited for without end, and none keeps another one out."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Final

import grpc

WAITING: Final = 64
"""Requests whose message is waited for at once."""
_SWEEPS: Final = 10
"""We look for those that are late so often in the time that each has."""


class Waiting:
    """Waits for messages until `close()`, each in the thread of its request.

    A client gets CANCELLED, after which it may come again, where its message takes too long, or where one request too
    many waits and it has waited longest. A message comes with its request: who is there to send is soon gone from here.
    """

    def __init__(self, seconds: float) -> None:
        self._pause = max(seconds / _SWEEPS, 0.01)
        self._seconds = seconds
        self._lock = threading.Lock()
        self._since: dict[grpc.ServicerContext, float] = {}  # the oldest first
        self._closed = threading.Event()
        threading.Thread(target=self._sweep, name="runnable-otel-grpc-late", daemon=True).start()

    def first(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        """A request's message. Its end is not waited for, nor is a second one read: the library's way with unary."""
        with self._lock:
            if len(self._since) >= WAITING:
                self._cancel(next(iter(self._since)))
            self._since[context] = time.monotonic()
        try:
            message = next(messages, None)
        finally:
            with self._lock:
                kept = self._since.pop(context, None) is not None
        if not kept:  # it came at the last moment, and its sender was told that it did not
            context.abort(grpc.StatusCode.CANCELLED, "The message took too long to come.")
        if message is None:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "A request has exactly one message.")
        return message

    def close(self) -> None:
        """Look for late ones no more."""
        self._closed.set()

    def _cancel(self, context: grpc.ServicerContext) -> None:
        del self._since[context]
        context.cancel()

    def _sweep(self) -> None:
        while not self._closed.wait(self._pause):
            with self._lock:
                late = time.monotonic() - self._seconds
                for context in [each for each, since in self._since.items() if since <= late]:
                    self._cancel(context)

"""The page, while the demo runs in a terminal: the live server in this process, on free ports of loopback."""

from __future__ import annotations

import os
import sys
import threading
import webbrowser
from contextlib import ExitStack
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import TracebackType

NEEDED: Final = ("starlette", "uvicorn", "httptools")
"""Modules that the server needs; `runnable-otel[serve]` installs them."""


def is_installed() -> bool:
    """Whether there is all that the server needs."""
    return all(find_spec(module) is not None for module in NEEDED)


class Live:
    """`with Live() as live:` serves what comes to `live.endpoint`, over OTLP/gRPC, as a page.

    Attributes:
        endpoint: where events are sent.
    """

    endpoint: str

    def __enter__(self) -> Live:
        from runnable_otel import ingest
        from runnable_otel.log.memory import MemoryLog
        from runnable_otel.server.threaded import serving

        with ExitStack() as stack:
            log = MemoryLog()
            stack.callback(log.close)
            receiver = ingest.grpc_server(log, 0)
            stack.callback(receiver.stop)
            self.endpoint = f"http://127.0.0.1:{receiver.port}"
            self._server = stack.enter_context(serving(log))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def address(self) -> str:
        """Of the page, with a code that signs in once."""
        return f"{self._server.url}/#code={self._server.tokens.code()}"


def show(address: str) -> bool:
    """Open an address in the user's browser; False where there is no screen to open it on, or no browser."""
    screen = sys.platform in ("darwin", "win32") or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    if not (os.environ.get("BROWSER") or (screen and "SSH_CONNECTION" not in os.environ)):
        return False
    try:
        return webbrowser.open(address)
    except (webbrowser.Error, OSError):
        return False


def wait() -> None:
    """Return when the user presses Ctrl-C."""
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        return

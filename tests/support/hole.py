"""Endpoints that take nothing: one that refuses connections, one that never answers, one that is always busy."""

from __future__ import annotations

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from support.waiting import free_port


def refusing() -> str:
    """A URL at which nobody listens."""
    return f"http://127.0.0.1:{free_port()}"


class Hole:
    """`with Hole() as url:` an endpoint that takes connections and never says a word."""

    def __enter__(self) -> str:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self._listener.close()


class Answering:
    """`with Answering(503) as server:` an OTLP/HTTP endpoint that gives one answer, after a while.

    Args:
        status: of each answer.
        after: seconds before it.

    Attributes:
        url: the endpoint.
        requests: path of each request that was answered.
    """

    def __init__(self, status: int, *, after: float = 0, headers: dict[str, str] | None = None) -> None:
        self._status, self._after, self._headers = status, after, headers or {}
        self.requests: list[str] = []

    def __enter__(self) -> Answering:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                time.sleep(outer._after)
                outer.requests.append(self.path)
                self.send_response(outer._status)
                for name, value in {**outer._headers, "Content-Length": "0"}.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing to standard error."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

"""The real live server in a thread of this process: what it shows outlives it, and it can be told to fail.

`support.serve.Serve` is the same server in a process of its own, for kills that are real.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from runnable_otel.ingest.events import make
from runnable_otel.log.memory import MemoryLog
from runnable_otel.server.app import build, make_state
from runnable_otel.server.options import Options
from runnable_otel.server.serving import Server, config, listen

TOKEN = "page-test-token"
Event = dict[str, Any]


class PageServer:
    """`with PageServer() as server:`; `server.send(events)`, `server.url("runs/…")`, `kill`, `start`.

    Attributes:
        log: what it shows.
        token: the readers'; a new one is taken at the next `start`.
        down: it answers 503, as a proxy does whose server is away.
        asked: method and path of each request.
    """

    def __init__(self, log: MemoryLog | None = None, *, port: int = 0) -> None:
        self.log = log or MemoryLog(max_bytes=256 * 1024 * 1024)
        self.token, self.port, self.down = TOKEN, port, False
        self.asked: list[str] = []

    def url(self, path: str = "") -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    def send(self, events: Iterable[Event]) -> None:
        """Add events, as ingest does once it has read them."""
        records = []
        for event in events:
            fields: Mapping[str, Any] = {key: value for key, value in event.items() if key not in ("type", "uid")}
            trace = event.get("trace_id") or event["runnable"]["trace_id"]
            records.append(make(trace, event["type"], event["uid"], json.loads(json.dumps(fields))))
        self.log.extend(records)

    @property
    def streams(self) -> int:
        """How many are open."""
        return len(self._state.fanout)

    def code(self) -> str:
        """A one-time code for the page."""
        return self._state.tokens.code()

    def start(self) -> None:
        listening = listen("127.0.0.1", self.port)
        self.port = listening.getsockname()[1]
        options = Options.read(token=self.token)
        self._state = make_state(self.log, options)
        self._server = Server(config(self._gate(build(self._state, options))), self._state.fanout.close)
        self._thread = threading.Thread(target=self._server.run, args=([listening],))
        self._thread.start()

    def kill(self) -> None:
        """Cut every connection and go."""
        self._server.should_exit = True
        self._thread.join()

    def __enter__(self) -> PageServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _gate(self, app: ASGIApp) -> ASGIApp:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            self.asked.append(f"{scope['method']} {scope['path']}")
            if not self.down:
                await app(scope, receive, send)
                return
            headers = [(b"retry-after", b"0"), (b"content-length", b"0")]
            await send({"type": "http.response.start", "status": 503, "headers": headers})
            await send({"type": "http.response.body", "body": b""})

        return answer

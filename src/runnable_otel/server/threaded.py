"""The live server in a thread of this process, on a free port of 127.0.0.1."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from runnable_otel.log import EventLog
from runnable_otel.server.app import build, make_state
from runnable_otel.server.options import Options
from runnable_otel.server.serving import Server, config, listen
from runnable_otel.server.tokens import Tokens


@dataclass(frozen=True)
class LiveServer:
    """A server that runs.

    Attributes:
        url: such as `http://127.0.0.1:40123`, without a slash at its end; OTLP/HTTP goes there, too.
        tokens: the readers' token (`.token`, for `Authorization: Bearer …`), and the page's one-time codes (`.code()`).
    """

    url: str
    tokens: Tokens = field(repr=False)


@contextmanager
def serving(log: EventLog) -> Generator[LiveServer, None, None]:
    """Serve what is in a log, until the end of the block."""
    options = Options()
    state = make_state(log, options)
    with listen("127.0.0.1", 0) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        server = Server(config(build(state, options)), state.fanout.close)
        thread = threading.Thread(target=server.run, args=([listening],), name="runnable-otel-serve", daemon=True)
        thread.start()  # who connects before it is ready waits in the socket's queue
        try:
            yield LiveServer(url, state.tokens)
        finally:
            server.should_exit = True
            thread.join()

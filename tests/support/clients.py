"""Four real clients of a stream of server-sent events: curl, httpx-sse, Node and chromium.

Each follows a stream while the test does something else. With GET, Node and chromium use the EventSource of their
platform, which comes again by itself when a stream ends, until the server answers 204; with POST they use fetch, and
what they got is read by the letter of the standard, as it is for curl.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, Protocol
from urllib.parse import urljoin

import pytest

from support.environments import ROOT
from support.events import Frame, decode
from support.web import skip_without

NAMES = ("curl", "httpx-sse", "node", "chromium")
_FOLLOW = str(ROOT / "tests" / "node" / "follow.mjs")


class Following(Protocol):
    """A stream that is being followed."""

    def frames(self) -> list[Frame]:
        """What has come so far."""
        ...

    def over(self) -> bool:
        """Whether the client is done, because the server said that there is no more."""
        ...

    def leave(self) -> None:
        """Drop the connection, in the middle of whatever comes."""
        ...


class Client(Protocol):
    """A kind of client."""

    def follow(self, url: str, method: str = "GET") -> Following:
        """Open a stream."""
        ...


def whole(stream: bytes) -> list[Frame]:
    """The frames of a stream that are there to their end."""
    return decode(stream[: stream.rfind(b"\n\n") + 2])


class _Process:
    """A client in a process of its own, whose output is read as it comes."""

    def __init__(self, *command: str) -> None:
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self._output = bytearray()
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,))
        self._reader.start()

    def _read(self, pipe: IO[bytes]) -> None:
        while piece := pipe.read1(65536):  # type: ignore[attr-defined]
            self._output += piece

    def output(self) -> bytes:
        return bytes(self._output)

    def over(self) -> bool:
        if self._process.poll() is None:
            return False
        self._reader.join()
        return True

    def leave(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


class _Curl(_Process):
    def frames(self) -> list[Frame]:
        return whole(self.output())


class _Node(_Process):
    def frames(self) -> list[Frame]:
        lines = [json.loads(line) for line in self.output().split(b"\n")[:-1]]
        if lines and "text" in lines[0]:
            return whole("".join(line["text"] for line in lines).encode())
        return [Frame(line["event"], line["data"], line["id"]) for line in lines]


class _HttpxSse:
    """httpx-sse, on an event loop in a thread of its own."""

    def __init__(self, url: str, method: str) -> None:
        self._frames: list[Frame] = []
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(self._follow(url, method))
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(asyncio.wait([self._task]))
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    async def _follow(self, url: str, method: str) -> None:
        import httpx
        from httpx_sse import aconnect_sse

        async with httpx.AsyncClient(timeout=None) as client, aconnect_sse(client, method, url) as source:
            source.response.raise_for_status()
            async for frame in source.aiter_sse():
                self._frames.append(Frame(frame.event, frame.data, frame.id))

    def frames(self) -> list[Frame]:
        return list(self._frames)

    def over(self) -> bool:
        if self._thread.is_alive():
            return False
        return self._task.cancelled() or self._task.result() is None

    def leave(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()


_BY_EVENT_SOURCE = """([url]) => {
  window.got = { frames: [], over: false };
  window.source = new EventSource(url);
  const frame = (event) => got.frames.push({ event: event.type, id: event.lastEventId, data: event.data });
  for (const name of ["message", "gap", "end"]) source.addEventListener(name, frame);
  source.onerror = () => { got.over = source.readyState === EventSource.CLOSED; };
}"""
_BY_FETCH = """async ([url, method]) => {
  window.got = { text: "", over: false };
  const response = await fetch(url, { method });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  (async () => {
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) got.text += piece.value;
    got.over = true;
  })();
}"""


class _Page:
    """A page of the app's own origin that follows a stream."""

    def __init__(self, page: Any, url: str, method: str) -> None:
        self._page = page
        page.goto(urljoin(url, "/no-such-page"))
        page.evaluate(_BY_EVENT_SOURCE if method == "GET" else _BY_FETCH, [url, method])

    def frames(self) -> list[Frame]:
        got = self._page.evaluate("got")
        if "text" in got:
            return whole(got["text"].encode())
        return [Frame(each["event"], each["data"], each["id"]) for each in got["frames"]]

    def over(self) -> bool:
        return self._page.evaluate("got.over")

    def leave(self) -> None:
        self._page.close()


class _Programs:
    """Clients that need nothing around them."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._open: list[Following] = []

    def follow(self, url: str, method: str = "GET") -> Following:
        self._open.append(self._made(url, method))
        return self._open[-1]

    def _made(self, url: str, method: str) -> Following:
        if self._name == "httpx-sse":
            return _HttpxSse(url, method)
        if self._name == "curl":
            return _Curl("curl", "--silent", "--no-buffer", "--request", method, url)
        options = [] if method != "GET" else ["--experimental-eventsource"]
        return _Node("node", *options, _FOLLOW, url, *([method] if method != "GET" else []))

    def close(self) -> None:
        for each in self._open:
            each.leave()


class _Chromium:
    """Pages of one browser. It opens six connections a host and context: so each page has a context of its own."""

    def __init__(self, new_context: Callable[[], Any]) -> None:
        self._new_context = new_context

    def follow(self, url: str, method: str = "GET") -> Following:
        return _Page(self._new_context().new_page(), url, method)


@contextmanager
def client(name: str) -> Iterator[Client]:
    """One of the four, which leaves all that it has open at the end; skips where it is missing."""
    if name == "chromium":
        skip_without("playwright")
        from support import browser

        if not browser.CHROMIUM:
            pytest.skip("needs chromium")
        with browser.chromium() as opened:
            yield _Chromium(lambda: browser.context(opened))
        return
    if name == "httpx-sse":
        skip_without("httpx_sse")
    elif shutil.which(name) is None:
        pytest.skip(f"needs {name}")
    programs = _Programs(name)
    try:
        yield programs
    finally:
        programs.close()

"""`watch URL [RUN]`: one run of a live server, from its first event to its end, over any number of connections."""

from __future__ import annotations

import http.client
import json
import queue
import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, cast

from runnable_otel.sse_reader import ServerSentEvent, SseReader, TooLarge
from runnable_otel.watch.client import Client, Refused, Unavailable, run_path
from runnable_otel.watch.display import Display

SILENT: Final = 30.0
"""Seconds without an event or a sign of life (which comes each ten) after which we say so."""
LONGEST: Final = 30.0
"""Seconds between two attempts to connect, at most."""
PATIENCE: Final = 5.0
"""Seconds in which a server that has never answered may come up: both may have been started at once."""

_ASK: Final = 10.0  # seconds between two questions for a sign of life
_RETRY: Final = 2000  # milliseconds, as long as no server has said
_EAGER: Final = 0.5  # seconds between two attempts until the first answer
_PIECE: Final = 65536

Say = Callable[[str], None]
Ended = Callable[[Mapping[str, Any] | None], None]


def follow(client: Client, run: str, display: Display, *, upcoming: bool = False) -> int:
    """Show a run until it is over.

    Args:
        client: of the server.
        run: trace id or run id; empty: the newest one, or the first to come.
        display: what shows it.
        upcoming: with no run named: the next one to start.

    Returns:
        0 where it succeeded, 1 where it failed or was cancelled.

    Raises:
        Refused: the server will not have us, there is none, or there is no such run.
    """
    inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
    reader = _Reader(client, run, inbox, upcoming=upcoming)
    threading.Thread(target=reader.run, name="runnable-otel-watch", daemon=True).start()
    silence = _Silence(client)
    while True:
        display.tick()
        try:
            kind, content = inbox.get(timeout=0.1)
        except queue.Empty:
            silence.check(reader.trace, reader.connected)
            display.say(_state(reader, silence))
            continue
        if kind == "event":
            silence.reset()
            display.say(_state(reader, silence))
            display.take(content)
        elif kind == "error":
            display.say("")
            raise content
        elif kind == "end":
            reader.state = "finished"
            display.say(_state(reader, silence))
            return _code(display, reader, content)
        display.say(_state(reader, silence))


Message = tuple[str, Any]


def _state(reader: _Reader, silence: _Silence) -> str:
    parts = [reader.state]
    if silence.since and reader.state == "live":
        parts = [f"no sign of life since {silence.since}"]
    return ", ".join([*parts, *([reader.gap] if reader.gap else [])])


def _code(display: Display, reader: _Reader, summary: Mapping[str, Any] | None) -> int:
    """By the run's own end; where that is not among what has come, by what the server says of it."""
    picture = display.pictures.get(reader.trace)
    main = picture.main if picture is not None else None
    state = main.state if main is not None else ""
    if state not in ("success", "failed", "cancelled"):
        state = (summary or {}).get("status")
    return 0 if state == "success" else 1


class _Silence:
    """Finds out when a run has given no sign of life for long, by the clock of this machine alone."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._moved_at = self._asked_at = time.monotonic()
        self._last_seen = ""
        self._asking = False
        self.since = ""

    def reset(self) -> None:
        """There was an event."""
        self._moved_at = time.monotonic()
        self.since = ""

    def check(self, trace: str, connected: bool) -> None:
        """Ask, if it is time to, on another thread."""
        now = time.monotonic()
        if not (trace and connected) or self._asking or now - max(self._asked_at, self._moved_at) < _ASK:
            return
        self._asked_at, self._asking = now, True
        threading.Thread(target=self._ask, args=(trace,), daemon=True).start()

    def _ask(self, trace: str) -> None:
        with suppress(Refused, Unavailable):
            seen = (self._client.json(run_path(trace)) or {}).get("last_seen")
            if isinstance(seen, str) and seen != self._last_seen:
                first, self._last_seen = not self._last_seen, seen
                if not first:
                    self.reset()
            if time.monotonic() - self._moved_at >= SILENT and self._last_seen:
                self.since = f"{self._last_seen[:10]} {self._last_seen[11:19]} UTC"
        self._asking = False


class _Reader:
    """The thread that holds the connection: events go into the inbox, and how it stands can be read here.

    Attributes:
        state: `connecting`, `waiting for a run`, `live`, `reconnecting …`, `finished`.
        gap: what is lost, once something is.
        trace: the run's trace id, once it is known.
        connected: whether a stream is open.
    """

    def __init__(self, client: Client, run: str, inbox: queue.SimpleQueue[Message], *, upcoming: bool) -> None:
        self._client, self._run, self._inbox, self._upcoming = client, run, inbox, upcoming
        self._retry, self._failures = _RETRY, 0
        self._lost: int | None = 0
        self._answered = False
        self._before: tuple[set[str], str] | None = None  # with `upcoming`: the runs that were there, the newest start
        self.state, self.gap, self.trace, self.connected = "connecting", "", "", False

    def run(self) -> None:
        """Read until the end."""
        try:
            if self._client.address.code:
                self._again(self._client.exchange)
            self.trace = self._again(self._find)
            self._read()
            summary: Mapping[str, Any] | None = None
            with suppress(Unavailable):
                summary = self._client.json(run_path(self.trace))
            self._inbox.put(("end", summary))
        except Exception as error:  # noqa: BLE001 - that there is no use, or a mistake of ours: for the other thread
            self._inbox.put(("error", error))

    def _again(self, ask: Callable[[], Any]) -> Any:
        """Ask until there is an answer.

        Raises:
            Refused: there has never been one, of whatever kind.
        """
        began = time.monotonic()
        while True:
            try:
                answer = ask()
            except Unavailable as error:
                self._answered = self._answered or error.status != 0
                if not self._answered and time.monotonic() - began >= PATIENCE:
                    raise Refused(f"no server answers at {self._client.address}: {error.reason}") from None
                self._wait(error)
            else:
                self._answered, self._failures = True, 0
                return answer

    def _wait(self, error: Unavailable) -> None:
        """Longer with each failure, and not when all others come back too."""
        self.connected = False
        seconds = min(self._retry / 1000 * 2 ** min(self._failures, 8), LONGEST) * random.uniform(0.5, 1)  # noqa: S311
        seconds = max(seconds, error.after) if self._answered else _EAGER
        self._failures += 1
        self.state = f"{'reconnecting' if self.trace else 'connecting'} ({error.reason})"
        self._inbox.put(("state", None))
        time.sleep(seconds)

    def _find(self) -> str:
        """The trace id of the run that is asked for."""
        if self._run:
            summary = self._client.json(run_path(self._run))
            if summary is None:
                raise Refused(f"{self._client.address} has no run {self._run!r}")
            return _trace(summary)
        found = (self._client.json("/runs?limit=100") or {}).get("runs")
        if not isinstance(found, list):
            raise Refused(f"{self._client.address} is no server of runnable-otel's: it has no list of runs")
        runs = cast("list[dict[str, Any]]", found)
        if runs and not self._upcoming:
            return _trace(runs[0])
        if self._before is None:  # once: what begins while the connection is lost is new all the same
            self._before = {_trace(run) for run in runs}, max((_started(run) for run in runs), default="")
        new = next(filter(self._is_new, reversed(runs)), None)
        return self._next() if new is None else _trace(new)

    def _is_new(self, run: Mapping[str, Any]) -> bool:
        """A run that was not there before, and is not only one of those that the list had no room for."""
        known, newest = self._before or (set[str](), "")
        return run.get("trace_id") not in known and (run.get("status") == "running" or _started(run) > newest)

    def _next(self) -> str:
        """Wait for a new run."""
        self.state = "waiting for a run"
        self._inbox.put(("state", None))
        response = self._client.stream("/events")
        for event in self._events(response, SseReader()):
            with suppress(ValueError, RecursionError):
                summary: object = json.loads(event.data)
                if isinstance(summary, dict):
                    found = cast("dict[str, Any]", summary)
                    if self._is_new(found):
                        return _trace(found)
        raise Unavailable("connection lost")

    def _read(self) -> None:
        """Every event of the run, on as many connections as it takes."""
        last_id = ""
        while True:
            reader = SseReader(last_id)
            try:
                response = self._client.stream(f"{run_path(self.trace)}/events", last_id)
                if response is None:
                    return
                self.state, self.connected = "live", True
                for event in self._events(response, reader):
                    self._failures = 0
                    if event.event == "end":
                        return
                    self._event(event)
                raise Unavailable("connection lost")
            except Unavailable as error:
                # Without an end the stream was cut: what was complete in it is read, and not asked for again.
                last_id, self._retry = reader.last_id, reader.retry or self._retry
                self._wait(error)

    def _events(self, response: http.client.HTTPResponse | None, reader: SseReader) -> Any:
        if response is None:
            return
        with response:
            while True:
                try:
                    piece = response.read1(_PIECE)
                except (OSError, http.client.HTTPException):
                    return
                if not piece:
                    return
                try:
                    yield from reader.feed(piece)
                except TooLarge as error:
                    raise Refused(f"the server sends {error}") from None

    def _event(self, event: ServerSentEvent) -> None:
        try:
            data: object = json.loads(event.data)
        except (ValueError, RecursionError):
            return
        if not isinstance(data, dict):
            return
        found = cast("dict[str, Any]", data)
        if event.event == "gap":
            lost = found.get("lost")
            known = isinstance(lost, int) and self._lost is not None
            self._lost = self._lost + lost if known and self._lost is not None and isinstance(lost, int) else None
            self.gap = "gap: some events are lost" if self._lost is None else f"gap: {self._lost:,} events are lost"
            self._inbox.put(("state", None))
        elif event.event == "message":
            self._inbox.put(("event", found))


def _started(summary: Mapping[str, Any]) -> str:
    """When a run began: text that sorts as time does."""
    started = summary.get("started")
    return started if isinstance(started, str) else ""


def _trace(summary: object) -> str:
    trace = cast("dict[str, Any]", summary).get("trace_id") if isinstance(summary, dict) else None
    if not isinstance(trace, str) or not trace:
        raise Refused("the server lists a run without a trace id")
    return trace

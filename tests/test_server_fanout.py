"""One reader, many clients: who is slow costs the others nothing, and is cut; who is cut loses nothing."""

from __future__ import annotations

import gc
import json
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import pytest

from support.web import skip_without

skip_without("starlette", "uvicorn", "httptools", "httpx", "psutil")

from starlette.applications import Starlette  # noqa: E402 - it may be missing
from starlette.requests import Request  # noqa: E402
from starlette.routing import Mount  # noqa: E402
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle  # noqa: E402

from runnable_otel import fanout as fanout_module  # noqa: E402
from runnable_otel.events import Event  # noqa: E402
from runnable_otel.fanout import client as client_module  # noqa: E402
from runnable_otel.fanout import room as room_module  # noqa: E402
from runnable_otel.log import Batch, EventStream, StoreUnavailable  # noqa: E402
from runnable_otel.log.memory import MemoryLog  # noqa: E402
from runnable_otel.server import serving as serving_module  # noqa: E402
from runnable_otel.server.app import build, make_state  # noqa: E402
from runnable_otel.server.options import Options  # noqa: E402
from runnable_otel.server.serving import HttpProtocol, Server, config, listen  # noqa: E402
from support.serve import TOKEN, Stream, completed, done, started, task, whole_run  # noqa: E402

PATH = "/runs/run-1/events"


class Local:
    """The server in a thread of this process: what it runs on can be changed, and its log written to directly."""

    def __init__(
        self, log: Any = None, wrap: Callable[[Any], Any] = lambda app: app, loop: str = "auto", **options: Any
    ) -> None:
        self.log = log or MemoryLog(linger=0)
        self.state = make_state(self.log, Options.read({}, token=TOKEN, **options))
        self.socket = listen("127.0.0.1", 0)
        self.port: int = self.socket.getsockname()[1]
        app = wrap(build(self.state, Options.read({}, token=TOKEN, **options)))
        made = config(app)
        made.loop = loop
        self.server = Server(made, self.state.fanout.close)
        self.thread = threading.Thread(target=self.server.run, args=([self.socket],))

    def __enter__(self) -> Local:
        self.thread.start()
        return self

    def add(self, *events: dict[str, Any]) -> None:
        for event in events:
            self.log.append(Event.from_json(json.dumps(event)))

    def connect(self, receive_buffer: int = 0) -> socket.socket:
        connection = socket.socket()
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.settimeout(30)
        connection.connect(("127.0.0.1", self.port))
        return connection

    @contextmanager
    def stream(self, path: str = PATH, receive_buffer: int = 0, **headers: str) -> Iterator[Stream]:
        with self.connect(receive_buffer) as connection:
            head = [f"GET {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {TOKEN}"]
            head += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
            connection.sendall("\r\n".join([*head, "\r\n"]).encode())
            with closing(Stream(connection)) as stream:
                yield stream

    def __exit__(self, *_: object) -> None:
        self.server.handle_exit(15, None)
        self.thread.join(30)
        assert not self.thread.is_alive()


class Foreign:
    """As another server, or a middleware: the response can't be written but by `send`."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def other(message: Any) -> None:
            await send(message)

        await self.app({**scope, "extensions": {}}, receive, other)


def blocking(base: type[MemoryLog]) -> type[Any]:
    """The log as one that is called in threads."""
    return type("Blocking", (base,), {"blocks": True})


@pytest.fixture(params=["direct", "foreign", "blocks"])
def local(request: pytest.FixtureRequest) -> Iterator[Local]:
    """A server whose connections are written to directly, one that is not ours, and a log that blocks."""
    log = blocking(MemoryLog)(linger=0) if request.param == "blocks" else None
    with Local(log, Foreign if request.param == "foreign" else lambda app: app) as local:
        yield local


def big(number: int, trace: int = 1) -> dict[str, Any]:
    return task(number, trace, inputs={"text": f"{number}-" + "x" * 8000})


def uids(events: Sequence[dict[str, Any]]) -> list[str]:
    return [event["uid"] for event in events]


def read_later(stream: Stream) -> tuple[threading.Thread, list[str]]:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.extend(stream.uids()))
    thread.start()
    return thread, found


def test_live_and_late_clients(local: Local) -> None:
    """Twenty clients that come while events do each get all of them, once and in order."""
    events = whole_run(500)
    local.add(events[0])
    streams: list[Any] = []
    readers: list[tuple[threading.Thread, list[str]]] = []
    for number in range(20):
        streams.append(local.stream())
        readers.append(read_later(streams[-1].__enter__()))
        local.add(*events[1 + number * 50 : 51 + number * 50])
    local.add(*events[1001:])
    for thread, found in readers:
        thread.join(60)
        assert found == uids(events)
    for stream in streams:
        stream.__exit__(None, None, None)


def test_a_stalled_client_costs_the_others_nothing(local: Local) -> None:
    """Others get all while one reads nothing; and that one, when it reads again, gets all too."""
    local.add(started(1))
    events = [big(number) for number in range(2000)]  # 16 MB, far more than all buffers together
    with local.stream(receive_buffer=4096) as stalled, local.stream() as other:
        assert stalled.uids(1) == other.uids(1)
        thread, found = read_later(other)
        for first in range(0, 2000, 100):
            local.add(*events[first : first + 100])
        local.add(completed(1))
        thread.join(60)
        assert found == uids([*events, completed(1)])
        assert stalled.uids() == uids([*events, completed(1)])


def test_a_stalled_client_is_cut(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that takes nothing for 30 s (here 0.3) is cut; it comes again, and nothing is missing or double."""
    monkeypatch.setattr(client_module, "STALLED", 0.3)
    events = [big(number) for number in range(2000)]
    local.add(started(1))
    with local.stream(receive_buffer=4096) as stalled:
        first = stalled.uids(1)
        local.add(*events)
        while len(local.state.fanout):
            threading.Event().wait(0.01)
        try:
            found = stalled.uids()
        except (ConnectionError, ValueError):  # in the midst of a chunk
            found = []
        assert len(found) < 2000
        assert stalled.last_id
    local.add(completed(1))
    got = first + found
    whole = uids([started(1), *events, completed(1)])
    with local.stream(last_event_id=stalled.last_id) as again:
        rest = again.uids()
    assert rest == whole[len(whole) - len(rest) :]
    assert len(got) + len(rest) >= len(whole)


def test_a_client_that_leaves(local: Local) -> None:
    """A client that leaves is forgotten at once, with its room and its place."""
    local.add(started(1))
    for _ in range(3):
        with local.stream() as stream:
            assert stream.uids(1)
            assert len(local.state.fanout) == 1
        while len(local.state.fanout):
            threading.Event().wait(0.01)
    assert not local.state.addresses
    assert not local.state.fanout._rooms


def test_an_open_stream_keeps_nothing_of_its_request() -> None:
    """A stream may last for days: HTTP's parser, the request, and what called us for it are let go."""
    gc.collect()  # what other tests left
    gc.disable()  # at once, not when there is garbage enough
    with Local() as local, ExitStack() as stack:
        stack.callback(gc.enable)
        local.add(started(1))
        streams = [stack.enter_context(local.stream()) for _ in range(20)]
        assert all(stream.uids(1) for stream in streams)
        assert alive(HttpProtocol, RequestResponseCycle, Request) == []
        local.add(completed(1))
        assert all(stream.uids() for stream in streams)


def alive(*kinds: type) -> list[object]:
    """What lives of these classes. isinstance() would ask each object for its `__class__`, and run its code."""
    return [each for each in gc.get_objects() if issubclass(type(each), kinds)]


def test_a_request_behind_a_stream() -> None:
    """A connection that streams ends with its stream, as its head says; what else was asked on it gets no answer."""
    whole = whole_run(3)
    with Local() as local:
        local.add(*whole[:-1])
        with local.stream() as stream:
            assert stream.headers["connection"] == "close"
            assert stream.uids(len(whole) - 1) == uids(whole[:-1])
            stream.connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)
            local.add(whole[-1])
            assert stream.uids() == uids(whole[-1:])
            assert stream.chunk() == b""
            assert stream.connection.recv(1) == b""


def asked(path: str = PATH, version: str = "1.1") -> bytes:
    return f"GET {path} HTTP/{version}\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()


def all_left(local: Local) -> None:
    """Wait until no stream is open."""
    while len(local.state.fanout):
        threading.Event().wait(0.01)
    assert not local.state.addresses


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_who_asks_twice_and_leaves(loop: str, version: str, caplog: pytest.LogCaptureFixture) -> None:
    """A second request behind that of a stream is not read; the place is given back when the client goes."""
    with Local(loop=loop) as local:
        local.add(started(1))
        for _ in range(10):
            with local.connect() as connection:
                connection.sendall(asked(version=version) + asked() * 100)
                assert connection.recv(15).startswith(b"HTTP/1.1 200")
        all_left(local)
    assert caplog.text == ""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_who_leaves_in_the_midst_of_history(loop: str, version: str, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is written to a client that has gone, and others have their turn meanwhile."""
    with Local(loop=loop) as local:
        local.add(started(1), *(big(number) for number in range(1000)))
        for _ in range(5):
            with local.connect() as connection:
                connection.sendall(asked(version=version))
                assert connection.recv(2000)
        all_left(local)
    assert caplog.text == ""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_who_stalls_by_http_1_0(loop: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A client that can't be handed over is cut, too, and that is no failure."""
    monkeypatch.setattr(client_module, "STALLED", 0.2)
    with Local(loop=loop) as local:
        local.add(started(1), *(big(number) for number in range(1000)))
        with local.connect(4096) as connection:
            connection.sendall(asked(version="1.0"))
            all_left(local)
    assert caplog.text == ""


def test_heartbeat(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quiet stream says that it is alive every 15 s (here 0.1), with a comment that readers pass over."""
    monkeypatch.setattr(room_module, "HEARTBEAT", 0.1)
    local.add(started(1))
    with local.stream() as stream:
        while not (chunk := stream.chunk()).endswith(b"\n\n"):
            pass
        assert [stream.chunk() for _ in range(3)] == [b": \n"] * 3
        local.add(task(0))
        while (chunk := stream.chunk()) == b": \n":
            pass
        assert b"data: " in chunk


def test_closing_ends_streams_without_end(local: Local) -> None:
    """When the server stops a stream ends as it should, without `event: end`: the client comes again."""
    local.add(started(1))
    with local.stream() as stream:
        assert stream.uids(1)
        local.server.handle_exit(15, None)
        rest = b"".join(iter(stream.chunk, b""))
        assert b"event:" not in rest


def test_what_is_cut_is_no_failure(
    local: Local, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Streams that do not end in time when the server stops are cut, and no failure is reported."""
    monkeypatch.setattr(serving_module, "STOP_SECONDS", 0)
    monkeypatch.setattr(local.server, "_close", lambda: None)  # as if there were too many of them
    local.add(started(1))
    with ExitStack() as stack:
        for stream in [stack.enter_context(local.stream()) for _ in range(50)]:
            assert stream.uids(1)
        local.server.handle_exit(15, None)
        local.thread.join(30)
    assert caplog.text == ""


def test_limits() -> None:
    """More streams than allowed: 503, or 429 for one address; who leaves makes room."""
    for options, status in (({"max_streams": 2}, 503), ({"max_streams_per_address": 2}, 429)):
        with Local(**options) as local:
            local.add(started(1))
            with local.stream() as one, local.stream() as two:
                assert one.uids(1)
                assert two.uids(1)
                with local.stream() as three:
                    assert three.status == status
                    assert three.headers["retry-after"]
            while len(local.state.fanout):
                threading.Event().wait(0.01)
            with local.stream() as again:
                assert again.uids(1)


class Failing:
    """A log whose streams can't be read while `broken`."""

    def __init__(self) -> None:
        self.inner, self.broken = MemoryLog(linger=0), False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def stream(self, run: str) -> EventStream | None:
        inner, log = self.inner.stream(run), self
        if inner is None:
            return None

        class Stream:
            def read(self, position: str = "", limit: int = 1000) -> Batch:
                if log.broken:
                    raise StoreUnavailable("gone")
                return inner.read(position, limit)

            def when_more(self, position: str, wake: Callable[[], None]) -> Callable[[], None]:
                return inner.when_more(position, wake)

        return Stream()


def test_streams_stay_while_the_log_is_gone(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A log that can't be read: open streams wait, heartbeats come, a new one is 503; and then it goes on."""
    monkeypatch.setattr(room_module, "HEARTBEAT", 0.05)
    monkeypatch.setattr(room_module, "_AGAIN", 0.02)
    log = Failing()
    with Local(log) as local:
        local.add(started(1))
        with local.stream() as stream:
            assert stream.uids(1)
            log.broken = True
            local.add(task(0))
            assert [stream.chunk() for _ in range(3)] == [b": \n"] * 3
            with local.stream(last_event_id="now") as new:
                assert (new.status, new.headers["retry-after"]) == (503, "5")
            log.broken = False
            local.add(completed(1))
            assert stream.uids(2) == uids([task(0), completed(1)])
    assert caplog.text.count("can't be read") == 1


class Hanging(blocking(MemoryLog)):  # type: ignore[misc]
    """A store that gives no answer until it is let go."""

    def __init__(self) -> None:
        super().__init__(linger=0)
        self.hangs = self.is_well = False
        self.go_on = threading.Event()

    def run(self, run: str) -> Any:
        if self.hangs:
            self.go_on.wait(30)
        return super().run(run)

    def health(self) -> Any:
        if not self.is_well:
            self.go_on.wait(30)
        return super().health()


def test_health_of_a_log_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many wait for the log, it is asked how it is; where that hangs too, it is not well."""
    monkeypatch.setattr(fanout_module, "ANSWER", 0.2)
    log = Hanging()
    with Local(log) as local, ExitStack() as stack:
        stack.callback(log.go_on.set)
        local.add(started(1))
        log.hangs = True
        for _ in range(20):
            stack.enter_context(local.connect()).sendall(asked("/runs/run-1"))
        for well, status in ((True, b"200"), (False, b"503"), (True, b"503")):
            log.is_well = well
            with local.connect() as connection:
                connection.sendall(asked("/healthz", "1.0"))
                answer = b"".join(iter(lambda: connection.recv(65536), b""))
                assert answer.startswith(b"HTTP/1.1 " + status)
                assert (b"the store does not answer" in answer) == (status == b"503")


def test_nobody_waits_who_has_left() -> None:
    """A client that leaves while a slow log takes note that it waits: nothing waits in its place, for ever."""
    waiting: list[Callable[[], None]] = []
    asked, gate = threading.Event(), threading.Event()

    class Slow(Failing):
        blocks = True

        def stream(self, run: str) -> EventStream | None:
            inner = super().stream(run)
            assert inner is not None

            def when_more(_: str, wake: Callable[[], None]) -> Callable[[], None]:
                asked.set()
                gate.wait(30)
                waiting.append(wake)
                return lambda: waiting.remove(wake) if wake in waiting else None

            inner.when_more = when_more  # type: ignore[method-assign]
            return inner

    with Local(Slow()) as local:
        local.add(started(1))
        with local.stream() as stream:
            assert stream.uids(1)
            assert asked.wait(30)
        while local.state.fanout._rooms:
            threading.Event().wait(0.01)
        gate.set()
        local.state.fanout._threads.shutdown()  # type: ignore[union-attr] - what it does is done
        assert waiting == []


def test_a_run_that_goes_on(local: Local) -> None:
    """A trace in which a second run starts after the first was over: who comes again gets that one too."""
    local.add(*whole_run(1))
    with local.stream() as stream:
        before = stream.uids()
        assert stream.event == "end" or not stream.chunk()
    second = {**started(1), "span_id": f"{77:016x}", "uid": f"{started(1)['trace_id']}:{77:016x}:start"}
    local.add(second)
    with local.stream(last_event_id=stream.last_id) as again:
        assert again.uids(1) == [second["uid"]]
    assert len(before) == 4


def test_mounted_in_two_loops() -> None:
    """One app may be served by two event loops at once."""
    log = MemoryLog(linger=0)
    with Local(log) as one:
        app = build(one.state, Options.read({}, token=TOKEN))
        two = Local(log, lambda _: Starlette(routes=[Mount("/live", app)]))
        with two:
            one.add(started(1))
            with one.stream() as first, two.stream(f"/live{PATH}") as second:
                assert first.uids(1) == second.uids(1)
                one.add(done(0))
                assert first.uids(1) == second.uids(1) == [done(0)["uid"]]


def test_reading_is_shared() -> None:
    """A hundred clients at the head of a run cost one read of the log for what comes, not a hundred."""
    reads = 0

    class Counting(Failing):
        def stream(self, run: str) -> EventStream | None:
            inner = super().stream(run)
            assert inner is not None
            whole = inner.read

            def read(position: str = "", limit: int = 1000) -> Batch:
                nonlocal reads
                reads += 1
                return whole(position, limit)

            inner.read = read  # type: ignore[method-assign]
            return inner

    with Local(Counting()) as local:
        local.add(started(1))
        streams = [local.stream() for _ in range(100)]
        opened = [stream.__enter__() for stream in streams]
        for stream in opened:
            assert stream.uids(1)
        fanout = local.state.fanout
        while sum(len(room.members) for room in fanout._rooms.values()) < 100:
            threading.Event().wait(0.01)
        reads = 0
        for number in range(10):
            local.add(task(number))
            for stream in opened:
                assert stream.uids(1) == [task(number)["uid"]]
        assert reads <= 20
        for stream in streams:
            stream.__exit__(None, None, None)

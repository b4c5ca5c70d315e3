"""`runnable-otel serve` with many streams open: latency, memory, what stalled clients cost the others, and the end.

A real server in a process of its own, over real sockets; events of 500 bytes come one a request over OTLP/HTTP, at a
fixed rate, from another process. Latency is from the moment at which an event was due to its arrival in the clients,
which share one process and one core, so that it holds what they take too. Rounds without and with stalled clients in
turn; ratios are medians. A stalled client asks for a long history and reads nothing of it.

    python benchmarks/bench_serve.py
    python benchmarks/bench_serve.py --clients 100 --seconds 12

It needs an open file for each client, here and in the server: `ulimit -Hn` must be some 300 more than there are
clients. The soft limit (`ulimit -n`) is raised by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import multiprocessing
import re
import resource
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import uvloop

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from support.serve import TOKEN, Serve, export, started, task, trace_id

EVENT = 500
"""Bytes of an event as JSON."""
PAIRS = 6
HISTORY = 8_000
BURST = 200
JSON = {"Content-Type": "application/json"}
_SENT = re.compile(rb'"sent":\s*"(\d+)"[^\n]*\n\n')


def event(number: int, sent: int) -> dict[str, object]:
    """An event of 500 bytes that says when it was due, in nanoseconds; 0: that is nobody's to measure."""
    inputs = {"sent": f"{sent:020}", "pad": ""}
    rest = EVENT - len(json.dumps(task(number, inputs=inputs), separators=(",", ":")))
    return task(number, inputs={**inputs, "pad": "x" * rest})


def post(connection: http.client.HTTPConnection, events: list[dict[str, object]]) -> None:
    connection.request("POST", "/v1/logs", json.dumps(export(events)), JSON)
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    answer.read()


def send(port: int, first: int, count: int, rate: float, start: int) -> None:
    """In a process of its own: send events at a fixed rate from a moment on."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for number in range(count):
        due = start + int(number * 1e9 / rate)
        time.sleep(max(0, due - time.monotonic_ns()) / 1e9)
        post(connection, [event(first + number, due)])


class Client(asyncio.Protocol):
    """One stream, from a position on; how late each event came, in nanoseconds."""

    def __init__(self, latencies: list[int], came: Callable[[int], None], position: str) -> None:
        self._latencies, self._came, self._position = latencies, came, position
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(request(self._position))  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        data = self._rest + data
        found = _SENT.findall(data)
        self._rest = data[data.rfind(b"\n\n") + 2 if found else 0 :]
        self._latencies += [now - int(sent) for sent in found]
        self._came(len(found))


def request(position: str) -> bytes:
    head = f"GET /runs/{trace_id(1)}/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
    return f"{head}Last-Event-ID: {position}\r\n\r\n".encode()


class Bench:
    """The clients of one server."""

    def __init__(self, server: Serve, rate: float) -> None:
        self.server, self.rate = server, rate
        self.clients, self.number = 0, HISTORY
        self.latencies: list[int] = []
        self.process = psutil.Process(server.process.pid)
        self._left, self._all = 0, asyncio.Event()

    def _came(self, number: int) -> None:
        self._left -= number
        if self._left <= 0:
            self._all.set()

    async def open(self, clients: int) -> None:
        """Open more streams, from now on."""
        for _ in range(clients):
            await self._connect("now")
        self.clients += clients
        while self.streams() < self.clients:
            await asyncio.sleep(0.05)

    async def _connect(self, position: str) -> asyncio.BaseTransport:
        def made() -> Client:
            return Client(self.latencies, self._came, position)

        return (await asyncio.get_running_loop().create_connection(made, "127.0.0.1", self.server.port))[0]

    async def read_history(self) -> None:
        """Read it once, as the server encodes an event the first time that somebody asks for it."""
        self._left, self._all = HISTORY, asyncio.Event()
        transport = await self._connect("")
        await asyncio.wait_for(self._all.wait(), 60)
        transport.close()
        while self.streams():
            await asyncio.sleep(0.05)

    def streams(self) -> int:
        with self.server.client() as client:
            return client.get("/healthz").json()["streams"]

    async def measure(self, seconds: float) -> list[int]:
        """The latencies at the fixed rate, sorted; none is missing."""
        count = int(seconds * self.rate)
        self.latencies.clear()
        self._left, self._all = count * self.clients, asyncio.Event()
        start = time.monotonic_ns() + 1_000_000_000
        arguments = (self.server.otlp_port, self.number, count, self.rate, start)
        sender = multiprocessing.get_context("spawn").Process(target=send, args=arguments)
        sender.start()
        await asyncio.wait_for(self._all.wait(), seconds + 60)
        sender.join()
        self.number += count
        assert len(self.latencies) == count * self.clients
        return sorted(self.latencies)

    async def burst(self) -> tuple[float, float]:
        """Deliveries a second when events come as fast as they are taken, and microseconds of the server's for one."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.otlp_port)
        deliveries = BURST * self.clients
        self._left, self._all = deliveries, asyncio.Event()
        events = [event(self.number + number, 0) for number in range(BURST)]
        self.number += BURST
        before, start = sum(self.process.cpu_times()[:2]), time.perf_counter()
        post(connection, events)
        await asyncio.wait_for(self._all.wait(), 120)
        took, cpu = time.perf_counter() - start, sum(self.process.cpu_times()[:2]) - before
        return deliveries / took, cpu / deliveries * 1e6


@contextmanager
def stalled(port: int, count: int) -> Iterator[None]:
    """Clients that ask for all there was, and read nothing."""
    open_ones = []
    for _ in range(count):
        each = socket.socket()
        each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        each.connect(("127.0.0.1", port))
        each.sendall(request(""))
        open_ones.append(each)
    yield
    for each in open_ones:
        each.close()


def percentile(values: list[int], part: float) -> float:
    """Of sorted nanoseconds, in milliseconds."""
    return values[min(len(values) - 1, int(len(values) * part))] / 1e6


async def measure(server: Serve, options: argparse.Namespace) -> list[tuple[str, str, str]]:
    """The rows of the table: what, the promise, and what was measured."""
    bench, clients = Bench(server, options.rate), options.clients
    await bench.read_history()
    await bench.open(20)  # what the first ones cost once
    await bench.measure(1)
    before = server.memory()
    await bench.open(clients - 20)
    each = (server.memory() - before) / (clients - 20)
    round_seconds = options.seconds / PAIRS / 2
    alone, beside, loaded, held = [], [], 0.0, 0
    for _ in range(PAIRS):
        alone.append(await bench.measure(round_seconds))
        memory = server.memory()
        loaded = loaded or (memory - before) / (clients - 20)
        with stalled(server.port, options.stalled):
            beside.append(await bench.measure(round_seconds))
            held = max(held, server.memory() - memory)
    ratio = statistics.median(percentile(b, 0.99) / percentile(a, 0.99) for a, b in zip(alone, beside, strict=True))
    whole = sorted(value for part in alone for value in part)
    bursts = [await bench.burst() for _ in range(5)]
    rate, cpu = (statistics.median(column) for column in zip(*bursts, strict=True))
    seconds = end(server)
    return [
        ("latency, p50", "", f"{percentile(whole, 0.5):.1f} ms"),
        ("latency, p99", "<= 25 ms at 1,000, <= 120 ms at 5,000", f"{percentile(whole, 0.99):.1f} ms"),
        ("memory a client, idle", "<= 8 kB", f"{each / 1024:.1f} kB"),
        ("memory a client, while events come", "<= 8 kB", f"{loaded / 1024:.1f} kB"),
        (f"p99 beside {options.stalled} stalled clients", "<= 1.3 x", f"{ratio:.2f} x"),
        ("memory a stalled client", "<= 64 kB", f"{held / 1024 / options.stalled:.1f} kB"),
        ("deliveries a second, gathered", "", f"{rate:,.0f}"),
        ("the server's CPU for one of them", "", f"{cpu:.2f} us"),
        (f"SIGTERM with {clients} streams open", "<= 1 s", f"{seconds:.2f} s"),
    ]


def end(server: Serve) -> float:
    """Seconds from SIGTERM to the exit."""
    start = time.perf_counter()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0
    return time.perf_counter() - start


def fill(server: Serve) -> None:
    """The run that is streamed: its start, and a history that no socket holds."""
    connection = http.client.HTTPConnection("127.0.0.1", server.otlp_port)
    post(connection, [started(1)])
    for first in range(0, HISTORY, 1000):
        post(connection, [event(number, 0) for number in range(first, first + 1000)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--stalled", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=float, default=20, help="events a second (20)")
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = options.clients + options.stalled + 300
    if hard != resource.RLIM_INFINITY and hard < files:
        sys.exit(f"{files} open files are needed, and ulimit -Hn is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, files), hard))
    limit = str(max(5000, files))
    with tempfile.TemporaryDirectory() as folder, Serve(Path(folder), "--max-streams-per-address", limit) as server:
        fill(server)
        rows = uvloop.run(measure(server, options))
    asked = f"{options.clients} clients, {options.rate:g} events of {EVENT} bytes a second, {options.seconds:g} s"
    print(f"{asked}\n{'':36}{'promise':40}measured")
    for what, promise, measured in rows:
        print(f"{what:36}{promise:40}{measured}")


if __name__ == "__main__":
    main()

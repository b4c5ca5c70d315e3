"""Faults that are real: server, producers, Redis and connections are killed while runs stream.

The promise, for every client: no uid twice, and none missing without a gap. `make test` runs a few sequences,
`make test-live` 200; `RUNNABLE_OTEL_KILLS` is another number. A sequence is its seed: the same faults in one order.
"""

from __future__ import annotations

import json
import os
import random
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from support.kills import Client, Producer, facts
from support.proxy import Proxy
from support.redis import RedisServer, needs_redis
from support.serve import TOKEN, Serve
from support.waiting import wait_until

SEQUENCES = int(os.environ.get("RUNNABLE_OTEL_KILLS", "200"))
QUICK = 8
TASKS = 60
RUNS = 2
CLIENTS = 3
"""Of each run."""
LOSSLESS = ("sqlite", "redis-always")
STORES = ["sqlite", "redis-always", "redis-everysec", "redis-none"]


FSYNC = {"redis-always": "always", "redis-everysec": "everysec"}


def redis(kind: str, folder: Path) -> RedisServer:
    """With an append-only file, or without: then a kill loses all."""
    needs_redis()
    append = {"appendonly": "yes", "appendfsync": FSYNC[kind]} if kind in FSYNC else {}
    return RedisServer(folder, tcp=True, **append)


class Sequence:
    """Producers, clients, and a server between them, behind a proxy."""

    def __init__(self, seed: int, kind: str, folder: Path, stack: ExitStack) -> None:
        self.random = random.Random(seed)
        self.kind, self.folder, self.stack = kind, folder, stack
        self.redis = None if kind == "sqlite" else stack.enter_context(redis(kind, folder))
        self.db = str(folder / "runs.db") if self.redis is None else self.redis.url
        self.server = self._serve(0)
        self.port = self.server.port
        self.proxy = stack.enter_context(Proxy(self.port))
        self.producer_proxy = stack.enter_context(Proxy(self.port))
        self.runs = {f"{self.random.getrandbits(128) | 1:032x}": f"run-{number}" for number in range(RUNS)}
        self.producers = [
            Producer(self.producer_proxy.port, trace, run_id, TASKS, batch=self.random.randint(1, 9))
            for trace, run_id in self.runs.items()
        ]
        self.clients = [
            Client([self.proxy.port], TOKEN, trace, timeout=2.0) for trace in self.runs for _ in range(CLIENTS)
        ]
        for client in self.clients:
            client.start()

    def _serve(self, port: int) -> Serve:
        return self.stack.enter_context(Serve(self.folder, "--port", str(port), "--db", self.db))

    def fault(self) -> str:
        """One fault, chosen by the seed, after some more events have come through."""
        before, more = self._seen(), self.random.randint(1, 60)
        wait_until(lambda: self._seen() >= before + more or all(producer.done for producer in self.producers))
        faults = [self.kill_server, self.kill_producer, self.cut_clients, self.cut_producers, self.stall]
        if self.redis is not None:
            faults.append(self.kill_redis)
        chosen = self.random.choice(faults)
        chosen()
        return chosen.__name__

    def _seen(self) -> int:
        return sum(client.frames for client in self.clients)

    def kill_server(self) -> None:
        self.server.stop(signal.SIGKILL)
        self.server = self._serve(self.port)

    def kill_producer(self) -> None:
        self.random.choice(self.producers).kill()

    def kill_redis(self) -> None:
        assert self.redis is not None
        self.redis.restart(signal.SIGKILL)

    def cut_clients(self) -> None:
        self.proxy.cut()

    def cut_producers(self) -> None:
        self.producer_proxy.cut()

    def stall(self) -> None:
        """The proxy goes silent until a client's patience is over, and it comes again."""
        client = self.random.choice(self.clients)
        before = client.connections
        self.proxy.stall()
        wait_until(lambda: not client.is_alive() or client.connections > before)
        self.proxy.cut()
        self.proxy.resume()

    def finish(self) -> None:
        """Let all come to its end. Where Redis may have lost the end of a run, a client can only get what is left."""
        for producer in self.producers:
            producer.finish(60)
        for client in self.clients:
            if self.kind in LOSSLESS:
                client.join(60)
            else:
                left = set(self.stored(client.trace))
                wait_until(lambda c=client, left=left: not c.is_alive() or left <= set(c.uids) or c.gaps)
                client.stop()
                client.join(60)

    def clients_of(self, trace: str) -> list[Client]:
        return [client for client in self.clients if client.trace == trace]

    def stop(self) -> None:
        for client in self.clients:
            client.stop()

    def stored(self, trace: str) -> list[str]:
        """The uids of a run in the order of the log."""
        found: list[str] = []
        position, more = "", True
        while more:
            headers = {"Authorization": f"Bearer {TOKEN}", "Accept": "application/json"}
            url = f"http://127.0.0.1:{self.port}/runs/{trace}/events?position={position}"
            try:
                with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as response:
                    page = json.load(response)
            except urllib.error.HTTPError as error:
                if error.code == 404 and self.kind not in LOSSLESS:
                    return []  # Redis has lost the run
                raise
            found += [event["uid"] for event in page["events"]]
            position, more = page["position"], bool(page["events"])
        return found


def sequences() -> Iterator[Any]:
    for number in range(SEQUENCES):
        marks = [pytest.mark.live] if number >= QUICK else []
        yield pytest.param(STORES[number % len(STORES)], number, marks=marks)


@pytest.mark.parametrize(("kind", "seed"), list(sequences()))
def test_nothing_twice_and_nothing_missing(tmp_path: Path, kind: str, seed: int) -> None:
    """Whatever is killed, each client has every event once, in the log's order, or has been told of a gap."""
    with ExitStack() as stack:
        sequence = Sequence(seed, kind, tmp_path, stack)
        stack.callback(sequence.stop)
        did = [sequence.fault() for _ in range(sequence.random.randint(3, 7))]
        sequence.finish()
        print(kind, seed, did, [(client.connections, client.gaps) for client in sequence.clients])
        for trace, run_id in sequence.runs.items():
            stored = sequence.stored(trace)
            wanted = {event["uid"] for event in facts(trace, run_id, TASKS)}
            assert len(set(stored)) == len(stored), did
            if kind in LOSSLESS:
                assert set(stored) == wanted, did  # what was acknowledged is there
            for client in sequence.clients_of(trace):
                assert not client.is_alive(), did
                assert not client.problem, did
                assert not client.twice, did
                kept = [uid for uid in client.uids if uid in set(stored)]
                assert kept == [uid for uid in stored if uid in client.uids], did
                if not client.gaps:
                    assert set(stored) <= set(client.uids), did

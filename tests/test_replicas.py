"""Several servers on one Redis are one server: whoever writes and reads may go to any of them, and to another next."""

from __future__ import annotations

import asyncio
import random
import re
from array import array
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

import pytest

from support.web import skip_without

skip_without("starlette", "uvicorn", "httptools", "httpx", "psutil")

import httpx  # noqa: E402 - it may be missing

from support.kills import facts  # noqa: E402
from support.redis import RedisServer, needs_redis  # noqa: E402
from support.serve import TOKEN, Serve, export  # noqa: E402

needs_redis()

REPLICAS: Final = 3
BATCH: Final = 200
"""Events of a request."""
TRIES: Final = 4
"""Of one request, before the test gives up."""
HOPS: Final = 8
"""How often, at least, a client goes to another replica before it has all."""
PATIENCE: Final = 480.0
"""Seconds after which a client that does not come to its end has failed."""
_FRAME: Final = re.compile(rb'id: ([^\n]+)\ndata: [^\n]*?"uid": ?"([^"]+)"[^\n]*\n\n')
_SUMMARY: Final = re.compile(rb"id: (\d+)-(\d+)\ndata: ([^\n]+)\n\n")


class Run:
    """A run's events, as they are sent, and where each of them is in the log as the clients were told.

    Attributes:
        number: of each uid, in the order in which they were made.
        positions: of each event, by its number; the first client that sees one fills it in.
    """

    def __init__(self, trace: str, run_id: str, tasks: int) -> None:
        self.trace, self.events = trace, facts(trace, run_id, tasks)
        self.number = {event["uid"].encode(): number for number, event in enumerate(self.events)}
        self.positions = [b""] * len(self.events)

    async def send(self, http: httpx.AsyncClient, urls: list[str], chosen: random.Random) -> None:
        """Send it all, two requests at once, each through another replica, and some a second time through a third."""
        first, *inner, last = self.events
        await _post(http, urls[0], [first])
        batches = [inner[start : start + BATCH] for start in range(0, len(inner), BATCH)]
        for start in range(0, len(batches), 2):
            chosen.shuffle(urls)
            pair = batches[start : start + 2]
            twice = [pair[0]] if chosen.random() < 0.2 else []
            await asyncio.gather(*(_post(http, url, batch) for url, batch in zip(urls, pair + twice, strict=False)))
        await _post(http, chosen.choice(urls), [last])

    async def stored(self, http: httpx.AsyncClient, url: str) -> array[int]:
        """The numbers of its events in the order of the log, as one replica has it."""
        found, position = array("I"), ""
        while True:
            asked = {"position": position}
            headers = {"Authorization": f"Bearer {TOKEN}", "Accept": "application/json"}
            page = (await http.get(f"{url}/runs/{self.trace}/events", params=asked, headers=headers)).json()
            found.extend(self.number[event["uid"].encode()] for event in page["events"])
            position = page["position"]
            if page["ended"] and not page["events"]:
                return found


async def _post(http: httpx.AsyncClient, url: str, events: list[dict[str, Any]]) -> None:
    """As an exporter sends: again after a connection that failed, whatever has become of what was sent."""
    for _ in range(TRIES):
        with suppress(httpx.TransportError):
            answer = await http.post(f"{url}/v1/logs", json=export(events))
            break
    else:
        pytest.fail(f"{url} does not answer")
    assert answer.status_code == 200, answer.text
    assert answer.json() in ({}, {"partialSuccess": {}}), answer.text


class Client:
    """Reads one stream, and goes to the next replica whenever it has read as many frames as it had set itself.

    It leaves in the midst of what a replica has written, and comes again with the id of the last frame that it took.

    Attributes:
        hops: how often it went on at another replica.
        ended: it was told that there is no more, and another replica says so too.
        problem: what it should not have got: a gap, a status, a frame that can't be read.
    """

    def __init__(self, path: str, ports: list[int], chosen: random.Random, most: int) -> None:
        self.path, self.ports, self.random, self._most = path, ports, chosen, most
        self.hops, self.ended, self.problem, self._left = -1, False, "", 0
        self.position = b""

    async def read(self) -> None:
        """Read until there is no more."""
        way = self.random.choice((1, REPLICAS - 1))
        replica = self.random.randrange(REPLICAS)
        while not self.ended and not self.problem:
            self.hops += 1
            self._left = self.random.randint(1, self._most)
            await self._visit(self.ports[replica])
            replica = (replica + way) % REPLICAS

    async def _visit(self, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
        try:
            resume = b"Last-Event-ID: %b\r\n" % self.position if self.position else b""
            head = f"GET {self.path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n".encode()
            writer.write(head + resume + b"\r\n")
            answer = await reader.readuntil(b"\r\n\r\n")
            status = answer.split(b" ", 2)[1]
            if status == b"204" and self.position:
                self.ended = True
            elif status == b"404" and not self.position:
                await asyncio.sleep(0.05)  # nobody has sent anything yet: as EventSource, it comes again
            elif status != b"200":
                self.problem = answer.decode()
            else:
                await self._frames(reader)
        finally:
            writer.transport.abort()

    async def _frames(self, reader: asyncio.StreamReader) -> None:
        """Take frames until it is time to go, or the stream is over."""
        rest = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            rest += (await reader.readexactly(size + 2))[:-2].replace(b": \n", b"")
            whole, blank, rest = rest.rpartition(b"\n\n")
            over = False
            for frame in (whole + blank).split(b"\n\n")[:-1]:
                if b"event: end" in frame.split(b"\n"):
                    over = True
                elif not self.take(frame + b"\n\n"):
                    self.problem = frame.decode()
                self._left -= 1
                if self.problem or self.ended or (not over and not self._left):
                    return
            if over:
                return

    def take(self, frame: bytes) -> bool:
        """Keep what a frame says; false if it is not one that should have come."""
        raise NotImplementedError


class Reader(Client):
    """Reads a run.

    Attributes:
        numbers: of the events that it got, in the order in which they came.
    """

    def __init__(self, run: Run, ports: list[int], chosen: random.Random) -> None:
        super().__init__(f"/runs/{run.trace}/events", ports, chosen, len(run.events) // HOPS)
        self.run, self.numbers = run, array("I")

    def take(self, frame: bytes) -> bool:
        found = _FRAME.search(frame)
        if found is None or b"event:" in frame[: found.start()]:
            return False
        position, uid = found.groups()
        number = self.run.number[uid]
        positions = self.run.positions
        positions[number] = positions[number] or position
        self.numbers.append(number)
        self.position = position
        return positions[number] == position


class Watcher(Client):
    """Reads the summaries of all runs, until all of them are over.

    Attributes:
        over: the text of the last summary of each run that is over.
    """

    def __init__(self, runs: list[Run], ports: list[int], chosen: random.Random) -> None:
        super().__init__("/events", ports, chosen, 50)
        self.wanted, self.over = {run.trace: len(run.events) for run in runs}, set[str]()
        self._change = -1

    def take(self, frame: bytes) -> bool:
        found = _SUMMARY.search(frame)
        if found is None or b"event:" in frame[: found.start()] or int(found[2]) <= self._change:
            return False
        self.position, self._change = found[1] + b"-" + found[2], int(found[2])
        if b'"status":"success"' in found[3].replace(b" ", b""):
            trace = re.search(rb'"trace_id": ?"(\w+)"', found[3])
            events = re.search(rb'"events": ?(\d+)', found[3])
            assert trace
            assert events
            if int(events[1]) != self.wanted[trace[1].decode()]:
                return False
            self.over.add(trace[1].decode())
        self.ended = len(self.over) == len(self.wanted)
        return True


async def hop(servers: list[Serve], runs: list[Run], readers: int, watchers: int) -> list[Client]:
    """Send the runs while clients read them; each has what it should have."""
    ports, urls = [server.port for server in servers], [server.url for server in servers]
    chosen = random.Random(1)
    clients: list[Client] = [Watcher(runs, ports, random.Random(number)) for number in range(watchers)]
    clients += [Reader(run, ports, random.Random(f"{run.trace}{number}")) for run in runs for number in range(readers)]
    async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
        reading = [asyncio.create_task(client.read()) for client in clients]
        try:
            await asyncio.gather(*(run.send(http, list(urls), chosen) for run in runs))
            await asyncio.wait_for(asyncio.gather(*reading), PATIENCE)
        finally:
            for task in reading:
                task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(*reading, return_exceptions=True)
        for run in runs:
            orders = [await run.stored(http, url) for url in urls]
            assert sorted(orders[0]) == list(range(len(run.events)))
            assert orders[1] == orders[0]
            assert orders[2] == orders[0]
            mine = [client for client in clients if isinstance(client, Reader) and client.run is run]
            assert not [client.problem for client in mine if client.problem]
            assert all(client.numbers == orders[0] for client in mine)
    return clients


@pytest.mark.parametrize(
    ("runs", "tasks", "readers", "watchers"),
    [(2, 499, 5, 2), pytest.param(10, 4999, 29, 10, marks=pytest.mark.live)],
    ids=["slice", "full"],
)
def test_clients_that_hop(tmp_path: Path, runs: int, tasks: int, readers: int, watchers: int) -> None:
    """Three replicas on one Redis, in full 100,000 events and 300 clients that go from one replica to the next.

    The events are of ten runs of 10,000. Each run's come through all three replicas at once, some of them through two.
    290 clients read one run each (2.9 million frames), ten the summaries of all runs. A reader leaves a replica in the
    midst of what it has written, and goes on at another one with `Last-Event-ID`, eight times at least. Checked is
    for each reader: the whole sequence of its uids is the log's, which all replicas tell alike, so that none is
    missing, twice, or out of its place; an event has the same id whichever replica tells it; no gap; after the end
    another replica answers 204. For each watcher: ids rise over all hops, and each run's last summary counts all of
    its events.
    """
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer(tmp_path))
        servers = [stack.enter_context(Serve(tmp_path, "--db", redis.url)) for _ in range(REPLICAS)]
        made = [Run(f"{number + 1:032x}", f"run-{number}", tasks) for number in range(runs)]
        clients = asyncio.run(hop(servers, made, readers, watchers))
        assert not [client.problem for client in clients if client.problem]
        assert all(client.ended for client in clients)
        assert all(client.hops >= HOPS for client in clients if isinstance(client, Reader))
        hops = sum(client.hops for client in clients)
        events = sum(len(run.events) for run in made)
    print(f"{events:,} events, {len(clients)} clients, {hops:,} hops: nothing missing, nothing twice")
    for server in servers:
        assert "Traceback" not in "".join(server.lines), "".join(server.lines)

"""A world of producers, live servers and clients in which everything goes wrong, by a seed: see `simulated.py`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from runnable_otel.events import Event
from runnable_otel.log import NOW, OLDEST, StoreUnavailable
from runnable_otel.log.redis import RedisLog
from runnable_otel.sse_reader import ServerSentEvent, SseReader
from support.account import SPARE, History, Told
from support.logs import all_after, event, records, trace
from support.redis import RedisServer
from support.simulated import Process, Wire
from support.stores import Store

RUNS, KEPT = 2, 3
FOREVER = 2000.0
"""Seconds of the world's own time after which a client that has not come to its end never will."""


class World:
    """`clockwork.run(World(seed, …).live())` raises AssertionError where a client was not told what it should be.

    Attributes:
        did: what went wrong, in order.
        told: what each client was told, in order.
    """

    def __init__(self, seed: int, store: str, folder: Path, server: RedisServer | None) -> None:
        self._random = Random(f"{store} {seed}")
        self._store = Store(store, folder, server)
        self._runs = [History(trace(number + 1)) for number in range(RUNS)]
        self._others = [History(trace(100 + number)) for number in range(self._random.randint(0, 4))]
        self._sent: dict[str, list[Event]] = {run.trace: [] for run in (*self._runs, *self._others)}
        self._retired: set[str] = set()
        self._wires: dict[Wire, Told | None] = {}
        self._away = False
        self._done = False
        self._saved: dict[str, Any] = {}
        self.did: list[str] = []
        self.told: list[Told] = []

    async def live(self) -> None:
        """From the first event until every client has come to its end."""
        self._loop = asyncio.get_running_loop()
        limits = {"max_expendable": SPARE, "max_runs": KEPT, "linger": 0}
        self._processes = [self._process(self._store.open(**limits))]
        if self._store.name == "redis":
            self._processes += [self._process(self._store.replica()) for _ in range(self._random.randint(0, 2))]
        try:
            await self._live()
        finally:
            self._store.close()

    async def _live(self) -> None:
        clients = [self._client(run) for run in self._runs for _ in range(self._random.randint(1, 3))]
        following = [asyncio.ensure_future(each) for each in (*clients, self._follow_summaries())]
        work = [self._produce(run) for run in self._runs] + [self._fill(), self._break()]
        for each in asyncio.as_completed([*map(asyncio.ensure_future, work)]):
            await each
        for run in self._runs:
            if run.trace not in self._retired:  # what was lost comes again, by another way
                await self._send(run, self._sent[run.trace], 9)
        self._done = True
        await asyncio.wait(following, timeout=FOREVER)
        for task in following:
            if not task.done():
                task.cancel()
        for task in following:
            if task.cancelled() or not task.done():
                raise AssertionError(f"a client never came to its end: {self.did}")
            task.result()
        problems = [problem for process in self._processes for problem in process.problems]
        assert not problems, problems

    # What is in the log.

    def _process(self, log: Any) -> Process:
        if isinstance(log, RedisLog):
            log.listen = lambda: None  # type: ignore[method-assign] - see `_heard`
        return Process(log)

    def _append(self, process: Process, run: History, events: list[Event]) -> None:
        """Events get into the log, and into our own account of it.

        Raises:
            StoreUnavailable: they do not.
        """
        if self._away or not process.running:
            raise StoreUnavailable("away")
        added = process.log.extend(records(*events))
        new = [each.uid for each in events if run.took(each)]
        assert added == len(new)
        self._retired.discard(run.trace)
        for other in (*self._runs, *self._others):
            if other is not run and not other.gone and process.log.run(other.trace) is None:
                assert other.now.over, "a run that is not over was dropped"
                other.lose()
                self._retired.add(other.trace)
                self._heard(other.trace)
        self._place(process, run, new)
        self._heard(run.trace)

    def _place(self, process: Process, run: History, uids: list[str]) -> None:
        found = process.log.stream(run.trace)
        entries = [] if found is None else all_after(found).entries
        assert [Event.from_json(entry.text).uid for entry in entries] == run.kept
        placed = dict(zip(run.kept, (entry.position for entry in entries), strict=True))
        run.placed((placed[uid], uid) for uid in uids if uid in placed)

    def _heard(self, trace: str) -> None:
        """What Redis publishes gets to each process some time later."""
        for process in self._processes:
            if isinstance(process.log, RedisLog) and process.running:
                self._loop.call_later(self._random.random() * 0.05, process.log._heard, trace)

    # Who writes.

    async def _produce(self, run: History) -> None:
        """Send a run's events, batch by batch, each until it is acknowledged."""
        random = Random(self._random.random())
        events = [event("pipeline_started", run.trace)]
        for number in range(random.randint(4, 20)):
            kinds = ["mine"] * random.randint(0, 3) + ["task_started", "task_completed"][: random.randint(0, 2)]
            for n, kind in enumerate(kinds):
                uid = f"{run.trace}:{number}:{n}" if kind == "mine" else ""
                events.append(event(kind, run.trace, number + 2, uid=uid))
        events.append(event("pipeline_completed", run.trace))
        self._sent[run.trace] = events
        first = 0
        while first < len(events):
            await asyncio.sleep(random.expovariate(1.0))
            size = random.randint(1, 8)
            await self._send(run, events[first : first + size], random.randint(0, 9))
            first += size if random.random() < 0.9 else 0  # killed: it begins where it last heard an answer

    async def _send(self, run: History, events: list[Event], luck: int) -> None:
        while True:
            with suppress(StoreUnavailable):
                if luck != 0:  # 0: the request does not arrive
                    self._append(self._random.choice(self._processes), run, events)
                    if luck != 1:  # 1: the answer does not
                        return
            luck = 9
            await asyncio.sleep(0.5)

    async def _fill(self) -> None:
        """Other runs, so that some that are over are dropped."""
        for run in self._others:
            await asyncio.sleep(self._random.expovariate(0.2))
            self._sent[run.trace] = [event(kind, run.trace) for kind in ("pipeline_started", "pipeline_completed")]
            await self._send(run, self._sent[run.trace], 9)

    # Who reads.

    async def _client(self, run: History) -> None:
        random, told = Random(self._random.random()), Told(run)
        self.told.append(told)
        position = random.choice([OLDEST] * 8 + [NOW, "nonsense"])
        await asyncio.sleep(random.expovariate(0.2))
        while True:
            told.asks(position)
            path = f"/runs/{run.trace}/events"
            wire = random.choice(self._processes).connect(path, position, random)
            if wire is not None:
                wire.witness = lambda: (run.now, run.now.copy())
            status = 0 if wire is None else await wire.head()
            if status == 204:
                told.has_all()
                return
            if status == 404 and (self._done or run.trace in self._retired):
                assert run.gone
                return
            if wire is not None and status == 200:
                reader = SseReader(position if position not in (NOW, "nonsense") else "")
                if await self._read(wire, reader, random, partial(self._tell, told, position, wire)):
                    return
                position = reader.last_id or position
            if wire is not None:
                self._leave(wire, random)
            await asyncio.sleep(random.expovariate(1.0))

    def _tell(self, told: Told, asked: str, wire: Wire, events: list[ServerSentEvent]) -> bool:
        """A client is told of events; whether that was the end."""
        over = False
        for each in events:
            if each.event == "gap":
                data = json.loads(each.data)
                told.gap(each.id, data["reason"], data["lost"], wanted=asked == "nonsense")
            elif each.event == "end":
                told.has_all(wire.ended_with)
                over = True
            else:
                told.event(each.id, json.loads(each.data)["uid"])
        return over

    async def _read(
        self, wire: Wire, reader: SseReader, random: Random, tell: Callable[[list[ServerSentEvent]], bool]
    ) -> bool:
        """Read one connection to its end; whether there is nothing more to come."""
        self._wires[wire] = None
        try:
            while piece := await wire.read(random.choice([1, 50, 5000, 5000])):
                if tell(reader.feed(piece)):
                    return True
                if random.random() < 0.02:
                    await asyncio.sleep(random.choice([1, 20, 100]))  # it reads nothing: after 30 s it is cut
                if random.random() < 0.02:
                    return False
        finally:
            del self._wires[wire]
        return False

    def _leave(self, wire: Wire, random: Random) -> None:
        wire.cut(0)
        self._loop.call_later(random.choice([0.0, 0.1, 40.0]), wire.lose)

    async def _follow_summaries(self) -> None:
        """One client of all runs' summaries: in the end it has of each run that is there what the log has."""
        random, rows, position = Random(self._random.random()), dict[str, Any](), OLDEST
        while True:
            wire = random.choice(self._processes).connect("/events", position, random)
            if wire is not None and await wire.head() == 200:
                reader = SseReader(position)

                def tell(events: list[ServerSentEvent]) -> bool:
                    for each in events:
                        row = json.loads(each.data)
                        rows.clear() if each.event == "gap" else rows.__setitem__(row["trace_id"], row)
                    return self._knows(rows)

                if self._knows(rows) or await self._read(wire, reader, random, tell):
                    self._leave(wire, random)
                    return
                position = reader.last_id
            if wire is not None:
                self._leave(wire, random)
            await asyncio.sleep(random.expovariate(1.0))

    def _knows(self, rows: dict[str, Any]) -> bool:
        log = self._processes[0].log
        return self._done and all(rows.get(row["trace_id"]) == row for row in log.runs().runs)

    # What goes wrong.

    async def _break(self) -> None:
        faults: list[Callable[[], Coroutine[Any, Any, None]]] = [self._cut, self._cut, self._kill, self._restart]
        if self._store.keeps:
            faults += [self._lose]
        if self._store.name == "redis":
            faults += [self._be_away]
        for _ in range(self._random.randint(2, 7)):
            await asyncio.sleep(self._random.expovariate(0.3))
            fault = self._random.choice(faults)
            self.did.append(fault.__name__.strip("_"))
            await fault()

    async def _cut(self) -> None:
        """Connections break, at any byte; servers may not find out for long."""
        for wire in self._random.sample(list(self._wires), self._random.randint(0, len(self._wires))):
            wire.cut(self._random.randint(0, wire.waiting))
            self._loop.call_later(self._random.choice([0.0, 1.0, 40.0]), wire.lose)

    async def _kill(self) -> None:
        """A process is killed, and started again; a log in memory ends with it."""
        await self._end(self._random.choice(self._processes), self._store.kill, kill=True)

    async def _restart(self) -> None:
        """The same, in good order."""
        await self._end(self._random.choice(self._processes), self._store.restart, kill=False)

    async def _end(self, process: Process, again: Callable[[], Any], *, kill: bool) -> None:
        await (process.kill(self._random) if kill else process.stop())
        await asyncio.sleep(self._random.random() * 3)
        place = self._processes.index(process)
        if place:
            process.log.close()
            self._processes[place] = self._process(self._store.replica())
            return
        self._processes[0] = self._process(again())
        if not self._store.keeps:
            for run in (*self._runs, *self._others):
                self._lost(run, all_positions=True)

    async def _lose(self) -> None:
        """The store loses the last that it took, after some time in which it took more."""
        if self._away:
            return
        self._store.save()
        saved = {run.trace: run.now.copy() for run in (*self._runs, *self._others)}
        await asyncio.sleep(self._random.expovariate(0.5))
        if self._store.name == "sqlite":
            await self._end(self._processes[0], self._store.lose, kill=True)
        else:
            self._store.lose()
        moved = self._store.name == "sqlite"
        for run in (*self._runs, *self._others):
            self._retired.discard(run.trace)
            self._lost(run, saved[run.trace], all_positions=moved)
            if moved:
                self._place(self._processes[0], run, run.kept)
        for process in self._processes:
            if isinstance(process.log, RedisLog):  # it hears that there is another server
                self._loop.call_later(self._random.random(), process.log.waiters.wake_all)

    def _lost(self, run: History, left: Any = None, *, all_positions: bool) -> None:
        run.lose(left, moved=all_positions)
        for told in self.told:
            if told.history is run:
                told.disturbed(all_positions=all_positions)

    async def _be_away(self) -> None:
        """Nobody reaches Redis for a while."""
        self._away = True
        links = [process.log.link for process in self._processes if isinstance(process.log, RedisLog)]
        for link in links:
            link._closed = True
        await asyncio.sleep(self._random.expovariate(0.2))
        for link in links:
            link._closed = False
        self._away = False

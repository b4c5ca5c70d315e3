"""For every client of a run, no uid twice and none missing without a gap: each store, in any order of what may happen.

And at any time a run id means the newest trace with a run of that id.

`RUNNABLE_OTEL_EXAMPLES` is how many orders of events are tried for each store.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from runnable_otel.events import Event
from runnable_otel.log import NOW, OLDEST, Batch, EventLog, Gap, positions
from support.account import SPARE, History, Life, Told
from support.logs import all_after, event, records, trace
from support.redis import RedisServer
from support.stores import NAMES, Store

EXAMPLES = int(os.environ.get("RUNNABLE_OTEL_EXAMPLES", "40"))
RUNS = 3
WHICH = st.integers(0, RUNS + 1)
IDS = ("first", "second")
EXPENDABLE = ("mine", "task_log")
KINDS = st.sampled_from(["task_started", "task_completed", *EXPENDABLE, *EXPENDABLE])


class Reader:
    """A client: where it is, what it was told, and what it must be told next.

    Attributes:
        index: of the last event that it has had, and `known`, up to which it knows what was dropped.
    """

    def __init__(self, history: History, position: str) -> None:
        self.history, self.position = history, position
        self.told = Told(history)
        self.told.asks(position)
        self.index = self.known = -1


class Machine(RuleBasedStateMachine):
    """Producers that send again, logs that end and lose, clients that come and go."""

    name: str
    folder: Path
    server: RedisServer | None

    @initialize()
    def open(self) -> None:
        self.store = Store(self.name, self.folder, self.server)
        self.logs: list[EventLog] = [self.store.open(max_expendable=SPARE, max_runs=RUNS, linger=0)]
        self.runs = [History(trace(number + 1)) for number in range(RUNS + 2)]
        self.sent: dict[str, list[Event]] = {run.trace: [] for run in self.runs}
        self.readers: list[Reader] = []
        self.saved: list[Life] = []

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()

    # Producers.

    @rule(run=WHICH, kinds=st.lists(KINDS, max_size=8), again=st.integers(0, 6), log=st.integers(0, 2))
    def send(self, run: int, kinds: list[str], again: int, log: int) -> None:
        """A batch of new events, with some that were sent before."""
        history = self.runs[run]
        sent = self.sent[history.trace]
        new = [self._new(history, kind, len(sent) + number) for number, kind in enumerate(kinds)]
        self._extend(history, [*(sent[-again:] if again else []), *new, *new[:1]], log)

    @rule(run=WHICH, log=st.integers(0, 2))
    def complete(self, run: int, log: int) -> None:
        """A run ends; with that it may be dropped."""
        history = self.runs[run]
        self._extend(history, [event(kind, history.trace) for kind in ("pipeline_started", "pipeline_completed")], log)

    @rule(run=WHICH, run_id=st.sampled_from(IDS), begins=st.booleans(), log=st.integers(0, 2))
    def one_more(self, run: int, run_id: str, begins: bool, log: int) -> None:
        """One more run in a trace, whole or without its ends; its id may be that of a run in another trace."""
        history = self.runs[run]
        kinds = ("pipeline_started", "pipeline_completed") if begins else ("task_completed",)
        span = len(self.sent[history.trace]) + 2
        self._extend(history, [event(kind, history.trace, span, run_id=run_id) for kind in kinds], log)

    def _new(self, history: History, kind: str, number: int) -> Event:
        spare = kind in EXPENDABLE
        return event(kind, history.trace, number + 2, uid=f"{history.trace}:{number}" if spare else "")

    def _extend(self, history: History, events: list[Event], which: int) -> None:
        here, log = [run for run in self.runs if not run.gone], self._log(which)
        if history.gone and len(here) >= RUNS and not any(run.now.over for run in here):
            return  # the log is full: test_log_contract.py
        known = {each.uid for each in self.sent[history.trace]}
        self.sent[history.trace] += [
            each for each in {one.uid: one for one in events}.values() if each.uid not in known
        ]
        new = [each.uid for each in events if history.took(each)]
        assert log.extend(records(*events)) == len(new)
        for run in here:
            if run is not history and log.run(run.trace) is None:
                assert run.now.over, "a run that is not over was dropped"
                run.lose()
        self._place(history, log, new)

    def _place(self, history: History, log: EventLog, uids: list[str]) -> None:
        """What an undisturbed reader finds is what was taken; it learns where these uids stand."""
        found = log.stream(history.trace)
        entries = [] if found is None else all_after(found).entries
        assert [Event.from_json(entry.text).uid for entry in entries] == history.kept
        placed = dict(zip(history.kept, (entry.position for entry in entries), strict=True))
        history.placed((placed[uid], uid) for uid in uids if uid in placed)

    def _log(self, which: int) -> EventLog:
        return self.logs[which % len(self.logs)]

    def _lose(self, run: History, left: Life | None = None, *, all_positions: bool = False) -> None:
        run.lose(left, moved=all_positions)
        for reader in self.readers:
            if reader.history is run:
                reader.told.disturbed(all_positions=all_positions)

    # Clients.

    @rule(run=WHICH, position=st.sampled_from([OLDEST, OLDEST, NOW, "nonsense"]))
    def come(self, run: int, position: str) -> None:
        """A new client."""
        self.readers.append(Reader(self.runs[run], position))

    @precondition(lambda self: self.readers)
    @rule(which=st.integers(0, 99), limit=st.integers(1, 12), cut=st.integers(0, 14), log=st.integers(0, 2))
    def read(self, which: int, limit: int, cut: int, log: int) -> None:
        """A client reads a page, and its connection may be cut anywhere in it: before the gap is nothing of it."""
        reader = self.readers[which % len(self.readers)]
        history, found = reader.history, self._log(log).stream(reader.history.trace)
        assert (found is None) == history.gone
        if found is None:
            return
        batch = found.read(reader.position, limit)
        assert len(batch.entries) <= limit
        assert not batch.ended or history.now.over
        if cut:
            self._take(reader, batch, cut - 1)
        if cut > len(batch.entries) and (batch.ended or not (batch.entries or batch.gap)):
            reader.told.has_all()
            assert batch.ended == history.now.over

    def _take(self, reader: Reader, batch: Batch, most: int) -> None:
        if reader.position in (OLDEST, NOW):
            reader.index = -1 if reader.position == OLDEST else len(reader.history.now.order) - 1
            reader.known = reader.history.trimmed if reader.position == OLDEST else -1
        if batch.gap is not None:
            self._check_lost(reader, batch.gap)
            reader.told.gap(batch.gap.position, batch.gap.reason, batch.gap.lost, wanted=reader.position == "nonsense")
            reader.position, reader.known = batch.gap.position, reader.history.trimmed
        for entry in batch.entries[:most]:
            reader.told.event(entry.position, Event.from_json(entry.text).uid)
            reader.position, reader.known = entry.position, -1
            reader.index = reader.history.now.at[entry.position]
        if most >= len(batch.entries):
            reader.position = batch.position

    def _check_lost(self, reader: Reader, gap: Gap) -> None:
        """A gap says how many: those after the reader's last one that it was not told of."""
        if gap.reason == "unknown":  # from the beginning, or from where the log lost its end
            cursor = positions.parse(gap.position)
            assert cursor is not None
            reader.index = cursor.sequence - 1
            return
        order, dropped = reader.history.now.order, reader.history.now.dropped
        assert gap.lost == len(dropped.intersection(order[max(reader.index, reader.known) + 1 :]))

    @invariant()
    def run_ids(self) -> None:
        """Each run id means the newest trace that has it, on each process."""
        if not hasattr(self, "logs"):
            return
        for run_id in (*IDS, *(f"run-{run.trace[-4:]}" for run in self.runs)):
            having = [run for run in self.runs if run_id in run.now.ids]
            newest = max(having, key=lambda run: run.now.ids[run_id]).trace if having else None
            for log in self.logs:
                found = log.run(run_id)
                assert (found and found["trace_id"]) == newest, run_id
                assert (log.stream(run_id) is None) == (newest is None)

    # What happens to logs.

    @rule(how=st.sampled_from(["restart", "kill"]))
    def restart(self, how: str) -> None:
        """The process of a log ends, properly or not, and starts again."""
        self.logs[0] = getattr(self.store, how)()
        if not self.store.keeps:
            for run in self.runs:
                self._lose(run)

    @precondition(lambda self: self.name == "redis" and len(self.logs) < 3)
    @rule()
    def replicate(self) -> None:
        """One more process on the same log."""
        self.logs.append(self.store.replica())

    @precondition(lambda self: self.store.keeps)
    @rule()
    def save(self) -> None:
        """All up to here is on a disk."""
        self.store.save()
        self.saved = [run.now.copy() for run in self.runs]

    @precondition(lambda self: self.saved)
    @rule()
    def lose(self) -> None:
        """What came since then is lost."""
        self.logs[0] = self.store.lose()
        for run, left in zip(self.runs, self.saved, strict=True):
            self._lose(run, left, all_positions=self.name == "sqlite")
            if self.name == "sqlite":
                self._place(run, self.logs[0], run.kept)
        self.saved = []


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer | None]:
    if shutil.which("redis-server") is None:
        yield None
        return
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.mark.parametrize("name", NAMES)
def test_no_uid_twice_and_none_missing(name: str, tmp_path: Path, server: RedisServer | None) -> None:
    """The promise for every client of each store, whatever happens in whatever order."""
    if name == "redis":
        pytest.importorskip("redis", reason="needs redis")
        if server is None:
            pytest.skip("needs redis-server")
    machine = type("Machine", (Machine,), {"name": name, "folder": tmp_path, "server": server})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=40,
            deadline=None,
            report_multiple_bugs=False,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
        ),
    )

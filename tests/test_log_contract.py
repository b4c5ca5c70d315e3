"""What an event log promises, the same for the one in memory, the one in an SQLite file and the one on Redis."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runnable_otel.log import NOW, EventLog, Record, StoreUnavailable, open_log, wait, wait_async
from runnable_otel.log.run_ids import MAX_RUN_IDS
from support.logs import all_after, at, event, extend, kinds, records, stream, trace, uids, whole_run
from support.redis import RedisServer
from support.stores import NAMES, Store, store

A, B, C = trace(0xA), trace(0xB), trace(0xC)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer | None]:
    if shutil.which("redis-server") is None:
        yield None
        return
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=NAMES)
def kept(request: pytest.FixtureRequest, tmp_path: Path, server: RedisServer | None) -> Iterator[Store]:
    """Each of the stores."""
    if request.param == "redis":
        pytest.importorskip("redis", reason="needs redis")
        if server is None:
            pytest.skip("needs redis-server")
    with store(request.param, tmp_path, server) as made:
        yield made


@pytest.fixture
def log(kept: Store) -> EventLog:
    return kept.open()


def started(log: EventLog, run: str = A, customs: int = 0) -> EventLog:
    """A log with a run that is not over."""
    extend(log, event("pipeline_started", run, name="flow"), *(event("mine", run, 1, n=n) for n in range(customs)))
    return log


# Taking events in.


def test_takes_a_uid_once(log: EventLog) -> None:
    """A uid that comes again, in the same batch or later, is one event; `extend` says how many were new."""
    first, second = event("task_started", A, 2), event("task_started", A, 3)
    assert extend(log, first, second, first) == 2
    assert extend(log, second, event("task_started", A, 4)) == 1
    assert extend(log) == 0
    assert len(uids(stream(log, A).read())) == 3


def test_append_says_where(log: EventLog) -> None:
    """`append` gives the event's position, and the same one when the event comes again."""
    one, two = event("task_started", A, 2), event("task_completed", A, 2)
    positions = [log.append(one), log.append(two)]
    assert [log.append(one), log.append(two)] == positions
    assert [entry.position for entry in stream(log, A).read().entries] == positions
    assert uids(stream(log, A).read(positions[0])) == [two.uid]


def test_the_same_uid_in_two_runs(log: EventLog) -> None:
    """A uid is taken once for each trace."""
    assert extend(log, event("mine", A, uid="same"), event("mine", B, uid="same")) == 2


def test_keeps_the_text(log: EventLog) -> None:
    """Readers get the text that was written, whatever is in it."""
    texts = ['{"a":"' + inside + '"}' for inside in ("é\u2028😀", "\\u0000", "x" * 80_000, "%s {} ; ' \\\" --", "\r\n")]
    log.extend([Record(A, event("mine", A), text) for text in texts])
    assert [entry.text for entry in stream(log, A).read().entries] == texts


def test_keeps_the_value_of_what_utf8_can_not_hold(log: EventLog) -> None:
    """A lone surrogate anywhere in an event hurts nothing: its JSON says the same."""
    made = event("mine", A, value="\ud800", run_id="r\udfff", uid="u\ud812")
    assert extend(log, made) == 1
    assert extend(log, made) == 0
    (entry,) = stream(log, A).read().entries
    assert json.loads(entry.text)["value"] == "\ud800"
    assert log.stream("r\udfff\ud800") is None
    assert log.runs(text="\ud800", before="\ud800", status="\ud800").runs == []


def test_signs_of_life_are_not_stored(log: EventLog) -> None:
    """A sign of life moves `last_seen` of a run that is known, and is no event."""
    started(log)
    assert extend(log, event("sign_of_life", A, time=at(77)), event("sign_of_life", B, time=at(77))) == 0
    assert kinds(stream(log, A).read()) == ["pipeline_started"]
    row = log.run(A)
    assert row is not None
    assert (row["last_seen"], row["events"]) == (at(77), 1)
    assert log.stream(B) is None
    log.alive({A: at(99), B: at(99)})
    row = log.run(A)
    assert row is not None
    assert row["last_seen"] == at(99)
    log.alive({A: "no time at all"})
    log.alive({A: "9999-01-01T00:00:00.000000Z"})
    row = log.run(A)
    assert row is not None
    assert at(99) < row["last_seen"] < "9999"


# Reading.


def test_reads_on_from_each_position(log: EventLog) -> None:
    """From the position of each event a reader gets those after it, and nothing says that something is lost."""
    positions = [log.append(event("task_started", A, span)) for span in range(1, 6)]
    assert len(set(positions)) == 5
    read = stream(log, A).read
    for number, position in enumerate(positions):
        batch = read(position)
        assert batch.gap is None
        assert [entry.position for entry in batch.entries] == positions[number + 1 :]
        assert batch.position == positions[-1]
    assert (list(read(NOW).entries), read(NOW).position, read(NOW).gap) == ([], positions[-1], None)


def test_pages(log: EventLog) -> None:
    """A reader may ask for few at a time; the run is over only when it has had the last one."""
    run = whole_run(A, tasks=4)
    extend(log, *run)
    found, position, turns = [], "", 0
    while True:
        batch = stream(log, A).read(position, 3)
        assert batch.gap is None
        assert len(batch.entries) <= 3
        found, position, turns = found + uids(batch), batch.position, turns + 1
        if batch.ended:
            break
    assert found == [each.uid for each in run]
    assert turns == 4


@pytest.mark.parametrize("bad", ["x", "-", "{epoch}", "{epoch}-", "{epoch}-4", "{epoch}-01", "{epoch}-٣", "{epoch}--1"])
@pytest.mark.parametrize("tail", ["", "\x00", "9" * 5000, "~9", "~1~1", " ", "\ud800"])
def test_gap_for_what_is_no_position(log: EventLog, bad: str, tail: str) -> None:
    """A position that is malformed, or beyond the head, gets one gap, and then all that there is."""
    position = [log.append(event("mine", A, n=n)) for n in range(3)][-1]
    asked = bad.format(epoch=position.partition("-")[0]) + tail
    batch = stream(log, A).read(asked)
    assert batch.gap is not None
    assert (batch.gap.reason, batch.gap.lost) == ("unknown", None)
    assert len(batch.entries) == 3
    again = stream(log, A).read(batch.gap.position)
    assert again.gap is None
    assert len(again.entries) == 3
    assert wait(stream(log, A), asked, 60)


def test_gap_for_another_runs_position(log: EventLog) -> None:
    """A position of another run is seen to be none."""
    foreign = [log.append(event("task_started", A, span)) for span in (1, 2)]
    log.append(event("task_started", B, 1))
    for position in foreign:
        batch = stream(log, B).read(position)
        assert batch.gap is not None
        assert batch.gap.reason == "unknown"
        assert len(batch.entries) == 1


def test_no_such_run(log: EventLog) -> None:
    """What is no run is None, whatever it is."""
    started(log)
    for name in ("", C, "x" * 10_000, "\x00", "*", "%", "' OR 1=1 --", "run:" + A):
        assert log.stream(name) is None
        assert log.run(name) is None


# The end of a run.


def test_ends(log: EventLog) -> None:
    """A run is over when each run of its trace is; one that starts later opens it again."""
    extend(log, event("pipeline_started", A, 1), event("pipeline_started", A, 2), event("pipeline_completed", A, 2))
    assert not stream(log, A).read().ended
    extend(log, event("pipeline_completed", A, 1))
    assert stream(log, A).read().ended
    extend(log, event("pipeline_started", A, 3))
    assert not stream(log, A).read().ended
    extend(log, event("pipeline_completed", A, 3))
    assert stream(log, A).read().ended


def test_ends_in_any_order(log: EventLog) -> None:
    """What comes in the wrong order ends a run as well, and each task counts once."""
    run = whole_run(A, tasks=3)
    for each in reversed(run):
        extend(log, each)
    assert stream(log, A).read().ended
    row = log.run(A)
    assert row is not None
    assert row["tasks"] == {"started": 3, "retried": 0, "running": 0, "completed": 3, "failed": 0, "skipped": 0}
    assert (row["status"], row["name"]) == ("success", "flow")


def test_a_task_without_an_end(log: EventLog) -> None:
    """Nothing runs in a run that is over: a task whose end never came is lost, until it comes."""
    extend(log, event("pipeline_started", A, 1), event("task_started", A, 2), event("task_started", A, 3))
    extend(log, event("task_completed", A, 3), event("pipeline_completed", A, 1, status="error"))
    row = log.run(A)
    assert row is not None
    counts = {"started": 2, "retried": 0, "running": 0, "completed": 1, "failed": 0, "skipped": 0}
    assert (row["status"], row["tasks"]) == ("error", {**counts, "lost": 1})
    assert log.runs().runs == [row]
    extend(log, event("task_error", A, 2))
    row = log.run(A)
    assert row is not None
    assert row["tasks"] == {**counts, "failed": 1}


def test_a_task_that_is_tried_again(log: EventLog) -> None:
    """Attempts are counted, and how many of them are further ones, in whatever order the edges come."""
    extend(log, event("task_started", A, 2, attempt=1), event("task_error", A, 2, attempt=1))
    extend(log, event("task_error", A, 3, attempt=2), event("task_started", A, 3, attempt=2))
    extend(log, event("task_started", A, 4, attempt=3))
    row = log.run(A)
    assert row is not None
    assert row["tasks"] == {"started": 3, "retried": 2, "running": 1, "completed": 0, "failed": 2, "skipped": 0}
    extend(log, event("task_completed", A, 4, attempt=3), event("task_completed", A, 5, attempt="2"))
    row = log.run(A)
    assert row is not None
    assert row["tasks"] == {"started": 4, "retried": 2, "running": 0, "completed": 2, "failed": 2, "skipped": 0}


@pytest.mark.parametrize("how", ["pipeline", "trace"])
def test_lingers(kept: Store, how: str) -> None:
    """A run with a task that has not ended, or a trace, is over some time after its end; who waits is told then."""
    log = kept.open(linger=0.3)
    events = [event("pipeline_started", A), event("task_started", A, 2), event("pipeline_completed", A)]
    if how == "trace":
        events = [event("span", A, 2, parent_span_id="1" * 16, run_id=None), event("span", A, 1, run_id=None)]
    extend(log, *events)
    batch = stream(log, A).read()
    assert not batch.ended
    assert wait(stream(log, A), batch.position, 60)
    after = stream(log, A).read(batch.position)
    assert (list(after.entries), after.ended) == ([], True)


def test_a_late_event_ends_the_lingering(kept: Store) -> None:
    """The end of the last task, after that of its run, ends the run at once."""
    log = kept.open(linger=3600)
    extend(log, event("pipeline_started", A), event("task_started", A, 2), event("pipeline_completed", A))
    assert not stream(log, A).read().ended
    extend(log, event("task_completed", A, 2))
    assert stream(log, A).read().ended


# Waiting.


def test_waiting(log: EventLog) -> None:
    """A waiter is called at once if there is more, once if there comes more, and never if it has left."""
    started(log)
    started(log, B)
    read = stream(log, A)
    start = read.read().position
    calls: list[str] = []
    called = threading.Event()
    read.when_more(start, lambda: (calls.append("waited"), called.set()))
    read.when_more(start, lambda: calls.append("left"))()
    extend(log, event("mine", B))
    extend(log, event("mine", A, 1))
    assert called.wait(60)
    extend(log, event("mine", A, 2))
    read.when_more(start, lambda: calls.append("at once"))
    read.when_more("no position", lambda: calls.append("unknown"))
    assert calls == ["waited", "at once", "unknown"]
    assert not wait(read, read.read().position, 0)


def test_many_writers_many_readers(log: EventLog) -> None:
    """Threads and tasks that read while threads write get every event, once, in one order."""
    started(log)
    found: list[list[str]] = []

    def follow() -> None:
        position, mine = "", list[str]()
        while True:
            batch = stream(log, A).read(position, 50)
            assert batch.gap is None
            mine += uids(batch)
            if batch.ended:
                break
            position = batch.position
            assert wait(stream(log, A), position, 60)
        found.append(mine)

    async def follow_async() -> list[str]:
        position, mine = "", list[str]()
        while True:
            batch = await asyncio.to_thread(stream(log, A).read, position)
            mine += uids(batch)
            if batch.ended:
                return mine
            position = batch.position
            assert await wait_async(stream(log, A), position, 60)

    def write(name: str) -> None:
        for number in range(20):
            extend(log, *(event("mine", A, uid=f"{name}:{number}:{n}") for n in range(5)))

    readers = [threading.Thread(target=follow) for _ in range(3)]
    writers = [threading.Thread(target=write, args=[name]) for name in "abcd"]

    async def tasks() -> list[list[str]]:
        reading = [asyncio.create_task(follow_async()) for _ in range(2)]
        for thread in (*readers, *writers):
            thread.start()
        await asyncio.to_thread(lambda: [thread.join() for thread in writers])
        await asyncio.to_thread(extend, log, event("pipeline_completed", A))
        return await asyncio.gather(*reading)

    found += asyncio.run(tasks())
    for thread in readers:
        thread.join()
    assert len(found) == 5
    assert all(each == found[0] for each in found)
    assert len(found[0]) == len(set(found[0])) == 4 * 20 * 5 + 2


def test_a_waiter_may_use_the_log(log: EventLog) -> None:
    """What is called when there is more may read and write the log itself."""
    started(log)
    read = stream(log, A)
    done = threading.Event()

    def wake() -> None:
        extend(log, event("mine", A, uid="from inside"))
        done.set()

    read.when_more(read.read().position, wake)
    extend(log, event("mine", A, uid="first"))
    assert done.wait(60)
    assert uids(read.read())[1:] == ["first", "from inside"]


# Summaries.


def test_the_row_of_a_run(log: EventLog) -> None:
    """A summary says what its events say, in a fixed order, without what is not known."""
    extend(
        log,
        event("pipeline_started", A, 1, name="flow", executor="local"),
        event("task_started", A, 2),
        event("task_started", A, 3),
        event("task_error", A, 3, error="ValueError: no"),
        event("task_skipped", A, 4),
        event("mine", A, 5),
    )
    row = log.run(A)
    assert row is not None
    assert json.dumps(row) == json.dumps(
        {
            "type": "run",
            "trace_id": A,
            "run_id": "run-000a",
            "name": "flow",
            "kind": "pipeline",
            "status": "running",
            "started": at(1),
            "last_seen": at(5),
            "tasks": {"started": 2, "retried": 0, "running": 1, "completed": 0, "failed": 1, "skipped": 1},
            "executor": "local",
            "host": "h",
            "events": 6,
        }
    )
    end = event("pipeline_completed", A, 1, started=at(1), time=at(9.5), status="error", error="ValueError: no")
    extend(log, event("task_completed", A, 2), end, end)
    row = log.run("run-000a")
    assert row is not None
    assert (row["status"], row["ended"], row["duration_ms"], row["error"]) == ("error", at(9.5), 8500, "ValueError: no")
    assert (row["tasks"]["running"], row["events"]) == (0, 8)


def test_the_row_of_a_trace(log: EventLog) -> None:
    """Spans of another source are a run too: its root span says what it is called, and how it ended."""
    child = event("span", A, 5, name="child", parent_span_id="1" * 16, started=at(4), service="db", run_id=None)
    extend(log, child)
    row = log.run(A)
    assert row is not None
    assert (row["kind"], row["status"], row["started"], row.get("name")) == ("trace", "running", at(4), None)
    root = event("span", A, 9, name="GET /", started=at(2), status="error", error="boom", service="web", run_id=None)
    extend(log, root)
    row = log.run(A)
    assert row is not None
    assert (row["name"], row["status"], row["error"], row["services"]) == ("GET /", "error", "boom", ["db", "web"])
    assert (row["started"], row["ended"], row["duration_ms"], "tasks" in row) == (at(2), at(9), 7000, False)


def test_one_long_service_name(log: EventLog) -> None:
    """A service is listed once, also where its name is longer than what is shown of it."""
    extend(log, *(event("span", A, number, service=f"{'s' * 300}\n", run_id=None) for number in range(5, 9)))
    row = log.run(A)
    assert row is not None
    assert row["services"] == ["s" * 256]


def test_summaries_follow_changes(log: EventLog) -> None:
    """The feed holds each run's newest summary once, in the order of change, and tells who waits."""
    feed = log.summaries()
    assert list(feed.read().entries) == []
    extend(log, *whole_run(A))
    extend(log, *whole_run(B))
    batch = feed.read()
    assert [json.loads(entry.text)["trace_id"] for entry in batch.entries] == [A, B]
    assert json.loads(batch.entries[0].text) == log.run(A)
    assert list(feed.read(batch.position).entries) == []
    assert not wait(feed, batch.position, 0)
    extend(log, event("mine", A))
    assert wait(feed, batch.position, 60)
    after = feed.read(batch.position)
    assert [json.loads(entry.text)["events"] for entry in after.entries] == [5]
    assert [json.loads(entry.text)["trace_id"] for entry in feed.read().entries] == [B, A]
    assert feed.read(batch.entries[1].position, 1).position == after.position
    first = feed.read("", 1)
    assert [json.loads(entry.text)["trace_id"] for entry in first.entries] == [B]
    assert [json.loads(entry.text)["trace_id"] for entry in feed.read(first.position, 1).entries] == [A]
    assert (first.gap, first.ended) == (None, False)
    position = after.position
    log.alive({A: at(500)})
    assert wait(feed, position, 60)


@pytest.mark.parametrize("bad", ["x", "0-0", "{epoch}-999", "{epoch}", "\ud800", "9" * 5000])
def test_summaries_after_what_is_no_position(log: EventLog, bad: str) -> None:
    """A position that is none gets a gap and all summaries."""
    extend(log, *whole_run(A))
    position = log.summaries().read().position
    batch = log.summaries().read(bad.format(epoch=position.partition("-")[0]))
    assert batch.gap is not None
    assert (batch.gap.reason, len(batch.entries)) == ("unknown", 1)
    assert log.summaries().read(batch.gap.position).gap is None
    assert log.summaries().read(NOW).position == position


def test_a_run_id_means_its_newest_trace(log: EventLog) -> None:
    """Of two traces with a run id, the one whose run started last is meant, whatever comes late of the other."""
    extend(log, *whole_run(A, run_id="nightly"))
    extend(log, *whole_run(B, run_id="nightly"))
    extend(log, event("mine", A, run_id="nightly"))
    row = log.run("nightly")
    assert row is not None
    assert row["trace_id"] == B
    assert kinds(stream(log, "nightly").read()) == kinds(stream(log, B).read())


def test_each_run_of_a_trace_by_its_run_id(log: EventLog) -> None:
    """Of several runs in one trace each run id means that trace, with all of them in it, and no other run id does."""
    extend(log, *whole_run(A, run_id="first"))
    later = {"run_id": "second", "parent_span_id": "1" * 16}
    extend(log, *(event(kind, A, 9, name="next", **later) for kind in ("pipeline_started", "pipeline_completed")))
    extend(log, event("task_started", A, 11, run_id="third"))  # its start is still on its way
    for run_id in ("first", "second", "third"):
        assert log.run(run_id) == log.run(A)
        assert kinds(stream(log, run_id).read()) == kinds(stream(log, A).read())
    assert log.run("fourth") is None


def test_a_run_id_whose_newest_trace_is_dropped(kept: Store) -> None:
    """It means the newest of those that are kept, whichever of its traces goes first."""
    for goes, stays in ((A, B), (B, A)):
        log = kept.open(max_runs=2)
        for run in (A, B):
            extend(log, event("pipeline_started", run, run_id="nightly"))
        extend(log, event("pipeline_completed", goes, run_id="nightly"))
        extend(log, event("pipeline_started", C))
        assert log.run(goes) is None
        row = log.run("nightly")
        assert row is not None
        assert row["trace_id"] == stays
        extend(log, *(event("pipeline_completed", run) for run in (stays, C)))
        extend(log, *whole_run(trace(1)), *whole_run(trace(2)))
        assert log.run("nightly") is None


@pytest.mark.parametrize("kept", ["sqlite", "redis"], indirect=True)  # memory is of no older version
def test_run_ids_of_an_older_version(kept: Store) -> None:
    """What was written when a trace had one run id is found by it, until a newer trace has it; so is what comes."""
    log = kept.open(max_runs=3)
    for run in (A, B):
        extend(log, *whole_run(run, run_id="nightly"))
    log = kept.age()

    def found(run_id: str) -> str:
        row = log.run(run_id)
        return row["trace_id"] if row else ""

    assert found("nightly") == B
    extend(log, event("mine", A, run_id="nightly"))
    assert found("nightly") == B
    extend(log, event("pipeline_started", A, 9, run_id="second"), event("pipeline_completed", A, 9))
    assert (found("second"), found("nightly")) == (A, B)
    extend(log, *whole_run(C, run_id="nightly"))
    assert found("nightly") == C
    extend(log, *whole_run(trace(1)), *whole_run(trace(2)), *whole_run(trace(3)))
    assert (found("second"), found("nightly")) == ("", "")
    assert kept.run_ids() == 3


def test_a_trace_of_many_runs(kept: Store) -> None:
    """A trace is found by so many run ids and no more; when it is dropped, nothing of them is left."""
    log = kept.open(max_runs=1)
    for number in range(3):
        run = trace(number)
        starts = [event("pipeline_started", run, span, run_id=f"{number}-{span}") for span in range(1, MAX_RUN_IDS + 9)]
        ends = [event("pipeline_completed", run, span, run_id=f"{number}-{span}") for span in range(1, MAX_RUN_IDS + 9)]
        extend(log, *starts)
        extend(log, *ends)
        found = [span for span in range(1, MAX_RUN_IDS + 9) if log.run(f"{number}-{span}")]
        assert found == list(range(1, MAX_RUN_IDS + 1))
        assert log.run(f"{number - 1}-1") is None
        assert kept.run_ids() == MAX_RUN_IDS


# The list of runs.


def test_lists_runs(log: EventLog) -> None:
    """Runs come newest start first, page by page, whatever the order in which they came; a bad page is the first."""
    order = [3, 7, 1, 9, 5, 2, 8]
    for number in order:
        extend(log, event("pipeline_started", trace(number), time=at(number), name=f"flow {number}"))
    found, before, pages = [], "", 0
    while True:
        page = log.runs(limit=3, before=before)
        found += [row["name"] for row in page.runs]
        pages, before = pages + 1, page.before
        if not before:
            break
    assert found == [f"flow {number}" for number in sorted(order, reverse=True)]
    assert pages == 3
    for bad in ("x", "\x00", "9" * 5000, "~", "\ud800"):
        assert log.runs(limit=1, before=bad).runs[0]["name"] == "flow 9"


def test_lists_runs_of_a_status_or_a_text(log: EventLog) -> None:
    """Only those that are asked for, and pages of those."""
    for number in range(1, 10):
        status = ("success", "error", "cancelled")[number % 3]
        run = whole_run(trace(number), time=at(number), status=status, run_id=f"Run-{number}")
        extend(log, *(run if number < 8 else run[:1]))
    names = {status: [row["run_id"] for row in log.runs(status=status).runs] for status in ("error", "running", "x")}
    assert names == {"error": ["Run-7", "Run-4", "Run-1"], "running": ["Run-9", "Run-8"], "x": []}
    page = log.runs(limit=2, status="error")
    assert [row["run_id"] for row in log.runs(limit=2, status="error", before=page.before).runs] == ["Run-1"]
    assert [row["run_id"] for row in log.runs(text="RUN-5").runs] == ["Run-5"]
    assert [row["run_id"] for row in log.runs(text=trace(6)[-3:]).runs] == ["Run-6"]
    assert [len(log.runs(text=text).runs) for text in ("flow", "%", "_", "*")] == [9, 0, 0, 0]
    assert [row["run_id"] for row in log.runs(status="success", text="-3").runs] == ["Run-3"]


def test_a_run_moves_in_the_list(log: EventLog) -> None:
    """A run that turns out to have started earlier, or that ends, is where it belongs, and only there."""
    extend(log, event("task_started", A, 20))
    extend(log, event("pipeline_started", B, 10))
    assert [row["trace_id"] for row in log.runs().runs] == [A, B]
    extend(log, event("pipeline_started", A, 5), event("task_completed", A, 20), event("pipeline_completed", A, 5))
    assert [row["trace_id"] for row in log.runs().runs] == [B, A]
    assert [row["trace_id"] for row in log.runs(status="running").runs] == [B]


# What is kept.


def test_trims_only_what_is_expendable(kept: Store) -> None:
    """Inside a run the oldest custom events and logs go, never ours; who has not seen them is told how many, once."""
    log = kept.open(max_expendable=8)
    start = log.append(event("pipeline_started", A))
    spare = [event("task_log" if n % 2 else "log_record", A, 2) for n in range(4)]
    spare = [type(each)(each.type, f"log {n}", each.fields) for n, each in enumerate(spare)]
    spare += [event("mine", A, 2, uid=f"u{n}") for n in range(6)]
    positions = [log.append(each) for each in spare]
    log.append(event("task_started", A, 3))
    read = stream(log, A).read
    batch = read()
    assert uids(batch)[1:-1] == [each.uid for each in spare[2:]]
    assert batch.gap is None  # from the oldest that is kept
    behind = read(start)
    assert behind.gap is not None
    assert (behind.gap.reason, behind.gap.lost) == ("trimmed", 2)
    assert uids(behind) == uids(batch)[1:]
    assert read(behind.gap.position).gap is None
    assert uids(read(behind.gap.position)) == uids(behind)
    partly = read(positions[0], 1)
    assert partly.gap is not None
    assert (partly.gap.lost, uids(partly)) == (1, uids(batch)[1:2])
    assert read(positions[1]).gap is None
    assert extend(log, spare[0]) == 0  # what was dropped does not come back


def test_one_gap_for_pages(kept: Store) -> None:
    """Who reads a trimmed run page by page is told once what is lost, and not at all from the oldest."""
    log = kept.open(max_expendable=8)
    start = log.append(event("pipeline_started", A))
    for span in range(2, 40):
        extend(log, event("task_started", A, span), event("mine", A, uid=f"u{span}"))
    for begin, lost in (("", 0), (start, 29)):
        position, gaps, found = begin, [], 0
        while True:
            batch = stream(log, A).read(position, 5)
            gaps += [batch.gap.lost] if batch.gap else []
            found += len(batch.entries)
            position = batch.position
            if not batch.entries:
                break
        assert len(gaps) == bool(lost)
        total = 1 + 38 * 2 - sum(lost or 0 for lost in gaps) - (begin != "")
        assert found == total if lost else found == len(all_after(stream(log, A)).entries)


def test_bytes_of_expendable_events_are_bounded(kept: Store) -> None:
    """Few large custom events are trimmed as many small ones are."""
    log = kept.open(max_expendable_bytes=10_000)
    started(log)
    for _ in range(50):
        extend(log, event("mine", A, text="x" * 1000))
    assert 8 <= len(stream(log, A).read().entries) <= 12
    assert kinds(stream(log, A).read())[0] == "pipeline_started"


def test_too_many_events_of_a_run(kept: Store) -> None:
    """Beyond its limit a run gets no more expendable events; they are counted, and what tells how it goes comes in."""
    log = kept.open(max_events=5)
    started(log, customs=10)
    assert extend(log, event("mine", A, uid="late"), event("task_started", A, 2)) == 1
    assert kinds(stream(log, A).read()) == ["pipeline_started", *["mine"] * 4, "task_started"]
    row = log.run(A)
    assert row is not None
    assert row["refused"] == log.health().numbers["refused"] == 7


def test_drops_whole_finished_runs(kept: Store) -> None:
    """Finished runs go, those that have been over for longest first; one that still runs stays, however old."""
    log = kept.open(max_runs=3)
    started(log, trace(99))
    for number in range(1, 6):
        extend(log, *whole_run(trace(number)))
    assert sorted(row["trace_id"] for row in log.runs().runs) == [trace(4), trace(5), trace(99)]
    assert [log.stream(run) for run in (trace(3), "run-0003")] == [None, None]
    assert len(log.summaries().read().entries) == log.health().numbers["runs"] == 3
    assert len(log.runs(status="success").runs) == 2
    assert kinds(stream(log, trace(4)).read())[-1] == "pipeline_completed"


def test_drops_runs_by_size(kept: Store) -> None:
    """There are never more bytes than a batch beyond the limit, and the newest run is there."""
    log = kept.open(max_bytes=20_000)
    for number in range(1, 60):
        extend(log, *whole_run(trace(number)))
        assert log.health().numbers["bytes"] < 23_000
    rows = log.runs().runs
    assert 5 < len(rows) < 40
    assert trace(59) in [row["trace_id"] for row in rows]


def test_full(kept: Store) -> None:
    """A log with no finished run takes no new one and says so, takes the rest of those it has, and then has room."""
    log = kept.open(max_runs=2)
    started(log, A)
    started(log, B)
    assert not log.health().ok
    with pytest.raises(StoreUnavailable, match=r"full.* run") as caught:
        extend(log, event("pipeline_started", C), event("task_started", A, 2))
    assert caught.value.retry_after > 0
    assert log.stream(C) is None
    assert kinds(stream(log, A).read()) == ["pipeline_started", "task_started"]
    assert "full" in log.health().reason
    extend(log, event("pipeline_completed", B))
    assert extend(log, event("pipeline_started", C), event("task_started", A, 2)) == 1
    assert log.stream(B) is None


def test_full_of_bytes(kept: Store) -> None:
    """A log that is full of what still runs refuses what is expendable, and takes the ends that make room."""
    log = kept.open(max_bytes=20_000, max_expendable_bytes=5_000)
    started(log)

    def write(first: int, *more: str) -> None:
        for span in range(first, first + 200):
            extend(log, event("task_started", A, span), *(event(kind, A, text="x") for kind in more))

    with pytest.raises(StoreUnavailable, match="full"):
        write(2, "mine")
    extend(log, event("pipeline_completed", A))
    extend(log, *whole_run(B))
    assert log.stream(A) is None
    with pytest.raises(StoreUnavailable, match="full"):
        write(2)
    assert log.stream(B) is None
    with pytest.raises(StoreUnavailable, match="full"):
        extend(log, *whole_run(C))
    extend(log, event("pipeline_completed", A))
    extend(log, *whole_run(C))
    assert log.stream(A) is None


def test_a_run_that_nobody_ends(kept: Store) -> None:
    """A run without an event or a sign of life for too long counts as finished when there is no room."""
    log = kept.open(max_runs=2, abandoned=0.0)
    started(log, A)
    started(log, B)
    started(log, C)
    assert [row["trace_id"] for row in log.runs().runs] == [C, B]


def test_a_dropped_run_ends_its_readers(kept: Store) -> None:
    """A reader of a run that is dropped gets all of it, or a gap, and an end in any case."""
    log = kept.open(max_runs=1)
    extend(log, *whole_run(A))
    read = stream(log, A)
    position = read.read("", 1).position
    extend(log, *whole_run(B))
    assert log.stream(A) is None
    assert wait(read, position, 60)
    batch = read.read(position)
    assert batch.ended
    assert batch.gap is not None or uids(batch) == [each.uid for each in whole_run(A)][1:]
    # The run comes again: another one, to which no position of the first belongs.
    extend(log, *whole_run(A))
    batch = stream(log, A).read(position)
    assert batch.gap is not None
    assert batch.gap.reason == "unknown"


@pytest.mark.parametrize("name", ["max_runs", "max_bytes", "max_expendable", "max_events", "linger", "abandoned"])
def test_limits_that_make_no_sense(name: str) -> None:
    """A limit below what can be is named."""
    with pytest.raises(ValueError, match=f"{name}=-1: expected"):
        open_log("memory:", **{name: -1})


# What lasts.


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_restart(kept: Store, how: str) -> None:
    """What was stored is there again, uids and positions too, after a proper end and after a kill."""
    log = kept.open(max_expendable=4)
    extend(log, *whole_run(A), *(event("mine", A, uid=f"u{n}") for n in range(8)))
    extend(log, event("pipeline_started", B), event("task_started", B, 2))
    rows, change = log.runs().runs, log.summaries().read().position
    batches = [stream(log, run).read() for run in (A, B)]
    log = getattr(kept, how)()
    if not kept.keeps:
        assert log.runs().runs == []
        extend(log, *whole_run(A))
        gap = stream(log, A).read(batches[0].position).gap
        assert gap is not None
        assert log.summaries().read(change).gap is not None
        return
    assert log.runs().runs == rows
    for run, batch in zip((A, B), batches, strict=True):
        assert stream(log, run).read() == batch
        assert stream(log, run).read(batch.position).gap is None
        assert stream(log, run).read(batch.entries[0].position).entries == batch.entries[1:]
    assert log.summaries().read(change).gap is None
    assert list(log.summaries().read(change).entries) == []
    assert extend(log, *whole_run(A), event("mine", A, uid="u0"), event("task_completed", B, 2)) == 1
    row = log.run(B)
    assert row is not None
    assert row["tasks"] == {"started": 1, "retried": 0, "running": 0, "completed": 1, "failed": 0, "skipped": 0}


def test_health(kept: Store) -> None:
    """A log that takes events is well, and says how much it has."""
    log = kept.open()
    extend(log, *whole_run(A))
    health = log.health()
    assert (health.ok, health.reason) == (True, "")
    assert health.numbers["runs"] == 1
    assert 500 < health.numbers["bytes"] < 2000


def test_closed(kept: Store) -> None:
    """Closing twice is once, and wakes who waits; a closed store says so."""
    log = kept.open()
    started(log)
    read = stream(log, A)
    woken = threading.Event()
    read.when_more(read.read().position, woken.set)
    log.close()
    log.close()
    if kept.keeps:
        assert woken.wait(60)
        assert not log.health().ok
        for call in (lambda: extend(log, event("mine", A)), lambda: log.stream(A), lambda: log.runs(), read.read):
            with pytest.raises(StoreUnavailable, match="closed"):
                call()


def test_a_batch_of_many_runs(log: EventLog) -> None:
    """Events of many runs in one batch go to their runs, in their order."""
    events: list[Any] = [event("task_started", trace(1 + n % 50), 2 + n) for n in range(500)]
    assert log.extend(records(*events)) == 500
    for number in range(1, 51):
        mine = [each.uid for each in events if each.fields["trace_id"] == trace(number)]
        assert uids(stream(log, trace(number)).read()) == mine

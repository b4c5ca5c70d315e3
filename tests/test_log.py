"""A stream in memory, and the log of the process: what is theirs beyond the contract of all logs."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from runnable_otel.log import NOW, EventStream, wait, wait_async
from runnable_otel.log.memory import LOG, MemoryLog, MemoryStream, json_text
from runnable_otel.sinks import Sink
from runnable_otel.sinks.memory import MemorySink
from support.logs import event, trace, whole_run


def run_of(log: MemoryLog, run: str, tasks: int = 1) -> None:
    """A whole run."""
    for each in whole_run(run, tasks):
        log.append(each)


def types(stream: EventStream | None, position: str = "") -> list[str]:
    assert stream is not None
    return [json.loads(entry.text)["type"] for entry in stream.read(position).entries]


def texts(stream: EventStream, position: str = "") -> list[str]:
    return [entry.text for entry in stream.read(position).entries]


def follow(stream: EventStream) -> Iterator[str]:
    """All texts of a stream until its end, as a thread reads them."""
    position = ""
    while True:
        batch = stream.read(position)
        assert batch.gap is None
        yield from (entry.text for entry in batch.entries)
        if batch.ended:
            return
        position = batch.position
        assert wait(stream, position, 60)


async def follow_async(stream: EventStream) -> list[str]:
    position, found = "", []
    while True:
        batch = stream.read(position)
        found += [entry.text for entry in batch.entries]
        if batch.ended:
            return found
        position = batch.position
        assert await wait_async(stream, position, 60)


def test_reads_on_from_each_position() -> None:
    """From the position of each event a reader gets those after it, and nothing says that something is lost."""
    stream = MemoryStream()
    positions = [stream.append(str(number)) for number in range(5)]
    assert len(set(positions)) == 5
    for number, position in enumerate(positions):
        batch = stream.read(position)
        assert batch.gap is None
        assert [entry.text for entry in batch.entries] == [str(rest) for rest in range(number + 1, 5)]
        assert batch.position == positions[-1]
    assert stream.read(NOW).entries == []
    assert stream.read(NOW).position == positions[-1]


@pytest.mark.parametrize("bad", ["x", "-", "{epoch}", "{epoch}-", "{epoch}-4", "{epoch}-01", "{epoch}-٣", "{epoch}--1"])
@pytest.mark.parametrize("tail", ["", "\x00", "9" * 5000])
def test_gap_for_what_is_no_position(bad: str, tail: str) -> None:
    """A position that is malformed, or beyond the head, gets one gap, and then all that there is."""
    stream = MemoryStream()
    position = [stream.append(text) for text in "abc"][-1]
    asked = bad.format(epoch=position.partition("-")[0]) + tail
    batch = stream.read(asked)
    assert batch.gap is not None
    assert (batch.gap.reason, batch.gap.lost) == ("unknown", None)
    assert [entry.text for entry in batch.entries] == ["a", "b", "c"]
    again = stream.read(batch.gap.position)
    assert again.gap is None
    assert len(again.entries) == 3


def test_trims_only_what_is_expendable() -> None:
    """Inside a run the oldest custom events go, never ours; who has not seen them is told how many."""
    stream = MemoryStream(max_expendable=8)
    start = stream.append("start")
    customs = [stream.append(str(number), uid=f"u{number}", expendable=True) for number in range(10)]
    stream.append("end")
    kept = texts(stream)
    assert kept[0] == "start"
    assert kept[-1] == "end"
    assert kept[1:-1] == [str(number) for number in range(2, 10)]
    assert stream.read().gap is None  # from the oldest that is kept
    behind = stream.read(start)
    assert behind.gap is not None
    assert (behind.gap.reason, behind.gap.lost) == ("trimmed", 2)
    assert stream.read(behind.gap.position).gap is None  # told once
    assert stream.read(behind.position).gap is None
    partly = stream.read(customs[0])
    assert partly.gap is not None
    assert partly.gap.lost == 1
    assert stream.read(customs[1]).gap is None


def test_bytes_of_custom_events_are_bounded() -> None:
    """Few large custom events are trimmed as many small ones are."""
    stream = MemoryStream(max_bytes=1000)
    stream.append("start")
    for _ in range(100):
        stream.append("x" * 100, expendable=True)
    assert stream.size <= 1000 + 1000 // 8 + 100 + len("start")
    assert texts(stream)[0] == "start"


def test_a_reader_keeps_a_run_that_is_dropped() -> None:
    """A reader in the middle of a run that retention drops reads it to its end."""
    log = MemoryLog(max_runs=1)
    run_of(log, "a")
    stream = log.stream("a")
    assert stream is not None
    run_of(log, "b")
    assert log.stream("a") is None
    assert types(stream)[-1] == "pipeline_completed"


def test_many_writers_many_readers() -> None:
    """Threads and tasks that read while threads write get every event, once, in one order; none of them polls."""
    stream = MemoryStream()
    found: list[list[str]] = []
    readers = [threading.Thread(target=lambda: found.append(list(follow(stream)))) for _ in range(4)]
    writers = [
        threading.Thread(target=lambda name=name: [stream.append(f"{name}{n}") for n in range(500)]) for name in "abcd"
    ]

    async def tasks() -> list[list[str]]:
        reading = [asyncio.create_task(follow_async(stream)) for _ in range(4)]
        for thread in (*readers, *writers):
            thread.start()
        await asyncio.to_thread(lambda: [thread.join() for thread in writers])
        stream.end()
        return await asyncio.gather(*reading)

    found += asyncio.run(tasks())
    for thread in readers:
        thread.join()
    assert len(found) == 8
    assert all(each == found[0] for each in found)
    assert sorted(found[0]) == sorted(f"{name}{n}" for name in "abcd" for n in range(500))


def test_no_lock_while_others_code_runs() -> None:
    """What is called when there is more may read and write the log itself."""
    stream = MemoryStream()
    seen: list[str] = []

    def wake() -> None:
        seen.extend(texts(stream))
        stream.append("from inside")

    stream.when_more(stream.read().position, wake)
    stream.append("first")
    assert seen == ["first"]
    assert texts(stream) == ["first", "from inside"]


def test_waiting() -> None:
    """A waiter is called at once if there is more, once if there comes more, and never if it has left."""
    stream = MemoryStream()
    calls: list[str] = []
    start = stream.read().position
    stream.when_more(start, lambda: calls.append("waited"))
    stream.when_more(start, lambda: calls.append("left"))()
    stream.append("a")
    stream.append("b")
    stream.when_more(start, lambda: calls.append("at once"))
    stream.when_more("no position", lambda: calls.append("unknown"))
    assert calls == ["waited", "at once", "unknown"]
    assert not wait(stream, stream.read().position, 0)


def test_a_closed_loop_hinders_nobody() -> None:
    """A task whose event loop is gone without leaving does not fail the writer."""
    stream = MemoryStream()
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(wait_async(stream, stream.read().position))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    stream.append("a")
    assert texts(stream) == ["a"]
    waiting._log_destroy_pending = False


class Rude:
    def __repr__(self) -> str:
        raise RuntimeError("nobody calls this")

    __str__ = __repr__


@pytest.mark.parametrize(
    "value",
    [float("nan"), Rude(), {(1, 2): 3}, {1, 2}, b"bytes", [[]] * 3],
    ids=["nan", "rude", "key", "set", "b", "l"],
)
def test_json_of_anything(value: Any) -> None:
    """What JSON can't hold becomes a placeholder, without any code of the value's class, and the event's type stays."""
    data = json.loads(json_text({"type": "mine", "value": value}))
    assert data["type"] == "mine"


def test_json_of_cycles() -> None:
    """A cycle and nesting without end become a placeholder."""
    cycle: dict[str, Any] = {"type": "mine"}
    cycle["self"] = cycle
    deep: dict[str, Any] = {"type": "mine"}
    for _ in range(100_000):
        deep = {"type": "mine", "in": deep}
    for each in (cycle, deep):
        assert json.loads(json_text(each))["type"] == "mine"


def test_sink_writes_the_process_log() -> None:
    """`memory:` writes the log of the process."""
    LOG.renew()
    sink = MemorySink("memory:")
    assert isinstance(sink, Sink)
    sink.emit(event("pipeline_started", trace(1)))
    sink.close()
    assert types(LOG.stream(trace(1))) == ["pipeline_started"]
    LOG.renew()
    with pytest.raises(ValueError, match="expected memory:"):
        MemorySink("memory:elsewhere")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_starts_with_an_empty_log() -> None:
    """A child that is forked while a thread holds the log's lock can write, and has none of the parent's runs."""
    LOG.renew()
    run_of(LOG, "parent")
    with LOG._lock:
        child = os.fork()
        if child == 0:
            try:
                run_of(LOG, "child")
                os._exit(0 if len(LOG.runs().runs) == 1 and LOG.run("child") else 1)
            finally:
                os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    LOG.renew()

"""The functions of the test pipelines."""

import asyncio
import contextvars
import logging
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context


def give(x: int = 5) -> int:
    return x * 2


def take(doubled: int) -> str:
    return f"got {doubled}"


def nothing() -> None:
    return None


def slow() -> float:
    began = time.monotonic()
    time.sleep(0.4)
    return time.monotonic() - began


def slower() -> float:
    began = time.monotonic()
    time.sleep(0.8)
    return time.monotonic() - began


def kaput() -> int:
    raise ValueError("kaput")


def chained() -> int:
    try:
        kaput()
    except ValueError as error:
        raise RuntimeError("outer") from error
    return 1


def wrong_number() -> int:
    return 1


def measure() -> tuple[float, int]:
    return 0.25, 3


def obj() -> Any:
    return {"big": object}


def use_obj(thing: Any) -> int:
    return len(thing)


def chunks() -> list[int]:
    return [1, 2, 3]


def keys() -> list[str]:
    return ["AKIAIOSFODNN7EXAMPLE"]


def cards() -> list[str]:
    return ["4111111111111111", "5500000000000004"]


def span_user() -> None:
    import logfire_api

    span = logfire_api.span("kept")
    span.set_attribute("before", 1)
    with span as entered:
        entered.set_attribute("inside", "yes")
        entered.set_level("warn")
        entered.message = "changed"
    try:
        with logfire_api.span("fails"):
            raise ValueError("connect failed: password=hunter22")
    except ValueError:
        pass


async def handles_failure() -> str:
    from runnable import AsyncPipeline, AsyncPythonTask
    from runnable.context import set_run_context

    async def inner() -> None:
        set_run_context(None)
        pipeline = AsyncPipeline(name="inner", steps=[AsyncPythonTask(name="bad", function=afail)])
        async for _ in pipeline.execute_streaming(run_id="inner"):
            pass

    try:
        await asyncio.create_task(inner())
    except Exception:
        return "handled"
    return "no failure"


async def asecret() -> str:
    return os.environ["MY_SECRET"]


async def hands_over() -> str:
    """Another pipeline has the secret, and this task says it."""
    from runnable import AsyncPipeline, AsyncPythonTask
    from runnable.context import set_run_context

    async def inner() -> None:
        set_run_context(None)
        step = AsyncPythonTask(name="secret", function=asecret, secrets=["MY_SECRET"], returns=["said"])
        async for _ in AsyncPipeline(name="inner", steps=[step]).execute_streaming(run_id="inner"):
            pass

    await asyncio.create_task(inner())
    return says_it()


def work(chunk: int) -> int:
    return chunk * 10


def work_two(chunk: int, letter: str) -> str:
    return f"{letter}{chunk}"


def letters() -> list[str]:
    return ["a", "b"]


def fail_on_two(chunk: int) -> int:
    if chunk == 2:
        raise KeyError("two")
    return chunk


def two_hundred() -> list[int]:
    return list(range(200))


def killed_on_two(chunk: int) -> int:
    if chunk == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return chunk


def write_chunk(chunk: int) -> None:
    Path("data").mkdir(exist_ok=True)
    Path(f"data/{chunk}.txt").write_text("hello")


def says_it() -> str:
    return "it was hunter2-is-out"


def speaks(chunk: int) -> int:
    from runnable import get_stream_queue

    get_stream_queue().put_nowait({"type": "mine", "chunk": chunk, "at": date(2026, 1, 1), "set": {1, 2}})
    return chunk


def rich_spans(chunk: int) -> int:
    tracer = trace.get_tracer("user", "1.2", attributes={"team": "a"})
    with tracer.start_as_current_span("outer", kind=trace.SpanKind.CLIENT, attributes={"list": ["a", "b"]}) as outer:
        outer.add_event("happened", {"n": chunk})
        link = trace.Link(outer.get_span_context(), {"why": "x"})
        apart = tracer.start_span("apart", context=Context(), links=[link])
        try:
            with tracer.start_as_current_span("fails"):
                raise LookupError("own")
        except LookupError:
            pass
    apart.update_name("renamed")
    apart.add_link(outer.get_span_context())
    apart.set_status(trace.StatusCode.OK)
    apart.end()
    return chunk


SHARED = ThreadPoolExecutor(1)
"""A pool of the module, whose thread is started by whichever task comes first."""


def traced(name: str) -> int:
    with trace.get_tracer("user").start_as_current_span(name):
        return len(name)


class Worker(threading.Thread):
    def run(self) -> None:
        traced("a thread's run")


def in_threads() -> int:
    from multiprocessing.pool import ThreadPool

    with trace.get_tracer("user").start_as_current_span("around"), ThreadPoolExecutor(2) as executor:
        executor.submit(traced, "submit").result()
        executor.submit(contextvars.copy_context().run, traced, "submit with a context").result()
        assert list(executor.map(traced, ["map"])) == [3]
    with ThreadPool(2) as pool:
        assert pool.map(traced, ["pool.map"]) == [8]
        assert list(pool.imap(traced, ["pool.imap"])) == [9]
        assert pool.apply(traced, ("pool.apply",)) == 10
        assert pool.starmap(traced, [("pool.starmap",)]) == [12]
    for thread in (threading.Thread(target=traced, args=("a thread",)), Worker()):
        thread.start()
        thread.join()
        assert "run" not in vars(thread)
    return SHARED.submit(traced, "shared, first").result()


def fails_in_a_thread() -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(kaput).result()


def again_in_threads() -> int:
    contextvars.Context().run(SHARED.submit, traced, "of nobody").result()  # as if no task had asked for it
    return SHARED.submit(traced, "shared, second").result()


def in_asyncio() -> int:
    async def work(name: str) -> None:
        with trace.get_tracer("user").start_as_current_span(name):
            await asyncio.sleep(0)

    async def both() -> None:
        await asyncio.gather(work("one"), work("two"), asyncio.to_thread(asyncio.run, work("to_thread")))

    asyncio.run(both())
    return 1


def choose() -> str:
    return "heads"


def heads() -> str:
    return "heads ran"


def tails() -> str:
    return "tails ran"


def count(counter: int = 0) -> tuple[int, bool]:
    counter += 1
    return counter, counter >= 3


def write_file() -> None:
    Path("data").mkdir(exist_ok=True)
    Path("data/out.txt").write_text("hello")


def read_file() -> int:
    return len(Path("data/out.txt").read_text())


def recover() -> str:
    return "recovered"


def needs_flag() -> str:
    if not os.path.exists("flag"):
        raise OSError("no flag")
    return "flag"


def secret_in_use() -> str:
    return os.environ["MY_SECRET"] + " is out"


def user_spans() -> int:
    import logfire_api
    from opentelemetry import trace

    with trace.get_tracer("user").start_as_current_span("otel span"):
        pass
    with logfire_api.span("logfire span {n}", n=1):
        logfire_api.info("inside")
    return 1


async def ahello(name: str = "x") -> str:
    await asyncio.sleep(0)
    return f"hello {name}"


async def astream(text: str = "a b"):
    for word in text.split():
        yield {"type": "chunk", "text": word}
        await asyncio.sleep(0)
    yield {"type": "done", "full": text}


async def afail() -> str:
    raise LookupError("async kaput")


async def animposter():
    yield {"type": "task_completed", "name": "mine"}
    yield {"type": "done", "value": 1}


def talk() -> int:
    """Writes in all the ways that a task writes."""
    print("hello", "world")
    print("to stderr", file=sys.stderr)
    logging.getLogger("mine").warning("logged")
    for percent in (10, 50, 100):
        print(f"\r{percent} %", end="")
    print()
    thread = threading.Thread(target=print, args=("from a thread",))
    thread.start()
    thread.join()
    print("password=hunter2-is-out")
    print("without an end", end="")
    return 1


def talk_and_fail() -> None:
    print("before the failure")
    raise ValueError("kaput")


def talk_and_wait() -> None:
    """A burst of lines, and then silence until there is a file named gate."""
    for number in range(5):
        print("line", number)
    while not os.path.exists("gate"):
        time.sleep(0.005)


def talk_of(chunk: int) -> int:
    print("chunk", chunk)
    return chunk


def talk_on_and_on() -> None:
    for number in range(3000):
        print(f"line {number}:", "x" * 990)


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no")

    __str__ = __iter__ = __len__ = __repr__


async def ahostile():
    """Events that are no JSON, too large, or not what they say."""
    cycle: dict[str, Any] = {"type": "cycle"}
    cycle["self"] = cycle
    deep: Any = 1
    for _ in range(2000):
        deep = [deep]
    yield {"type": "large", "text": "x" * 10_000_000, "after": 1}
    yield {"type": "no json", "object": Hostile(), "set": {1}, "nan": float("nan"), "bytes": b"x", 5: 6}
    yield cycle
    yield {"type": "deep", "value": deep}
    yield {"type": "x" * 1000}
    yield {"type": 5}
    yield {"type": "pipeline_completed", "status": "error", "uid": f"{1:032x}:{2:016x}:end", "trace_id": f"{1:032x}"}
    yield {"type": "pipeline_started", "name": "not ours"}
    yield {"type": "task_log", "text": "not ours"}
    yield {"type": "sign_of_life"}
    yield {"type": "fields", "uid": "mine", "runnable": "mine", "run_id": "mine", "password": "hunter2-is-out"}
    yield {"type": "done", "value": 1}

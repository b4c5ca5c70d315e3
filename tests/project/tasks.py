"""The functions of the test pipelines."""

import asyncio
import os
from pathlib import Path
from typing import Any


def give(x: int = 5) -> int:
    return x * 2


def take(doubled: int) -> str:
    return f"got {doubled}"


def nothing() -> None:
    return None


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

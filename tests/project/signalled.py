"""Pipelines that a signal ends: `WAY` says where the run is when it comes. READY on standard error: now."""

import asyncio
import os
import signal
import sys
import threading
import time

from opentelemetry import trace
from runnable import AsyncPipeline, AsyncPythonTask, Pipeline, PythonTask

WAY = os.environ.get("WAY", "main")


def say(text):
    os.write(2, f"{text}\n".encode())


def quick():
    return None


def forever():
    say("READY")
    while True:
        time.sleep(0.05)


async def forever_async():
    say("READY")
    while True:
        await asyncio.sleep(0.05)


async def stream(pipeline):
    async for event in pipeline.execute_streaming():
        print("event", event)


def own_span():
    with trace.get_tracer("mine").start_as_current_span("mine"):
        forever()


def holds_its_lock():
    """What a signal may meet: a thread in the middle of a change of its span."""
    with trace.get_current_span()._lock:
        forever()


def forks():
    child = os.fork()
    if not child:
        time.sleep(600)
        os._exit(0)
    time.sleep(0.2)
    os.kill(child, signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    print("child", os.WTERMSIG(status), flush=True)


TASKS = {"main": forever, "own": own_span, "lock": holds_its_lock, "fork": forks, "after": quick}


def main():
    if WAY == "async":
        pipeline = AsyncPipeline(name="run", steps=[AsyncPythonTask(name="slow", function=forever_async)])
        asyncio.run(stream(pipeline))
        return pipeline
    steps = [
        PythonTask(name="quick", function=quick),
        PythonTask(name="slow", function=TASKS.get(WAY, forever)),
    ]
    pipeline = Pipeline(name="run", steps=steps)
    pipeline.execute()
    return pipeline


def kept(number, frame):
    print("mine", flush=True)
    sys.exit(7)


if __name__ == "__main__":
    if WAY == "handler":
        signal.signal(signal.SIGTERM, kept)
    before = signal.getsignal(signal.SIGTERM)
    if WAY == "thread":
        thread = threading.Thread(target=main, daemon=True)
        thread.start()
        while True:
            time.sleep(0.05)
    main()
    print("as before", signal.getsignal(signal.SIGTERM) == before, flush=True)

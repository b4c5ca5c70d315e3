"""The FastAPI examples as they stand, but that a task goes on only when there is a file named `gate` in the folder."""

import asyncio
import time
from pathlib import Path

import fastapi_batch
import fastapi_streaming
from fastapi import FastAPI

_compute, _answer = fastapi_batch.compute, fastapi_streaming.answer


def compute(x: int = 10) -> int:
    while not Path("gate").exists():
        time.sleep(0.005)
    return _compute(x)


async def answer(prompt: str = ""):
    async for event in _answer(prompt):
        yield event
        while not Path("gate").exists():
            await asyncio.sleep(0.005)


# runnable finds a function by its module and name.
compute.__module__, fastapi_batch.compute = "fastapi_batch", compute
answer.__module__, fastapi_streaming.answer = "fastapi_streaming", answer

app = FastAPI(routes=[*fastapi_batch.app.routes, *fastapi_streaming.app.routes])

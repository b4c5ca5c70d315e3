"""A web app with pipelines, for the tests: each run waits where a test tells it to."""

import asyncio
import os
import time

import hostile
from runnable import AsyncPipeline, AsyncPythonTask, Parallel, Pipeline, PythonTask
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from runnable_otel import run_pipeline, sse_response

runs = {}


def gate(path: str = "", who: str = "") -> str:
    """Go on when the file is there."""
    while path and not os.path.exists(path):
        time.sleep(0.005)
    return who


def echo(said: str) -> str:
    return said


def fail() -> None:
    raise ValueError("as asked")


async def chunks(path: str = "", who: str = "", number: int = 3):
    for index in range(number):
        yield {"type": "chunk", "who": who, "index": index}
        if index == 0:
            await asyncio.to_thread(gate, path)
    yield {"type": "done", "said": who}


async def aecho(said: str) -> str:
    return said


async def hostiles():
    for each in hostile.EVENTS:
        yield each
    yield {"type": "done", "ok": True}


def sync() -> Pipeline:
    return Pipeline(
        steps=[
            PythonTask(name="gate", function=gate, returns=["said"]),
            PythonTask(name="echo", function=echo, returns=["final"]),
        ]
    )


def branches() -> Pipeline:
    branch = PythonTask(name="gate", function=gate, returns=["said"]).as_pipeline()
    return Pipeline(
        steps=[
            Parallel(name="both", branches={"left": branch, "right": branch}),
            PythonTask(name="broken", function=fail),
        ]
    )


def streaming() -> AsyncPipeline:
    return AsyncPipeline(
        steps=[
            AsyncPythonTask(name="chunks", function=chunks, returns=["said"]),
            AsyncPythonTask(name="echo", function=aecho, returns=["final"]),
        ]
    )


def awkward() -> AsyncPipeline:
    return AsyncPipeline(steps=[AsyncPythonTask(name="hostiles", function=hostiles, returns=["ok"])])


def main(**options):
    """A function that defines and executes, as runnable's documentation has it."""
    pipeline = sync()
    pipeline.execute(**options)
    return pipeline


KINDS = {"sync": sync, "branches": branches, "streaming": streaming, "awkward": awkward, "main": lambda: main}


async def start(request: Request):
    parameters = await request.json()
    run = run_pipeline(KINDS[request.path_params["kind"]](), parameters=parameters)
    runs[run.run_id] = run
    return JSONResponse({"run_id": run.run_id})


async def stream(request: Request):
    return sse_response(runs[request.path_params["run_id"]], request=request)


async def logged(request: Request):
    """From the log of the process, which `memory:` writes."""
    return sse_response(request.path_params["run_id"], request=request)


async def direct(request: Request):
    """Start a run, and stream it in the same request."""
    run = run_pipeline(KINDS[request.path_params["kind"]](), parameters=dict(request.query_params))
    runs[run.run_id] = run
    return sse_response(run, request=request)


async def result(request: Request):
    run = runs[request.path_params["run_id"]]
    try:
        await run
    except Exception as error:
        return JSONResponse({"raised": type(error).__name__, "trace_id": run.trace_id})
    return JSONResponse({"raised": None, "trace_id": run.trace_id})


app = Starlette(
    routes=[
        Route("/start/{kind}", start, methods=["POST"]),
        Route("/direct/{kind}", direct, methods=["GET", "POST"]),
        Route("/runs/{run_id}/events", stream),
        Route("/runs/{run_id}/result", result),
        Route("/log/{run_id}/events", logged),
    ]
)

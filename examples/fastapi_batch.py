"""A batch pipeline in a FastAPI app, whose events a browser follows: `uvicorn fastapi_batch:app`.

POST /runs?x=21 starts a run; GET /runs/{run_id}/events streams it, also to a client that comes later or comes again:
`new EventSource("/runs/…/events")`.
"""

from collections import OrderedDict

from fastapi import FastAPI, HTTPException, Request
from runnable import Pipeline, PythonTask

from runnable_otel import run_pipeline, sse_response

app = FastAPI()
runs = OrderedDict()


def compute(x: int = 10) -> int:
    return x * 2


def finalize(result: int) -> str:
    return f"Result: {result}"


@app.post("/runs")
async def start(x: int = 10):
    pipeline = Pipeline(
        name="example",
        steps=[
            PythonTask(name="compute", function=compute, returns=["result"]),
            PythonTask(name="finalize", function=finalize, returns=["final"]),
        ],
    )
    run = run_pipeline(pipeline, parameters={"x": x})
    runs[run.run_id] = run
    if len(runs) > 100:
        runs.popitem(last=False)
    return {"run_id": run.run_id}


@app.get("/runs/{run_id}/events")
async def events(run_id: str, request: Request):
    if run_id not in runs:
        raise HTTPException(404)
    return sse_response(runs[run_id], request=request)

"""An async pipeline that streams words to the client while it makes them: `uvicorn fastapi_streaming:app`.

curl -N -X POST 'http://127.0.0.1:8000/chat?prompt=hello'
"""

import asyncio

from fastapi import FastAPI, Request
from runnable import AsyncPipeline, AsyncPythonTask

from runnable_otel import run_pipeline, sse_response

app = FastAPI()


async def answer(prompt: str = ""):
    words = f"You said: {prompt}".split()
    for word in words:
        await asyncio.sleep(0.05)  # a model at work
        yield {"type": "chunk", "text": word}
    yield {"type": "done", "answer": " ".join(words)}


@app.post("/chat")
async def chat(prompt: str, request: Request):
    pipeline = AsyncPipeline(name="chat", steps=[AsyncPythonTask(name="answer", function=answer, returns=["answer"])])
    return sse_response(run_pipeline(pipeline, parameters={"prompt": prompt}), request=request)

"""An async pipeline that streams: the second task is an async generator, whose events its caller sees one by one."""

# pyright: basic

import asyncio
import sys
from collections.abc import AsyncIterator

from runnable import AsyncPipeline, AsyncPythonTask


async def ask(name: str = "Ada") -> str:
    return f"How many regions, {name}?"


async def answer(question: str) -> AsyncIterator[dict[str, str]]:
    words = ["There", "are", "two."]
    for word in words:
        yield {"type": "chunk", "text": word}
    yield {"type": "done", "text": " ".join(words)}


async def main() -> None:
    pipeline = AsyncPipeline(
        steps=[
            AsyncPythonTask(name="ask", function=ask, returns=["question"]),
            AsyncPythonTask(name="answer", function=answer, returns=["text"]),
        ]
    )
    async for event in pipeline.execute_streaming():
        sys.stdout.write(f"{event}\n")


if __name__ == "__main__":
    asyncio.run(main())

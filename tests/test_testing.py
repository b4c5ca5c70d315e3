"""`runnable_otel.testing`, as a user's own tests use it."""

from __future__ import annotations

import sys
from pathlib import Path

from support.project import Project

TESTS = """
import asyncio

import asyncio

import httpx
from runnable import Pipeline, PythonTask
from runnable_otel import run_pipeline
from runnable_otel.hooks import HOOKS
from runnable_otel.testing import capture_events, live_server


def double(x: int) -> int:
    return 2 * x


def main():
    pipeline = Pipeline(steps=[PythonTask(name="only", function=double, returns=["y"])])
    pipeline.execute(parameters_file="first.yaml")
    return pipeline


async def again():
    # pipeline.execute() executes one run in a process
    await run_pipeline(Pipeline(steps=[PythonTask(name="only", function=double, returns=["y"])]), parameters={"x": 5})


def capture():
    with capture_events() as events:
        main()
    assert [event.type for event in events] == [
        "pipeline_started", "task_started", "task_completed", "pipeline_completed"
    ]
    assert events[2].fields["outputs"] == {"y": 8}, events[2]
    assert not HOOKS.is_on
    asyncio.run(again())
    assert len(events) == 4, "captured after the end"
    with capture_events() as outer, capture_events() as inner:
        asyncio.run(again())
    assert outer == inner and len(outer) == 4, outer
    assert outer[2].fields["outputs"] == {"y": 10}


def serve():
    with live_server() as one, live_server() as other:
        assert one.url != other.url and one.tokens.token not in repr(one)
        headers = {"authorization": f"Bearer {one.tokens.token}"}
        assert httpx.get(f"{one.url}/runs", headers=headers).json()["runs"] == []
        assert httpx.get(f"{other.url}/runs", headers=headers).status_code == 401
        sent = httpx.post(f"{one.url}/v1/traces", json={"resourceSpans": []})
        assert sent.status_code == 200, sent.text
    try:
        httpx.get(one.url)
    except httpx.ConnectError:
        print("closed")


if __name__ == "__main__":
    import os

    globals()[os.environ["ENTRY"]]()
"""


def test_capture_events(project: Project) -> None:
    """All events of a run, nothing before and after, and what was off is off again."""
    (project.folder / "users_tests.py").write_text(TESTS)
    (project.folder / "first.yaml").write_text("x: 4\n")
    project.command(sys.executable, "users_tests.py", ENTRY="capture")


def test_live_server(project: Project, tmp_path: Path) -> None:
    """Servers with stores and tokens of their own, and none is left."""
    (project.folder / "users_tests.py").write_text(TESTS)
    assert project.command(sys.executable, "users_tests.py", ENTRY="serve").stdout.strip().endswith("closed")

"""A queue that is set and never used gets one warning that names `run_pipeline`; any other gets none."""

from __future__ import annotations

import gc
import logging
import queue
from pathlib import Path

import pytest

from runnable_otel.unused import UnusedQueues
from support.project import Project
from support.web import Server, skip_without

RECIPE = """
import json
from queue import Queue
from uuid import uuid4

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from runnable import Pipeline, PythonTask, set_stream_queue

app = FastAPI()


def work():
    return None


def main():  # the page leaves out that runnable calls the function that executes once more, to get the graph
    pipeline = Pipeline(steps=[PythonTask(function=work, name="work")])
    pipeline.execute(run_id=uuid4().hex)
    return pipeline


@app.post("/run")
def run():
    events = Queue()
    set_stream_queue(events)

    def frames():
        try:
            main()
            while not events.empty():
                yield f"data: {json.dumps(events.get_nowait())}\\n\\n"
        finally:
            set_stream_queue(None)

    return StreamingResponse(frames(), media_type="text/event-stream")
"""

IN_A_THREAD = """
import threading
from queue import Queue

from runnable import Pipeline, PythonTask, set_stream_queue


def work():
    return None


def main():
    pipeline = Pipeline(steps=[PythonTask(function=work, name="work")])
    pipeline.execute()
    return pipeline


if __name__ == "__main__":
    events = Queue()
    if {elsewhere}:
        thread = threading.Thread(target=set_stream_queue, args=(events,))
        thread.start()
        thread.join()
    else:
        set_stream_queue(events)
    if {runs}:
        main()
"""


def script(project: Project, *, elsewhere: bool, runs: bool) -> str:
    (project.folder / "threads.py").write_text(IN_A_THREAD.format(elsewhere=elsewhere, runs=runs))
    return project.command(project.python, "threads.py", RUNNABLE_OTEL_SINKS="memory:").stderr


def test_a_queue_of_another_thread(project: Project) -> None:
    """The pipeline runs where the queue is not: one line says so at the exit, and what to use."""
    assert script(project, elsewhere=True, runs=True).count("run_pipeline") == 1


@pytest.mark.parametrize(("elsewhere", "runs"), [(False, True), (True, False)])
def test_no_false_warning(project: Project, *, elsewhere: bool, runs: bool) -> None:
    """A queue that is used, or one beside which nothing ran, is nobody's mistake."""
    assert "set_stream_queue" not in script(project, elsewhere=elsewhere, runs=runs)


def test_the_recipe_of_runnables_page(tmp_path: Path) -> None:
    """The FastAPI recipe streams nothing: from the second request on the log says why, once."""
    skip_without("fastapi", "uvicorn", "httpx")
    import httpx

    (tmp_path / "recipe.py").write_text(RECIPE)
    with Server(tmp_path, "recipe:app", RUNNABLE_OTEL_SINKS="memory:") as server:
        for _ in range(4):
            assert httpx.post(f"{server.url}/run", timeout=60).text == ""
    assert sum("run_pipeline" in line for line in server.lines) == 1


def test_what_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing while the queue may still be used; once, however many were lost."""
    caplog.set_level(logging.WARNING)
    unused = UnusedQueues()
    waiting = queue.Queue[object]()
    unused.set(waiting)
    unused.set(waiting)
    unused.run_without()
    assert not caplog.messages
    unused.used(waiting)
    del waiting
    gc.collect()
    unused.run_without()
    assert not caplog.messages
    for _ in range(3):
        lost = queue.Queue[object]()
        unused.set(lost)
        unused.run_without()
        del lost
        gc.collect()
    unused.run_without()
    assert len(caplog.messages) == 1


def test_queues_without_weak_references(caplog: pytest.LogCaptureFixture) -> None:
    """None, and a queue that nothing can watch, are passed over."""

    class Slotted:
        __slots__ = ()

    unused = UnusedQueues()
    unused.set(Slotted())
    unused.set(None)
    unused.run_without()
    assert not caplog.messages

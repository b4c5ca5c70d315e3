"""In a web app: real pipelines under a real uvicorn, followed by httpx-sse and curl while they run."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.events import Frame, decode
from support.project import Project
from support.web import FOLDER, Server, skip_without

skip_without("starlette", "uvicorn", "httpx", "httpx_sse")

import httpx  # noqa: E402 - it may be missing
from httpx_sse import EventSource, ServerSentEvent, aconnect_sse, connect_sse  # noqa: E402

EVENTS = (FOLDER / "hostile.py").read_text()
SYNC = ["pipeline_started", *["task_started", "task_completed"] * 2, "pipeline_completed"]


class Barrier:
    """As `asyncio.Barrier` of Python 3.11."""

    def __init__(self, parties: int) -> None:
        self._missing, self._all = parties, asyncio.Event()

    async def wait(self) -> None:
        self._missing -= 1
        if not self._missing:
            self._all.set()
        await self._all.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("web"), "app:app") as server:
        yield server


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """Where a run waits until the test makes this file."""
    return tmp_path / "gate"


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


def start(client: httpx.Client, kind: str, **parameters: Any) -> str:
    return client.post(f"/start/{kind}", json=parameters).raise_for_status().json()["run_id"]


def read(client: httpx.Client, path: str, *, last: str = "", most: int = 10**9) -> list[ServerSentEvent]:
    """The frames of a stream up to its end, or the first of them, as many as `most`."""
    frames: list[ServerSentEvent] = []
    headers = {b"Last-Event-ID": last.encode()} if last else {}
    with connect_sse(client, "GET", path, headers=headers) as source:
        source.response.raise_for_status()
        for frame in source.iter_sse():
            frames.append(frame)
            if len(frames) == most:
                break
    return frames


def facts(frames: list[ServerSentEvent] | list[Frame]) -> list[dict[str, Any]]:
    return [json.loads(frame.data) for frame in frames if frame.event == "message"]


def types(frames: list[ServerSentEvent]) -> list[str]:
    return [fact["type"] for fact in facts(frames)]


@pytest.mark.parametrize("kind", ["sync", "streaming", "main"])
def test_first_event_while_it_runs(client: httpx.Client, gate: Path, kind: str) -> None:
    """The first event is at the client while the pipeline still runs: this waits for a file that the client makes."""
    with connect_sse(client, "GET", f"/direct/{kind}", params={"path": str(gate), "who": "me"}) as source:
        frames = []
        for frame in source.iter_sse():
            if not frames:
                assert not gate.exists()
                gate.touch()
            frames.append(frame)
    assert types(frames[:1]) == ["pipeline_started"]
    assert types(frames)[-1] == "pipeline_completed"
    assert frames[-1].event == "end"
    assert len({fact["run_id"] for fact in facts(frames) if "run_id" in fact}) == 1


def test_own_events_unchanged(client: httpx.Client) -> None:
    """The events of an async generator task are in the stream as they were yielded, between its start and its end."""
    found = facts(read(client, "/direct/streaming?who=me"))
    assert [fact["type"] for fact in found] == [
        *["pipeline_started", "task_started", "chunk", "chunk", "chunk", "done", "task_completed"],
        *["task_started", "task_completed", "pipeline_completed"],
    ]
    assert found[2:6] == [
        *[{"type": "chunk", "who": "me", "index": index} for index in range(3)],
        {"type": "done", "said": "me"},
    ]
    assert found[6]["outputs"] == {"said": "me"}


@pytest.mark.parametrize("kind", ["sync", "streaming", "main"])
def test_ten_at_once(server: Server, gate: Path, kind: str) -> None:
    """Ten requests at once, all of which run at the same time, do not mix: each has its own run, log and values."""

    async def one(client: httpx.AsyncClient, who: str, started: Barrier) -> list[ServerSentEvent]:
        frames: list[ServerSentEvent] = []
        async with aconnect_sse(client, "GET", f"/direct/{kind}", params={"path": str(gate), "who": who}) as source:
            async for frame in source.aiter_sse():
                if not frames:
                    await started.wait()
                    gate.touch()
                frames.append(frame)
        return frames

    async def ten() -> list[list[ServerSentEvent]]:
        started = Barrier(10)
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
            return await asyncio.gather(*(one(client, f"client-{number}", started) for number in range(10)))

    streams = asyncio.run(ten())
    runs = set()
    for number, frames in enumerate(streams):
        found = facts(frames)
        text = json.dumps(found)
        assert f"client-{number}" in text
        assert not any(f"client-{other}" in text for other in range(10) if other != number)
        (run_id,) = {fact["run_id"] for fact in found if "run_id" in fact}
        (trace_id,) = {fact["trace_id"] for fact in found if "trace_id" in fact}
        runs |= {run_id, trace_id}
        assert found[-1]["status"] == "success"
        assert max(Counter(fact["uid"] for fact in found if "uid" in fact).values()) == 1
        assert (server.folder / ".run_log_store" / f"{run_id}.json").exists()
    assert len(runs) == 20


@pytest.mark.parametrize("kind", ["sync", "streaming"])
def test_a_client_that_leaves(client: httpx.Client, gate: Path, kind: str) -> None:
    """A client that leaves ends its own stream: another one, and the run itself, go on to the end."""
    run_id = start(client, kind, path=str(gate), who="me")
    path = f"/runs/{run_id}/events"
    with connect_sse(client, "GET", path) as source:
        staying = source.iter_sse()
        first = next(staying)
        assert [frame.id for frame in read(client, path, most=1)] == [first.id]
        gate.touch()
        frames = [first, *staying]
    assert types(frames)[-1] == "pipeline_completed"
    assert client.get(f"/runs/{run_id}/result").json()["raised"] is None


@pytest.mark.parametrize("kind", ["sync", "streaming"])
@pytest.mark.parametrize("way", ["header", "query"])
def test_resume(client: httpx.Client, gate: Path, kind: str, way: str) -> None:
    """A client that drops the connection after every event, and comes again, has each event once, and misses none."""
    run_id = start(client, kind, path=str(gate), who="me")
    path = f"/runs/{run_id}/events"
    frames: list[ServerSentEvent] = []
    last = ""
    while True:
        if way == "header":
            (frame,) = read(client, path, last=last, most=1)
        else:
            (frame,) = read(client, f"{path}?last_event_id={last}", most=1)
        if frame.event == "end":
            break
        assert frame.event == "message"
        assert frame.id != last
        frames.append(frame)
        last = frame.id
        if len(frames) == 2:
            gate.touch()
        if types(frames)[-1] == "pipeline_completed":
            break
    whole = read(client, path)
    assert [(frame.id, frame.data) for frame in frames] == [(frame.id, frame.data) for frame in whole[:-1]]
    assert whole[-1].event == "end"
    uids = [fact["uid"] for fact in facts(frames) if "uid" in fact]
    assert len(uids) == len(set(uids))


def test_resume_at_the_end(client: httpx.Client) -> None:
    """Who has had all gets a 204, which ends an EventSource for good; the header wins over the query."""
    run_id = start(client, "sync")
    frames = read(client, f"/runs/{run_id}/events")
    headers = {"Last-Event-ID": frames[-2].id}
    assert client.get(f"/runs/{run_id}/events?last_event_id={frames[0].id}", headers=headers).status_code == 204
    assert client.get(f"/runs/{run_id}/events?last_event_id={frames[-2].id}").status_code == 204
    rest = read(client, f"/runs/{run_id}/events?last_event_id={frames[-2].id}", last=frames[-3].id)
    assert types(rest) == ["pipeline_completed"]


@pytest.mark.parametrize("last", ["nonsense", "0000000000000000-1", "-", "a\tb", "é"])
def test_gap(client: httpx.Client, last: str) -> None:
    """A position that is not one of the run's gets one gap with an id, and then all that there is."""
    run_id = start(client, "sync")
    whole = read(client, f"/runs/{run_id}/events")
    gap, *rest = read(client, f"/runs/{run_id}/events", last=last)
    assert gap.event == "gap"
    assert gap.id
    assert json.loads(gap.data) == {"reason": "unknown", "lost": None}
    assert [(frame.id, frame.data) for frame in rest] == [(frame.id, frame.data) for frame in whole]
    assert types(read(client, f"/runs/{run_id}/events", last=gap.id)) == SYNC


def test_failure(client: httpx.Client) -> None:
    """A run that fails says so, in its events and to whoever waits for it."""
    run_id = start(client, "branches")
    found = facts(read(client, f"/runs/{run_id}/events"))
    assert (found[-1]["type"], found[-1]["status"]) == ("pipeline_completed", "error")
    assert found[-1]["error"] == "ValueError: as asked"
    result = client.get(f"/runs/{run_id}/result").json()
    assert result == {"raised": "ExecutionFailedError", "trace_id": found[0]["trace_id"]}


def test_headers(client: httpx.Client) -> None:
    """The response is one that no cache or proxy keeps, and its first frame says when to come again."""
    run_id = start(client, "sync")
    response = client.get(f"/runs/{run_id}/events")
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-store, no-transform"
    assert response.headers["x-accel-buffering"] == "no"
    first, _, rest = response.text.partition("\n")
    assert 1000 <= int(first.removeprefix("retry: ")) <= 3000
    assert "event: end" in rest
    head = client.head(f"/runs/{run_id}/events")
    assert (head.status_code, head.content) == (200, b"")


def hostile_events() -> list[dict[str, Any]]:
    space: dict[str, Any] = {}
    exec(compile(EVENTS, "hostile.py", "exec"), space)
    return space["EVENTS"]


def test_hostile_by_httpx_sse(client: httpx.Client) -> None:
    """Hostile names and values come back unchanged through httpx-sse, frame by frame."""
    found = facts(read(client, "/direct/awkward"))
    assert found[2:-3] == hostile_events()


def test_hostile_by_curl(server: Server) -> None:
    """Hostile names and values come back unchanged through curl, read by the letter of the standard."""
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("needs curl")
    command = [curl, "--silent", "--no-buffer", "--max-time", "60", f"{server.url}/direct/awkward"]
    frames = decode(subprocess.run(command, capture_output=True, check=True).stdout)
    assert facts(frames)[2:-3] == hostile_events()
    assert frames[-1].event == "end"
    assert all(frame.id for frame in frames)


def test_server_stops_with_streams_open(tmp_path: Path, gate: Path) -> None:
    """A server that is told to stop does, though streams are open and a pipeline waits for ever; no false end."""
    with Server(tmp_path, "app:app") as server, httpx.Client(base_url=server.url, timeout=60) as client:
        run_id = start(client, "sync", path=str(gate))
        with connect_sse(client, "GET", f"/runs/{run_id}/events") as source:
            frames = source.iter_sse()
            assert types([next(frames), next(frames)]) == ["pipeline_started", "task_started"]
            server.stop()
            assert list(frames) == []
    assert "Traceback" not in "".join(server.lines)


def test_process_log(tmp_path: Path) -> None:
    """With `memory:` a run is streamed by its run id or its trace id, without the object; each event once."""
    with (
        Server(tmp_path, "app:app", RUNNABLE_OTEL_SINKS="memory:") as server,
        httpx.Client(base_url=server.url) as client,
    ):
        run_id = start(client, "sync")
        own = facts(read(client, f"/runs/{run_id}/events"))
        assert facts(read(client, f"/log/{run_id}/events")) == own
        assert facts(read(client, f"/log/{own[0]['trace_id']}/events")) == own
        assert client.get("/log/unknown/events").status_code == 404


def test_batch_example(tmp_path: Path) -> None:
    """The batch example runs as its docstring says."""
    skip_without_fastapi()
    with Server(tmp_path, "fastapi_batch:app") as server, httpx.Client(base_url=server.url, timeout=60) as client:
        run_id = client.post("/runs?x=21").raise_for_status().json()["run_id"]
        frames = read(client, f"/runs/{run_id}/events")
        assert types(frames) == SYNC
        assert facts(frames)[-2]["outputs"] == {"final": "Result: 42"}
        assert client.get("/runs/unknown/events").status_code == 404


def test_streaming_example(tmp_path: Path) -> None:
    """The streaming example sends each word as the task yields it."""
    skip_without_fastapi()
    with (
        Server(tmp_path, "fastapi_streaming:app") as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
        client.stream("POST", "/chat", params={"prompt": "hello world"}) as response,
    ):
        found = facts(list(EventSource(response).iter_sse()))
    assert [fact["text"] for fact in found if fact["type"] == "chunk"] == ["You", "said:", "hello", "world"]
    assert found[-1]["type"] == "pipeline_completed"


def skip_without_fastapi() -> None:
    skip_without("fastapi")


def script(project: Project, code: str, **variables: str) -> str:
    for file in FOLDER.glob("*.py"):
        shutil.copy(file, project.folder)
    return project.script(code, **variables).stdout


def test_without_a_loop(project: Project) -> None:
    """A sync pipeline needs no event loop: its events are iterated, as often as wanted, and its result awaited."""
    out = script(
        project,
        """
import queue
import app
from runnable_otel import run_pipeline

own = queue.Queue()
run = run_pipeline(app.sync(), queue=own, parameters={"who": "ü😀\\x85\\u2028\\ufeff'\\"\\\\"})
events = list(run)
run.result()
assert run.done and list(run) == events
assert [own.get_nowait() for _ in range(own.qsize())] == events
assert {event["run_id"] for event in events} == {run.run_id}
assert {event["trace_id"] for event in events} == {run.trace_id}
assert events[0]["name"] == "script.<module>", events[0]
assert events[-2]["outputs"] == {"final": "ü😀\\x85\\u2028\\ufeff'\\"\\\\"}, events[-2]
print("passed")
""",
    )
    assert out.splitlines()[-1] == "passed"


def test_async_name(project: Project) -> None:
    """An async pipeline without a name is called after the function that started it; several tasks may read it."""
    out = script(
        project,
        """
import asyncio
import app
from runnable_otel import run_pipeline

async def main():
    run = run_pipeline(app.streaming(), parameters={"who": "me"})
    async def read():
        return [event async for event in run]
    one, two = await asyncio.gather(read(), read())
    await run
    assert one == two and one[0]["name"] == "script.main", one[0]

asyncio.run(main())
print("passed")
""",
    )
    assert out.splitlines()[-1] == "passed"


def test_wrong_use(project: Project) -> None:
    """What can't be run is refused at once; a failure before the start is logged, and raised at the end."""
    out = script(
        project,
        """
import logging, sys
import app
from runnable_otel import run_pipeline

def refused(error, *args, **kwargs):
    try:
        run_pipeline(*args, **kwargs)
    except error as raised:
        return str(raised)
    raise AssertionError

logging.basicConfig(stream=sys.stdout)
assert "expected a Pipeline" in refused(TypeError, 5)
assert "exclude" in refused(TypeError, app.sync(), parameters={}, parameters_file="x")
assert "JSON" in refused(ValueError, app.sync(), parameters={"x": float("nan")})
assert "event loop" in refused(RuntimeError, app.streaming())
run = run_pipeline(app.sync(), configuration_file="missing.yaml")
assert list(run) == []
try:
    run.result()
except FileNotFoundError:
    print("raised")
""",
    )
    assert "failed before it started" in out
    assert out.splitlines()[-1] == "raised"


def test_run_inside_of_a_run(project: Project) -> None:
    """A task may start a run of its own: it runs, though one is set around it, and is part of the same trace."""
    (project.folder / "outer.py").write_text(
        """
from runnable import Pipeline, PythonTask
import app
from runnable_otel import run_pipeline

inner = []

def nested():
    inner.append(run_pipeline(app.sync()))
    inner[0].result()

if __name__ == "__main__":
    run = run_pipeline(Pipeline(name="outer", steps=[PythonTask(name="nested", function=nested)]))
    events = list(run)
    run.result()
    (other,) = inner
    found = list(other)
    assert [event["type"] for event in found][::5] == ["pipeline_started", "pipeline_completed"]
    assert other.run_id != run.run_id and other.trace_id == run.trace_id
    assert {event["run_id"] for event in events} == {run.run_id}
    print("passed")
"""
    )
    for file in FOLDER.glob("*.py"):
        shutil.copy(file, project.folder)
    assert project.command(project.python, "outer.py").stdout.splitlines()[-1] == "passed"


def test_an_imposter(project: Project) -> None:
    """A task's own event in the name of one of ours arrives as `custom`, with the original in it."""
    out = script(
        project,
        """
import asyncio
import app
from runnable import AsyncPipeline, AsyncPythonTask
from runnable_otel import run_pipeline

async def lie():
    yield {"type": "pipeline_completed", "status": "error"}
    yield "no dict"
    yield {"type": "done"}

async def main():
    run = run_pipeline(AsyncPipeline(steps=[AsyncPythonTask(name="lie", function=lie)]))
    events = [event async for event in run]
    assert [event["type"] for event in events].count("pipeline_completed") == 1, events
    assert {"type": "custom", "data": {"type": "pipeline_completed", "status": "error"}} in events, events

if __name__ == "__main__":
    asyncio.run(main())
    print("passed")
""",
    )
    assert out.splitlines()[-1] == "passed"


def test_hostile_objects(project: Project) -> None:
    """What a task yields that is no JSON, or has no end, reaches a reader as what it is not; ours are ours alone."""
    out = script(
        project,
        """
import asyncio
import tasks
from runnable import AsyncPipeline, AsyncPythonTask
from runnable_otel import run_pipeline

async def main():
    task = AsyncPythonTask(name="hostile", function=tasks.ahostile, returns=["value"])
    run = run_pipeline(AsyncPipeline(steps=[task]))
    events = [event async for event in run]
    await run
    first, mine, last = events[:2], events[2:-2], events[-2:]
    assert [each["type"] for each in first + last] == [
        "pipeline_started", "task_started", "task_completed", "pipeline_completed"
    ]
    assert [each["type"] for each in mine] == [
        "large", "no json", "cycle", "deep", "x" * 1000, 5, *["custom"] * 4, "fields", "done"
    ], [str(each["type"])[:50] for each in mine]
    assert len(mine[0]["text"]) == 10_000_000
    assert mine[1] == {"type": "no json", "data": "<unserializable: dict>"}, mine[1]
    assert mine[6]["data"]["status"] == "error"
    assert run.trace_id == last[1]["trace_id"] and last[1]["status"] == "success"

if __name__ == "__main__":
    asyncio.run(main())
    print("passed")
""",
    )
    assert out.splitlines()[-1] == "passed"

"""The FastAPI examples, as they stand, under a real uvicorn, followed by the four clients that people have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import clients
from support.clients import Client, Following
from support.events import Frame
from support.waiting import wait_until
from support.web import FOLDER, Server, skip_without

skip_without("fastapi", "uvicorn", "httpx")

import httpx  # noqa: E402 - it may be missing

BATCH = ["pipeline_started", *["task_started", "task_completed"] * 2, "pipeline_completed"]
HEAVY = [
    pytest.param("curl", marks=pytest.mark.live),
    pytest.param("httpx-sse", marks=pytest.mark.live),
    pytest.param("node", marks=pytest.mark.live),
    pytest.param("chromium", marks=pytest.mark.browser),
]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Both examples, whose tasks wait for a file."""
    with Server(tmp_path, "gated:app") as server:
        yield server


@pytest.fixture(params=HEAVY)
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    with clients.client(request.param) as client:
        yield client


def start(server: Server, x: int) -> str:
    """Start a run of the batch example; where its events are."""
    run_id = httpx.post(f"{server.url}/runs?x={x}").raise_for_status().json()["run_id"]
    return f"{server.url}/runs/{run_id}/events"


def follow(client: Client, server: Server, example: str, number: int) -> Following:
    """A client that follows a run of its own."""
    if example == "batch":
        return client.follow(start(server, number))
    return client.follow(f"{server.url}/chat?prompt=client-{number}", "POST")


def events(following: Following) -> list[dict[str, Any]]:
    return [json.loads(frame.data) for frame in following.frames() if frame.event == "message"]


def types(following: Following) -> list[str]:
    return [event["type"] for event in events(following)]


def ended(following: Following) -> bool:
    return any(frame.event == "end" for frame in following.frames())


def check_batch(frames: list[Frame], x: int) -> None:
    """All events of a run of the batch example, once and in order."""
    assert [frame.event for frame in frames] == ["message"] * len(BATCH) + ["end"]
    found = [json.loads(frame.data) for frame in frames[:-1]]
    assert [event["type"] for event in found] == BATCH
    assert found[-2]["outputs"] == {"final": f"Result: {2 * x}"}
    assert len({frame.id for frame in frames[:-1]}) == len(BATCH)


def check_streaming(frames: list[Frame], number: int) -> None:
    """All events of a run of the streaming example, once and in order, its own among them."""
    found = [json.loads(frame.data) for frame in frames if frame.event == "message"]
    chunks = ["You", "said:", f"client-{number}"]
    assert [event["type"] for event in found] == [
        *("pipeline_started", "task_started", *["chunk"] * 3, "done", "task_completed", "pipeline_completed"),
    ]
    assert [event["text"] for event in found if event["type"] == "chunk"] == chunks
    assert found[-2]["outputs"] == {"answer": " ".join(chunks)}
    assert frames[-1].event == "end"


def check_while_it_runs(client: Client, server: Server) -> None:
    """Each example's first events are at the client while its pipeline waits, and then all of them."""
    batch, streaming = follow(client, server, "batch", 21), follow(client, server, "streaming", 1)
    wait_until(lambda: types(batch) == ["pipeline_started", "task_started"])
    wait_until(lambda: types(streaming) == ["pipeline_started", "task_started", "chunk"])
    (server.folder / "gate").touch()
    wait_until(lambda: batch.over() and streaming.over())
    check_batch(batch.frames(), 21)
    check_streaming(streaming.frames(), 1)


def test_while_it_runs(client: Client, server: Server) -> None:
    """The first event is at the client while the pipeline still runs: it waits for a file that the test makes.

    After `event: end` an EventSource comes again, is told that there is no more, and has no event twice.
    """
    check_while_it_runs(client, server)


@pytest.mark.parametrize("name", ["curl", "node"])
def test_a_slice(server: Server, name: str) -> None:
    """As the test before, for those two that cost little."""
    with clients.client(name) as client:
        check_while_it_runs(client, server)


@pytest.mark.parametrize("example", ["batch", "streaming"])
def test_ten_at_once(client: Client, server: Server, example: str) -> None:
    """Ten requests at once, whose runs all wait until the last has begun, do not mix."""
    ten = [follow(client, server, example, 100 + number) for number in range(10)]
    wait_until(lambda: all("task_started" in types(each) for each in ten))
    (server.folder / "gate").touch()
    wait_until(lambda: all(map(ended, ten)))
    for number, each in enumerate(ten):
        (check_batch if example == "batch" else check_streaming)(each.frames(), 100 + number)
    ours = [event for each in ten for event in events(each) if "uid" in event]
    assert len({event["uid"] for event in ours}) == len(ours)
    assert len({event["run_id"] for event in ours}) == len({event["trace_id"] for event in ours}) == 10


def test_a_client_that_leaves(client: Client, server: Server) -> None:
    """A client that leaves ends its own stream: another one of the same run, other runs, and its own run go on."""
    url = start(server, 21)
    leaving, staying = client.follow(url), client.follow(url)
    chat_left, chat = follow(client, server, "streaming", 1), follow(client, server, "streaming", 2)
    wait_until(lambda: len(events(leaving)) == len(events(staying)) == 2)
    wait_until(lambda: "chunk" in types(chat_left) and "chunk" in types(chat))
    left = events(chat_left)[0]["run_id"]
    leaving.leave()
    chat_left.leave()
    (server.folder / "gate").touch()
    wait_until(lambda: ended(staying) and ended(chat))
    check_batch(staying.frames(), 21)
    check_streaming(chat.frames(), 2)
    log = server.folder / ".run_log_store" / f"{left}.json"
    wait_until(lambda: '"status": "SUCCESS"' in log.read_text().rpartition("steps")[0])  # of the run, not of a step


def test_stops_with_streams_open(client: Client, server: Server) -> None:
    """The server stops though ten streams are open and their pipelines wait for ever; none of them ends falsely."""
    ten = [follow(client, server, ("batch", "streaming")[number % 2], number) for number in range(10)]
    wait_until(lambda: all("task_started" in types(each) for each in ten))
    server.stop()
    assert not any(map(ended, ten))
    assert "Traceback" not in "".join(server.lines)


def hostile_events() -> list[dict[str, Any]]:
    space: dict[str, Any] = {}
    exec(compile((FOLDER / "hostile.py").read_text(), "hostile.py", "exec"), space)
    return space["EVENTS"]


@pytest.mark.parametrize("name", ["node", "chromium"])
def test_hostile(tmp_path: Path, name: str) -> None:
    """Names and values with line ends, NUL, lone surrogates, 1 MB and what looks like a frame come back unchanged.

    By EventSource; what curl and httpx-sse read is in test_inapp.
    """
    with clients.client(name) as client, Server(tmp_path, "app:app") as server:
        run_id = httpx.post(f"{server.url}/start/awkward", json={}).raise_for_status().json()["run_id"]
        following = client.follow(f"{server.url}/runs/{run_id}/events")
        wait_until(following.over)
        assert events(following)[2:-3] == hostile_events()
        frames = following.frames()
        assert [frame.event for frame in frames] == ["message"] * (len(frames) - 1) + ["end"]
        assert all(frame.id for frame in frames)


README = (FOLDER.parent.parent / "README.md").read_text()


def test_the_readmes_app(tmp_path: Path) -> None:
    """The app in the README is run as it stands: its batch pipeline, and its streaming one."""
    (code,) = re.findall(r"^```python\n(from fastapi .*?)^```$", README, re.MULTILINE | re.DOTALL)
    (tmp_path / "readme_app.py").write_text(code)
    with Server(tmp_path, "readme_app:app") as server, clients.client("curl") as client:
        batch = client.follow(f"{server.url}/run?x=21", "POST")
        chat = client.follow(f"{server.url}/chat?prompt=hello%20world", "POST")
        wait_until(lambda: batch.over() and chat.over())
    assert types(batch) == ["pipeline_started", "task_started", "task_completed", "pipeline_completed"]
    assert events(batch)[2]["outputs"] == {"result": 42}
    assert [event["text"] for event in events(chat) if event["type"] == "chunk"] == ["hello", "world"]
    assert ended(batch)
    assert ended(chat)

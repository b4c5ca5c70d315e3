"""The live server: a real `runnable-otel serve`, and clients that read runs and their streams."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from support.web import skip_without

skip_without("starlette", "uvicorn", "httptools", "httpx", "httpx_sse", "psutil")

import httpx  # noqa: E402 - it may be missing
from httpx_sse import connect_sse  # noqa: E402

from support.serve import TOKEN, Serve, completed, done, started, task, trace_id, whole_run  # noqa: E402

_numbers = count(1000)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    with Serve(tmp_path_factory.mktemp("serve")) as server:
        yield server


@pytest.fixture
def client(server: Serve) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.fixture
def trace() -> int:
    """The number of a run that no other test has."""
    return next(_numbers)


def uids(events: list[dict[str, object]]) -> list[object]:
    return [event["uid"] for event in events]


def test_run_and_runs(server: Serve, client: httpx.Client, trace: int) -> None:
    """What came over OTLP is a run: in the list, by its trace id and by its run id."""
    assert server.send(*whole_run(2, trace)).json() == {}
    run = client.get(f"/runs/{trace_id(trace)}").json()
    assert (run["trace_id"], run["run_id"], run["status"]) == (trace_id(trace), f"run-{trace}", "success")
    assert run["tasks"]["completed"] == 2
    assert client.get(f"/runs/run-{trace}").json() == run
    assert client.get("/runs", params={"text": f"run-{trace}"}).json() == {"runs": [run], "next": None}


def test_pages_of_runs(server: Serve, client: httpx.Client) -> None:
    """`next` leads through all runs, each once, the newest first."""
    numbers = [next(_numbers) for _ in range(5)]
    for number in numbers:
        server.send(started(number, name="paged"))
    found: list[str] = []
    query = {"limit": "2", "text": "paged"}
    while True:
        page = client.get("/runs", params=query).json()
        assert len(page["runs"]) <= 2
        found += [run["run_id"] for run in page["runs"]]
        if page["next"] is None:
            break
        query["before"] = page["next"]
    assert sorted(found) == sorted(f"run-{number}" for number in numbers)


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=x", "limit=", "status=nonsense", f"text={'x' * 257}", "limit=-1", "before=x~y"],
)
def test_bad_queries(client: httpx.Client, query: str) -> None:
    """A query out of range is 400, with a reason."""
    answer = client.get(f"/runs?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_whole_stream(server: Serve, client: httpx.Client, trace: int) -> None:
    """A run that is over: every event once, in order, as it was sent; then `event: end`, and the stream closes."""
    events = whole_run(300, trace)
    server.send(*events)
    with connect_sse(client, "GET", f"/runs/{trace_id(trace)}/events") as source:
        headers = source.response.headers
        frames = list(source.iter_sse())
    assert [json.loads(frame.data) for frame in frames[:-1]] == events
    assert frames[-1].event == "end"
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["cache-control"] == "no-store, no-transform"
    assert headers["x-accel-buffering"] == "no"
    assert 1000 <= (frames[0].retry or 0) <= 3000


def test_live_stream(server: Serve, trace: int) -> None:
    """What comes while a client listens is sent at once, whichever way it gets there."""
    server.send(started(trace))
    with server.stream(f"/runs/run-{trace}/events") as stream:
        expected = [started(trace)["uid"]]
        assert stream.uids(1) == expected
        for number in range(3):
            server.send(task(number, trace), done(number, trace), url=server.url if number == 1 else "")
            assert stream.uids(2) == [task(number, trace)["uid"], done(number, trace)["uid"]]
        server.send(completed(trace))
        assert stream.uids() == [completed(trace)["uid"]]
        assert stream.event == "end" or stream.chunk() == b""


def test_burst_in_one_write(server: Serve, trace: int) -> None:
    """Events that come together leave in one write."""
    server.send(started(trace))
    with server.stream(f"/runs/run-{trace}/events") as stream:
        assert stream.uids(1)
        server.send(*[task(number, trace) for number in range(50)])
        assert stream.chunk().count(b"data: ") == 50


def test_resume(server: Serve, trace: int) -> None:
    """A client that comes again gets what it has not had; the header wins over the query; the end is a 204."""
    server.send(*whole_run(10, trace))
    path = f"/runs/run-{trace}/events"
    with server.stream(path) as stream:
        frames = list(stream.frames())
    ids = [position for event, _, position in frames if event == "message"]
    for start in (0, 7, 20):
        with server.stream(f"{path}?last_event_id={ids[0]}", last_event_id=ids[start]) as stream:
            assert [position for event, _, position in stream.frames() if event == "message"] == ids[start + 1 :]
        with server.stream(f"{path}?last_event_id={ids[start]}") as stream:
            assert len(stream.uids()) == len(ids) - start - 1
    with server.stream(path, last_event_id=ids[-1]) as stream:
        assert stream.status == 204


@pytest.mark.parametrize("position", ["nonsense", "0-0", "x" * 10_000, "e-1-2-3", "%00"])
def test_unknown_position(server: Serve, trace: int, position: str) -> None:
    """A position that nobody gave out is a gap, with an id to go on from, and then all there is."""
    server.send(*whole_run(3, trace))
    with server.stream(f"/runs/run-{trace}/events", last_event_id=position) as stream:
        (event, data, gap), *rest = stream.frames()
    assert (event, json.loads(data)) == ("gap", {"reason": "unknown", "lost": None})
    assert gap
    assert [event for event, _, _ in rest] == ["message"] * 8 + ["end"]


def test_now(server: Serve, trace: int) -> None:
    """`now` means only what comes."""
    server.send(started(trace), task(0, trace))
    with server.stream(f"/runs/run-{trace}/events?last_event_id=now") as stream:
        assert stream.chunk().startswith(b"retry: ")
        server.send(done(0, trace))
        assert stream.uids(1) == [done(0, trace)["uid"]]


def test_all_runs(server: Serve, trace: int) -> None:
    """`/events` has the summary of each run as it changes, and does not end with one."""
    with server.stream("/events?last_event_id=now") as stream:
        assert stream.chunk().startswith(b"retry: ")
        server.send(started(trace))
        server.send(*whole_run(1, trace))
        seen: list[str] = []
        for _, data, _ in stream.frames():
            run = json.loads(data)
            if run["trace_id"] == trace_id(trace):
                seen.append(run["status"])
                if run["status"] == "success":
                    break
        assert seen[0] == "running"
        other = next(_numbers)
        server.send(started(other))
        assert any(json.loads(data)["trace_id"] == trace_id(other) for _, data, _ in stream.frames())


def test_events_as_json(server: Serve, client: httpx.Client, trace: int) -> None:
    """With `Accept: application/json` the events come by the page, 1,000 at most."""
    events = whole_run(700, trace)
    server.send(*events)
    found: list[dict[str, object]] = []
    position, ended = "", False
    while not ended:
        answer = client.get(
            f"/runs/run-{trace}/events", params={"position": position}, headers={"Accept": "application/json"}
        ).json()
        assert answer["gap"] is None
        assert len(answer["events"]) <= 1000
        found += answer["events"]
        position, ended = answer["position"], answer["ended"]
    assert found == events


def test_large_events_as_json(server: Serve, client: httpx.Client, trace: int) -> None:
    """A page of large events is over before it is of 1,000; the next goes on where it ended."""
    whole = [started(trace), *(task(number, trace, inputs={"text": "x" * 20_000}) for number in range(300))]
    for first in range(0, len(whole), 100):
        server.send(*whole[first : first + 100])
    pages: list[Any] = []
    position = ""
    while not pages or pages[-1]["events"]:
        url = f"/runs/run-{trace}/events" + (f"?position={position}" if position else "")
        pages.append(client.get(url, headers={"Accept": "application/json"}).json())
        position = pages[-1]["position"]
    assert [event["uid"] for page in pages for event in page["events"]] == [event["uid"] for event in whole]
    assert len(pages) > 3
    assert all(len(json.dumps(page)) < 4 * 2**20 for page in pages)


def test_many_clients(server: Serve, trace: int) -> None:
    """Clients that come at different times all get the same, whole and in order."""
    events = whole_run(400, trace)
    expected = uids(events)
    server.send(*events[:200])
    with server.stream(f"/runs/run-{trace}/events") as first, server.stream(f"/runs/run-{trace}/events") as second:
        assert first.uids(150) == expected[:150]
        server.send(*events[200:600])
        with server.stream(f"/runs/run-{trace}/events") as third:
            server.send(*events[600:])
            assert third.uids() == expected
        assert first.uids()[-10:] == expected[-10:]
        assert second.uids() == expected


def test_head_and_methods(server: Serve, client: httpx.Client, trace: int) -> None:
    """HEAD gives the headers and no stream; another method is a 405 that says which there are."""
    server.send(started(trace))
    answer = client.head(f"/runs/run-{trace}/events")
    assert (answer.status_code, answer.content) == (200, b"")
    assert client.head("/runs/no-such-run/events").status_code == 404
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        answer = client.request(method, f"/runs/run-{trace}/events")
        assert answer.status_code == 405
        assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}
        assert answer.json()["error"]


@pytest.mark.parametrize("path", ["/runs/nothing", "/runs/nothing/events", "/nonsense", "/assets/x"])
def test_not_there(client: httpx.Client, path: str) -> None:
    """What is not there is a 404 in JSON."""
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.json()["error"]


def test_curl_reads_a_stream(server: Serve, trace: int) -> None:
    """curl follows a run to its end by itself."""
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    server.send(*whole_run(20, trace))
    url = f"{server.url}/runs/run-{trace}/events"
    done = subprocess.run(
        ["curl", "-sSN", "-H", f"Authorization: Bearer {TOKEN}", url], capture_output=True, timeout=60, check=True
    )
    assert done.stdout.count(b"\ndata: ") == 43
    assert done.stdout.endswith(b"event: end\ndata: {}\n\n")


def test_ports(server: Serve, client: httpx.Client) -> None:
    """The OTLP port takes OTLP and says whether it is well; nothing can be read there."""
    assert client.get(f"{server.otlp}/healthz").json()["status"] == "ok"
    for path in ("/runs", "/events", "/", "/openapi.json", "/token"):
        assert client.get(server.otlp + path).status_code == 404


def test_health(server: Serve, client: httpx.Client) -> None:
    """`/healthz` needs no token; how much there is only readers see."""
    assert httpx.get(f"{server.url}/healthz", trust_env=False).json() == {"status": "ok"}
    assert {"status", "runs", "events", "streams"} <= set(client.get("/healthz").json())


def test_page_or_text(server: Serve, client: httpx.Client, trace: int) -> None:
    """A browser gets the page, or a text in its place, at `/` and at a run's own address; it needs no token for it."""
    server.send(started(trace))
    for path in ("/", f"/runs/run-{trace}"):
        answer = httpx.get(server.url + path, headers={"Accept": "text/html"}, trust_env=False)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/")
        assert trace_id(trace) not in answer.text
    assert client.get(f"/runs/run-{trace}").json()["run_id"] == f"run-{trace}"


def test_base_path(tmp_path: Path) -> None:
    """All is below the base path, and nothing beside it."""
    with Serve(tmp_path, "--base-path", "/live/") as server, server.client() as client:
        server.send(started(1), url=server.url)
        assert server.url.endswith("/live")
        assert client.get("/runs").json()["runs"][0]["run_id"] == "run-1"
        assert client.get("/openapi.json").json()["servers"] == [{"url": "/live"}]
        assert client.get(f"http://127.0.0.1:{server.port}/runs").status_code == 404

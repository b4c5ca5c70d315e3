"""The live server mounted in an app of the user's, under a uvicorn that knows nothing of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.web import Server, skip_without

skip_without("fastapi", "uvicorn", "httpx", "httpx_sse")

import httpx  # noqa: E402 - it may be missing
from httpx_sse import ServerSentEvent, connect_sse  # noqa: E402

from support.serve import TOKEN, completed, export, started, task, trace_id  # noqa: E402

STREAMS = ["/events", f"/runs/{trace_id(1)}/events", f"/runs/{trace_id(1)}/events"]


def connect(server: Server) -> httpx.Client:
    return httpx.Client(
        base_url=f"{server.url}/live", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60, trust_env=False
    )


def open_stream(stack: ExitStack, client: httpx.Client, path: str, last: str = "") -> Iterator[ServerSentEvent]:
    headers = {"Last-Event-ID": last} if last else {}
    source = stack.enter_context(connect_sse(client, "GET", path, headers=headers))
    source.response.raise_for_status()
    return source.iter_sse()


@pytest.mark.parametrize("db", ["memory:", "runs.db"])
def test_server_stops_with_streams_open(tmp_path: Path, db: str) -> None:
    """The user's server stops at SIGTERM though streams of a mounted app are open, and none of them has a false end."""
    with Server(tmp_path, "mounted:app", DB=db) as server, ExitStack() as stack:
        client = stack.enter_context(connect(server))
        client.post("/v1/logs", json=export([started(1), task(1)])).raise_for_status()
        streams = [open_stream(stack, client, path) for path in STREAMS]
        for frames in streams:
            assert next(frames).event == "message"
        server.stop()
        assert not [frame for frames in streams for frame in frames if frame.event != "message"]
    said = "".join(server.lines)
    assert "Application shutdown complete" in said
    assert "Traceback" not in said
    assert "ERROR" not in said


def test_a_stream_goes_on_after_a_restart(tmp_path: Path) -> None:
    """A client whose stream has ended with its server goes on with the next one: nothing twice, nothing missing."""
    with Server(tmp_path, "mounted:app", DB="runs.db") as server, ExitStack() as stack:
        client = stack.enter_context(connect(server))
        client.post("/v1/logs", json=export([started(1), task(1)])).raise_for_status()
        frames = open_stream(stack, client, STREAMS[1])
        got = [next(frames), next(frames)]
        server.stop()
        assert list(frames) == []
    with Server(tmp_path, "mounted:app", DB="runs.db") as server, ExitStack() as stack:
        client = stack.enter_context(connect(server))
        frames = open_stream(stack, client, STREAMS[1], got[-1].id)
        client.post("/v1/logs", json=export([completed(1)])).raise_for_status()
        got += frames
    events = [frame.json()["type"] for frame in got if frame.event == "message"]
    assert events == ["pipeline_started", "task_started", "pipeline_completed"]
    assert got[-1].event == "end"

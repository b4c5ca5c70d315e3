"""Real runs: what their spans say is what their live events say, fact by fact."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from runnable_otel import ingest
from support.project import Project

EDGES = ("pipeline_started", "pipeline_completed", "task_started", "task_completed", "task_error", "task_skipped")
UNKNOWN = {"graph", "pid", "host"}
"""What a live event has and a span need not: a run's graph; the process of a run, and the host, are of the resource."""


class Server:
    """An HTTP server that decodes what it gets as `serve` does."""

    def __init__(self) -> None:
        self.records: dict[str, list[dict[str, Any]]] = {"traces": [], "logs": []}
        self.notes: list[str] = []
        self.came = threading.Condition()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                what = self.path.rpartition("/")[2]
                body = ingest.Body(self.headers.get("Content-Encoding", ""))
                body.feed(self.rfile.read(int(self.headers["Content-Length"])))
                kind = self.headers["Content-Type"]
                decoded = ingest.decode(body.end(), kind, what)
                with server.came:
                    server.records[what] += [json.loads(record.text) for record in decoded.records]
                    server.came.notify_all()
                server.notes += [decoded.reason] if decoded.rejected else []
                answer = ingest.reply(what, kind, decoded.rejected, decoded.reason)
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                """Nothing to standard error."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def wait(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Until a live event of that kind is here."""
        with self.came:
            assert self.came.wait_for(lambda: any(map(wanted, self.live)), 60)

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def clear(self) -> None:
        for records in self.records.values():
            records.clear()

    @property
    def live(self) -> list[dict[str, Any]]:
        return self.records["logs"]

    @property
    def of_spans(self) -> list[dict[str, Any]]:
        return self.records["traces"]


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def variables(server: Server, **more: str) -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": server.url,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "RUNNABLE_OTEL_SINKS": "otlp:",
        "RUNNABLE_OTEL_EXIT_TIMEOUT": "30",
        **more,
    }


def compare(server: Server, *, lost: bool = False) -> None:
    """The edges that the spans say are those that were live: same uids, same types, same fields.

    Args:
        lost: some spans may not have left their process.
    """
    assert server.notes == []
    live = {event["uid"]: event for event in server.live if event["type"] in EDGES}
    said = {event["uid"]: event for event in server.of_spans if event["type"] in EDGES}
    assert live
    assert max(Counter(event["uid"] for event in server.live + server.of_spans).values()) <= 2
    assert said.keys() <= live.keys() if lost else said.keys() == live.keys()
    for uid, event in said.items():
        expected = {name: value for name, value in live[uid].items() if name in event or name not in UNKNOWN}
        assert event == expected
        assert list(event) == [name for name in live[uid] if name in event], "in the same order"
    for event in server.of_spans:
        assert event["type"] in EDGES or (event["type"] == "span" and event["uid"] not in live)


ALL = [
    "python",
    "named",
    "shell",
    "shell_fails",
    "notebook",
    "notebook_fails",
    "fails",
    "chained",
    "missing_parameter",
    "missing_secret",
    "recovers",
    "parallel",
    "parallel_fails",
    "mapped",
    "map_shell",
    "map_fails",
    "conditional",
    "loop",
    "catalog",
    "catalog_fails",
    "exits",
    "job",
    "job_fails",
    "async_sequence",
    "async_fails",
]


@pytest.mark.parametrize("name", ALL)
def test_same_facts(project: Project, server: Server, name: str) -> None:
    """The spans of a run and its live events are the same facts, whatever becomes of it."""
    project.pipeline(name, check=False, **variables(server))
    compare(server)


def test_same_facts_of_a_pool(project: Project, server: Server) -> None:
    """So are those of a run whose branches are processes; and with gzip, and values of another size."""
    more = {"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip", "RUNNABLE_OTEL_MAX_VALUE_BYTES": "40"}
    project.pipeline("pool_fails", check=False, **variables(server, **more))
    compare(server, lost=True)  # a pool ends its processes before the SDK there has sent its batch
    assert {event["status"] for event in server.of_spans if event["type"] == "pipeline_completed"} == {"error"}


def test_same_facts_of_a_retry(project: Project, server: Server) -> None:
    """A step that a retry passes over is skipped, in a span as in its event; a composite one too."""
    project.pipeline("flagged", check=False, **variables(server))
    server.clear()
    (project.folder / "flag").touch()
    project.command(project.python, "-m", "runnable.cli", "retry", "flagged", PIPELINE="flagged", **variables(server))
    skipped = {event["uid"]: event for event in server.live if event["type"] == "task_skipped"}
    assert {event["name"] for event in skipped.values()} >= {"both"}
    for event in server.live:  # the attempt of a composite is no attribute of its span
        if event["type"] == "task_skipped" and "task_type" not in event:
            event.pop("attempt", None)
    compare(server)


def test_same_facts_of_a_cancelled_run(project: Project, server: Server) -> None:
    """A run that is interrupted is cancelled, its task too."""
    with (project.folder / "tasks.py").open("a") as tasks:
        tasks.write("\n\ndef nothing():\n    import time\n\n    time.sleep(60)\n")
    with project.running(project.python, "pipelines.py", PIPELINE="python", **variables(server)) as process:
        server.wait(lambda event: event["type"] == "task_started" and event["name"] == "tasks.nothing")
        os.kill(process.pid, signal.SIGINT)
        process.communicate(timeout=60)
    compare(server)
    (task,) = [event for event in server.of_spans if event["type"] == "task_error"]
    (run,) = [event for event in server.of_spans if event["type"] == "pipeline_completed"]
    assert (task["error"], run["status"]) == ("cancelled", "cancelled")


def test_custom_events(project: Project, server: Server) -> None:
    """A task's own events arrive beside ours."""
    project.pipeline("async_imposter", check=False, **variables(server))
    compare(server)
    own = [event for event in server.live if event["type"] not in EDGES]
    assert own
    assert all(event["runnable"]["trace_id"] == server.live[0]["trace_id"] for event in own)

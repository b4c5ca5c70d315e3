"""Nothing is lost: a back end that is away, a full queue, a Collector that is killed while six processes run."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from support import environments, otlp
from support.collector import Collector, Raw
from support.project import Project
from support.receiver import Received, ReceivedLog, Receiver, logs_of, spans_of
from support.runlog import attempts, run_logs
from support.serve import Serve
from support.table import TABLE
from support.waiting import LONG, free_port, wait_until
from test_collector import EVENTS, SPANS, run
from test_oracle import compare

pytestmark = pytest.mark.collector


# Events to the receiver too: the live server can't tell whether it knows of a start or an end by an event or by a span.
ONWARD = "service: {pipelines: {logs/onward: {exporters: [otlp_http/onward]}}}"


def once(spans: list[Received]) -> list[Received]:
    """Delivery is at least once: what came again has the same id, and is taken once."""
    return list({span.span: span for span in spans}.values())


def six(python: Path) -> tuple[str, ...]:
    """The command that runs six_processes.py under opentelemetry-instrument."""
    return str(python.parent / "opentelemetry-instrument"), str(python), "six_processes.py"


@pytest.mark.parametrize("configuration", ["pool.yaml", "emulator.yaml"])
def test_six_processes_and_three_kills(tmp_path: Path, configuration: str) -> None:
    """A pipeline of six processes, the Collector killed and started three times: every span and every event arrives.

    What a killed Collector had acknowledged is on its disk; what it had not, the processes keep and send again: for
    OTEL_EXPORTER_OTLP_TIMEOUT seconds, and the end of a process waits RUNNABLE_OTEL_EXIT_TIMEOUT seconds.
    """
    project, python = Project(tmp_path / "project"), environments.python()
    with ExitStack() as stack:
        receiver = stack.enter_context(Receiver())
        server = stack.enter_context(Serve(tmp_path, "--db", "runs.db"))
        (tmp_path / "onward.yaml").write_text(ONWARD)
        collector = Collector(
            tmp_path / "collector",
            *("jaeger", "live", str(tmp_path / "onward")),
            JAEGER_ENDPOINT=receiver.grpc.removeprefix("http://"),
            LIVE_ENDPOINT=server.url,
            ONWARD_ENDPOINT=receiver.http,
        )
        stack.enter_context(collector)
        variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.grpc,
            "OTEL_EXPORTER_OTLP_TIMEOUT": "30",
            "OTEL_METRICS_EXPORTER": "none",
            "RUNNABLE_OTEL_SINKS": "file:events.jsonl,otlp:",
            "RUNNABLE_OTEL_EXIT_TIMEOUT": "30",
        }
        with project.running(*six(python), CONFIGURATION=configuration, **variables) as process:
            for number in range(5):
                wait_until((project.folder / f"at-{number}").exists, f"task {number} is not there")
                if number in (1, 2, 3):
                    collector.kill()
                    if configuration == "pool.yaml":  # the task ends while there is no Collector
                        (project.folder / f"gate-{number}").touch()
                        wait_until(lambda so_far=number: ended(project.folder) > so_far, "the task does not end")
                    collector.start()
                (project.folder / f"gate-{number}").touch()
            _, errors = process.communicate(timeout=LONG)
        assert process.returncode == 0, errors
        (log,) = run_logs(project.folder)
        sent = [json.loads(line) for line in (project.folder / "events.jsonl").read_text().splitlines()]
        trace = sent[0]["trace_id"]
        uids = {each["uid"] for each in sent}
        wait_until(lambda: uids <= {each.attributes["uid"] for each in receiver.logs}, "events are missing")
        wait_until(lambda: uids <= set(stored(server, trace)), "events are missing on the page")
        wait_until(lambda: complete(log, receiver.spans), "spans are missing")
        events = stored(server, trace)
    compare(log, once(receiver.spans))
    assert sum(span.name == "inside" for span in once(receiver.spans)) == 5
    assert len(set(events)) == len(events), "an event twice"
    assert "lost" not in errors
    twice = len(receiver.spans) - len(once(receiver.spans))
    said = f"six processes ({configuration.removesuffix('.yaml')}), three kills: {len(once(receiver.spans))} spans"
    TABLE.held("jaeger, live", f"{said}, {len(sent)} events, none lost; {twice} spans came twice")


def ended(folder: Path) -> int:
    """How many of the five tasks have ended, as the events say."""
    lines = (folder / "events.jsonl").read_text().splitlines()
    return sum(
        event["type"] == "task_completed" and event["name"] != "six_processes.numbers"
        for event in map(json.loads, lines)
    )


def complete(log: dict[str, Any], spans: list[Received]) -> bool:
    """Whether the run, each attempt of its run log and the five spans inside of tasks are there."""
    wanted = {(each.step, each.number) for each in attempts(log["steps"])}
    keys = ("runnable.step.name", "runnable.step.attempt")
    tasks = {tuple(span.attributes[key] for key in keys) for span in spans if span.kind == "task"}
    inside = [span for span in once(spans) if span.name == "inside"]
    return tasks == wanted and len(inside) == 5 and any(span.kind == "pipeline" for span in spans)


def stored(server: Serve, trace: str) -> list[str]:
    """The uids that the live server has of a run, in its order; none while it does not know the run."""
    found: list[str] = []
    position, more = "", True
    with server.client(Accept="application/json") as client:
        while more:
            answer = client.get(f"/runs/{trace}/events", params={"position": position})
            if answer.status_code == 404:
                return []
            page = answer.json()
            found += [event["uid"] for event in page["events"]]
            position, more = page["position"], bool(page["events"])
    return found


# --- back ends that are away, and queues that are full ---


def taken(raw: Raw) -> tuple[list[Received], list[ReceivedLog]]:
    """The spans and logs in the requests that were not refused."""
    spans: list[Received] = []
    logs: list[ReceivedLog] = []
    for path, _, body in raw.requests:
        if path == "/v1/traces":
            spans += spans_of(ExportTraceServiceRequest.FromString(body))
        elif path == "/v1/logs":
            logs += logs_of(ExportLogsServiceRequest.FromString(body), {})
    return spans, logs


def test_an_outage_over_http(tmp_path: Path) -> None:
    """A back end that answers 503, and a Collector that is killed meanwhile: all of it arrives when it is back."""
    with Raw() as raw:
        collector = Collector(tmp_path / "c", ONWARD_ENDPOINT=raw.http)
        raw.away = True
        with collector:
            log = run(Project(tmp_path / "p"), "parallel", collector)
            wait_until(lambda: {"/v1/traces", "/v1/logs"} <= raw.refused)
            collector.kill()
            collector.start()
            assert taken(raw) == ([], [])
            raw.away = False
            wait_until(lambda: [len(found) for found in taken(raw)] == [SPANS, EVENTS])
    compare(log, taken(raw)[0])
    TABLE.held("nothing", f"503 for a while and a kill meanwhile: {SPANS} spans, {EVENTS} events, each once")


def test_an_outage_over_grpc(tmp_path: Path) -> None:
    """A back end on whose port nobody listens, and a Collector that is stopped meanwhile."""
    port = free_port()
    with Collector(tmp_path / "c", "jaeger", JAEGER_ENDPOINT=f"127.0.0.1:{port}") as collector:
        log = run(Project(tmp_path / "p"), "parallel", collector)
        wait_until(lambda: "Exporting failed. Will retry" in collector.said())
        assert collector.stop() == 0
        collector.start()
        with Receiver(grpc=port) as receiver:
            wait_until(lambda: len(receiver.spans) >= SPANS)
            compare(log, receiver.spans)
    TABLE.held("jaeger", f"nobody listens for a while, and a restart meanwhile: {SPANS} spans, each once")


def test_a_full_queue(tmp_path: Path) -> None:
    """A queue takes no more than its size: then senders are told to keep what they have. What was taken arrives."""
    queue = "{exporters: {otlp_http/onward: {sending_queue: {queue_size: 4000000}}}}"
    (tmp_path / "small.yaml").write_text(queue)
    padding = "".join(f"{number} " for number in range(30_000))
    with Raw() as raw:
        raw.away = True
        with Collector(tmp_path / "c", str(tmp_path / "small"), ONWARD_ENDPOINT=raw.http) as collector:
            answers = []
            for number in range(60):
                span = {"span_id": f"{number + 1:016x}", "name": "x", "attributes": {"padding": padding}}
                answers.append(collector.post("traces", otlp.traces(span).SerializeToString()))
            accepted = answers.count(200)
            assert set(answers) == {200, 503}
            assert (
                4_000_000 / len(padding) - 4 < accepted < 4_000_000 / len(padding) + 25
            )  # what is under way counts too
            on_disk = sum(file.stat().st_size for file in (tmp_path / "c" / "storage").iterdir())
            assert on_disk < 5 * 4_000_000, "bounded, pages that bbolt has freed included"
            raw.away = False
            wait_until(lambda: len(once(taken(raw)[0])) == accepted)
    ids = {span.span for span in taken(raw)[0]}
    assert ids == {f"{number + 1:016x}" for number, answer in enumerate(answers) if answer == 200}
    TABLE.held("nothing", f"a full queue: {accepted} of 60 requests taken, 503 for the others; those taken arrive")

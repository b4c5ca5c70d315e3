"""Live events through the real Collector to a real `runnable-otel serve`: while they happen, and in order."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from support import environments
from support.collector import Collector
from support.kills import Client
from support.project import Project
from support.serve import TOKEN, Serve
from support.table import TABLE
from support.waiting import LONG, wait_until
from test_collector_durable import six

pytestmark = pytest.mark.collector


@pytest.mark.parametrize("spans", [False, True], ids=["events", "events and spans"])
def test_live(tmp_path: Path, spans: bool) -> None:
    """A reader has the start of a task while the task runs, and each event once, in the order in which they happened.

    With spans, which tell the live server of the same facts, too: a start comes before its end, and nothing twice.
    """
    project, python = Project(tmp_path / "project"), environments.python()
    with ExitStack() as stack:
        server = stack.enter_context(Serve(tmp_path, RUNNABLE_OTEL_SERVE_INGEST_TOKEN="t" * 20))
        collector = Collector(tmp_path / "c", "live", LIVE_ENDPOINT=server.url, LIVE_AUTHORIZATION=f"Bearer {'t' * 20}")
        stack.enter_context(collector)
        variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.grpc,
            "OTEL_TRACES_EXPORTER": "otlp" if spans else "none",
            "OTEL_METRICS_EXPORTER": "none",
            "RUNNABLE_OTEL_SINKS": "file:events.jsonl,otlp:",
        }
        with project.running(*six(python), CONFIGURATION="pool.yaml", **variables) as process:
            file = project.folder / "events.jsonl"
            wait_until(lambda: all((project.folder / f"at-{number}").exists() for number in range(5)))
            first = json.loads(file.read_text().splitlines()[0])
            client = Client([server.port], TOKEN, first["trace_id"], timeout=LONG)
            client.start()
            starts = [line["uid"] for line in map(json.loads, file.read_text().splitlines())]
            wait_until(lambda: set(starts) <= set(client.uids), collector.said())  # while all five tasks run
            for number in range(5):
                (project.folder / f"gate-{number}").touch()
            process.communicate(timeout=LONG)
        client.join(LONG)
    assert (client.twice, client.gaps, client.problem) == ([], 0, "")
    sent = [line["uid"] for line in map(json.loads, file.read_text().splitlines())]
    assert len(sent) == 2 + 2 * 6
    assert set(sent) <= set(client.uids)
    if spans:
        order = {uid: number for number, uid in enumerate(client.uids)}
        ends = [uid for uid in sent if uid.endswith(":end")]
        assert all(order[uid.replace(":end", ":start")] < order[uid] for uid in ends)
    else:
        assert list(client.uids) == sent
    assert collector.complaints() == []
    what = "with spans, starts before ends" if spans else "in the order in which they happened"
    TABLE.held("live", f"to serve, while five tasks run: {len(sent)} events once, {what}")

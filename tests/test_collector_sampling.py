"""Tail sampling, in one Collector and in two tiers: what is kept, what is sampled, and where a trace goes."""

from __future__ import annotations

import hashlib
import time
from collections import Counter, defaultdict
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

import httpx
import pytest

from support import otlp
from support.collector import Collector, samples
from support.project import Project
from support.receiver import Received, Receiver
from support.table import TABLE
from support.waiting import wait_until
from test_collector import run
from test_oracle import ERROR, compare

pytestmark = pytest.mark.collector

OURS = {"pipeline", "task"}
DECIDED = "otelcol_processor_tail_sampling_global_count_traces_sampled"
CHATTER = 2
"""Spans of its own that each crafted task has."""


def crafted(trace: int, failed: bool = False) -> list[dict[str, object]]:
    """A run with one task and spans inside of it, as three processes would send them: ids tell what is what."""
    name = hashlib.sha256(str(trace).encode()).hexdigest()[:32]  # the share is taken by the id, which has to be random
    when = time.time_ns()
    status = {"code": ERROR if failed else 0}
    task = {"task_name": "t", "task_type": "python", "runnable.step.name": "t", "status": "success"}
    own = [
        {"span_id": f"{1:016x}", "name": "pipeline:p", "attributes": {"pipeline_name": "p"}, "status": status},
        {"span_id": f"{2:016x}", "name": "task:t", "attributes": task, "status": status},
    ]
    chatter = [{"span_id": f"{number + 3:016x}", "name": "GET /"} for number in range(CHATTER)]
    ids = {"trace_id": name, "start_time_unix_nano": when, "end_time_unix_nano": when + 10**9}
    return [{**span, **ids} for span in (*own, *chatter)]


def send(collector: Collector, traces: int) -> None:
    """Crafted traces; each span comes in a request of its own, as from processes of many runs at once."""
    made = [crafted(number) for number in range(traces)]
    for span in chain.from_iterable(zip(*made, strict=True)):
        collector.send("traces", otlp.traces(span).SerializeToString())


def by_trace(spans: list[Received]) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for span in spans:
        found[span.trace][span.name] += 1
    return found


def chatter(spans: list[Received]) -> list[str]:
    return [span.name for span in spans if span.kind not in OURS]


@pytest.mark.parametrize(
    ("name", "percent", "kept"), [("spans", "0", False), ("spans", "100", True), ("spans_fail", "0", True)]
)
def test_chatter_of_a_run(tmp_path: Path, name: str, percent: str, kept: bool) -> None:
    """Every span of runnable's own is kept; what a task traces itself by its share, or all of it where a task failed.

    Live events are not sampled.
    """
    with (
        Receiver() as receiver,
        Receiver() as live,
        Collector(
            tmp_path / "c",
            *("tail-sampling", "jaeger", "live"),
            CHATTER_WAIT="1s",
            CHATTER_PERCENT=percent,
            JAEGER_ENDPOINT=receiver.grpc.removeprefix("http://"),
            LIVE_ENDPOINT=live.http,
        ) as collector,
    ):
        log = run(Project(tmp_path / "p"), name, collector)
        tasks = 2 if name == "spans_fail" else 1
        wait_until(lambda: len(live.logs) == 2 + 2 * tasks and len(live.spans) - len(chatter(live.spans)) == 1 + tasks)
        inside = chatter(live.spans)
        assert "otel span" in inside
        wait_until(lambda: len(receiver.spans) == 1 + tasks + kept * len(inside))
        wait_until(lambda: collector.own_metric(DECIDED) == 1, "it has not decided")
    assert sorted(chatter(receiver.spans)) == sorted(inside if kept else [])
    compare(log, receiver.spans)
    TABLE.held(
        "tail-sampling, jaeger",
        f"{name} at {percent} %: {1 + tasks} of ours, {kept * len(inside)} of {len(inside)} inside",
    )


def test_a_share_is_whole(tmp_path: Path) -> None:
    """Of many runs every span of runnable's arrives, and all or nothing of what is inside the tasks of each."""
    with (
        Receiver() as receiver,
        Collector(
            tmp_path / "c", "tail-sampling", CHATTER_WAIT="1s", CHATTER_PERCENT="30", ONWARD_ENDPOINT=receiver.http
        ) as collector,
    ):
        send(collector, 200)
        wait_until(lambda: collector.own_metric(DECIDED) >= 200)
        collector.stop()
    found = by_trace(receiver.spans)
    assert len(found) == 200
    assert {(counts["pipeline:p"], counts["task:t"]) for counts in found.values()} == {(1, 1)}
    kept = Counter(counts["GET /"] for counts in found.values())
    assert set(kept) == {0, CHATTER}
    assert 30 < kept[CHATTER] < 90, "about 30 % of 200; the ids decide, so it is always the same number"
    TABLE.held("tail-sampling", f"200 runs at 30 %: all of ours, {kept[CHATTER]} with what is inside, none with a part")


def test_two_tiers(tmp_path: Path) -> None:
    """Each trace is in one Collector of the second tier; together they have each span once, and count each once.

    A Collector of the second tier that is killed and comes back gets what was for it.
    """
    with ExitStack() as stack:
        receivers = [stack.enter_context(Receiver()) for _ in range(2)]
        gateways = [
            Collector(
                tmp_path / f"gateway{number}",
                *("tail-sampling", "prometheus-red", "jaeger", "gateway/gateway"),
                JAEGER_ENDPOINT=receiver.grpc.removeprefix("http://"),
                GATEWAY_LISTEN="127.0.0.1",
                CHATTER_WAIT="1s",
                CHATTER_PERCENT="100",
            )
            for number, receiver in enumerate(receivers)
        ]
        for gateway in gateways:
            stack.enter_context(gateway)
        addresses = ", ".join(f'"{gateway.grpc.removeprefix("http://")}"' for gateway in gateways)
        agent = Collector(
            tmp_path / "agent", "gateway/agent", GATEWAY_RESOLVER=f"{{static: {{hostnames: [{addresses}]}}}}"
        )
        stack.enter_context(agent)
        gateways[1].kill()
        send(agent, 40)
        wait_until(lambda: receivers[0].spans)
        assert not receivers[1].spans
        gateways[1].start()
        wait_until(lambda: sum(len(receiver.spans) for receiver in receivers) >= 40 * (2 + CHATTER))
        wait_until(lambda: sum(map(calls, gateways)) >= 2 * 40)
        assert sum(map(calls, gateways)) == 2 * 40, "each run and each task once"
        complaints = [line for gateway in gateways for line in gateway.complaints()]
    first, second = (by_trace(receiver.spans) for receiver in receivers)
    assert first
    assert second
    assert not set(first) & set(second)
    whole = Counter({"pipeline:p": 1, "task:t": 1, "GET /": CHATTER})
    assert all(counts == whole for counts in (*first.values(), *second.values()))
    assert complaints == []
    files = "tail-sampling, prometheus-red, jaeger, gateway/gateway"
    TABLE.held(files, f"behind gateway/agent: {len(first)} + {len(second)} whole traces, one of two killed and back")


def calls(gateway: Collector) -> float:
    """What this Collector has counted."""
    found = samples(httpx.get(gateway.red, trust_env=False).text)
    return sum(value for name, _, value in found if name == "runnable_calls_total")

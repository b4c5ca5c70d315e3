"""Ingest against the least that it can cost: rounds interleaved, medians, in events a second.

python benchmarks/bench_ingest.py

The least is to parse the protobuf message, and each event's JSON once, without looking at either.
"""

from __future__ import annotations

import gzip
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from runnable_otel import ingest

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from support import otlp

ROUNDS, EVENTS = 15, 512


def floor(body: bytes) -> int:
    request = ExportLogsServiceRequest.FromString(body)
    records = request.resource_logs[0].scope_logs[0].log_records
    return len([json.loads(record.body.string_value) for record in records])


def main() -> None:
    events = [otlp.event(number) for number in range(EVENTS)]
    logs = otlp.logs(*map(otlp.event_log, events), resource={"service.name": "runnable"})
    task = {"task_name": "module.compute", "task_type": "python", "inputs": '{"x": 10}', "outputs": '{"result": 20}'}
    more = {"status": "success", "run_id": "nightly", "runnable.step.name": "compute", "runnable.step.attempt": 1}
    spans = otlp.traces(
        *({"span_id": f"{number + 1:016x}", "attributes": {**task, **more}} for number in range(EVENTS)),
        resource={"service.name": "runnable"},
    )
    structured = otlp.logs(*({**otlp.event_log(each), "body": each.to_dict()} for each in events))
    body, text = otlp.encoded(logs, otlp.PROTOBUF), otlp.json_of(logs)
    packed = gzip.compress(body)
    traces, structured_body = otlp.encoded(spans, otlp.PROTOBUF), otlp.encoded(structured, otlp.PROTOBUF)
    print(f"{EVENTS} events of {len(events[0].to_json())} bytes a request, {len(body)} bytes of protobuf")
    cases: dict[str, Callable[[], int]] = {
        "protobuf and JSON parsed, no more": lambda: floor(body),
        "events, protobuf": lambda: len(ingest.decode(body, otlp.PROTOBUF, "logs").records),
        "events, protobuf, gzip": lambda: len(ingest.decode(ingest.inflate(packed), otlp.PROTOBUF, "logs").records),
        "events, JSON": lambda: len(ingest.decode(text, otlp.JSON, "logs").records),
        "events, structured bodies": lambda: len(ingest.decode(structured_body, otlp.PROTOBUF, "logs").records),
        "events of task spans": lambda: len(ingest.decode(traces, otlp.PROTOBUF, "traces").records),
    }
    rates: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(ROUNDS):
        for name, case in cases.items():
            start = time.process_time()
            count = case()
            rates[name].append(count / (time.process_time() - start))
    least = statistics.median(rates["protobuf and JSON parsed, no more"])
    for name, each in rates.items():
        rate = statistics.median(each)
        print(f"{name:36} {rate:10,.0f} events/s {least / rate:6.2f} x the time of the least")


if __name__ == "__main__":
    main()

"""Runs that SIGTERM meets anywhere: each try is a fork of this process, which runs short tasks until the signal comes.

python storm.py ENDPOINT TRIES; prints a line for each try: how it ended, seconds from the signal to its end, the trace id,
and how many tasks had returned.
"""  # noqa: E501

from __future__ import annotations

import contextlib
import io
import os
import random
import select
import signal
import sys
import time
from typing import Any


def child(endpoint: str, ready: int, counted: int) -> None:
    from opentelemetry import trace

    import runnable_otel

    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = endpoint
    os.environ["OTEL_EXPORTER_OTLP_PROTOCOL"] = "http/protobuf"
    runnable_otel.configure()
    from runnable_otel.facade import Facade, Parameters, step
    from runnable_otel.run_scope import RunScope
    from runnable_otel.spans import Step
    from runnable_otel.telemetry import TELEMETRY

    facade = Facade(TELEMETRY)
    with RunScope(TELEMETRY, kind="pipeline", name="storm", run_id=str(os.getpid()), executor="none"):
        context = trace.get_current_span().get_span_context()
        os.write(ready, f"{context.trace_id:032x}".encode())
        number = 0
        while True:
            number += 1
            token = step.set((Step(name=f"s{number}", short="s", key=f"s{number}"), None))
            with facade.span("task:{task_name}", task_name="storm.task", task_type="python"):
                facade.log("info", "Task started", inputs={"number": number})
                facade.log("info", "Task completed", outputs=Parameters({}))
            step.reset(token)
            os.write(counted, b".")
            if number % 50 == 0:
                time.sleep(0.01)  # a task that does something; the exporter must not be the one that is measured


def attempt(endpoint: str) -> str:
    ready, ready_in = os.pipe()
    counted, counted_in = os.pipe()
    pid = os.fork()
    if not pid:
        with contextlib.redirect_stdout(io.StringIO()):
            try:
                child(endpoint, ready_in, counted_in)
            finally:
                os._exit(99)
    os.close(ready_in)
    os.close(counted_in)
    trace_id = os.read(ready, 32).decode()
    tasks, until = 0, time.monotonic() + random.uniform(0, 0.05)
    while (left := until - time.monotonic()) > 0:
        if select.select([counted], [], [], left)[0]:
            tasks += len(os.read(counted, 65536))
    os.kill(pid, signal.SIGTERM)
    started = time.monotonic()
    while data := os.read(counted, 65536):  # until it is dead
        tasks += len(data)
    seconds = time.monotonic() - started
    _, status = os.waitpid(pid, 0)
    os.close(ready)
    os.close(counted)
    how: Any = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"
    return f"{how},{seconds:.3f},{trace_id},{tasks}"


def main() -> None:
    import opentelemetry.exporter.otlp.proto.http.trace_exporter  # imports are made once, before the forks
    import requests

    import runnable_otel
    import runnable_otel.provider

    del opentelemetry, requests
    assert runnable_otel.configure is not None
    for _ in range(int(sys.argv[2])):
        print(attempt(sys.argv[1]), flush=True)


if __name__ == "__main__":
    main()

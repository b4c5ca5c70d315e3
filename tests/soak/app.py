"""Runs `PIPELINES` pipelines of `STEPS` tasks one after another in this process, and samples what it holds.

Whatever is real in a run is real here, but for what runnable writes to the terminal and asks git, which would take
most of the time, and for what it leaves behind in a process: a folder in `sys.path` for each task.
"""

import contextvars
import gc
import json
import os
import sys
import threading
from pathlib import Path

import runnable
import runnable.utils
import steady
from extensions.pipeline_executor import GenericPipelineExecutor
from runnable import Pipeline, PythonTask
from runnable.context import get_run_context

telemetry = None  # of this process, where it has some
if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
    from opentelemetry import trace

    from runnable_otel.telemetry import TELEMETRY

    telemetry = TELEMETRY

PIPELINES, STEPS = int(os.environ["PIPELINES"]), int(os.environ["STEPS"])
EVERY = max(1, PIPELINES // 50)
"""Pipelines between two samples; their spans fit into the SDK's queue."""
number = 0


def nothing(*_, **__):
    return ""


def quiet():
    for console in (runnable.console, runnable.task_console):
        for name in ("print", "log", "rule", "print_exception"):
            setattr(console, name, nothing)
    GenericPipelineExecutor.add_task_log_to_catalog = nothing
    runnable.utils.is_a_git_repo = lambda: False


def main():
    """runnable finds the graph by calling the function that called `execute` once more."""
    steps = [PythonTask(name=f"s{at}", function=steady.step, returns=["x"]) for at in range(STEPS)]
    pipeline = Pipeline(name="soak", steps=steps)
    pipeline.execute(run_id=f"run {number}", configuration_file="soak.yaml")
    return pipeline


def one() -> int:
    """A run: how many tasks it executed, by runnable's own log."""
    main()
    context = get_run_context()
    log = context.run_log_store.get_run_log_by_id(run_id=context.run_id)
    return sum(len(step.attempts) for step in log.steps.values() if step.step_type == "task")


def flush_events() -> None:
    """These tasks do nothing, so they are faster than a file: the queue before it would overflow."""
    if telemetry is not None:
        assert telemetry.hub.flush(60)


def flush_spans() -> None:
    """What waits in a queue is no growth."""
    if telemetry is not None:
        assert trace.get_tracer_provider().force_flush(120_000)


def sample(tasks: int) -> dict:
    flush_spans()
    gc.collect()
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return {
        "tasks": tasks,
        "blocks": sys.getallocatedblocks(),
        "resident": resident,
        "threads": len(os.listdir("/proc/self/task")),
        "python_threads": threading.active_count(),
        "descriptors": len(os.listdir("/proc/self/fd")),
    }


if __name__ == "__main__":
    quiet()
    tasks, samples, path = 0, [], list(sys.path)
    for number in range(PIPELINES):
        tasks += contextvars.Context().run(one)
        sys.path[:] = path
        flush_events()
        if number % EVERY == 0:
            samples.append(sample(tasks))
    Path("samples.json").write_text(json.dumps({"tasks": tasks, "samples": [*samples, sample(tasks)]}))

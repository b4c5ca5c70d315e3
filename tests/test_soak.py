"""A process holds after 100,000 tasks what it held at their beginning; `make test` runs a part of them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from support.endpoint import Endpoint
from support.fault_table import FIGURES
from support.project import environment

APP = Path(__file__).parent / "soak"
STEPS = 200
WARM_UP = 0.3
"""Of the samples, until caches are full and queues have had their largest size."""


def soak(folder: Path, pipelines: int, **variables: str) -> dict[str, Any]:
    shutil.copytree(APP, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [sys.executable, "app.py"],
        cwd=folder,
        env=environment(folder, PIPELINES=str(pipelines), STEPS=str(STEPS), **variables),
        capture_output=True,
        text=True,
        timeout=3000,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {**json.loads((folder / "samples.json").read_text()), "stderr": done.stderr}


def slope(samples: list[dict[str, int]], name: str) -> float:
    """How much a figure grows with each task, by least squares, after the warm-up."""
    kept = samples[int(len(samples) * WARM_UP) :]
    tasks, values = [each["tasks"] for each in kept], [each[name] for each in kept]
    x, y = sum(tasks) / len(tasks), sum(values) / len(values)
    return sum((a - x) * (b - y) for a, b in zip(tasks, values, strict=True)) / sum((a - x) ** 2 for a in tasks)


def undelivered(stderr: str, spool: Path) -> int:
    """How many spans are said to be lost or spooled; as many as are said to be spooled are in the spool."""
    said = re.search(
        r"(?:(\d+) of (\d+) spans to \S+ lost \(spool_full \d+.*?\), )?(\d+) of (\d+) spans to \S+ spooled", stderr
    )
    assert said, stderr
    first, _, then, number = (int(each or 0) for each in said.groups())
    assert then == sum(file.read_text().count('"spanId"') for file in spool.glob("*.jsonl"))
    assert first + then == number
    return number


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize(
    ("trouble", "pipelines"),
    [("healthy", 25), *(pytest.param(each, 500, marks=pytest.mark.faults) for each in ("healthy", "refused"))],
)
def test_soak(trouble: str, pipelines: int, tmp_path: Path) -> None:
    """Memory does not grow with the tasks, nor threads, nor descriptors; with an endpoint, and with none that listens.

    runnable itself holds a little more after each task: so the same tasks run without this package, side by side.
    """
    with Endpoint(trouble, keep=False) as endpoint, ThreadPoolExecutor(1) as pool:
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint.url, "RUNNABLE_OTEL_SINKS": "file:events.jsonl"}
        if trouble == "refused":
            variables |= {"RUNNABLE_OTEL_SPOOL": "spool", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
        without = pool.submit(soak, tmp_path / "without", pipelines)
        found = soak(tmp_path, pipelines, **variables)
    tasks, samples = found["tasks"], found["samples"]
    assert tasks == without.result()["tasks"] == pipelines * STEPS, "by runnable's own log"
    blocks, resident = (
        slope(samples, name) - slope(without.result()["samples"], name) for name in ("blocks", "resident")
    )
    first, last = samples[int(len(samples) * WARM_UP)], samples[-1]
    FIGURES.append(
        f"soak, {trouble}: {tasks} tasks, {blocks:+.3f} objects and {resident:+.1f} bytes a task more than without; "
        f"{first['resident'] >> 20} MiB after the warm-up, {last['resident'] >> 20} MiB at the end; "
        f"threads {first['threads']} and {last['threads']}, "
        f"descriptors {first['descriptors']} and {last['descriptors']}"
    )
    spans = tasks + pipelines
    if trouble == "healthy":
        assert endpoint.count == spans
    else:
        assert undelivered(found["stderr"], tmp_path / "spool") == spans
    with (tmp_path / "events.jsonl").open("rb") as events:
        lines = sum(1 for _ in events)
    assert lines == 2 * spans
    assert last["threads"] <= first["threads"]
    assert last["descriptors"] <= first["descriptors"]
    assert abs(blocks) < 0.05, "an object more for each twenty tasks would be one that nobody lets go of"
    assert resident * 100_000 < 16 * 2**20

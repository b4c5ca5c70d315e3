"""How long telemetry holds a process at its end: from the last line of a script to the exit of its interpreter.

Real pipelines in real interpreters, with a healthy OTLP/gRPC receiver and without telemetry, in turn; medians. Imports
are over when the last line runs, so they don't count.

    python benchmarks/bench_exit.py
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.project import Project, environment
from support.receiver import Receiver

ROUNDS = 9
SCRIPT = (
    "import os, runpy, time\n"
    "runpy.run_path(os.path.abspath('pipelines.py'), run_name='__main__')\n"
    "print('LAST', time.time(), flush=True)\n"
)


def exit_seconds(project: Project, **variables: str) -> float:
    """Seconds from the script's last line to the end of the process."""
    child = subprocess.Popen(
        [project.python, "script.py"],
        cwd=project.folder,
        env=environment(project.folder, PIPELINE="python", **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert child.stdout is not None
    last = next(line for line in child.stdout if line.startswith("LAST "))
    child.stdout.close()
    os.waitpid(child.pid, 0)
    return time.time() - float(last.split()[1])


def main() -> None:
    with Receiver() as receiver, tempfile.TemporaryDirectory() as folder:
        project = Project(Path(folder))
        (project.folder / "script.py").write_text(SCRIPT)
        kinds = {
            "without telemetry": {},
            "healthy endpoint": {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.grpc},
            "endpoint refuses": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
        }
        found: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(ROUNDS):
            for name, variables in kinds.items():
                found[name].append(exit_seconds(project, **variables))
        medians = {name: statistics.median(each) for name, each in found.items()}
        for name, seconds in medians.items():
            added = seconds - medians["without telemetry"]
            print(f"{name:20} {seconds * 1e3:7.0f} ms   added {added * 1e3:7.0f} ms")
        print(f"spans received: {len(receiver.spans)} of {ROUNDS * 4}")


if __name__ == "__main__":
    main()

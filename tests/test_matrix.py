"""The matrix of the contract: each way in, with and without logfire, with and without an endpoint.

Every cell is a real interpreter in a fresh environment. `make matrix` prints the table.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support import environments
from support.project import environment
from support.receiver import Received, Receiver

APP = Path(__file__).parent / "matrix"
OURS = ["pipeline:cell", "task:app.compute", "task:say"]
NOISE = (
    "Overriding of current",
    "Attempting to instrument",
    "Failed to export",
    "Transient error",
    "Already shutdown",
    "runnable was imported before",
    "Traceback",
    "Warning",
    "dropped",
)


@dataclass(frozen=True)
class Cell:
    """One cell: a way in, what logfire is, whether there is an endpoint, and where the set-up stands."""

    way: str
    logfire: str  # configured, installed, api
    endpoint: bool
    place: str = "main"
    order: str = "before"

    def __str__(self) -> str:
        return "-".join((self.way, self.logfire, "endpoint" if self.endpoint else "none", self.place, self.order))

    @property
    def groups(self) -> tuple[str, ...]:
        distro = self.way in ("instrument+distro", "config-file", "pythonpath")
        return (("logfire",) if self.logfire != "api" else ()) + (("distro",) if distro else ())

    @property
    def in_code(self) -> bool:
        return self.way in ("configure", "instrumentor", "provider", "logfire.configure")

    @property
    def exports(self) -> bool:
        """Whether the script has an exporter that reaches the receiver."""
        configured = self.logfire == "configured" and self.way != "runnable-execute"
        if self.way == "instrumentor" and not configured:
            # Way 2 switches itself on by the endpoint; without one, and without a provider, nothing is exported.
            return self.endpoint
        return self.endpoint or configured or self.way in ("provider", "config-file")


def cells() -> Iterator[Cell]:
    """Every cell of the contract, section 4."""
    outside = ["instrument", "instrument+distro", "config-file", "pythonpath", "plain", "runnable-execute"]
    inside = ["configure", "instrumentor", "provider", "logfire.configure"]
    for way in outside + inside:
        for logfire in ("configured", "installed", "api"):
            if way == "logfire.configure" and logfire != "configured":
                continue
            if way == "runnable-execute" and logfire == "configured":
                continue  # no script of the user's in which logfire could be configured
            for endpoint in (True, False):
                if way in inside or logfire == "configured":
                    for place in ("top", "main"):
                        for order in ("before", "after"):
                            yield Cell(way, logfire, endpoint, place, order)
                else:
                    yield Cell(way, logfire, endpoint)


def command(cell: Cell, python: Path, folder: Path, receiver: Receiver) -> tuple[list[str], dict[str, str]]:
    """The command line and the environment of a cell."""
    variables = {
        "MATRIX_WAY": cell.way,
        "MATRIX_LOGFIRE": cell.logfire,
        "MATRIX_PLACE": cell.place,
        "MATRIX_ORDER": cell.order,
        "MATRIX_ENDPOINT": receiver.grpc,
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
    }
    if cell.endpoint:
        # logfire's own exporter speaks HTTP only: where the user configured it, the endpoint is one that does.
        http = cell.logfire == "configured"
        variables["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver.http if http else receiver.grpc
        variables["OTEL_EXPORTER_OTLP_PROTOCOL"] = "http/protobuf" if http else "grpc"
    elif cell.way in ("instrument+distro", "pythonpath"):
        variables["OTEL_TRACES_EXPORTER"] = "none"  # the distro's default is an endpoint that nobody listens on
    elif cell.way in ("plain", "runnable-execute"):
        variables["RUNNABLE_OTEL_SINKS"] = "file:events.jsonl"  # a plain run is switched on by a variable
    script = [str(python), "app.py"]
    if cell.way in ("instrument", "instrument+distro", "config-file"):
        script = [str(python.parent / "opentelemetry-instrument"), *script]
    if cell.way == "config-file":
        config = folder / "otel.yaml"
        config.write_text(CONFIG.format(endpoint=receiver.grpc))
        variables["OTEL_CONFIG_FILE"] = str(config)
        variables.pop("OTEL_EXPORTER_OTLP_PROTOCOL", None)
    if cell.way == "pythonpath":
        site = next((python.parent.parent / "lib").glob("python*/site-packages"))
        variables["PYTHONPATH"] = str(site / "opentelemetry" / "instrumentation" / "auto_instrumentation")
    if cell.way == "runnable-execute":
        script = [str(python.parent / "runnable"), "execute", "cell.yaml"]
    return script, variables


CONFIG = """\
file_format: "1.0"
tracer_provider:
  processors:
    - batch:
        exporter:
          otlp_grpc:
            endpoint: {endpoint}
"""


def run(cell: Cell, folder: Path, receiver: Receiver) -> subprocess.CompletedProcess[str]:
    shutil.copytree(APP, folder, dirs_exist_ok=True)
    python = environments_for(cell.groups)
    script, variables = command(cell, python, folder, receiver)
    env = environment(folder, **variables)
    env["PATH"] = f"{python.parent}:{env['PATH']}"
    return subprocess.run(script, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)


_made: dict[tuple[str, ...], Path] = {}


def environments_for(groups: tuple[str, ...]) -> Path:
    if groups not in _made:
        _made[groups] = environments.python(*groups)
    return _made[groups]


def chosen() -> list[Cell]:
    """Every cell where `RUNNABLE_OTEL_MATRIX=full`, as in CI; else one place of the set-up for each."""
    every = os.environ.get("RUNNABLE_OTEL_MATRIX") == "full"
    return [cell for cell in cells() if every or (cell.place, cell.order) == ("main", "before")]


@pytest.mark.parametrize("cell", chosen(), ids=str)
def test_cell(cell: Cell, tmp_path: Path, receiver: Receiver) -> None:
    """Each span reaches the exporter once, each event the queue once, and nothing is said that was not said before."""
    done = run(cell, tmp_path, receiver)
    assert done.returncode == 0, done.stderr
    names = Counter(span.name for span in receiver.spans)
    expected = dict.fromkeys(OURS, 1) if cell.exports else {}
    assert {name: count for name, count in names.items() if name in OURS} == expected, done.stderr
    assert all(names[own] <= 1 for own in ("own otel", "own logfire"))
    if cell.exports:
        one_trace(receiver.spans)
    if cell.way != "runnable-execute":
        check_events(done.stdout)
    if (tmp_path / "events.jsonl").exists():
        lines = (tmp_path / "events.jsonl").read_text().splitlines()
        assert len({json.loads(line)["uid"] for line in lines}) == len(lines) == 6
    else:
        assert cell.endpoint or cell.way not in ("plain", "runnable-execute")
    check_noise(cell, done.stderr)
    TABLE.append((cell, sum(names[name] for name in OURS)))


TABLE: list[tuple[Cell, int]] = []


@pytest.fixture(scope="module", autouse=True)
def table(request: pytest.FixtureRequest) -> Iterator[None]:
    """Print the cells that held, with how many of our spans arrived: `make matrix` shows it."""
    yield
    if request.config.option.capture == "no":
        print(f"\n{'way in':20}{'logfire':12}{'endpoint':10}{'set-up':16}spans")
        for cell, spans in TABLE:
            where = f"{cell.place}, {cell.order}" if cell.in_code or cell.logfire == "configured" else ""
            print(f"{cell.way:20}{cell.logfire:12}{'set' if cell.endpoint else 'not set':10}{where:16}{spans}")


def one_trace(spans: list[Received]) -> None:
    ours = [span for span in spans if span.name in OURS]
    assert len({span.trace for span in ours}) == 1
    task = next(span for span in ours if span.name == "task:app.compute")
    for span in spans:
        if span.name == "own otel":
            assert span.parent == task.span


def check_events(stdout: str) -> None:
    line = next(line for line in stdout.splitlines() if line.startswith("EVENTS "))
    events: list[dict[str, Any]] = json.loads(line.removeprefix("EVENTS "))
    assert [event["type"] for event in events] == [
        "pipeline_started",
        "task_started",
        "task_completed",
        "task_started",
        "task_completed",
        "pipeline_completed",
    ]
    assert len({event["uid"] for event in events}) == 6


def check_noise(cell: Cell, stderr: str) -> None:
    noise = [line for line in stderr.splitlines() if any(word in line for word in NOISE)]
    # logfire itself tries to set the global providers that opentelemetry-instrument has set; so does a script of the
    # user's whose set-up stands at the top of the module, which runnable imports twice.
    own = ("instrument+distro", "config-file", "pythonpath")
    if (cell.logfire == "configured" and (cell.way in (*own, "provider"))) or (
        cell.place == "top" and cell.way == "provider"
    ):
        noise = [line for line in noise if "Overriding of current" not in line]
    if cell.logfire == "installed" and not cell.endpoint:
        # The task's own logfire span, with a logfire that nobody configured: logfire says so without us, too.
        noise = [line for line in noise if "LogfireNotConfiguredWarning" not in line]
    assert not noise, stderr

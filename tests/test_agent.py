"""Events through a real agent that is stopped and started while a pipeline runs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runnable_otel.events import Event
from runnable_otel.log.memory import MemoryLog
from support.agent import Agent
from support.project import Project
from support.receiver import ReceivedLog, Receiver
from support.waiting import LONG, wait_until

STEPS = 4
GATED = f"""
import logging, time
from pathlib import Path
from runnable import Pipeline, PythonTask

def gate(number: int) -> int:
    Path(f"at-{{number}}").touch()
    while not Path(f"gate-{{number}}").exists():
        time.sleep(0.005)
    return number + 1

def main():
    steps = [PythonTask(name=f"step {{n}}", function=gate, returns=["number"]) for n in range({STEPS})]
    pipeline = Pipeline(name="gated", steps=steps)
    pipeline.execute(parameters_file="parameters.yaml")
    return pipeline

if __name__ == "__main__":
    logging.getLogger("urllib3").setLevel(logging.DEBUG)
    logging.getLogger("urllib3").addHandler(logging.FileHandler("connections"))
    main()
"""


@contextmanager
def running(project: Project, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A pipeline whose step N says that it is there by the file `at-N`, and goes on when there is a file `gate-N`."""
    (project.folder / "gated.py").write_text(GATED)
    (project.folder / "parameters.yaml").write_text("number: 0\n")
    with project.running(project.python, "gated.py", **variables) as process:
        yield process


def taken_once(logs: list[ReceivedLog]) -> list[str]:
    """The uids that a reader has which takes a uid once: our own log."""
    log = MemoryLog()
    for record in logs:
        log.append(Event.from_json(record.body))
    (run,) = log.runs().runs
    stream = log.stream(run["trace_id"])
    assert stream is not None
    return [json.loads(entry.text)["uid"] for entry in stream.read().entries]


def sent(folder: Path) -> list[str]:
    """The uids of all events of the run."""
    return [json.loads(line)["uid"] for line in (folder / "events.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("protocol", "back"),
    [
        ("http/protobuf", "while it runs"),
        *(
            pytest.param(*each, marks=pytest.mark.live)
            for each in (("grpc", "while it runs"), ("grpc", "at the end"), ("http/protobuf", "at the end"))
        ),
    ],
)
def test_stopped_and_started(project: Project, receiver: Receiver, protocol: str, back: str) -> None:
    """Each event arrives, though the agent is away for some of them, and even if the process ends before the next try.

    A reader that takes a uid once has each once.
    """
    folder = project.folder
    with (
        Agent(folder, receiver.grpc) as agent,
        running(
            project,
            RUNNABLE_OTEL_SINKS=f"file:events.jsonl,otlp:{agent.grpc if protocol == 'grpc' else agent.http}",
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            OTEL_TRACES_EXPORTER="none",
            RUNNABLE_OTEL_EXIT_TIMEOUT="30",
        ) as process,
    ):
        wait_until(lambda: len(receiver.logs) == 2)  # the run's start and the first task's, through the agent
        agent.stop()
        assert len(receiver.logs) == 2
        tried = connections(folder)
        (folder / "gate-0").touch()
        wait_until((folder / "at-1").exists)
        if protocol != "grpc":
            wait_until(lambda: connections(folder) > tried)
        if back == "while it runs":
            agent.start()
            wait_until(lambda: len(taken_once(receiver.logs)) == 4)  # and the end of one, the start of the next
            agent.stop()  # once more, with nothing on its way
            agent.start()
            (folder / "gate-1").touch()
        else:
            (folder / "gate-1").touch()
            (folder / "gate-2").touch()
            wait_until((folder / f"at-{STEPS - 1}").exists)
            agent.start()
        for number in range(STEPS):
            (folder / f"gate-{number}").touch()
        _, errors = process.communicate(timeout=LONG)
        assert process.returncode == 0, errors
        agent.stop()
    assert "lost" not in errors
    uids = sent(folder)
    assert len(uids) == 2 + 2 * STEPS
    assert taken_once(receiver.logs) == uids
    assert [log.name for log in receiver.logs] == [f"runnable.{json.loads(log.body)['type']}" for log in receiver.logs]


def connections(folder: Path) -> int:
    """How often the exporter has tried to connect over HTTP."""
    file = folder / "connections"
    return file.read_text().count("Starting new HTTP connection") if file.exists() else 0

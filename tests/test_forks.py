"""Children that a task forks: a provider of ours tells them apart, and costs their host next to nothing."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from support.project import Project

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

CHILD = """
import json, os
from opentelemetry import trace
from runnable import Pipeline, PythonTask


def resource():
    span = trace.get_tracer("mine").start_span("mine")
    return {**span.resource.attributes, "pid now": os.getpid(), "parent now": os.getppid()}


def forks():
    print("resource", json.dumps(resource()), flush=True)
    child = os.fork()
    if not child:
        os.write(1, f"resource {json.dumps(resource())}\\n".encode())
        os._exit(0)
    os.waitpid(child, 0)


def main():
    pipeline = Pipeline(name="run", steps=[PythonTask(name="forks", function=forks)])
    pipeline.execute()
    return pipeline


if __name__ == "__main__":
    main()
"""

LATE = """
import threading

over = threading.Event()
threading._register_atexit(over.set)  # the first that is known is called last: from then on no pool takes anything
begun = threading.Event()

import os, sys
from concurrent.futures import ThreadPoolExecutor
from runnable import Pipeline, PythonTask


def forks():
    main = sys.modules["__main__"]
    main.begun.set()
    main.over.wait()
    try:
        ThreadPoolExecutor().submit(print)
    except RuntimeError:
        print("pools are over")
    child = os.fork()
    if not child:
        os._exit(0)
    print("child", os.waitpid(child, 0)[1])


def main():
    pipeline = Pipeline(name="run", steps=[PythonTask(name="forks", function=forks)])
    pipeline.execute()
    return pipeline


if __name__ == "__main__":
    threading.Thread(target=main).start()
    begun.wait()
"""


def resources(project: Project, **variables: str) -> list[dict[str, Any]]:
    """What the resource of a span says in a task, and in the child that it forks."""
    done = project.script(
        CHILD, RUNNABLE_TELEMETRY_CONSOLE="true", OTEL_EXPERIMENTAL_RESOURCE_DETECTORS="process", **variables
    )
    assert "Exception ignored" not in done.stderr
    lines = [line.partition("resource ")[2] for line in done.stdout.splitlines()]
    return [json.loads(line) for line in lines if line]


def test_a_child_has_a_resource_of_its_own(project: Project) -> None:
    """A forked child's spans name its own process and an instance of their own; all else is as in the parent."""
    parent, child = resources(project)
    for each in (parent, child):
        assert each["process.pid"] == each.pop("pid now")
        assert each["process.parent_pid"] == each.pop("parent now")
    own = {"process.pid", "process.parent_pid", "service.instance.id"}
    assert {key for key in parent if parent[key] != child.get(key)} == own
    assert set(parent) == set(child)


def test_an_instance_that_is_named_keeps_its_name(project: Project) -> None:
    """What the user called the instance is not replaced by what nobody knows."""
    found = resources(project, OTEL_RESOURCE_ATTRIBUTES="service.instance.id=mine")
    assert [each["service.instance.id"] for each in found] == ["mine", "mine"]


def test_a_fork_after_the_main_threads_end(project: Project) -> None:
    """A task that goes on then may fork: nothing of ours needs a pool of threads in the child, nor says so."""
    done = project.script(LATE, RUNNABLE_TELEMETRY_CONSOLE="true")
    assert "pools are over" in done.stdout
    assert "child 0" in done.stdout
    assert "Traceback" not in done.stderr

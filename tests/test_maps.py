"""Maps whose items repeat themselves, or must not be seen: branches are told apart, and names show no secret."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from runnable_otel.spans import HiddenItems
from support.project import Project
from support.receiver import Receiver

SCRIPT = """
import os
from runnable import Catalog, Map, Pipeline, PythonTask

ITEMS = {items}


def items():
    return ITEMS


def more({variable}):
    import pathlib
    if {variable} == 2 and not pathlib.Path("flag").exists():
        raise ValueError("no flag")


def work({variable}):
    with open("executed", "a") as file:
        file.write("x")
    with open("made.txt", "w") as file:
        file.write("x")
    return len(str({variable}))


def main():
    branch = Pipeline(steps=[
        PythonTask(name="work", function=work, returns=["worked"], catalog=Catalog(put=["made.txt"])),
        PythonTask(name="more", function=more),
    ])
    pipeline = Pipeline(name="maps", steps=[
        PythonTask(name="items", function=items, returns=["{variable}s"]),
        Map(name="each", branch=branch, iterate_on="{variable}s", iterate_as="{variable}"),
    ])
    pipeline.execute(configuration_file=os.environ.get("CONFIG", ""), run_id=os.environ.get("RUN", ""))
    return pipeline


if __name__ == "__main__":
    main()
"""


def events(project: Project) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (project.folder / "events.jsonl").read_text().splitlines()]


def run(project: Project, receiver: Receiver, items: list[Any], variable: str = "item", **variables: str) -> str:
    """Run the map over these items; everything that left the process, as text."""
    (project.folder / "script.py").write_text(SCRIPT.format(items=items, variable=variable))
    project.command(
        project.python,
        "script.py",
        check=not variables.get("CONFIG"),  # the branches of a pool may be in each other's way
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc,
        RUNNABLE_OTEL_SINKS="file:events.jsonl",
        **variables,
    )
    return repr(receiver.spans) + (project.folder / "events.jsonl").read_text()


@pytest.mark.parametrize("config", ["", "pool.yaml", "emulator.yaml"])
@pytest.mark.parametrize("items", [[1, 1, 3, 1], ["1", 1]], ids=str)
def test_an_item_that_repeats_itself(project: Project, receiver: Receiver, config: str, items: list[Any]) -> None:
    """runnable runs the branch for each item, also where two have one name: each is a branch of its own."""
    run(project, receiver, items, CONFIG=config)
    spans, told = receiver.spans, events(project)
    assert len({(span.trace, span.span) for span in spans}) == len(spans)
    assert len({event["uid"] for event in told}) == len(told)
    works = [span for span in spans if span.name == "task:script.work"]
    branches = [span for span in spans if span.kind == "branch"]
    assert len(branches) == len(items)
    for branch in branches:
        inside = [span for span in spans if span.parent == branch.span and span.kind == "task"]
        assert [span.name for span in inside] == ["task:script.work", "task:script.more"][: len(inside)]
        assert {span.attributes["runnable.branch.name"] for span in inside} <= {
            branch.attributes["runnable.branch.name"]
        }
        assert len(inside) == 2 or branch.status
    ended = Counter(event["span_id"] for event in told if event["type"] in ("task_completed", "task_error"))
    assert ended == Counter(span.span for span in spans if span.kind == "task")
    # In a pool two branches of one name may read what the other one is writing: runnable fails one of them then.
    if config != "pool.yaml":
        assert len(works) == len((project.folder / "executed").read_text()) == len(items)
        names = Counter(span.attributes["runnable.step.name"] for span in works)
        assert names == Counter(f"each.{item}.work" for item in items)


def test_a_retry_over_repeated_items(project: Project, receiver: Receiver) -> None:
    """What a retry passes over is linked to the attempt that ran it, of each item its own."""
    (project.folder / "script.py").write_text(SCRIPT.format(items=[1, 1, 2], variable="item"))
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.grpc, "RUN": "repeated"}
    project.command(project.python, "script.py", check=False, **variables)
    ran = {span.span: span for span in receiver.spans if span.kind == "task"}
    receiver.clear()
    (project.folder / "flag").touch()
    project.command(project.python, "-m", "runnable.cli", "retry", "repeated", **variables)
    linked = [ran[link].attributes["runnable.step.name"]
              for span in receiver.spans if span.attributes.get("status") == "skipped" and span.kind == "task"
              for _, link in span.links]  # fmt: skip
    assert len({link for span in receiver.spans if span.kind == "task" for _, link in span.links}) == len(linked)
    assert Counter(linked)["each.1.work"] == 2


def test_hidden_items() -> None:
    """Items may have dots, be parts of each other, and be many: none of them, and no part of one, shows."""
    for order in (1, -1):
        hidden = HiddenItems(["10.0", "10.0.0.1", "", "a", "a.b"][::order])
        assert hidden.masked("each.10.0.0.1.work") == "each.[redacted].work"
        assert hidden.masked("m.a.inner.a.b.work") == "m.[redacted].inner.[redacted].work"
        assert hidden.masked("a.10.0") == "a.[redacted]"
        assert hidden.masked("plain") == "plain"
    many = HiddenItems([f"item-{number}" for number in range(10_000)])
    assert {many.masked(f"each.item-{number}.work") for number in range(10_000)} == {"each.[redacted].work"}


SECRET = ["plugh-9911", "xyzzy-2244", "each"]


@pytest.mark.parametrize("config", ["", "pool.yaml"])
def test_a_variable_that_is_called_secret(project: Project, receiver: Receiver, config: str) -> None:
    """What a map goes over is a part of the names of its steps: where the variable's name is a secret's, it is not."""
    sent = run(project, receiver, SECRET, "api_key", CONFIG=config)
    assert not [item for item in SECRET[:2] if item in sent]
    works = [span for span in receiver.spans if span.name == "task:script.work"]
    assert len(works) == len(SECRET)
    assert {span.attributes["runnable.step.name"] for span in works} == {"each.[redacted].work"}
    assert {span.attributes["runnable.branch.name"] for span in works} == {"each.[redacted]"}


def test_no_values_at_all(project: Project, receiver: Receiver) -> None:
    """`RUNNABLE_OTEL_CAPTURE=none`: neither a map's items nor the fields of a task's own events leave the process."""
    sent = run(project, receiver, ["PATIENT-17", "PATIENT-18"], RUNNABLE_OTEL_CAPTURE="none")
    assert "PATIENT" not in sent
    assert "each.[redacted].work" in sent
    (project.folder / "events.jsonl").unlink()
    project.pipeline("async_sequence", RUNNABLE_OTEL_SINKS="file:events.jsonl", RUNNABLE_OTEL_CAPTURE="none")
    told = events(project)
    own = [event for event in told if "runnable" in event]
    assert own
    assert {name for event in own for name in event} == {"type", "uid", "runnable"}


@pytest.mark.parametrize("config", ["", "pool.yaml", "emulator.yaml"])
def test_the_step_of_a_catalog(project: Project, receiver: Receiver, config: str) -> None:
    """What a step in a branch puts into the catalog is that step's, as the run log names it."""
    run(project, receiver, ["north", "south"], CONFIG=config)
    put = [span.attributes for span in receiver.spans if span.name == "catalog:put"]
    assert sorted(each["runnable.step.name"] for each in put) == ["each.north.work", "each.south.work"]
    assert sorted(each["runnable.branch.name"] for each in put) == ["each.north", "each.south"]


def test_backfill(project: Project, receiver: Receiver) -> None:
    """The same from the run log."""
    run(project, receiver, SECRET[:1], "api_key")
    (run_id,) = {str(span.attributes["run_id"]) for span in receiver.spans if "run_id" in span.attributes}
    live = {span.span for span in receiver.spans if span.kind == "task"}
    receiver.clear()
    command = str(Path(project.python).parent / "runnable-otel")
    project.command(command, "backfill", run_id, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    assert {span.span for span in receiver.spans if span.kind == "task"} == live
    assert SECRET[0] not in repr(receiver.spans)

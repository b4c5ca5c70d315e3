"""What the events and spans of a run say, against its run log."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from support.receiver import Received, Receiver
from support.runlog import attempts


def queued(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """What the caller's queue got."""
    line = next(line for line in done.stdout.splitlines() if line.startswith("EVENTS "))
    return json.loads(line.removeprefix("EVENTS "))


def of_file(folder: Path) -> list[dict[str, Any]]:
    """What the file sink got."""
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def of_wire(receiver: Receiver) -> list[dict[str, Any]]:
    """What the sinks `otlp:` sent, in the order in which it arrived, without the signs of life."""
    events = [json.loads(log.body) for log in receiver.logs]
    return [event for event in events if event["type"] != "sign_of_life"]


def told(log: dict[str, Any], events: list[dict[str, Any]], *, one_process: bool = True) -> None:
    """Each attempt of the run log has its start and its end, once, in this order; the run is around them all.

    Args:
        one_process: whether all come from one process: else the run's own may come before or after the others.
    """
    assert len({event["uid"] for event in events}) == len(events), "an event twice"
    assert len({event["trace_id"] for event in events}) == 1
    own = [event["type"] for event in events if "step" not in event]
    assert own == ["pipeline_started", "pipeline_completed"]
    if one_process:
        assert (events[0]["type"], events[-1]["type"]) == ("pipeline_started", "pipeline_completed")
    steps: dict[tuple[str, int], list[str]] = {}
    for event in events:
        if "step" in event:
            steps.setdefault((event["step"], event["attempt"]), []).append(event["type"])
    expected = {
        (each.step, each.number): ["task_started", "task_completed" if each.success else "task_error"]
        for each in attempts(log["steps"])
    }
    assert steps == expected


def in_their_places(spans: list[Received]) -> None:
    """Each task and composite node lies below the branch that it says, or the run; each branch below its node."""
    by_id = {span.span: span for span in spans}
    for span in spans:
        step, branch = (span.attributes.get(f"runnable.{key}.name", "") for key in ("step", "branch"))
        if span.kind in ("task", "parallel", "map", "conditional", "loop"):
            above = by_id[span.parent]
            assert above.kind == ("branch" if branch else "pipeline")
            assert above.attributes.get("runnable.branch.name", "") == branch
            assert step.rpartition(".")[0] == branch
        elif span.kind == "branch":
            above = by_id[span.parent]
            assert above.kind in ("parallel", "map", "conditional", "loop")
            assert above.attributes["runnable.step.name"] == step == branch.rpartition(".")[0]

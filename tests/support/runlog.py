"""runnable's run log as the oracle: each executed attempt that it holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from runnable_otel.capture import OBJECT, capture


@dataclass(frozen=True)
class Attempt:
    """One attempt of one task step, as the run log has it."""

    step: str
    branch: str
    number: int
    success: bool
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    start: int
    end: int


def nanoseconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1e9)


def values(parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: OBJECT if each["kind"] == "object" else each["value"] for name, each in parameters.items()}


def bounded(values: dict[str, Any], limit: int = 256) -> dict[str, Any]:
    """What the attribute must say of these values."""
    return json.loads(capture(values, limit).text)


def attempts(steps: dict[str, Any], branch: str = "") -> Iterator[Attempt]:
    for step in steps.values():
        if step["step_type"] == "task":
            for each in step["attempts"]:
                yield Attempt(
                    step=step["internal_name"],
                    branch=branch,
                    number=each["attempt_number"],
                    success=each["status"] == "SUCCESS",
                    inputs=values(each["input_parameters"]),
                    outputs=values(each["output_parameters"]),
                    start=nanoseconds(each["start_time"]),
                    end=nanoseconds(each["end_time"]),
                )
        for name, inner in step["branches"].items():
            yield from attempts(inner["steps"], name)


def run_logs(folder: Path, store_name: str = ".run_log_store") -> list[dict[str, Any]]:
    """The run logs of a working folder; a second `execute()` in one process may write none, so count them."""
    store = folder / store_name
    whole = [json.loads(file.read_text()) for file in sorted(store.glob("*.json"))]
    return whole + [_assembled(file.parent) for file in sorted(store.glob("*/RunLog.json"))]


def _assembled(folder: Path) -> dict[str, Any]:
    """A run log of a chunked store, in which each branch is a file of its own, as the other store has it."""
    log = json.loads((folder / "RunLog.json").read_text())
    branches = [json.loads(file.read_text()) for file in folder.glob("BranchLog-*.json")]
    steps = {name: step for holder in (log, *branches) for name, step in holder["steps"].items()}
    for branch in branches:
        name = branch["internal_name"]
        above = max((step for step in steps if name.startswith(f"{step}.")), key=len)
        steps[above]["branches"][name] = branch
    return log

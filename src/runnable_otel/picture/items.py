"""The items of a picture, and what two events say of one: pure functions of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from runnable_otel.events import (
    PIPELINE_COMPLETED,
    PIPELINE_STARTED,
    SPAN,
    TASK_COMPLETED,
    TASK_ERROR,
    TASK_SKIPPED,
    TASK_STARTED,
    nanoseconds,
)
from runnable_otel.semconv import UNKNOWN

State = Literal["", "waiting", "running", "success", "failed", "skipped", "cancelled"]
"""The empty one is that of a composite or branch of which only its tasks are known, or of an end that says nothing."""

Fields = Mapping[str, Any]

STARTS: Final = frozenset({PIPELINE_STARTED, TASK_STARTED})
ENDS: Final = {SPAN: 0, TASK_SKIPPED: 1, TASK_COMPLETED: 2, TASK_ERROR: 3, PIPELINE_COMPLETED: 4}  # of two, the higher
RUNS: Final = frozenset({PIPELINE_STARTED, PIPELINE_COMPLETED})
_TASKS: Final[Mapping[str, State]] = {TASK_COMPLETED: "success", TASK_ERROR: "failed"}
_STATES: Final[Mapping[str, State]] = {"success": "success", "error": "failed", "cancelled": "cancelled"}


@dataclass(eq=False, slots=True)
class Item:
    """A run, an attempt of a task, a composite node, a branch of it, another span, or a step that is expected.

    Attributes:
        key: its name among the items of the picture.
        kind: which of them it is.
        label: such as `task:module.function`.
        state: what is known of it.
        started: nanoseconds since 1970, by the clock of its host; of a composite's first task unless it has a span.
        ended: the same of the end.
        parent: the item above it; None at the top.
        children: those below it, by their keys.
        open: of a composite or branch: how many tasks below it run.
        start: the event that says most of its start.
        end: the event that says most of its end.
    """

    key: str
    kind: Literal["run", "task", "composite", "branch", "span", "expected"]
    label: str
    run: str = ""
    path: str = ""
    template: str = ""
    index: int = 0  #: its place in the graph
    state: State = ""
    started: int | None = None
    ended: int | None = None
    parent: Item | None = None
    children: dict[str, Item] = field(default_factory=dict[str, "Item"])
    open: int = 0
    start: Fields | None = None
    end: Fields | None = None
    cause: str = ""  #: the id of the span that it was made below

    @property
    def order(self) -> tuple[bool, int, int, str, str]:
        """Sorts siblings: by their start, then those that wait, as in the graph."""
        return self.started is None, self.started or 0, self.index, self.label, self.key

    @property
    def fact(self) -> Fields:
        """The event that says most of all."""
        ended = self.end is not None and (self.start is None or self.end["type"] != SPAN)
        return (self.end if ended else self.start) or {}


def facts(start: Fields | None, end: Fields | None) -> tuple[State, int | None, int | None]:
    """State, start and end of what two events tell of; a later start of the same run by another span wins."""
    began = nanoseconds(start.get("time")) if start is not None else None
    if end is None:
        return "running", began, None
    ended, took = nanoseconds(end.get("time")), end.get("duration_ms")
    started = nanoseconds(end.get("started"))
    again = start is not None and start.get("span_id") != end.get("span_id")
    if again and began is not None and ended is not None and began > ended:
        return "running", began, None
    took = round(took * 1e6) if isinstance(took, (int, float)) and 0 <= took < 1e15 else None
    started = began if started is None else started
    if started is None and ended is not None:
        started = ended - (took or 0)
    elif started is not None and took is not None:
        ended = started + took
    return _state(end), started, ended


def _state(end: Fields) -> State:
    kind, status = end["type"], end.get("status")
    if kind == SPAN:
        return "failed" if status == "error" else "success"
    if kind == PIPELINE_COMPLETED:
        return _STATES.get(status, "") if isinstance(status, str) else ""
    if status == UNKNOWN:  # nobody saw how it ended
        return ""
    cancelled = "cancelled" in (status, end.get("error"))
    return "skipped" if kind == TASK_SKIPPED else "cancelled" if cancelled else _TASKS[kind]


def task_label(fact: Fields) -> str:
    """`task:` and the function or notebook, or the step where the task is a shell command."""
    shell = fact.get("task_type") == "shell"
    name = text_of(fact, "step").rpartition(".")[2] if shell else ""
    attempt = fact.get("attempt")
    again = f" (attempt {attempt})" if isinstance(attempt, int) and attempt > 1 else ""
    return f"task:{name or text_of(fact, 'name') or text_of(fact, 'step')}{again}"


def circles(items: Mapping[str, Item]) -> list[Item]:
    """The first item, by its key, of each circle of parents."""
    done: set[str] = set()
    found: list[Item] = []
    for item in items.values():
        path: dict[str, Item] = {}
        at: Item | None = item
        while at is not None and at.key not in done and at.key not in path:
            path[at.key] = at
            at = at.parent
        if at is not None and at.key in path:
            circle = list(path)[list(path).index(at.key) :]
            found.append(items[min(circle)])
        done.update(path)
    return found


def rank(event: Fields) -> tuple[int, str, str]:
    """Of two events in one place the higher one counts: by its type, its time, and then by all that it says."""
    return ENDS.get(event["type"], 0), text_of(event, "time"), canonical(event)


def canonical(event: Fields) -> str:
    """An event as text: the same for the same content."""
    return json.dumps(event, sort_keys=True)


def text_of(event: Fields, key: str) -> str:
    """A member of an event that is text; the empty string where it is not."""
    value = event.get(key)
    return value if isinstance(value, str) else ""

"""Facts of a run as attributes and events: values in, values out, nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from runnable_otel import semconv
from runnable_otel.capture import Captured, capture, fold
from runnable_otel.errors import Failure
from runnable_otel.events import (
    CUSTOM,
    OURS,
    PIPELINE_COMPLETED,
    PIPELINE_STARTED,
    SIGN_OF_LIFE,
    TASK_ERROR,
    TASK_LOG,
    Event,
    host,
    nanoseconds,
    new_uid,
    rfc3339,
)
from runnable_otel.foreign import class_of
from runnable_otel.jsontext import dict_get
from runnable_otel.redact import Redactor
from runnable_otel.secret_texts import MASK
from runnable_otel.settings import CaptureMode
from runnable_otel.tracing import Ids

_NAME_LIMIT = 128
_SHELL_NAME_LIMIT = 100
_TEXT_LIMIT = 1024
_CUSTOM_LIMIT = 60 * 1024  # of the 64 KiB that an event may have


@dataclass(frozen=True, slots=True)
class Step:
    """Which step of the graph runs, and for which item.

    Attributes:
        name: resolved dotted name of the step log, `process.chunk_1.clean`.
        short: the name that the user gave the step.
        branch: resolved dotted name of the branch that it is in; empty at the top.
        attempt: 1 for the first.
        maps: variable and value of each enclosing map, outermost first, as they are.
        key: the name of the step log as runnable has it, for ids only: the other names have passed redaction.
        map_attributes: the same as `runnable.map.{variable}`, bounded and redacted.
    """

    name: str
    short: str
    branch: str = ""
    attempt: int = 1
    maps: Mapping[str, Any] = field(default_factory=dict[str, Any])
    map_attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    key: str = field(default="", repr=False)


def span_name(kind: str, name: str) -> str:
    """`{kind}:{name}` on one line, at most 128 characters."""
    return text(f"{kind}:{name}", _NAME_LIMIT)


def task_name(task_type: str, command: str) -> str:
    """What `task_name` says: a shell command folded and cut to 100 characters, else the dotted path or notebook."""
    return text(command, _SHELL_NAME_LIMIT if task_type == "shell" else _TEXT_LIMIT)


def text(value: object, limit: int = _TEXT_LIMIT) -> str:
    """A name or id of runnable's as an attribute: one line, valid UTF-8, at most `limit` characters."""
    shown = value if isinstance(value, str) else str(value)
    if len(shown) <= limit and shown.isascii() and shown.isprintable() and "  " not in shown:
        return shown  # nearly all are names of functions and steps: there is nothing to fold
    return fold(shown, limit)


class HiddenItems:
    """Items of maps that must not show in runnable's dotted names, of which they are parts."""

    def __init__(self, items: Iterable[str]) -> None:
        self._items = frozenset(filter(None, items))
        # An item may have dots of its own: the longest first, or the rest of one would show behind a shorter one.
        self._sizes = sorted({item.count(".") + 1 for item in self._items}, reverse=True)

    def masked(self, name: str) -> str:
        """A name with these items masked; it never begins with one."""
        if not self._items:
            return name
        parts = name.split(".")
        shown, at = parts[:1], 1
        while at < len(parts):
            fits = (size for size in self._sizes if ".".join(parts[at : at + size]) in self._items)
            size = next(fits, 0)
            shown.append(MASK if size else parts[at])
            at += size or 1
        return ".".join(shown)


def map_attributes(maps: Mapping[str, Any], redactor: Redactor, *, masked: Container[str] = ()) -> dict[str, Any]:
    """`runnable.map.{variable}` for each enclosing map: numbers and flags as they are, all else as bounded text.

    Args:
        masked: variables whose values must not show.
    """
    attributes: dict[str, Any] = {}
    for variable, value in maps.items():
        plain = isinstance(value, (bool, float)) or (isinstance(value, int) and -(2**63) <= value < 2**63)
        written = value if isinstance(value, str) else str(value)
        safe = redactor.text(written)
        shown = value if plain and safe is written else text(safe, _NAME_LIMIT)
        name = semconv.MAP_PREFIX + text(redactor.text(variable), _NAME_LIMIT)
        attributes[name] = MASK if variable in masked else shown
    return attributes


def step_attributes(run_id: str, step: Step | None) -> dict[str, Any]:
    """What every span of a step has."""
    attributes: dict[str, Any] = {}
    if run_id:
        attributes[semconv.RUN_ID] = text(run_id)
    if step is not None:
        attributes[semconv.STEP_NAME] = text(step.name)
        if step.branch:
            attributes[semconv.BRANCH_NAME] = text(step.branch)
        attributes.update(step.map_attributes)
    return attributes


def task_attributes(run_id: str, step: Step | None, name: str, task_type: str) -> dict[str, Any]:
    """What a task's span has from its start."""
    attributes = {semconv.TASK_NAME: name, semconv.TASK_TYPE: text(task_type), **step_attributes(run_id, step)}
    if step is not None:
        attributes[semconv.STEP_ATTEMPT] = step.attempt
    if task_type in ("python", "async-python"):
        attributes[semconv.CODE_FUNCTION_NAME] = name
    elif task_type == "notebook":
        attributes[semconv.CODE_FILE_PATH] = name
    attributes[semconv.PROCESS_PID] = os.getpid()
    return attributes


def run_attributes(name_key: str, name: str, run_id: str, executor: str, tag: str, version: str) -> dict[str, Any]:
    """What a run's span has from its start."""
    attributes: dict[str, Any] = {
        name_key: text(name),
        semconv.RUN_ID: text(run_id),
        semconv.EXECUTOR: text(executor),
        semconv.CICD_PIPELINE_NAME: text(name),
        semconv.CICD_PIPELINE_RUN_ID: text(run_id),
    }
    if version:
        attributes[semconv.VERSION] = version
    if tag:
        attributes[semconv.TAG] = text(tag)
    return attributes


def exception_attributes(failure: Failure) -> dict[str, Any]:
    """The `exception` span event, as the semantic conventions name its attributes."""
    return {
        semconv.EXCEPTION_TYPE: failure.qualified,
        semconv.EXCEPTION_MESSAGE: failure.message,
        semconv.EXCEPTION_STACKTRACE: failure.stacktrace,
    }


class Origin:
    """The common fields of the events of one span, put together once."""

    __slots__ = ("_common", "_name")

    def __init__(self, ids: Ids, run_id: str, step: Step | None = None, task_type: str = "") -> None:
        trace_id, span_id = f"{ids.trace_id:032x}", f"{ids.span_id:016x}"
        self._name = f"{trace_id}:{span_id}"
        known: dict[str, Any] = {
            "run_id": text(run_id) if run_id else None,
            "trace_id": trace_id,
            "span_id": span_id,
            "parent_span_id": f"{ids.parent_id:016x}" if ids.parent_id else None,
            "step": text(step.name) if step else None,
            "attempt": step.attempt if step else None,
            "task_type": task_type or None,
            "branch": text(step.branch) if step and step.branch else None,
            "pid": os.getpid(),
            "host": host(),
        }
        self._common = _present(known)

    def fields(self, time: str) -> dict[str, Any]:
        """`time`, ids and names, those that are known."""
        return {"time": time, **self._common}

    def uid(self, edge: str) -> str:
        """`{trace_id}:{span_id}:{edge}`, edge being `start` or `end`."""
        return f"{self._name}:{edge}"


def custom_event(
    item: Mapping[str, Any], origin: Origin, time_ns: int, redactor: Redactor, mode: CaptureMode = "values"
) -> Event:
    """A task's own event as it leaves the process: bounded, redacted, with where it comes from under `runnable`.

    One whose type is one of ours becomes `custom` with the original under `data`: nobody takes it for ours.
    """
    shown: dict[str, Any] = json.loads(capture(item, _CUSTOM_LIMIT, redactor=redactor, mode=mode).text)
    kind = dict_get(item, "type")
    kind = str.__str__(kind) if issubclass(class_of(kind), str) else ""  # it may be of a class of the user's
    where = origin.fields(rfc3339(time_ns))
    if not kind or kind in OURS or len(kind) > _NAME_LIMIT:
        return Event(CUSTOM, new_uid(), MappingProxyType({"data": shown, "runnable": where}))
    fields = {name: value for name, value in shown.items() if name not in ("type", "uid", "runnable")}
    return Event(text(redactor.text(kind)), new_uid(), MappingProxyType({**fields, "runnable": where}))


def json_object(captured: Captured | None) -> dict[str, Any] | None:
    """The attribute's content as a JSON object."""
    return None if captured is None else json.loads(captured.text)


def start_event(kind: str, origin: Origin, time_ns: int, name: str, own: Mapping[str, Any]) -> Event:
    """The start of a span as an event; members of `own` that are None are left out."""
    fields = {"name": name, **_present(own), **origin.fields(rfc3339(time_ns))}
    return Event(kind, origin.uid("start"), MappingProxyType(fields))


def end_event(kind: str, origin: Origin, started_ns: int, ended_ns: int, name: str, own: Mapping[str, Any]) -> Event:
    """The end of a span as an event: it repeats the start, so that a reader who missed that knows all."""
    fields = {
        "name": name,
        **_present(own),
        **origin.fields(rfc3339(ended_ns)),
        "started": rfc3339(started_ns),
        "duration_ms": round((ended_ns - started_ns) / 1e6, 3),
    }
    return Event(kind, origin.uid("end"), MappingProxyType(fields))


def cancelled_event(start: Event, ended_ns: int) -> Event:
    """The end of a task or run of which only the start is known: its process was cut off, and tells no more."""
    own = {name: value for name, value in start.fields.items() if name not in ("time", "graph")}
    is_run = start.type == PIPELINE_STARTED
    started_ns = nanoseconds(start.fields["time"]) or ended_ns
    ended_ns = max(ended_ns, started_ns)
    fields = {
        **own,
        "status" if is_run else "error": semconv.CANCELLED,
        "time": rfc3339(ended_ns),
        "started": start.fields["time"],
        "duration_ms": round((ended_ns - started_ns) / 1e6, 3),
    }
    kind = PIPELINE_COMPLETED if is_run else TASK_ERROR
    return Event(kind, f"{start.uid.rpartition(':')[0]}:end", MappingProxyType(fields))


def log_event(origin: Origin, time_ns: int, name: str, stream: str, text: str) -> Event:
    """What a task wrote to a stream; the text is bounded and masked already."""
    fields = {"name": name, "stream": stream, "text": text, **origin.fields(rfc3339(time_ns))}
    return Event(TASK_LOG, new_uid(), MappingProxyType(fields))


def sign_of_life(origin: Origin, time_ns: int) -> Event:
    """Says that the process with this open span is there; a reader moves the run's `last_seen`, and stores nothing."""
    return Event(SIGN_OF_LIFE, new_uid(), MappingProxyType(origin.fields(rfc3339(time_ns))))


def _present(own: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in own.items() if value is not None}

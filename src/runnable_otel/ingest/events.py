"""An event's JSON text, checked: it is kept as it came wherever that can be, and parsed once, for its fields."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, cast

from runnable_otel.events import (
    LOG_RECORD,
    OURS,
    PIPELINE_COMPLETED,
    PIPELINE_STARTED,
    SPAN,
    TASK_COMPLETED,
    TASK_ERROR,
    TASK_SKIPPED,
    TASK_STARTED,
    Event,
)
from runnable_otel.ingest import wire
from runnable_otel.ingest.limits import EVENT_BYTES, NAME_CHARACTERS, NESTING, UID_CHARACTERS, BadRecord, Refused
from runnable_otel.ingest.model import valid
from runnable_otel.jsontext import size
from runnable_otel.log import Record

_EDGES: Final = {
    **dict.fromkeys((PIPELINE_STARTED, TASK_STARTED, TASK_SKIPPED), "start"),
    **dict.fromkeys((PIPELINE_COMPLETED, TASK_COMPLETED, TASK_ERROR), "end"),
}
_MADE_HERE: Final = frozenset({SPAN, LOG_RECORD})

_TEXTS: Final[Mapping[str, int]] = {
    **dict.fromkeys(("name", "run_id", "step", "branch", "task_type", "host", "status"), NAME_CHARACTERS),
    **dict.fromkeys(("time", "started"), 40),
    **dict.fromkeys(("trace_id", "span_id", "parent_span_id"), 32),
    **dict.fromkeys(("error", "stack_trace", "text", "stream"), EVENT_BYTES),
}
"""Members of an event of ours that are texts, and how long they may be."""
_OBJECTS: Final = ("inputs", "outputs", "graph")
_KINDS: Final[Mapping[str, tuple[type, ...]]] = {
    **dict.fromkeys(_OBJECTS, (dict,)),
    **dict.fromkeys(("attempt", "pid"), (int,)),
    "duration_ms": (int, float),
}
_LEFT_OUT: Final = {"…": "…"}

_FACT_UID: Final = "(?!0{32})[0-9a-f]{32}:(?!0{16})[0-9a-f]{16}:(?:start|end)"
_DAY: Final = (
    "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|[12][0-9]))"
)
_MOMENT: Final = f"(?!0000)[0-9]{{4}}-{_DAY}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\\.[0-9]{{6}}Z"
_UID: Final = re.compile(_FACT_UID)
_TRACE: Final = re.compile("(?!0{32})[0-9a-f]{32}")
_MOMENTS: Final = re.compile(f"{_MOMENT} {_MOMENT}")
_FACT: Final = re.compile(f"{_FACT_UID} {_MOMENT} {_MOMENT}")
_SOME_TIME: Final = "2000-01-01T00:00:00.000000Z"
_MOST: Final = 10**15
_SHAPES: Final = 1024
_SHAPE: Final = 64
_BLANK: Final = " \t\r\n"


def _no_number(constant: str) -> float:
    raise ValueError(constant)


_decoder: Final = json.JSONDecoder(parse_constant=_no_number)
_scan: Final = cast("Callable[[str, int], tuple[Any, int]]", cast("Any", _decoder).scan_once)
_encoder: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_shapes: Final[set[tuple[object, ...]]] = set()
"""Types of events, names and kinds of their members, that have been looked at and are as they should be."""


def parts_of(text: str) -> int:
    """How many objects and arrays a JSON text may hold: those inside its strings are counted too."""
    return text.count("{") + text.count("[")


def json_object(text: str, parts: int | None = None) -> dict[str, Any]:
    """A JSON object out of its text.

    Args:
        text: JSON.
        parts: what `parts_of` it says, where that is known.

    Raises:
        BadRecord: it is none, or it is nested too deep.
    """
    if (parts_of(text) if parts is None else parts) > NESTING:
        try:
            wire.scan_json(text.encode("utf-8", "replace"))
        except Refused:
            raise BadRecord("A JSON text is nested too deep, or holds too many values.") from None
    try:
        found, end = _scan(text, 0 if text[:1] == "{" else len(text) - len(text.lstrip(_BLANK)))
    except (ValueError, RecursionError, StopIteration):
        raise BadRecord("A text that should be a JSON object is no JSON.") from None
    if found.__class__ is not dict or (end != len(text) and text[end:].strip(_BLANK)):
        raise BadRecord("A text that should be a JSON object is none.")
    return found


def make(trace_id: str, kind: str, uid: str, fields: Mapping[str, Any]) -> Record:
    """An event that is made here.

    Raises:
        BadRecord: it is too large, or holds what is no JSON.
    """
    text = _encode({"type": kind, **fields, "uid": uid})
    if not text.isascii() and (whole := valid(text, len(text))) != text:
        fields = json_object(text := whole)  # a half of a character may have been anywhere
        kind, uid = fields.pop("type"), fields.pop("uid")
    if len(text) > EVENT_BYTES // 4 and size(text) > EVENT_BYTES:
        fields = _smaller(fields)
        text = _encode({"type": kind, **fields, "uid": uid})
    return Record(trace_id, Event(kind, uid, MappingProxyType(dict(fields))), text)


def _encode(value: object) -> str:
    try:
        return _encoder.encode(value)
    except ValueError:  # 1e999 is JSON, and too large a number for Python
        raise BadRecord("An event holds a number that is too large.") from None


def _smaller(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields without the largest values that an event may do without, so that it fits.

    Raises:
        BadRecord: it does not fit without them either.
    """
    sizes = {name: size(_encode(value)) for name, value in fields.items()}
    left = sum(sizes.values()) + 64 * len(sizes) - EVENT_BYTES + NAME_CHARACTERS
    fields = dict(fields)
    for name in sorted(set(_OBJECTS) & set(sizes), key=lambda name: -sizes[name]):
        if left > 0:
            fields[name] = _LEFT_OUT
            left -= sizes[name]
    if left > 0:
        raise BadRecord(f"An event is larger than {EVENT_BYTES} bytes.")
    return fields


def read(text: str, trace_id: str, parts: int | None = None) -> Record:
    """An event that a producer has put into words. Most are of a shape that came before, and short: they go fast.

    Args:
        text: the event's JSON; without surrogates.
        trace_id: that of the record around it, in hexadecimal digits; empty or zero where there is none.
        parts: see `json_object`.

    Raises:
        BadRecord: it is no event, it does not fit its ids, or it is too large.
    """
    fields = json_object(text, parts)
    kind, uid = fields.pop("type", None), fields.pop("uid", None)
    if kind.__class__ is not str or uid.__class__ is not str:
        raise BadRecord("An event has no type or no uid.")
    shape = (kind, *fields, *map(type, fields.values()))
    if not (shape in _shapes and len(text) <= NAME_CHARACTERS):
        _check(kind, fields)
        if len(shape) <= _SHAPE and len(_shapes) < _SHAPES and kind in OURS:
            _shapes.add(shape)
    named = _named(kind, uid, fields)
    if named != trace_id:
        if named and trace_id.strip("0"):
            raise BadRecord("The trace id of an event is not that of its record.")
        trace_id = named or trace_id
    if not named and not _TRACE.fullmatch(trace_id):  # the record's own is as its sender has it
        raise BadRecord("An event has no trace id, or one that is none.")
    if len(text) > EVENT_BYTES // 4 and size(text) > EVENT_BYTES:
        return make(trace_id, kind, uid, fields)
    if "\\" in text and ("\\ud" in text or "\\uD" in text):  # these may be halves of characters, escaped
        made = make(trace_id, kind, uid, fields)
        return made if "\ufffd" in made.text else Record(trace_id, made.event, text)
    return Record(trace_id, Event(kind, uid, MappingProxyType(fields)), text)


def _check(kind: str, fields: Mapping[str, Any]) -> None:
    """See that the members which readers rely on are there, and of their kind.

    Raises:
        BadRecord: they are not.
    """
    if kind in _MADE_HERE:
        raise BadRecord("A span or log record comes as such, not as an event.")
    if kind not in OURS:
        common: object = fields.get("runnable", {})
        if not isinstance(common, dict) or not kind or len(kind) > UID_CHARACTERS:
            raise BadRecord("The type of an event, or what it has under runnable, is not as it should be.")
        fields = cast("dict[str, Any]", common)
    elif "time" not in fields or (kind in _EDGES and "name" not in fields):
        raise BadRecord("An event has no time, or no name.")
    for name, value in fields.items():
        limit = _TEXTS.get(name)
        if limit is not None and (value.__class__ is not str or len(value) > limit):
            raise BadRecord("A member of an event is not a text, or too long.")
        if name in _KINDS and value.__class__ not in _KINDS[name]:
            raise BadRecord("A member of an event is not of its kind.")


def _named(kind: str, uid: str, fields: Mapping[str, Any]) -> str:
    """The trace id that an event names; empty where it names none.

    Raises:
        BadRecord: the uid does not fit, or a time is none.
    """
    edge = _EDGES.get(kind)
    if edge is None and kind not in OURS:
        fields = fields.get("runnable", {})
    trace_id: str = fields.get("trace_id", "")
    time = fields.get("time", _SOME_TIME)
    moments = f"{time} {fields.get('started', time)}"
    if edge is not None:  # nearly all: their uid and times are looked at in one go
        fits = _FACT.fullmatch(f"{uid} {moments}") and uid == f"{trace_id}:{fields.get('span_id')}:{edge}"
    else:
        fits = 0 < len(uid) <= UID_CHARACTERS and not _UID.fullmatch(uid) and _MOMENTS.fullmatch(moments)
        if trace_id and not _TRACE.fullmatch(trace_id):
            raise BadRecord("The trace id of an event is none.")
    if not fits or "-02-29T" in moments:
        _check_moments(moments)
    if not fits:
        raise BadRecord("The uid of an event does not fit its ids, or is none.")
    if not -_MOST < fields.get("duration_ms", 0) < _MOST:
        raise BadRecord("The duration of an event is beyond all measure.")
    return trace_id


def _check_moments(moments: str) -> None:
    """See that two times are of days that there are."""
    try:
        if _MOMENTS.fullmatch(moments) and all(datetime.fromisoformat(moment[:-1]) for moment in moments.split()):
            return
    except ValueError:
        pass
    raise BadRecord("A time of an event is not in UTC with microseconds, as RFC 3339 has it.")

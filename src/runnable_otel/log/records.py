"""Events on their way into a log: whose they are, what they are worth, and their JSON. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from hashlib import blake2b
from typing import Any, Final, cast

from runnable_otel.events import CUSTOM, LOG_RECORD, OURS, PIPELINE_COMPLETED, SIGN_OF_LIFE, TASK_LOG, Event
from runnable_otel.jsontext import clip
from runnable_otel.log import Record

_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_EXPENDABLE: Final = frozenset({TASK_LOG, LOG_RECORD})


def json_text(event: Mapping[str, Any]) -> str:
    """An event as one line of JSON; what JSON can't hold shows as `<unserializable: Type>`.

    No code of a value's own class runs: neither its `__repr__` nor its `__str__`.
    """
    try:
        return json.dumps(event, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_placeholder)
    except (TypeError, ValueError, RecursionError):
        pass  # a key that is no text, NaN, a cycle, or nesting without end
    kind = event.get("type")
    stand_in = {"type": kind if isinstance(kind, str) else CUSTOM, "data": _placeholder(event)}
    return json.dumps(stand_in, ensure_ascii=False, separators=(",", ":"))


def _placeholder(value: object) -> str:
    return f"<unserializable: {clip(type(value).__name__, 128)}>"


def common(event: Event) -> Mapping[str, Any]:
    """Where the common fields of an event are: a custom event has them under `runnable`."""
    nested: object = event.fields.get("runnable")
    if event.type not in OURS and isinstance(nested, dict):
        return cast("dict[str, Any]", nested)
    return event.fields


def record(event: Event) -> Record:
    """An event, encoded, with the trace that it belongs to."""
    trace = common(event).get("trace_id")
    return Record(storable(trace) if isinstance(trace, str) else "", event, json_text(event.to_dict()))


def digest(uid: str) -> bytes:
    """A uid in 16 bytes, of which no two are the same."""
    return blake2b(uid.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def storable(text: str) -> str:
    """Text that UTF-8 can hold: a lone surrogate is escaped, which in JSON text means the same."""
    if text.isascii():
        return text
    return _SURROGATES.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def expendable(event: Event) -> bool:
    """Whether it may be dropped before its run is: a task's own events, its output, and log records."""
    return event.type not in OURS or event.type in _EXPENDABLE


def worth(event: Event) -> int:
    """What goes first when there is no room: 0 what is expendable, 1 the rest of a run, 2 its end, which makes room."""
    return 0 if expendable(event) else 2 if event.type == PIPELINE_COMPLETED else 1


def signs_of_life(records: list[Record]) -> dict[str, str]:
    """Take the signs of life out of a list: trace id to the latest time that they say."""
    found: dict[str, str] = {}
    for each in records:
        if each.event.type == SIGN_OF_LIFE:
            time = each.event.fields.get("time")
            found[each.trace_id] = max(found.get(each.trace_id, ""), time if isinstance(time, str) else "")
    if found:
        records[:] = [each for each in records if each.event.type != SIGN_OF_LIFE]
    return found


def rfc3339(seconds: float) -> str:
    """Seconds since 1970 as RFC 3339 text in UTC, with microseconds."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")

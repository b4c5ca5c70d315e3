"""The event: one fact of a run as a flat JSON object. All that producers and readers share."""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from itertools import count
from types import MappingProxyType
from typing import Any, Final, cast

PIPELINE_STARTED: Final = "pipeline_started"
PIPELINE_COMPLETED: Final = "pipeline_completed"
TASK_STARTED: Final = "task_started"
TASK_COMPLETED: Final = "task_completed"
TASK_ERROR: Final = "task_error"
TASK_SKIPPED: Final = "task_skipped"
TASK_LOG: Final = "task_log"
SPAN: Final = "span"
LOG_RECORD: Final = "log_record"
SIGN_OF_LIFE: Final = "sign_of_life"
CUSTOM: Final = "custom"

OURS: Final = frozenset(
    {
        *(PIPELINE_STARTED, PIPELINE_COMPLETED, TASK_STARTED, TASK_COMPLETED, TASK_ERROR, TASK_SKIPPED, TASK_LOG),
        *(SPAN, LOG_RECORD, SIGN_OF_LIFE),
    }
)
"""Types that only this package may send; a task's own event of such a type becomes `custom`."""

FACTS: Final = OURS - {TASK_LOG, LOG_RECORD, SIGN_OF_LIFE}
"""Types that a reader needs for a true picture: where there is no room, all others go first."""

_EPOCH: Final = datetime.fromtimestamp(0, timezone.utc)
_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


@dataclass(frozen=True, slots=True)
class Event:
    """One fact.

    Attributes:
        type: `pipeline_started`, `task_completed`, … or a type of the user's own.
        uid: names the fact: `{trace_id}:{span_id}:start` or `:end`. A reader takes a uid once.
        fields: all other members of the JSON object, in order; read-only.
    """

    type: str
    uid: str
    fields: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The event as a new JSON object: `type`, the event's own fields, then the common ones."""
        return {"type": self.type, **self.fields, "uid": self.uid}

    def to_json(self) -> str:
        """The event as one line of JSON text."""
        return _encode(self.to_dict())

    @classmethod
    def from_json(cls, text: str | bytes) -> Event:
        """Read what `to_json` wrote.

        Raises:
            ValueError: not a JSON object with a `type` and a `uid`.
        """
        data: object = json.loads(text)
        fields = cast("dict[str, Any]", data) if isinstance(data, dict) else {}
        if not (isinstance(fields.get("type"), str) and isinstance(fields.get("uid"), str)):
            raise ValueError("an event is a JSON object with the strings 'type' and 'uid'")
        return cls(fields.pop("type"), fields.pop("uid"), MappingProxyType(fields))


def run_fields(executor: str, *, job: bool = False) -> dict[str, Any]:
    """What both events of a run say of it: `executor`, and `kind` where it is a job; None is left out."""
    return {"kind": "job" if job else None, "executor": executor or None}


def rfc3339(nanoseconds: int) -> str:
    """Nanoseconds since 1970 as RFC 3339 text in UTC, with microseconds: `2026-11-23T21:40:00.000001Z`."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{_second(seconds)}.{rest // 1000:06d}Z"


@lru_cache(maxsize=16)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).replace(tzinfo=None).isoformat()


def nanoseconds(text: object) -> int | None:
    """RFC 3339 text as nanoseconds since 1970; None where it is none."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except (ValueError, OverflowError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


class _Nonce:
    """Makes uids for facts that have no span: a process nonce, new after a fork, and a counter."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self._nonce = secrets.token_hex(8)
        self._count = count(1)

    def uid(self) -> str:
        return f"{self._nonce}:{next(self._count)}"


_nonce = _Nonce()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_nonce.renew)
new_uid = _nonce.uid
"""A uid for an event that is neither the start nor the end of a span."""


@lru_cache(maxsize=1)
def host() -> str:
    """This machine's name."""
    return socket.gethostname()

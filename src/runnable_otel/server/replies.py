"""Answers in JSON; an error is `{"error": "one sentence"}`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response


def as_json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON value as an answer; a lone surrogate becomes an escape, as UTF-8 has no bytes for it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return json_text(text, status, headers)


def json_text(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON text as an answer."""
    body = text.encode("utf-8", "backslashreplace")  # `\\ud800`, which is what JSON calls it
    return Response(body, status, headers, "application/json")


def error(status: int, reason: str, headers: Mapping[str, str] | None = None) -> Response:
    """A refusal, with its reason in one sentence."""
    return as_json({"error": reason}, status, headers)

"""Pages of the list of runs, newest start first. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from runnable_otel.log import RunPage
from runnable_otel.log.records import storable

MOST: Final = 1000
"""Rows of a page at most."""

PAGE_START: Final = r"^[0-9:.TZ-]{27}~[^\x00-\x20\x7f]{1,256}$"
"""What the token of a page looks like."""
_PAGE_START: Final = re.compile(PAGE_START)


def page_key(started: str, trace: str) -> str:
    """Where a run stands in the list: keys sort as runs do."""
    return f"{started}~{trace}"


def start_of_page(before: str) -> str:
    """The key that a page begins below; empty for the first page, which is what a bad token gives too."""
    return storable(before) if _PAGE_START.fullmatch(before) else ""


def matches(row: Mapping[str, Any], status: str, text: str) -> bool:
    """Whether a summary is one of those asked for."""
    if status and row["status"] != status:
        return False
    wanted = text.casefold()
    return not text or any(wanted in str(row.get(name, "")).casefold() for name in ("name", "run_id", "trace_id"))


def page_of(rows: Iterable[tuple[str, Mapping[str, Any]]], limit: int, status: str, text: str) -> RunPage:
    """The first rows that are asked for, of rows with their keys, newest first."""
    limit = min(max(limit, 1), MOST)
    found: list[Mapping[str, Any]] = []
    last = ""
    for key, row in rows:
        if not matches(row, status, text):
            continue
        if len(found) == limit:
            return RunPage(found, last)
        found.append(row)
        last = key
    return RunPage(found)

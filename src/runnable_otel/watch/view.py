"""A picture as lines: what fits into a terminal, or one line for each start and end. Pure."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from runnable_otel.picture import Item, Picture
from runnable_otel.tree import Line, Node, clean, cut, draw, duration

_LONG: Final = 400  # characters of a plain line
_TEXT: Final = 1024  # characters of a value: more than a terminal shows in a line
_NEVER: Final = 2**63
_FEW: Final = 4  # lines: with fewer, one of a failure is worth more than how many are not shown
_WORDS: Final = {"success": "completed", "waiting": "waiting"}
_OVER: Final = {**_WORDS, "running": "without an end", "waiting": "not run"}
_LEFT: Final = ("running", "failed", "cancelled", "skipped", "success", "waiting")


def tree(picture: Picture, width: int, height: int, now: int) -> list[Line]:
    """The picture in at most that many lines, without line ends.

    All with its values, if that fits; else all without them; else what runs and what failed, and how many more, where
    there is a line for that.

    Args:
        picture: what is known.
        width: cells of the terminal.
        height: lines that may be had.
        now: nanoseconds since 1970.
    """
    if height <= 0:
        return []
    if len(picture.items) > height:
        told = height >= _FEW
        items = _chosen(picture, height - told)
        more = len(picture.items) - len(items) if told else 0
        return draw(_nodes(picture, items, now, values=False), width, more)[:height]
    items = [item for _, item in walk(picture.roots)]
    lines = draw(_nodes(picture, items, now, values=True), width)
    return lines if len(lines) <= height else draw(_nodes(picture, items, now, values=False), width)[:height]


def walk(items: Iterable[Item]) -> Iterator[tuple[Item | None, Item]]:
    """Each item below these, in order, with the one above it; once, also where they lie in a circle."""
    seen: set[str] = set()
    pending: list[tuple[Item | None, Item]] = []
    pending += [(None, item) for item in items][::-1]
    while pending:
        above, item = pending.pop()
        if item.key not in seen:
            seen.add(item.key)
            yield above, item
            pending += [(item, child) for child in sorted(item.children.values(), key=lambda each: each.order)[::-1]]


def counts(picture: Picture) -> str:
    """How many tasks run, failed, …: `2 running, 1 failed, 12 completed`. In a run that is over none runs."""
    words = _OVER if picture.over else _WORDS
    numbers = {**picture.tasks, "waiting": sum(item.kind == "expected" for item in picture.items.values())}
    shown = [f"{numbers[state]:,} {words.get(state, state)}" for state in _LEFT if numbers.get(state)]
    return ", ".join(shown) or "no task yet"


def entry(item: Item) -> str:
    """What has just become of an item, as one plain line; empty for what is not told: steps that wait, composites."""
    if item.kind not in ("run", "task") or item.state in ("", "waiting"):
        return ""
    text, values = [str(item.fact.get("time", ""))[11:19] or "--:--:--", clean(item.label)], _values(item)
    place = item.fact.get("run_id" if item.kind == "run" else "step")
    if isinstance(place, str) and (item.kind == "run" or "." in place):
        text.append(f"({clean(place[:_LONG])})")
    if item.state == "running":
        text += ["started", clean(values.get("inputs", ""))]
    else:
        text.append(_WORDS.get(item.state, item.state))
        if item.started is not None and item.ended is not None and item.state != "skipped":
            text.append(duration(item.ended - item.started))
        text.append(clean(values.get("status") or values.get("outputs", "")))
    return cut(" ".join(filter(None, text)), _LONG)


def _chosen(picture: Picture, height: int) -> list[Item]:
    """Half of the room for the last failures, then the tasks that have run for longest, then the run's own nodes.

    Each with what it lies in; the first failure and the first task alone, where there is no room for that.
    """
    chosen: dict[str, Item] = {}
    room = height

    def take(items: Iterable[Item], most: int) -> None:
        nonlocal room
        alone = True
        for item in items:
            new: dict[str, Item] = {}
            at: Item | None = item
            while at is not None and at.key not in chosen and at.key not in new:
                new[at.key] = at
                at = at.parent
            if alone and _lines_of(picture, new) > min(room, most):
                new = {item.key: item}
            needed, alone = _lines_of(picture, new), False
            if needed > min(room, most):
                return
            chosen.update(new)
            room, most = room - needed, most - needed

    main = picture.main
    failed = heapq.nlargest(height, picture.failed.values(), key=lambda item: (item.ended or 0, item.key))
    take([main] if main is not None else [], height)
    take(failed, max(room // 2, 2))
    take(heapq.nsmallest(height, picture.running.values(), key=lambda item: item.order), height)
    take(failed, height)
    # The composites of a run stand for what is not shown of them.
    below = sorted(main.children.values(), key=lambda item: item.order) if main is not None else []
    take([item for item in below if item.kind == "composite"], height)
    take(below, height)
    return list(chosen.values())


def _lines_of(picture: Picture, items: Mapping[str, Item]) -> int:
    """How many lines they take without their values."""
    return sum(1 + len(_leaves(picture, each, values=False)) for each in items.values())


def _leaves(picture: Picture, item: Item, *, values: bool) -> tuple[tuple[str, str], ...]:
    """What stands below it; a run's own error only where no task has it."""
    known = {} if item.kind == "run" and picture.failed else _values(item)
    return tuple((key, text) for key, text in known.items() if values or key == "status")


def _nodes(picture: Picture, items: Iterable[Item], now: int, *, values: bool) -> list[Node]:
    wanted = {item.key for item in items}
    above: dict[str, Item | None] = {}
    if len(wanted) == len(picture.items):
        above = {item.key: parent for parent, item in walk(picture.roots)}
    ordered = sorted((picture.items[key] for key in wanted), key=lambda item: item.order)
    return [_node(picture, item, above.get(item.key, item.parent), now, values=values) for item in ordered]


def _node(picture: Picture, item: Item, parent: Item | None, now: int, *, values: bool) -> Node:
    leaves = _leaves(picture, item, values=values)
    start = item.started if item.started is not None else _NEVER
    end = item.ended if item.ended is not None else start
    up = parent.key if parent is not None else None
    return Node(item.key, up, item.label, start, end, item.state, leaves, _note(picture, item, now))


def _note(picture: Picture, item: Item, now: int) -> str:
    """What stands in place of a duration, where there is none, or none yet."""
    host = item.fact.get("host")
    if item.state == "running" or item.open:
        if picture.over:
            return "[no end seen]"
        # No clock of ours is behind what has happened already.
        elapsed = max(now, picture.newest.get(host if isinstance(host, str) else "", 0)) - (item.started or now)
        return f"[running {duration(max(elapsed, 0) // 10**9 * 10**9)[1:]}"
    if item.state == "waiting":
        return "[not run]" if picture.over else "[waiting]"
    if item.state == "skipped":
        return "[skipped]"
    return "[?]" if item.started is None else ""


def _values(item: Item) -> dict[str, str]:
    """Inputs, outputs and the error of a task, or the error of a run, as text."""
    fact, found = item.fact, dict[str, str]()
    if item.kind == "task":
        found.update((key, _json(fact[key])) for key in ("inputs", "outputs") if fact.get(key) is not None)
    error = fact.get("error")
    if error and item.state in ("failed", "cancelled") and isinstance(error, str):
        found["status"] = error[:_TEXT]
    return found


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:_TEXT]

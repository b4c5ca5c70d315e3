"""A tree of spans as lines of plain text: what the console draws at a run's end, and `watch` while it goes on. Pure."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Line", "Node", "cells", "clean", "cut", "draw", "duration", "encodable", "label"]

_MIN_WIDTH: Final = 32
_COLUMN: Final = 46  # of the durations, as on the reference page; further to the right where names are longer
_STYLES = {"failed": "red", "skipped": "dim", "cancelled": "yellow", "waiting": "dim"}
_ASCII = str.maketrans("├└│─…", "|`|-~")
# ECMA-48: strings (OSC, DCS, …) up to their terminator, control sequences, and other escapes
_STRING = r"(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
_ANSI = re.compile(_STRING + r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?|\x1b[ -/]*[0-~]?")
# Control and format characters: a terminal acts upon them, hides them, or writes backwards after them
_HIDDEN = "\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff"
_INVISIBLE = re.compile(f"[{_HIDDEN}\ufff9-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e007f]")


class Node(NamedTuple):
    """What the tree needs of one span, or of what stands for one."""

    span_id: int | str
    parent_id: int | str | None
    name: str
    start: int  #: nanoseconds since the epoch
    end: int
    state: str = ""  #: ``failed``, ``skipped``, ``cancelled``, ``waiting``; anything else has no style
    leaves: tuple[tuple[str, str], ...] = ()  #: such as ``("inputs", '{"x": 10}')``, in the order of the lines
    note: str = ""  #: stands in place of the duration, such as ``[running 12s]``


class Line(NamedTuple):
    """One line: the branches of the tree, the text with its duration, and the name of a style of rich, or nothing."""

    guide: str
    text: str
    style: str = ""


def draw(nodes: Sequence[Node], width: int, more: int = 0) -> list[Line]:
    """The lines of the tree, without line ends (pure): each at most ``width`` cells wide (or 32, where that is more).

    Children come after their parent's leaves, in the order of their start. A node whose parent is not among the nodes
    is a root. Control characters and terminal sequences are removed; what is cut ends in ``…``.

    Args:
        nodes: the spans, in any order.
        width: cells of the terminal; a wide character takes two.
        more: how many spans are not among the nodes; above zero, a last line says so.
    """
    width = max(width, _MIN_WIDTH)
    rows = _rows(nodes, width // 3)
    widest = max((len(took) for _, _, took, _ in rows), default=0)
    longest = max((len(guide) + cells(text) + 2 for guide, text, took, _ in rows if took), default=0)
    column = min(max(longest, _COLUMN), width - widest)
    lines: list[Line] = []
    for guide, text, took, style in rows:
        shown = cut(text, (column - 1 if took else width) - len(guide))
        gap = " " * (column - len(guide) - cells(shown)) if took else ""
        lines.append(Line(guide, shown + gap + took, style))
    return [*lines, Line("", f"… and {min(more, 10**9):,} more", "dim")] if more > 0 else lines


def _rows(nodes: Sequence[Node], deepest: int) -> list[tuple[str, str, str, str]]:
    """Guide, text, duration (empty for a leaf) and style of each line, with nothing cut yet."""
    ids = {node.span_id for node in nodes}
    children: dict[int | str | None, list[Node]] = {}
    for node in sorted(nodes, key=lambda node: node.start):
        children.setdefault(node.parent_id if node.parent_id in ids else None, []).append(node)
    rows: list[tuple[str, str, str, str]] = []
    # Not recursive: a tree may be deeper than Python's stack. A list of children is taken once, so that neither two
    # spans with one id nor a circle of parents draws anything twice.
    pending: list[tuple[Node | tuple[str, str], str, str]] = [(root, "", "") for root in children.pop(None, [])[::-1]]
    while pending:
        item, guide, below = pending.pop()
        if not isinstance(item, Node):
            rows.append((guide, item[0], "", item[1]))
            continue
        style = _STYLES.get(item.state, "")
        rows.append((guide, clean(item.name), item.note or duration(item.end - item.start), style))
        parts: list[Node | tuple[str, str]] = [
            (f"{key}: {clean(text)}", style if key == "status" or style == "dim" else "") for key, text in item.leaves
        ]
        parts += children.pop(item.span_id, [])
        for number, part in enumerate(reversed(parts)):
            # Beyond this depth levels stop moving to the right: their names would leave the terminal.
            indent = below if len(below) + 4 > deepest else below + ("│   " if number else "    ")
            pending.append((part, below + ("├── " if number else "└── "), indent))
    return rows


def duration(nanoseconds: int) -> str:
    """`[31ms]`, `[2.5s]`, `[1m 05s]` or `[3h 00m]`; never negative."""
    milliseconds = (max(nanoseconds, 0) + 500_000) // 1_000_000  # negative where the clock was set back
    tenths = (milliseconds + 50) // 100
    if milliseconds < 100:  # the reference page writes half a second as 0.5s
        return f"[{milliseconds}ms]"
    if tenths < 600:
        return f"[{tenths // 10}.{tenths % 10}s]"
    minutes, seconds = divmod((milliseconds + 500) // 1000, 60)
    return f"[{minutes}m {seconds:02}s]" if minutes < 60 else f"[{min(minutes // 60, 9999)}h {minutes % 60:02}m]"


def clean(text: str) -> str:
    """One line of visible text, in which neither the terminal nor an encoder finds anything to act upon."""
    return _INVISIBLE.sub("", " ".join(_ANSI.sub("", text).split())).encode("utf-8", "replace").decode("utf-8")


@lru_cache(4096)
def _cell(character: str) -> int:
    # Where terminals don't agree, the most: a column that is out of place costs less than a line that goes on below.
    if character == "\ufe0f" or "\U0001f1e6" <= character <= "\U0001f1ff":  # makes an emoji of what precedes; flags
        return 1 if character == "\ufe0f" else 2
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cells(text: str) -> int:
    """How many cells of a terminal a text takes that has passed `clean`."""
    return len(text) if text.isascii() else sum(map(_cell, text))


def cut(text: str, most: int) -> str:
    """As much of a text as takes at most that many cells; with `…` for what is cut."""
    if text.isascii() and len(text) <= most:
        return text
    taken = end = 0
    for index, character in enumerate(text, 1):
        taken += _cell(character)
        if taken > most:
            return text[:end] + "…"
        if taken < most:
            end = index
    return text


def label(name: str, attributes: Mapping[str, object]) -> str:
    """What a span is called in the tree: all items of a map have one name, so the item stands behind it."""
    if name.startswith("branch:"):
        items = [value for key, value in attributes.items() if key.startswith("runnable.map.")]
        if items:
            return f"{name} = {items[-1]}"
        if name == "branch:round":
            return f"{name} {str(attributes.get('runnable.branch.name', '')).rpartition('.')[2]}"
    return name


def encodable(text: str, encoding: str | None) -> str:
    """The text as a stream of that encoding can write it: with the branches in ASCII where it has none."""
    encoding = encoding or "utf-8"
    if text.encode(encoding, "replace").decode(encoding) == text:
        return text
    return text.translate(_ASCII).encode(encoding, "replace").decode(encoding)

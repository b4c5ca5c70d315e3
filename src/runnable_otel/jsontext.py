"""Text of bounded size: JSON of plain values while it fits, JSON strings that are cut, one-line names. Pure."""

from __future__ import annotations

import re
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any, Final, cast

from runnable_otel.foreign import builtin_base, class_of, type_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from runnable_otel.redact import Redactor

__all__ = ["BREADTH", "CUT", "DEPTH", "KEY_BYTES", "clip", "fitting", "fold", "quoted", "size", "whole"]
__all__ += ["dict_get", "dict_items", "dict_len", "key_text", "number", "whole_dict"]

# The slots of the builtin, whatever a subclass redefines.
dict_items = cast("Callable[[object], Iterable[tuple[Any, Any]]]", vars(dict)["items"])
dict_get = cast("Callable[[object, str], Any]", vars(dict)["get"])
dict_len = cast("Callable[[object], int]", vars(dict)["__len__"])

DEPTH: Final = 6
"""Containers inside one another; the outermost mapping is not counted."""
BREADTH: Final = 32
"""Members of one container; of the outermost mapping as many as fit."""
KEY_BYTES: Final = 256
"""Bytes of one key."""
CUT: Final = '"…"'
"""Where something is left out: the least that a value can be cut to, 5 bytes."""

_CUT_BYTES: Final = 5
_MEMBER: Final = 7  # the least that a member and its separator take
_INT_BITS: Final = 2048  # 617 digits: written in microseconds, and within any sys.set_int_max_str_digits
_NOT_FINITE: Final = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}  # as JavaScript writes them
_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_ESCAPED: Final = re.compile(r"(?:[^\\]|\\u[0-9a-f]{4}|\\[^u])*")  # as far as the escapes are complete
# ANSI sequences (ECMA-48 section 5.4), control characters, and those that reorder a line (Unicode annex 9).
_UNPRINTABLE: Final = re.compile(
    "\x1b\\[[0-?]{0,32}[ -/]{0,8}[@-~]|[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


def size(text: str) -> int:
    """Bytes of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def clip(text: str, limit: int) -> str:
    """A text that is valid UTF-8 and at most `limit` bytes; `…` marks a cut. Lone surrogates become U+FFFD."""
    head = str.__getitem__(text, slice(0, limit + 1))  # each character takes a byte; of a subclass an exact copy
    if head.isascii():
        if len(head) <= limit:
            return head
    else:
        head = _SURROGATES.sub("\ufffd", head)
        if len(head) <= limit and size(head) <= limit:
            return head
    return head.encode()[: limit - 3].decode(errors="ignore") + "…" if limit >= 3 else ""


def fold(text: str, limit_chars: int) -> str:
    """A text on one line: whitespace folded, control characters removed, at most that many characters.

    Reads about 8 characters for each one that it returns, so a text with more white space than that comes out short.
    """
    head = str.__getitem__(text, slice(0, 8 * limit_chars + 256))
    line = _SURROGATES.sub("\ufffd", _UNPRINTABLE.sub("", " ".join(head.split())))
    return line[:limit_chars]


def quoted(text: str, room: int, more: bool = False) -> tuple[str, bool]:
    """A text as a JSON string of at most `room` bytes (5 or more), and whether it was cut; `more`: the text goes on."""
    if len(text) > room:
        text, more = text[:room], True
    text = encode_basestring(text)
    if not text.isascii():
        text = _SURROGATES.sub("\ufffd", text)
    if not more and size(text) <= room:
        return text, False
    text = text[:-1].encode()[: room - 4].decode(errors="ignore")  # a character at the cut is left out whole
    complete = _ESCAPED.match(text) if "\\" in text[-6:] else None
    return f'{complete[0] if complete else text}…"', True


def fitting(text: str | None, room: int) -> str | None:
    """The text if it is valid UTF-8 of at most `room` bytes."""
    if text is None or text.isascii():
        return text if text is not None and len(text) <= room else None
    return text if not _SURROGATES.search(text) and len(text.encode()) <= room else None


def whole(value: Any, room: int, depth: int, redactor: Redactor | None) -> str | None:
    """JSON of a plain value that needs neither cut nor mask; None when it does, or once it is over `room` characters.

    Containers are plain down to `DEPTH`: to ask for none pass a greater depth. A single number may be over `room`.
    """
    kind = class_of(value)
    if kind is str:
        if len(value) > room or (redactor is not None and redactor.text(value) is not value):
            return None
        return encode_basestring(value)
    if kind is int and -1000 < value < 1000:  # three digits are no secret
        return int.__repr__(value)
    if value is None or kind is bool:
        return "null" if value is None else "true" if value else "false"
    if (kind is int and value.bit_length() <= _INT_BITS) or (kind is float and value - value == 0):
        text = kind.__repr__(value)
        return text if redactor is None or redactor.text(text) is text else None
    if depth > DEPTH or (kind is not dict and kind is not list and kind is not tuple) or len(value) > BREADTH:
        return None
    return (whole_dict if kind is dict else _whole_list)(value, room, depth, redactor)


def whole_dict(values: object, room: int, depth: int, redactor: Redactor | None) -> str | None:
    """The same of a dict of any breadth, or of an instance of a subclass."""
    if dict_len(values) * _MEMBER > room:
        return None
    parts: list[str] = []
    for name, value in dict_items(values):
        if type(name) is not str or len(name) > KEY_BYTES or (redactor is not None and not redactor.passes(name)):
            return None
        text = whole(value, room, depth + 1, redactor)
        if text is None:
            return None
        text = f"{encode_basestring(name)}: {text}"
        room -= len(text) + 2  # n members come with 2 braces and n - 1 separators: 2 n characters
        if room < 0:
            return None
        parts.append(text)
    return f"{{{', '.join(parts)}}}"


def _whole_list(values: list[Any], room: int, depth: int, redactor: Redactor | None) -> str | None:
    parts: list[str] = []
    for value in values:
        text = whole(value, room, depth + 1, redactor)
        if text is None:
            return None
        room -= len(text) + 2
        if room < 0:
            return None
        parts.append(text)
    return f"[{', '.join(parts)}]"


def number(base: Any, value: Any) -> tuple[str, bool]:
    """The text of an int, float or complex by the slots of that builtin, and whether it is a JSON number."""
    if base is int:
        bits = int.bit_length(value)
        return (int.__repr__(value), True) if bits <= _INT_BITS else (f"<int: {bits} bits>", False)
    text: str = base.__repr__(value)
    return _NOT_FINITE.get(text, text), base is float and text not in _NOT_FINITE


def key_text(name: Any) -> str:
    """The text of a key, as JSON would write it: names, numbers and constants; `<Type>` for others."""
    kind = class_of(name)
    if kind is str:
        return name
    if name is None or kind is bool:
        return "null" if name is None else "true" if name else "false"
    base = builtin_base(kind)
    if base is str:
        return str.__getitem__(name, slice(0, 4 * KEY_BYTES))
    return number(base, name)[0] if base in (int, float) else f"<{type_name(kind)}>"

"""Any Python values as one bounded JSON text, in time and memory of the order of the limit, never of the values.

Redaction comes first: a text is masked on a window beyond what is shown of it, and cut afterwards. Then the budget: all
keys that fit, then the values, which share what is left; small values stay whole, and what they leave goes to large
ones. What is cut is marked with `…`. No code of a user's class runs: builtins are read by their own slots, whatever a
subclass redefines, and `foreign` knows the rest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from itertools import islice
from typing import Any, Final, Literal, NamedTuple

from runnable_otel.foreign import OBJECT, SECRET, builtin_base, class_of, plain, type_name
from runnable_otel.jsontext import (
    BREADTH,
    CUT,
    DEPTH,
    KEY_BYTES,
    clip,
    dict_items,
    dict_len,
    fold,
    key_text,
    number,
    quoted,
    scalar,
    size,
    whole,
    whole_dict,
)
from runnable_otel.redact import MASK, Redactor

__all__ = ["OBJECT", "Captured", "capture", "clip", "fold"]

_CUT_BYTES: Final = 5
_CUT_MEMBER: Final = f"{CUT}: {CUT}"
_CUT_MEMBER_BYTES: Final = 12
_WORTHWHILE: Final = 8  # bytes left over for which a cut value is written once more


class Captured(NamedTuple):
    """A JSON object as text.

    Attributes:
        text: RFC 8259 JSON, encodable as UTF-8, at most the number of bytes that was asked for.
        truncated: something was cut.
        redacted: something was masked.
    """

    text: str
    truncated: bool
    redacted: bool


def capture(
    values: Mapping[str, object],
    limit: int,
    *,
    redactor: Redactor | None = None,
    mode: Literal["values", "keys", "none"] = "values",
) -> Captured:
    """Show named values as one JSON object of at most `limit` bytes.

    Never raises an `Exception`, and never runs code of a user's class: what cannot be shown is
    `<unserializable: TypeName>`.

    Args:
        values: names and values; a dict, or of a subclass.
        limit: UTF-8 bytes, 32 to 65536.
        redactor: masks secrets; without one only those values are masked that say themselves that they are secret.
        mode: `values`, or `keys` for names and type names only, or `none` for `{}`.
    """
    try:
        if mode == "none":
            return Captured("{}", False, False)
        if mode == "values" and issubclass(type(values), dict):
            text = whole_dict(values, limit, 0, redactor)
            if text is not None:
                return Captured(text, False, False)
        writer = _Writer(redactor)
        return Captured(writer.outermost(values, limit, mode == "keys"), writer.cut, writer.masked)
    except Exception:  # noqa: BLE001 - the host comes first: a dict that another thread changes, memory that is out
        return Captured(f"{{{_CUT_MEMBER}}}", True, False)


class _Member:
    """One member of an object while the budget is shared out.

    Attributes:
        text: JSON of the value; empty until it is written.
        size: bytes of the text, or those of `"…"` while it is empty.
    """

    __slots__ = ("cut", "key", "secret", "size", "starved", "text", "value")

    def __init__(self, key: str, value: object, secret: bool, text: str) -> None:
        self.key, self.value, self.secret, self.text = key, value, secret, text
        self.size = len(text) or _CUT_BYTES
        self.cut = self.starved = False


class _Writer:
    """Writes values that have to be cut or masked. Each `room` is in bytes, 5 or more, and is never exceeded.

    Attributes:
        cut: something was cut.
        starved: of that, something for want of room, so that more room would show more.
        masked: something was masked.
    """

    __slots__ = ("cut", "masked", "redactor", "starved")

    def __init__(self, redactor: Redactor | None) -> None:
        self.redactor = redactor
        self.cut = self.starved = self.masked = False

    def outermost(self, values: Mapping[str, object], limit: int, types_only: bool) -> str:
        if not issubclass(type(values), dict):  # to iterate it would be to run a user's code
            return f'{{"…": {self.quoted(f"<unserializable: {type_name(type(values))}>", limit - 9)}}}'
        pairs = dict_items(values)
        if types_only:
            pairs = ((name, _shown_type(value)) for name, value in pairs)
        # A member takes 7 bytes or more, but one that is left out as a duplicate takes none: so they are counted too.
        pairs = islice(pairs, max(BREADTH, limit // 7 + 1))
        return self.object(pairs, dict_len(values), limit, 0, not types_only)

    def value(self, value: object, room: int, depth: int) -> str:
        kind = class_of(value)
        try:
            # Of containers only a member's own value: to try it at each depth would be to read all of it as many times.
            text = whole(value, room, 1, self.redactor) if depth == 1 else scalar(value, room, self.redactor)
            if text is not None:
                return text
            base = builtin_base(kind) if type(kind) is type or not issubclass(kind, Enum) else None
            if base is not None:
                return _WRITERS[base](self, base, value, room, depth)
        except (RuntimeError, ValueError):  # changed by another thread meanwhile; a memoryview that was released
            return self.quoted(f"<unserializable: {type_name(kind)}>", room)
        shown = plain(value)
        if shown is SECRET:
            return self.secret(room)
        if depth > DEPTH and type(shown) not in (str, int, float, bool):  # an enum member may be its own value
            self.cut = True
            return CUT
        return self.value(shown, room, depth + (type(shown) is not dict))

    def quoted(self, text: str, room: int, more: bool = False) -> str:
        text, cut = quoted(text, room, more)
        if cut:
            self.cut = self.starved = True
        return text

    def secret(self, room: int) -> str:
        self.masked = True
        return self.quoted(MASK, room)

    def masking(self, value: str, length: int) -> tuple[str, bool]:
        """The masked beginning of a text, as an exact `str`, and whether the text goes on beyond it."""
        if self.redactor is None:
            return str.__getitem__(value, slice(0, length)), str.__len__(value) > length
        text, masked, more = self.redactor.head(value, length)
        self.masked = self.masked or masked
        return text, more

    def string(self, _base: Any, value: Any, room: int, _depth: int) -> str:
        text, more = self.masking(value, room)
        return self.quoted(text, room, more)

    def number(self, base: Any, value: Any, room: int, _depth: int) -> str:
        text, bare = number(base, value)
        masked, _ = self.masking(text, len(text))
        return text if bare and masked is text and len(text) <= room else self.quoted(masked, room)

    def digest(self, base: Any, value: Any, room: int, _depth: int) -> str:
        count: int = value.nbytes if base is memoryview else base.__len__(value)
        return self.quoted(f"<{base.__name__}: {count}>", room)

    def items(self, base: Any, value: Any, room: int, depth: int) -> str:
        """A list, a tuple or a set: its first elements, one after the other, each as whole as it can be."""
        count: int = base.__len__(value)
        if count and (room < _CUT_BYTES + 2 or depth > DEPTH):
            self.cut, self.starved = True, self.starved or depth <= DEPTH
            return CUT
        parts: list[str] = []
        used = 2
        for element in islice(base.__iter__(value), BREADTH):
            separator = 2 if parts else 0
            after = _CUT_BYTES + 2 if len(parts) + 1 < count else 0  # bytes to keep for the mark
            text = self.value(element, max(room - used - separator - after, _CUT_BYTES), depth + 1)
            if used + separator + size(text) + after > room:
                self.starved = True
                break
            parts.append(text)
            used += separator + size(text)
        if len(parts) < count:
            self.cut = True
            parts.append(CUT)
        return f"[{', '.join(parts)}]"

    def members(self, _base: Any, value: Any, room: int, depth: int) -> str:
        count = dict_len(value)
        if count and (room < _CUT_MEMBER_BYTES + 2 or depth > DEPTH):
            self.cut, self.starved = True, self.starved or depth <= DEPTH
            return CUT
        return self.object(islice(dict_items(value), BREADTH), count, room, depth, True)

    def object(self, pairs: Iterable[tuple[object, object]], count: int, room: int, depth: int, masking: bool) -> str:
        members, left, complete = self.placed(pairs, count, room, masking)
        cut, starved = self.cut or not complete, self.starved
        left = self.share([member for member in members if not member.text], left, depth)
        if depth == 0:  # once is enough, and once more at each depth would be 64 times
            self.share([member for member in members if member.starved], left, depth)
        self.cut = cut or any(member.cut for member in members)
        self.starved = starved or any(member.starved for member in members)
        parts = [f"{member.key}: {member.text}" for member in members]
        return f"{{{', '.join(parts if complete else [*parts, _CUT_MEMBER])}}}"

    def placed(
        self, pairs: Iterable[tuple[object, object]], count: int, room: int, masking: bool
    ) -> tuple[list[_Member], int, bool]:
        """The members whose keys fit, the bytes left for their values beyond the least, and whether these are all."""
        members: list[_Member] = []
        seen: set[str] = set()
        used, taken, kept = 2, 0, (0, 2)  # kept: how many fit beside the mark, and the bytes that they take
        for name, value in pairs:
            separator = 2 if members else 0
            # The first key is cut if it has to be, beside the mark; later ones are whole or left out.
            reserve = None if members else _CUT_MEMBER_BYTES + 2
            member = self.member(name, value, room - used - separator, reserve, masking)
            if member is None:
                self.starved = True
                break
            taken += 1
            if member.key in seen:  # 1 and "1" are two keys in Python and one in JSON
                self.cut = True
                continue
            seen.add(member.key)
            members.append(member)
            used += separator + size(member.key) + 2 + member.size
            if used + 2 + _CUT_MEMBER_BYTES <= room:
                kept = len(members), used
        if taken == count:
            return members, room - used, True
        if members and not kept[0] and (space := room - 4 - members[0].size - 2 - _CUT_MEMBER_BYTES) >= _CUT_BYTES:
            members[0].key, _ = quoted(json.loads(members[0].key), space)  # one fits, but not whole beside the mark
            kept = 1, 4 + size(members[0].key) + members[0].size
        del members[kept[0] :]
        return members, room - kept[1] - _CUT_MEMBER_BYTES - (2 if members else 0), False

    def member(self, name: object, value: object, room: int, reserve: int | None, masking: bool) -> _Member | None:
        """A member with its key, and the least of its value, in `room` bytes; None when that is too little.

        A key that does not fit is cut so that `reserve` bytes are left; None: it is not cut.
        """
        text = key_text(name)
        secret, more = False, False
        if len(text) > KEY_BYTES or not (self.redactor is None or self.redactor.passes(text)):
            secret = masking and self.redactor is not None and self.redactor.key(text[: 2 * KEY_BYTES])
            text, more = self.masking(text, KEY_BYTES)
        # What takes no more than the least anyway is written at once.
        member = _Member("", value, secret, "" if secret else scalar(value, _CUT_BYTES, self.redactor) or "")
        room -= 2 + member.size
        member.key, cut = quoted(text, KEY_BYTES, more)
        if size(member.key) > room:
            if reserve is None or room - reserve < _CUT_BYTES:
                return None
            member.key, cut = quoted(text, min(room - reserve, KEY_BYTES), more)
        self.cut = self.cut or cut
        return member

    def share(self, members: list[_Member], left: int, depth: int) -> int:
        """Write these values: each may take its share of what is left, and passes on what it does not need."""
        for at, member in enumerate(members):
            if member.text and left < _WORTHWHILE:
                break
            self.cut = self.starved = False
            room = member.size + left // (len(members) - at)
            member.text = self.secret(room) if member.secret else self.value(member.value, room, depth + 1)
            member.cut, member.starved = self.cut, self.starved
            left += member.size
            member.size = size(member.text)
            left -= member.size
        return left


_Write = Callable[[_Writer, Any, Any, int, int], str]
_WRITERS: Final[dict[type, _Write]] = {
    str: _Writer.string,
    int: _Writer.number,
    float: _Writer.number,
    complex: _Writer.number,
    bytes: _Writer.digest,
    bytearray: _Writer.digest,
    memoryview: _Writer.digest,
    list: _Writer.items,
    tuple: _Writer.items,
    set: _Writer.items,
    frozenset: _Writer.items,
    dict: _Writer.members,
}


def _shown_type(value: object) -> str:
    return "object" if value is OBJECT else type_name(type(value))

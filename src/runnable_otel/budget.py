"""JSON of values that do not fit as they are: which keys are shown, and how the values share what is left.

All keys that fit come first, in order; then each value gets its share, small ones stay whole, and what they leave goes
to large ones. A text is masked on a window beyond what is shown of it, and cut afterwards. No code of a user's class
runs: builtins are read by their own slots, whatever a subclass redefines, and `foreign` knows the rest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from runnable_otel.foreign import OBJECT, SECRET, Digest, builtin_base, class_of, plain, type_name
from runnable_otel.jsontext import (
    BREADTH,
    CUT,
    DEPTH,
    KEY_BYTES,
    dict_items,
    dict_len,
    fitting,
    key_text,
    number,
    quoted,
    size,
    whole,
)
from runnable_otel.secret_texts import MASK

if TYPE_CHECKING:
    from runnable_otel.redact import Redactor

__all__ = ["CUT_MEMBER", "Writer"]

CUT_MEMBER: Final = f"{CUT}: {CUT}"
"""The last member of an object where members are left out."""

_CUT_BYTES: Final = 5
_CUT_MEMBER_BYTES: Final = 12
_WORTHWHILE: Final = 16  # bytes left over for which cut values are written once more
_ROUNDS: Final = 3


class _Member:
    """One member of an object while the budget is shared out.

    Attributes:
        text: JSON of the value; empty until it is written.
        size: bytes of the text, or those of `"…"` while it is empty.
    """

    __slots__ = ("cut", "key", "size", "starved", "text", "value")

    def __init__(self, key: str, value: object, text: str | None) -> None:
        self.key, self.value, self.text = key, value, text or ""
        self.size = size(text) if text else _CUT_BYTES
        self.cut = self.starved = False


class Writer:
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

    def outermost(self, values: object, limit: int, types_only: bool) -> str:
        """An object of at most `limit` bytes (32 or more), of the names and values of a dict, or of their types."""
        kind = class_of(values)
        if not issubclass(kind, dict):  # to iterate it would be to run a user's code
            return f'{{"…": {self.quoted(f"<unserializable: {type_name(kind)}>", limit - 9)}}}'
        pairs = dict_items(values)
        if types_only:
            pairs = ((name, _shown_type(value)) for name, value in pairs)
        # A member takes 7 bytes or more, but one that is left out as a duplicate takes none: so they are counted too.
        pairs = islice(pairs, max(BREADTH, limit // 7 + 1))
        return self.object(pairs, dict_len(values), limit, 0, not types_only)

    def value(self, value: object, room: int, depth: int) -> str:
        """A value that `plain` gave."""
        kind = class_of(value)
        if kind is str:
            return self.string(str, value, room, depth)
        if value is SECRET:
            return self.secret(room)
        if kind is Digest:
            return self.quoted(str(value), room)
        try:
            base = None if kind is bool else builtin_base(kind)
            if base is None:  # a constant, of 5 bytes at most
                return whole(value, room, depth, None) or CUT
            return _WRITERS[base](self, base, value, room, depth)
        except (RuntimeError, ValueError):  # changed by another thread meanwhile; a released memoryview
            return self.quoted(f"<unserializable: {type_name(kind)}>", room)

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
        used = kept = (
            0  # n elements and their brackets and separators take 2 n bytes more; kept: what fits with the mark
        )
        for element in islice(base.__iter__(value), BREADTH):
            space = room - used - 2
            text = whole(element, space, DEPTH + 1, self.redactor)
            took = len(text) if text is not None and text.isascii() else space + 1
            if text is None or took > space:
                space -= _CUT_BYTES + 2 if len(parts) + 1 < count else 0
                text = fitting(text, space) or self.value(plain(element), max(space, _CUT_BYTES), depth + 1)
                took = size(text)
            if took > space:
                self.starved = True
                break
            parts.append(text)
            used += took + 2
            kept = len(parts) if used + _CUT_BYTES + 2 <= room else kept
        if len(parts) < count:
            self.cut = True
            parts[kept:] = [CUT]
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
        for _ in range(_ROUNDS if depth == 0 else 0):  # at each depth it would be that many times to the power of six
            left = self.share([member for member in members if member.starved], left, depth)
        self.cut = cut or any(member.cut for member in members)
        self.starved = starved or any(member.starved for member in members)
        parts = [f"{member.key}: {member.text}" for member in members]
        return f"{{{', '.join(parts if complete else [*parts, CUT_MEMBER])}}}"

    def placed(
        self, pairs: Iterable[tuple[object, object]], count: int, room: int, masking: bool
    ) -> tuple[list[_Member], int, bool]:
        """The members whose keys fit, the bytes left for their values beyond the least, and whether these are all."""
        members: list[_Member] = []
        seen = {CUT}  # the mark's own key
        used, kept = 2, (0, 2)  # kept: how many fit beside the mark, and the bytes that they take
        for name, value in pairs:
            separator = 2 if members else 0
            # The first key is cut if it has to be, beside the mark; later ones are whole or left out.
            reserve = None if members else _CUT_MEMBER_BYTES + 2
            member = self.member(name, value, room - used - separator, reserve, masking)
            if member is None:
                self.starved = True
                break
            if member.key in seen:  # 1 and "1" are two keys in Python and one in JSON
                continue
            seen.add(member.key)
            members.append(member)
            used += separator + size(member.key) + 2 + member.size
            if used + 2 + _CUT_MEMBER_BYTES <= room:
                kept = len(members), used
        if len(members) == count:
            return members, room - used, True
        if members and not kept[0] and (space := room - 4 - members[0].size - 2 - _CUT_MEMBER_BYTES) > _CUT_BYTES:
            members[0].key, _ = quoted(json.loads(members[0].key), space)  # one fits, but not whole beside the mark
            kept = (1, 4 + size(members[0].key) + members[0].size) if members[0].key != CUT else kept
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
        written = None if secret else fitting(whole(value, _CUT_BYTES, DEPTH + 1, self.redactor), _CUT_BYTES)
        room -= 2 + (size(written) if written else _CUT_BYTES)
        key, cut = quoted(text, KEY_BYTES, more)
        if size(key) > room:
            if reserve is None or room - reserve <= _CUT_BYTES:
                return None
            key, cut = quoted(text, min(room - reserve, KEY_BYTES), more)
        self.cut = self.cut or cut
        return _Member(key, SECRET if secret else value if written else plain(value), written)

    def share(self, members: list[_Member], left: int, depth: int) -> int:
        """Write these values: each may take its share of what is left, and passes on what it does not need."""
        for at, member in enumerate(members):
            if member.text and left < _WORTHWHILE:
                break
            self.cut = self.starved = False
            room = member.size + left // (len(members) - at)
            member.text = self.value(member.value, room, depth + 1)
            member.cut, member.starved = self.cut, self.starved
            left += member.size
            member.size = size(member.text)
            left -= member.size
        return left


_Write = Callable[[Writer, Any, Any, int, int], str]
_WRITERS: Final[dict[type, _Write]] = {
    str: Writer.string,
    int: Writer.number,
    float: Writer.number,
    complex: Writer.number,
    bytes: Writer.digest,
    bytearray: Writer.digest,
    memoryview: Writer.digest,
    list: Writer.items,
    tuple: Writer.items,
    set: Writer.items,
    frozenset: Writer.items,
    dict: Writer.members,
}


def _shown_type(value: object) -> str:
    return "object" if value is OBJECT else type_name(class_of(value))

"""Any Python values as one bounded JSON text, in time and memory of the order of the limit, never of the values."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from runnable_otel.budget import CUT_MEMBER, Writer
from runnable_otel.foreign import OBJECT, class_of
from runnable_otel.jsontext import clip, fitting, fold, whole_dict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runnable_otel.redact import Redactor

__all__ = ["OBJECT", "Captured", "capture", "clip", "fold"]


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
        if mode == "values":
            kind = class_of(values)
            text = whole_dict(values, limit, 0, redactor) if kind is dict or issubclass(kind, dict) else None
            if text is not None and (len(text) <= limit if text.isascii() else fitting(text, limit)):
                return _captured((text, False, False))
        elif mode == "none":
            return Captured("{}", False, False)
        writer = Writer(redactor)
        return Captured(writer.outermost(values, limit, mode == "keys"), writer.cut, writer.masked)
    except Exception:  # noqa: BLE001 - the host comes first: a dict that another thread changes, memory that is out
        return Captured(f"{{{CUT_MEMBER}}}", True, False)


# A third of the cost of a small value is the constructor that `NamedTuple` writes.
_captured = cast("Callable[[tuple[str, bool, bool]], Captured]", partial(vars(tuple)["__new__"], Captured))

"""What the doctor says of one thing."""

from __future__ import annotations

from typing import Literal, NamedTuple

Level = Literal["ok", "note", "warning", "wrong"]


class Finding(NamedTuple):
    """One line.

    Attributes:
        level: `ok`; `note`, good to know; `warning`, may be meant so; `wrong`, telemetry does not do what it should.
        thing: what was looked at.
        says: what was found, and where it is wrong what mends it.
    """

    level: Level
    thing: str
    says: str

    def line(self) -> str:
        """The finding on one line, without control characters: an exception's text may be anybody's."""
        text = " ".join(f"{self.thing}: {self.says}".split())
        return f"{self.level:<7}  {''.join(each if each.isprintable() else '�' for each in text)[:400]}"

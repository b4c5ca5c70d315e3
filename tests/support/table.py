"""The table that `make test-collector` prints: file x (validates, runs, assertions)."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Row:
    """What held for a file, or for a combination of files."""

    validates: bool = False
    runs: bool = False
    held: list[str] = field(default_factory=list)


class Table:
    """Filled by the tests, printed at the end of the session."""

    def __init__(self) -> None:
        self.versions: list[str] = []
        self._rows: dict[str, Row] = {}

    def row(self, files: str) -> Row:
        return self._rows.setdefault(files, Row())

    def held(self, files: str, what: str) -> None:
        """An assertion held, with its figures."""
        self.row(files).held.append(what)

    def lines(self) -> list[str]:
        """The table as text; nothing where no test filled it."""
        if not self._rows:
            return []
        lines = [*self.versions, f"{'base.yaml with':46}{'validates':11}{'runs':6}assertions"]
        for files, row in self._rows.items():
            said = {True: "yes", False: "-"}
            first, *more = row.held or [""]
            lines.append(f"{files:46}{said[row.validates]:11}{said[row.runs]:6}{first}")
            lines += [f"{'':63}{what}" for what in more]
        return lines


TABLE = Table()

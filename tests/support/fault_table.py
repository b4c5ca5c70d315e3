"""The table of the fault matrix: each cell with what was promised and what was measured."""

from __future__ import annotations

from collections import Counter
from typing import Final

from support.fault_cells import Cell
from support.fault_promises import Verdict

ROWS: Final[list[tuple[Cell, Verdict]]] = []
"""What the tests of this session measured."""
FIGURES: Final[list[str]] = []
"""Further lines: what the sweep of secrets and the soak found."""


def table() -> list[str]:
    """The table as lines of text."""
    lines = [f"{'input':22}{'fault':18}{'way in':12}{'wire':6}{'':8}{'promised':38}measured"]
    for cell, verdict in ROWS:
        wire = cell.protocol.partition("/")[0]
        held = "" if verdict.held else "  BROKEN"
        where = f"{cell.input:22}{cell.fault:18}{cell.way:12}{wire:6}"
        lines.append(f"{where}{verdict.promise:8}{verdict.promised:38}{verdict.measured}{held}")
    return lines


def totals() -> list[str]:
    """In how many cells each promise held, and the further figures."""
    counts: Counter[tuple[str, bool]] = Counter((verdict.promise, verdict.held) for _, verdict in ROWS)
    cells = len({cell for cell, _ in ROWS})
    names = sorted({name for name, _ in counts})
    held = [f"{name} {counts[name, True]} of {counts[name, True] + counts[name, False]}" for name in names]
    return [*([f"{cells} cells: {', '.join(held)}"] if cells else ()), *FIGURES]

"""The fault matrix: whatever a value, an endpoint or the process's end does, the host's run is as it is without us.

`make faults` runs every input and every fault by every way in, and their pairs, and prints the table; `make test` a
slice of it. Each cell is a real interpreter, side by side with the same one without this package.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.fault_cells import FAULTS, Cell, chosen_pairs, quick, rows
from support.fault_promises import exit_delay, judge
from support.fault_run import Board, disks_can_be_made, still
from support.fault_table import ROWS

QUICK = quick()
HEAVY = [cell for cell in dict.fromkeys([*rows(), *chosen_pairs()]) if cell not in QUICK]
TIMED = [name for name, fault in FAULTS.items() if fault.exit_seconds is not None]


@pytest.fixture(scope="module")
def board(request: pytest.FixtureRequest) -> Iterator[Board]:
    """Runs all cells of this session, a few at once, while the tests wait for one after the other."""
    items = [item for item in request.session.items if item.path == request.path]
    wanted = [item.callspec.params["cell"] for item in items if "cell" in item.callspec.params]
    timed = [cell for item in items if "fault" in item.callspec.params for cell in _rows(item.callspec.params["fault"])]
    board = Board(list(dict.fromkeys([*wanted, *timed])))
    yield board
    board.close()


@pytest.mark.parametrize(
    "cell",
    [*QUICK, *(pytest.param(cell, marks=pytest.mark.faults) for cell in HEAVY)],
    ids=str,
)
def test_cell(cell: Cell, board: Board) -> None:
    """Result, exception, exit code, output and run log are the same; each span is delivered, spooled or counted."""
    if cell.fault in ("spool_full", "spool_read_only") and not disks_can_be_made():
        pytest.skip("needs unshare, with the right to mount")
    ran, without = board.both(cell)
    verdicts = judge(cell, ran, without)
    ROWS.extend((cell, verdict) for verdict in verdicts)
    broken = [verdict for verdict in verdicts if not verdict.held]
    said = "\n".join(f"{v.promise}: promised {v.promised}, measured {v.measured}\n{v.detail}" for v in broken)
    assert not broken, f"{said}\n{ran.stderr[-3000:]}"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("[21:30:11] {", "           {"),
        (r"'utf-8', '           x\n[21:30:11] {'", r"'utf-8', '           x\n           {'"),
        ("PWD=/tmp/faults-abcdefgh/cell", "PWD=/tmp/faults-0xabofbi/cell"),
        ("'0:00:00.000001', '2026-11-29 21:30:11.000001'", "'0:00:00', '2026-11-29 21:30:11'"),
        ("wise-roentgen-2228 leftA1B.execution.log", "odd-bell-0001 left123.execution.log"),
        ("<object at 0x7f00>", "<object at 0xffffff>"),
    ],
)
def test_what_moves(one: str, other: str) -> None:
    """What two runs of the same print differently is no difference; all else is one."""
    assert still(one) == still(other)
    assert still(f"{one} a") != still(f"{other} b")


def _rows(fault: str) -> list[Cell]:
    return [cell for cell in rows() if (cell.input, cell.fault) == ("normal", fault)]


@pytest.mark.faults
@pytest.mark.parametrize("fault", TIMED)
def test_exit_delay(fault: str, board: Board) -> None:
    """The process ends no later than promised: the median of what its end takes longer, by every way and protocol."""
    verdict = exit_delay(fault, [board.both(cell) for cell in _rows(fault)])
    ROWS.append((Cell("normal", fault, "all", "all"), verdict))
    assert verdict.held, verdict

"""What the tests share.

A tool that is missing skips its tests; `RUNNABLE_OTEL_REQUIRE` names those that must be there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.project import Project
from support.receiver import Receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A real OTLP receiver."""
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A working folder with the test pipelines."""
    return Project(tmp_path)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A skip that CI does not allow is a failure."""
    required = {name for name in os.environ.get("RUNNABLE_OTEL_REQUIRE", "").split(",") if name}
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        missing = [name for name in required if f"needs {name}" in reason]
        if missing:
            terminalreporter.write_line(f"required but missing: {missing[0]} ({report.nodeid})", red=True)
            terminalreporter._session.exitstatus = pytest.ExitCode.TESTS_FAILED

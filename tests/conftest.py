"""What the tests share.

A tool that is missing skips its tests; `RUNNABLE_OTEL_REQUIRE` names those that must be there.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support import fault_table
from support.project import Project
from support.receiver import Receiver
from support.table import TABLE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from support.page_server import PageServer


# Whoever starts the tests in the background has Ctrl-C ignored, and so would every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A real OTLP receiver."""
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A working folder with the test pipelines."""
    return Project(tmp_path)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real browser."""
    from support.browser import chromium

    with chromium() as browser:
        yield browser


@pytest.fixture
def page_server() -> Iterator[PageServer]:
    """The live server in a thread, which can be told to fail."""
    from support.page_server import PageServer

    with PageServer() as server:
        yield server


@pytest.fixture
def page(browser: Browser, page_server: PageServer) -> Iterator[Page]:
    """A page that is signed in; at the end it has broken no rule of its policy, and asked no other host."""
    from support.browser import Watched, context, sign_in

    with context(browser) as made:
        page = made.new_page()
        watched = Watched(page)
        sign_in(page, page_server.url(), page_server.token)
        yield page
        assert watched.violations() == []
        assert watched.complaints == []
        assert {host for host in watched.hosts if host} == {f"127.0.0.1:{page_server.port}"}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the heavy suites found, as tables; and a skip that CI does not allow is a failure."""
    heavy = "faults" in terminalreporter.config.getoption("markexpr").replace("not faults", "")
    for line in [*TABLE.lines(), *(fault_table.table() if heavy else ()), *fault_table.totals()]:
        terminalreporter.write_line(line)
    required = {name for name in os.environ.get("RUNNABLE_OTEL_REQUIRE", "").split(",") if name}
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        missing = [name for name in required if f"needs {name}" in reason]
        if missing:
            terminalreporter.write_line(f"required but missing: {missing[0]} ({report.nodeid})", red=True)
            terminalreporter._session.exitstatus = pytest.ExitCode.TESTS_FAILED

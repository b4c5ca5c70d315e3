"""`runnable-otel watch` as a real process, in a pipe or in a terminal."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.project import environment
from support.serve import TOKEN
from support.terminal import Terminal

PYTHON = sys.executable
COMMAND = [PYTHON, "-m", "runnable_otel", "watch"]


def variables(folder: Path, **more: str) -> dict[str, str]:
    """A bare environment, with the token of the tests' servers; `CI` is set on many machines that run tests."""
    bare = environment(folder, OTEL_RUNNABLE_WATCH_TOKEN=TOKEN, PYTHONIOENCODING="utf-8")
    return {name: text for name, text in {**bare, **more}.items() if name != "COLUMNS"}


def piped(folder: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """`watch` with these words, where there is no terminal."""
    return subprocess.run(
        [*COMMAND, *words],
        cwd=folder,
        env=variables(folder, **more),
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
        start_new_session=True,
    )


def opened(folder: Path, *words: str, **more: str) -> subprocess.Popen[str]:
    """The same, while it goes on; what it says on both streams comes on one."""
    return subprocess.Popen(
        [*COMMAND, *words],
        cwd=folder,
        env=variables(folder, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )


def terminal(
    folder: Path, *words: str, columns: int = 80, rows: int = 24, streams: dict[str, Any] | None = None, **more: str
) -> Terminal:
    """The same in a terminal."""
    environ = variables(folder, **{"TERM": "xterm-256color", **more})
    return Terminal([*COMMAND, *words], folder, environ, columns=columns, rows=rows, **(streams or {}))


def timeless(lines: list[str]) -> list[str]:
    """Lines without the time of day at their beginning, durations, and the blanks before these."""
    return [
        re.sub(r" *\[((running )?[0-9.ms ]+|waiting|not run)\]", "", re.sub(r"^\d\d:\d\d:\d\d ", "", line))
        for line in lines
    ]

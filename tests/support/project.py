"""A working folder with the test pipelines, and real interpreters that run them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROJECT = Path(__file__).parent.parent / "project"
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "SYSTEMROOT", "VIRTUAL_ENV")


def environment(folder: Path, **variables: str) -> dict[str, str]:
    """A bare environment: no OTEL_* or RUNNABLE_* of the machine's, state in the test's own folder."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return {
        **kept,
        "XDG_STATE_HOME": str(folder / "state"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "COLUMNS": "120",
        **variables,
    }


class Project:
    """A copy of the test pipelines in a folder of its own."""

    def __init__(self, folder: Path, python: str = sys.executable) -> None:
        self.folder = folder
        self.python = python
        shutil.copytree(PROJECT, folder, dirs_exist_ok=True)

    def command(self, *command: str, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the folder; `variables` are its environment beyond the bare one."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=environment(self.folder, **variables),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert not check or done.returncode == 0, f"{command} exited {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    @contextmanager
    def running(self, *command: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
        """A command that runs in the folder, for a test that does something to it; it is killed in the end."""
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment(self.folder, **variables),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()

    def script(self, text: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Write script.py and run it in a real interpreter."""
        (self.folder / "script.py").write_text(text)
        return self.command(self.python, "script.py", **variables)

    def pipeline(self, name: str, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run one of the pipelines of pipelines.py in a real interpreter."""
        return self.command(self.python, "pipelines.py", check=check, PIPELINE=name, **variables)

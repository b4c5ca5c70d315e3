"""A real uvicorn on loopback, in a process of its own, and clients that know where it is."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import pytest

from support.environments import ROOT
from support.project import environment

FOLDER = ROOT / "tests" / "web"


def skip_without(*modules: str) -> None:
    """Skip the module's tests where a web package is missing."""
    for module in modules:
        if find_spec(module) is None:
            pytest.skip(f"needs {module}", allow_module_level=True)


class Server:
    """`with Server(folder, "app:app") as server:`; the files of tests/web and examples are in the folder."""

    def __init__(self, folder: Path, app: str, **variables: str) -> None:
        self.folder, self.app, self.variables = folder, app, variables
        for file in (*FOLDER.glob("*.py"), *(ROOT / "examples").glob("*.py")):
            shutil.copy(file, folder)
        self.lines: list[str] = []

    def __enter__(self) -> Server:
        command = [sys.executable, "-m", "uvicorn", self.app, "--host", "127.0.0.1", "--port", "0"]
        self.process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment(self.folder, **self.variables),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            found = re.search(r"running on (http://127\.0\.0\.1:\d+)", line)
            if found:
                self.url = found[1]
                break
        else:
            self.process.wait()
            self.process.stderr.close()
            raise AssertionError("".join(self.lines))
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        return self

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.lines.extend(self.process.stderr)

    def stop(self) -> int:
        """Ask it to stop, as a supervisor does, and wait."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(30)
        finally:
            self.process.kill()
            self._reader.join()

    def __exit__(self, *_: object) -> None:
        self.stop()
        assert self.process.stderr is not None
        self.process.stderr.close()

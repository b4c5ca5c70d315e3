"""Fresh environments with the built wheel, made once and kept as long as the lock files are the same."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / ".venvs"


def wheel() -> Path:
    """The wheel that `make test` built."""
    found = sorted((ROOT / "dist").glob("runnable_otel-*.whl"))
    assert found, "no wheel in dist/: run `make test`"
    return found[-1]


@contextmanager
def alone(name: str) -> Iterator[None]:
    """One at a time of the threads and processes that test this checkout: CI runs two suites at once."""
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def made(name: str, of: Iterable[Path], fill: Callable[[Path], object]) -> Path:
    """A folder that is filled once, and kept as long as the files are the same that it is made of."""
    content = b"".join(file.read_bytes() for file in of)
    folder = FOLDER / f"{name}-{hashlib.sha256(content + sys.version.encode()).hexdigest()[:12]}"
    with alone(folder.name):
        if not (folder / ".complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            fill(folder)
            (folder / ".complete").touch()
    return folder


def virtual(*groups: str) -> Path:
    """A virtual environment with the packages of these lock files."""
    locks = [ROOT / "requirements" / f"{group}.txt" for group in groups]

    def fill(folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        for lock in locks:  # one at a time: they pin the same versions, each with all that it needs
            pip(folder / "bin" / "python", "--require-hashes", "-r", str(lock))

    return made("-".join(groups), locks, fill)


@cache
def python(*groups: str) -> Path:
    """The interpreter of an environment with runnable, our wheel, and the named groups (`logfire`, `distro`)."""
    folder, ours = virtual("runtime", *groups), hashlib.sha256(wheel().read_bytes()).hexdigest()
    interpreter, installed = folder / "bin" / "python", folder / ".wheel"
    with alone(folder.name):
        # Not again where it is there: who runs in it meanwhile would miss a module that it imports late.
        if not installed.exists() or installed.read_text() != ours:
            pip(interpreter, "--no-deps", "--no-index", "--force-reinstall", str(wheel()))
            installed.write_text(ours)
    return interpreter


def pip(interpreter: Path, *arguments: str) -> None:
    command = [interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

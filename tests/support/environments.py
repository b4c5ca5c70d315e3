"""Fresh environments with the built wheel, made once and kept as long as the lock files are the same."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / ".venvs"


def wheel() -> Path:
    """The wheel that `make test` built."""
    found = sorted((ROOT / "dist").glob("runnable_otel-*.whl"))
    assert found, "no wheel in dist/: run `make test`"
    return found[-1]


def python(*groups: str) -> Path:
    """The interpreter of an environment with runnable, our wheel, and the named groups (`logfire`, `distro`)."""
    locks = [ROOT / "requirements" / f"{group}.txt" for group in ("runtime", *groups)]
    digest = hashlib.sha256(b"".join(lock.read_bytes() for lock in locks) + sys.version.encode()).hexdigest()[:12]
    folder = FOLDER / f"{'-'.join(('plain', *groups))}-{digest}"
    interpreter = folder / "bin" / "python"
    if not (folder / ".complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        for lock in locks:  # one at a time: they pin the same versions, each with all that it needs
            pip(interpreter, "--require-hashes", "-r", str(lock))
        (folder / ".complete").touch()
    pip(interpreter, "--no-deps", "--no-index", "--force-reinstall", str(wheel()))
    return interpreter


def pip(interpreter: Path, *arguments: str) -> None:
    command = [interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

"""Runs cases of the sweep in real interpreters, and gathers every byte that telemetry lets out of them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from support.endpoint import Endpoint
from support.project import environment

APP: Final = Path(__file__).parent.parent / "sweep"
EACH: Final = 100
"""Cases that one process runs."""


def let_out(cases: list[dict[str, Any]]) -> dict[str, bytes]:
    """Where telemetry went, and what it said there. Of each fourth hundred it takes nothing: that is spooled."""
    trouble = "refused" if cases[0]["number_of"] // EACH % 4 == 1 else "healthy"
    with tempfile.TemporaryDirectory(prefix="sweep-") as name, Endpoint(trouble) as endpoint:
        folder = Path(name)
        shutil.copytree(APP, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "cases.json").write_text(json.dumps(cases))
        known = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint.url,
            "RUNNABLE_OTEL_SINKS": "file:events.jsonl,otlp:,console:",
            "RUNNABLE_TELEMETRY_CONSOLE": "true",
            "RUNNABLE_OTEL_LOGS": "true",
            "RUNNABLE_OTEL_SPOOL": "spool",
        }
        done = subprocess.run(
            [sys.executable, "app.py", "cases.json"],
            cwd=folder,
            env=environment(folder, **known),
            capture_output=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-5000:])
        files = ("events.jsonl", "queue.jsonl", "telemetry.log")
        out = {file: (folder / file).read_bytes() for file in files}
        spooled = [file for part in ("spool", "state") for file in folder.glob(f"{part}/**/*") if file.is_file()]
        out["files"] = b"\n".join(file.read_bytes() for file in spooled)
        return {**out, "wire": b"\n".join(endpoint.wire), "standard error": done.stderr, "numbers": _numbers(endpoint)}


def _numbers(endpoint: Endpoint) -> bytes:
    """The wire as text, since numbers are no text on it."""
    return repr([(span.attributes, span.events) for span in endpoint.spans]).encode()

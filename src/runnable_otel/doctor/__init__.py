"""`runnable-otel doctor`: what a run would find here, and what is wrong with it."""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from runnable_otel.cli import PROGRAM, Parser
from runnable_otel.doctor.checks import CHECKS
from runnable_otel.doctor.finding import Finding

_EPILOG = """\
It looks at this environment as a plain run would; `opentelemetry-instrument
runnable-otel doctor` looks at it as a run under OpenTelemetry's launcher does.
FILE is imported, as runnable itself imports it once more for each run, so that
what its top level sets up is seen. Each endpoint is sent an empty request.

examples:
  runnable-otel doctor
  OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317 runnable-otel doctor
  runnable-otel doctor pipeline.py
"""


def main(arguments: Sequence[str]) -> int:
    """Print a line for each thing that was looked at.

    Returns:
        The exit code: 1 where something is wrong, which a warning is not.
    """
    parser = Parser(
        "doctor",
        usage=f"{PROGRAM} doctor [FILE]",
        description="Say who owns the provider, what the endpoint answers, and what is wrong.",
        epilog=_EPILOG,
    )
    parser.add_argument(
        "file", metavar="FILE", nargs="?", help="the pipeline's file, whose top level may set things up"
    )
    file: str | None = parser.parse_args(list(arguments)).file
    if file is not None and not Path(file).is_file():
        parser.error(f"{file}: no such file")
    for name in ("opentelemetry", "runnable_otel"):  # what they log, the lines say
        logging.getLogger(name).propagate = False
        logging.getLogger(name).addHandler(logging.NullHandler())
    findings: list[Finding] = []
    for check in CHECKS:
        for finding in check(lambda: _import(file)):
            findings.append(finding)
            print(finding.line(), flush=True)  # noqa: T201 - a command's own output
    wrong = sum(finding.level == "wrong" for finding in findings)
    print(f"\n{wrong} wrong" if wrong else "\nnothing is wrong")  # noqa: T201
    return 1 if wrong else 0


def _import(file: str | None) -> None:
    """Import the user's file under its own name, its folder first on the path, as its run has it."""
    if file is None:
        return
    path = Path(file).resolve()
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)

"""`runnable-otel run -- COMMAND`: a command with telemetry on, without a change to it or to its environment."""

from __future__ import annotations

import os
import signal
import sys
from argparse import REMAINDER, Namespace
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from runnable_otel.cli import Parser
from runnable_otel.settings import SettingError, Settings, activated

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping, Sequence

SITE: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_site")
"""The folder of our sitecustomize.py."""

_EPILOG = """\
Where no option and no variable asks for telemetry, the run is drawn as a tree
on the terminal (--console).

examples:
  runnable-otel run -- python pipeline.py
  runnable-otel run --endpoint http://localhost:4317 -- python pipeline.py
  runnable-otel run --sink file:events.jsonl -- runnable execute pipeline.yaml
"""


def _parser() -> Parser:
    parser = Parser(
        "run",
        usage="runnable-otel run [OPTION ...] -- COMMAND ...",
        description="Run COMMAND with telemetry on. Its exit code and its signals are its own.",
        epilog=_EPILOG,
    )
    parser.add_argument("--endpoint", metavar="URL", help="send the spans there (OTEL_EXPORTER_OTLP_ENDPOINT)")
    parser.add_argument(
        "--protocol", metavar="NAME", help="grpc or http/protobuf; grpc unless told (OTEL_EXPORTER_OTLP_PROTOCOL)"
    )
    parser.add_argument(
        "--console", action="store_true", help="draw the run as a tree on the terminal (RUNNABLE_TELEMETRY_CONSOLE)"
    )
    parser.add_argument(
        "--sink", metavar="URL", action="append", default=[],
        help="send the events there too, such as file:events.jsonl; may be repeated (RUNNABLE_OTEL_SINKS)",
    )  # fmt: skip
    parser.add_argument("command", metavar="COMMAND", nargs=REMAINDER, help="what to run, with its own options")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run the command that the arguments name; on POSIX this process becomes it.

    Returns:
        The command's exit code; 127 where there is no such command, 126 where it can't be run.
    """
    parser = _parser()
    options = parser.parse_args(list(arguments))
    command: list[str] = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        parser.print_usage(sys.stderr)
        parser.error("there is no COMMAND")
    try:
        check(options)
    except SettingError as error:
        parser.error(str(error))
    try:
        return _become(command, environment(options, os.environ))
    except (FileNotFoundError, NotADirectoryError):
        print(f"{parser.prog}: {command[0]}: command not found", file=sys.stderr)  # noqa: T201 - as a shell says it
        return 127
    except OSError as error:
        print(f"{parser.prog}: {command[0]}: {error.strerror}", file=sys.stderr)  # noqa: T201 - as a shell says it
        return 126


def check(options: Namespace) -> None:
    """Look at the options' values here, where the user sees it: in the child a bad one only switches telemetry off.

    Raises:
        SettingError: a value is out of range.
    """
    if options.endpoint is not None and not _is_url(options.endpoint):
        raise SettingError("--endpoint", options.endpoint, "a URL such as http://localhost:4317")
    if options.protocol not in (None, "grpc", "http/protobuf"):
        raise SettingError("--protocol", options.protocol, "grpc or http/protobuf")
    for url in options.sink:
        _check_sink(url)


def _check_sink(url: str) -> None:
    # Imported here: it takes several times as long as all else that `run` does.
    from importlib.metadata import entry_points

    from runnable_otel.sinks import BUILT_IN, GROUP, one_of

    try:
        Settings.read({}, sinks=[url])
    except SettingError as error:
        raise SettingError("--sink", url, error.allowed) from None
    known = {*BUILT_IN, *(entry.name for entry in entry_points(group=GROUP))}
    if url.partition(":")[0].lower() not in known:
        raise SettingError("--sink", url, one_of(known))
    if "," in url:
        raise SettingError("--sink", url, "a URL without a comma, which separates URLs in RUNNABLE_OTEL_SINKS")


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, or out of range
        return False


def environment(options: Namespace, environ: Mapping[str, str]) -> dict[str, str]:
    """The command's environment: `environ`, and over it what the options say."""
    child = dict(environ)
    if options.endpoint is not None:
        child["OTEL_EXPORTER_OTLP_ENDPOINT"] = options.endpoint
        # For the SDK the variable of the one signal wins: with it the option would do nothing.
        child.pop("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", None)
    if options.protocol is not None:
        child["OTEL_EXPORTER_OTLP_PROTOCOL"] = options.protocol
        child.pop("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", None)
    if options.sink:
        child["RUNNABLE_OTEL_SINKS"] = ",".join(options.sink)
    # A console that was switched off by name stays off, also where nothing else is asked for.
    if options.console or not (activated(child) or child.get("RUNNABLE_TELEMETRY_CONSOLE")):
        if "RUNNABLE_TELEMETRY_CONSOLE" not in child:
            child["_RUNNABLE_OTEL_CONSOLE"] = "run"  # so that it is not shown as one of the user's: see subprocesses.py
        child["RUNNABLE_TELEMETRY_CONSOLE"] = "true"
    watch(child)
    return child


def watch(environ: MutableMapping[str, str]) -> None:
    """Let each Python that gets this environment watch for runnable, also where it reads no `runnable_otel.pth`."""
    before = environ.get("PYTHONPATH")
    path = before.split(os.pathsep) if before else []
    if SITE not in path:
        environ["PYTHONPATH"] = os.pathsep.join([SITE, *path])
    # Not RUNNABLE_…: runnable copies those into shell tasks.
    environ["_RUNNABLE_OTEL_PREFIX"] = sys.prefix


def _become(command: list[str], environ: dict[str, str]) -> int:
    """Replace this process by the command; where the system has no such thing, wait for it.

    Raises:
        OSError: the command can't be run.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name == "posix":
        # Python ignores these, and what is ignored stays so in the command: `… | head` would end it with an error.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        os.execvpe(command[0], command, environ)  # noqa: S606 - the user's own command
    import subprocess

    process = subprocess.Popen(command, env=environ)  # noqa: S603 - the user's own command
    while process.poll() is None:
        with suppress(KeyboardInterrupt):  # Ctrl-C is the command's to answer
            process.wait()
    return process.returncode

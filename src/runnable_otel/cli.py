"""The command `runnable-otel`: a table of commands, each in a module that is imported when it is called."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

from runnable_otel._version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROGRAM: Final = "runnable-otel"


class Command(NamedTuple):
    """A command: what `--help` says of it, and the module whose `main(arguments)` gives its exit code."""

    summary: str
    module: str


COMMANDS: Final[Mapping[str, Command]] = {
    "backfill": Command("the trace of a run whose process died", "runnable_otel.backfill"),
    "demo": Command("three real runs, and their traces as an OTLP receiver got them", "runnable_otel.demo"),
    "doctor": Command("say who owns the provider, what the endpoint answers, what is wrong", "runnable_otel.doctor"),
    "env": Command("what to put into the configuration of containers, Argo or Kubernetes", "runnable_otel.env"),
    "replay": Command("send what could not be delivered, and lies in a spool", "runnable_otel.replay"),
    "run": Command("run a command with telemetry on: run -- python pipeline.py", "runnable_otel.run"),
    "serve": Command("take OTLP, keep the runs, and show them while they run", "runnable_otel.serve"),
    "watch": Command("show a run while it goes on, of a server or of a command", "runnable_otel.watch"),
}


class Parser(argparse.ArgumentParser):
    """A parser whose errors take one line."""

    def __init__(self, command: str = "", *, usage: str | None = None, description: str = "", epilog: str = "") -> None:
        super().__init__(
            prog=f"{PROGRAM} {command}".rstrip(),
            usage=usage,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,  # an option that comes later must not change what a script of today means
        )

    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line, and exit with 2."""
        self.exit(2, f"{self.prog}: {message}\n")


def _parser() -> Parser:
    width = max(map(len, COMMANDS))
    table = "\n".join(f"  {name.ljust(width)}  {command.summary}" for name, command in COMMANDS.items())
    parser = Parser(
        usage=f"{PROGRAM} COMMAND ...",
        description="One exact OpenTelemetry trace, and live events, of every runnable pipeline.",
        epilog=f"commands:\n{table}\n\n{PROGRAM} COMMAND --help says more about one of them.",
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    parser.add_argument("command", choices=COMMANDS, nargs="?", metavar="COMMAND", help="one of the commands below")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: the words after the program's name; those of `sys.argv` unless told.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    if not words:
        parser.print_help(sys.stderr)
        return 2
    # Only the first word is ours: the command's own parser, in its own module, reads the others.
    name: str | None = parser.parse_args(words[:1]).command
    if name is None:
        parser.error("there is no COMMAND")
    try:
        return import_module(COMMANDS[name].module).main(words[1:])
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader has gone, as in `… | head`; Python would say so once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1

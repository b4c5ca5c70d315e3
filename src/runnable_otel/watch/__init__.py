"""`runnable-otel watch`: the live tree of a run in a terminal, from a server or around a command."""

from __future__ import annotations

import os
import sys
from argparse import REMAINDER, Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from runnable_otel.cli import PROGRAM, Parser
from runnable_otel.tree import clean
from runnable_otel.watch.client import Address, Client, Refused
from runnable_otel.watch.display import Display, Lines, Tree
from runnable_otel.watch.screen import Screen

TOKEN: Final = "OTEL_RUNNABLE_WATCH_TOKEN"  # noqa: S105 - the name of a variable

_EPILOG: Final = f"""\
Where there is no terminal, and with TERM=dumb or CI set, each start and end is
a line, with its time in UTC. The exit code is the command's own; with a URL, 0
if the run succeeded, 1 if it did not, 2 if there is none to watch, 130 after
Ctrl-C.

The token of a server is read from {TOKEN} or --token-file;
the URL that `serve` prints has a one-time code in it, which does as well.

examples:
  runnable-otel watch -- python pipeline.py
  runnable-otel watch http://127.0.0.1:8765/#code=…
  runnable-otel watch --token-file token http://127.0.0.1:8765 nightly
"""


def _parser() -> Parser:
    parser = Parser(
        "watch",
        usage=f"{PROGRAM} watch [OPTION ...] URL [RUN]\n       {PROGRAM} watch [OPTION ...] -- COMMAND ...",
        description="Show a run while it goes on: of a live server, or of a command that this starts.",
        epilog=_EPILOG,
    )
    parser.add_argument("--next", action="store_true", help="with no RUN: not the newest run, but the next to start")
    parser.add_argument("--token-file", metavar="FILE", help="the first line of this file is the server's token")
    parser.add_argument("--lines", action="store_true", help="a line for each start and end, in a terminal too")
    parser.add_argument("url", metavar="URL", nargs="?", help="of a server: what `serve` prints")
    parser.add_argument("run", metavar="RUN", nargs="?", help="a run id or trace id; the newest run unless told")
    parser.add_argument("more", nargs=REMAINDER, metavar="COMMAND", help="what to run, with its own options")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Watch what the arguments name.

    Returns:
        The command's exit code; or 0 for a run that succeeded, 1 for another end.
    """
    words = list(arguments)
    at = words.index("--") if "--" in words else len(words)
    parser, command = _parser(), words[at + 1 :]
    options = parser.parse_args(words[:at])
    if at < len(words):
        if options.url or options.token_file or options.next:
            parser.error("a COMMAND is watched without URL, RUN, --next and --token-file")
        if not command:
            parser.error("there is no COMMAND")
        return _around(parser, command, lines=options.lines)
    if not options.url:
        parser.print_usage(sys.stderr)
        parser.error("there is neither URL nor COMMAND")
    if options.more:
        parser.error("there is more than URL and RUN; a COMMAND stands behind --")
    return _follow(parser, options)


def _follow(parser: Parser, options: Namespace) -> int:
    from runnable_otel.watch.follow import follow

    try:
        address = Address.read(options.url)
        token = _token(options.token_file, os.environ)
    except ValueError as error:
        parser.error(str(error))
    except OSError as error:
        parser.error(f"--token-file {options.token_file}: {error.strerror}")
    screen = None if options.lines or not _drawable(1, os.environ) else Screen(1, sys.stdout.encoding)
    display: Display = Lines(sys.stdout) if screen is None else Tree(screen)
    try:
        code = follow(Client(address, token), options.run or address.run, display, upcoming=options.next)
    except Refused as error:
        display.close()
        parser.error(clean(str(error)))  # it may hold what a server has said
    except BaseException:
        display.close()
        raise
    display.close()
    return code


def _token(file: str | None, environ: Mapping[str, str]) -> str:
    """The token.

    Raises:
        OSError: the file can't be read.
        ValueError: what is there can't be a token.
    """
    text = Path(file).read_text("utf-8", "replace").partition("\n")[0] if file else environ.get(TOKEN, "")
    token = text.strip()
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError(f"what {'--token-file' if file else TOKEN} holds is no token")
    return token


def _around(parser: Parser, command: list[str], *, lines: bool) -> int:
    from runnable_otel.watch.around import end_as, watch_command

    ours = [each for each in (2, 1) if _drawable(each, os.environ)] if os.name == "posix" and not lines else []
    display: Display = Lines(sys.stderr)
    terminals: tuple[int, ...] = ()
    write: Callable[[bytes], None] = _ignore
    if ours:
        screen = Screen(ours[0], (sys.stderr if ours[0] == 2 else sys.stdout).encoding)
        display, terminals, write = Tree(screen), tuple(ours), screen.write
    try:
        return end_as(watch_command(command, display, terminals, write))
    except (FileNotFoundError, NotADirectoryError):
        print(f"{parser.prog}: {command[0]}: command not found", file=sys.stderr)  # noqa: T201 - as a shell says it
        return 127
    except OSError as error:
        print(f"{parser.prog}: {command[0]}: {error.strerror}", file=sys.stderr)  # noqa: T201 - as a shell says it
        return 126


def _ignore(data: bytes) -> None:
    """There is no pseudo-terminal that anything could come from."""


def _drawable(descriptor: int, environ: Mapping[str, str]) -> bool:
    """Whether it is a terminal on which lines can be drawn in place."""
    dumb = environ.get("TERM", "dumb") in ("dumb", "unknown", "") and os.name == "posix"
    return os.isatty(descriptor) and not dumb and not environ.get("CI")

"""`watch -- COMMAND`: the command runs as it would alone, and its events come by a file that only this user can read.

No port is opened. Where we draw on the terminal, the command's output passes through a pseudo-terminal, so that lines
of ours can stand below it; its input, its signals and its place among the terminal's jobs stay as they are. Whatever
becomes of the drawing, the command goes on, and its exit status is ours.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, Final, TextIO, cast
from urllib.parse import quote

from runnable_otel.run import environment
from runnable_otel.tree import clean
from runnable_otel.watch.display import Display
from runnable_otel.watch.passage import Passage

_POLL: Final = 0.05  # seconds
_PASSED: Final = ("SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2")
_FROM_TERMINAL: Final = ("SIGINT", "SIGQUIT", "SIGHUP")


class Tail:
    """The events that processes append to a file as lines of JSON."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0
        self._rest = b""

    def read(self) -> Iterator[Mapping[str, Any]]:
        """What has come since the last time; a line that is no JSON object is passed over."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._position)
            data = self._rest + file.read()
            self._position = file.tell()
        *lines, self._rest = data.split(b"\n")
        for line in lines:
            with suppress(ValueError, RecursionError):
                found: object = json.loads(line)
                if isinstance(found, dict):
                    yield cast("dict[str, Any]", found)


def command_environment(environ: Mapping[str, str], events: Path) -> dict[str, str]:
    """The command's environment: telemetry on, as `run` has it, and one more sink."""
    sinks = [url for url in environ.get("RUNNABLE_OTEL_SINKS", "").split(",") if url.strip()]
    # Percent signs for what a list of URLs or a URL would read otherwise.
    ours = f"file:{quote(str(events))}"
    return environment(Namespace(endpoint=None, protocol=None, console=False, sink=[*sinks, ours]), environ)


def watch_command(
    command: list[str], display: Display, terminals: tuple[int, ...], write: Callable[[bytes], None]
) -> int:
    """Run a command and show its runs.

    Args:
        command: its words.
        display: what shows them.
        terminals: descriptors of ours (1, 2) that lead to the terminal that we draw on; the command gets a
            pseudo-terminal in their place.
        write: takes what the command writes there.

    Returns:
        Its exit code; the negative number of the signal that ended it.

    Raises:
        OSError: the command can't be run.
    """
    with tempfile.TemporaryDirectory(prefix="runnable-otel-watch-", ignore_cleanup_errors=True) as folder:
        tail = Tail(Path(folder, "events.jsonl"))
        environ = command_environment(os.environ, Path(folder, "events.jsonl"))
        with Passage(terminals, write) as passage, _Signals() as signals:
            process: Any = subprocess.Popen(command, env=environ, **passage.streams)  # noqa: S603 - the user's own command
            signals.pass_to(process)
            passage.begin()
            shown = _Shown(display, tail, passage.plain)
            passage.on_failure = shown.give_up
            while process.poll() is None:
                if not passage.wait(_POLL):
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(_POLL)
                shown.tick()
            passage.drain()
            shown.tick()
            shown.close()
            if shown.nothing:
                _say("no run was seen")
            return process.returncode


class _Shown:
    """The display, until it fails: then the command goes on without it."""

    def __init__(self, display: Display, tail: Tail, give_up: Callable[[], None]) -> None:
        self._display: Display | None = display
        self._tail, self._on_give_up = tail, give_up
        self._seen = False

    @property
    def nothing(self) -> bool:
        """Whether there was nothing to show, all the time."""
        return self._display is not None and not self._seen

    def tick(self) -> None:
        if self._display is not None:
            try:
                for event in self._tail.read():
                    self._seen = True
                    self._display.take(event)
                self._display.tick()
            except Exception as error:  # noqa: BLE001 - a mistake of ours must not end the user's command
                self.give_up(error)

    def close(self) -> None:
        if self._display is not None:
            try:
                self._display.close()
            except Exception as error:  # noqa: BLE001 - as above
                self.give_up(error)

    def give_up(self, error: Exception) -> None:
        """Show no more, and say so."""
        self._display = None
        self._on_give_up()
        _say(f"shows no more ({clean(f'{type(error).__name__}: {error}')})")


def _say(text: str) -> None:
    with suppress(OSError, ValueError):
        print(f"runnable-otel watch: {text}", file=sys.stderr)  # noqa: T201


class _Signals:
    """Passes signals on to the command, those that it has not got already."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Signals:
        for name in _PASSED:
            number = getattr(signal, name, None)
            # What is ignored stays so, in the command too: `nohup` asks for that.
            if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def pass_to(self, process: subprocess.Popen[bytes]) -> None:
        """From now on signals have somewhere to go."""
        self._process = process
        for number in self._early:
            process.send_signal(number)

    def _take(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._process is None:
            self._early.append(number)
        elif signal.Signals(number).name not in _FROM_TERMINAL or not _in_foreground():
            self._process.send_signal(number)


def _in_foreground() -> bool:
    """Whether the terminal's keys send signals to our process group: then the command, which is in it, has got them."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def end_as(code: int) -> int:
    """The exit code of a command that ended so; a signal that ended it ends us."""
    for stream in (sys.stdout, sys.stderr):
        _flush(stream)
    if code >= 0 or os.name != "posix":
        return code
    with suppress(OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # one core dump is enough
        signal.signal(-code, signal.SIG_DFL)
    with suppress(OSError):
        os.kill(os.getpid(), -code)
    return 128 - code


def _flush(stream: TextIO) -> None:
    try:
        stream.flush()
    except (OSError, ValueError):
        # Nobody reads it any more. Python would find that out again at its end, with another exit code.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

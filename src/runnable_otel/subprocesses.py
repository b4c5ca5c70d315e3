"""What runnable sees as `subprocess`: a child gets the trace, and how a shell task's child ends is seen."""

from __future__ import annotations

import codecs
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final

from runnable_otel.delivery import away
from runnable_otel.output import RECORD, Output, before
from runnable_otel.propagation import carrier, inject_run
from runnable_otel.scopes import current, harmless
from runnable_otel.task_scope import TaskScope

_COLLECT: Final = "=== COLLECT ==="  # what runnable has a command say before it dumps the environment
_CONTEXT: Final = ("TRACEPARENT", "TRACESTATE")


class EmulatorSubprocess:
    """Stands in for the `subprocess` module in runnable's emulators, whose children execute a node or job each."""

    def __init__(self, wrapped: Any) -> None:
        self._wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped, name)

    def Popen(self, *args: Any, **kwargs: Any) -> Any:  # noqa: N802 - subprocess's own word
        """Start the child as a part of the run."""
        _rich_traceback_omit = True
        environ = self._environment(kwargs.get("env"))
        return self._wrapped.Popen(*args, **{**kwargs, "env": environ} if environ else kwargs)

    @harmless
    def _environment(self, given: Mapping[str, str] | None) -> dict[str, str] | None:
        scope = current.get()
        run = scope.run if scope else None
        if run is None:
            return None
        child = dict(os.environ if given is None else given)
        inject_run(child, run.root, run.dimensions, scope.salt if scope else "")
        away.RUN.inject(child)
        return child


class SubprocessProxy:
    """Stands in for the `subprocess` module in `runnable.tasks`: gives a child the trace, and sees how it ends."""

    def __init__(self, wrapped: Any) -> None:
        self._wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped, name)

    def Popen(self, *args: Any, **kwargs: Any) -> Any:  # noqa: N802 - subprocess's own word
        """Start the child with TRACEPARENT; its `communicate` shows nothing of that to the parent."""
        _rich_traceback_omit = True
        scope = current.get()
        environ = kwargs.get("env")
        if not isinstance(scope, TaskScope) or environ is None:
            return self._wrapped.Popen(*args, **kwargs)
        # A parameter of the user's may be called so.
        own = {} if any(name in environ for name in _CONTEXT) else harmless(carrier)() or {}
        kwargs["env"] = self._environment(environ, own) or environ
        return _watched(self._wrapped.Popen(*args, **kwargs), scope, own)

    @harmless
    def _environment(self, environ: Mapping[str, Any], own: Mapping[str, str]) -> dict[str, Any]:
        # runnable prints the child's environment: settings of ours are nothing that belongs there.
        child = {name: value for name, value in environ.items() if not name.startswith("RUNNABLE_OTEL_")}
        if "_RUNNABLE_OTEL_CONSOLE" in os.environ:  # `runnable-otel run` has set it, not the user
            child.pop("RUNNABLE_TELEMETRY_CONSOLE", None)
        return {**child, **own}


def _watched(process: Any, scope: TaskScope, own: Mapping[str, str]) -> Any:
    """Let `communicate` note the exit code, and leave what is our own out of the environment's dump that it returns."""
    output = scope.listen()
    original = process.communicate if output is None else partial(_listen, process, output)

    def communicate(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        _rich_traceback_omit = True
        stdout, stderr = original(*args, **kwargs)
        scope.exit_code = process.returncode
        head, mark, dump = stdout.rpartition(f"{_COLLECT}\n") if isinstance(stdout, str) else ("", "", "")
        if mark and own:
            ours = {f"{name}={value}" for name, value in own.items()}  # what the command has set itself is its own
            dump = "".join(line for line in dump.splitlines(keepends=True) if line.rstrip("\r\n") not in ours)
            stdout = head + mark + dump
        return stdout, stderr

    process.communicate = communicate
    return process


def _listen(process: Any, output: Output) -> tuple[str, str]:
    """As `Popen.communicate`, but that what the child writes is noted when it does, up to the dump."""
    _rich_traceback_omit = True
    read: dict[str, bytes] = {}

    def listen(name: str, pipe: Any) -> None:
        pieces: list[bytes] = []
        for text in before(f"{_COLLECT}\n", _decoded(pipe, pieces)):
            output.write(name, text)
        read[name] = b"".join((*pieces, pipe.buffer.read()))
        pipe.close()

    pipes = {"stdout": process.stdout, "stderr": process.stderr}
    threads = [threading.Thread(target=listen, args=each, daemon=True) for each in pipes.items()]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        process.wait()
    except KeyboardInterrupt:  # the child has had it too, and gets the time to end that `communicate` gives it
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.25)
        raise
    translate = process._translate_newlines  # noqa: SLF001 - what `communicate` does in text mode
    stdout, stderr = (translate(read[name], pipe.encoding, pipe.errors) for name, pipe in pipes.items())
    return stdout, stderr


def _decoded(pipe: Any, pieces: list[bytes]) -> Iterator[str]:
    """What comes out of a pipe, as text that may be shown; the bytes are added to `pieces`."""
    decoder = codecs.getincrementaldecoder(pipe.encoding)("replace")
    while piece := pipe.buffer.read1(RECORD):
        pieces.append(piece)
        yield decoder.decode(piece)

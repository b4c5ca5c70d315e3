"""Trace context in and out of a process, and ids that are the same whoever reports the fact."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import threading
from collections.abc import Generator, Mapping, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

logger = logging.getLogger(__name__)

_PROPAGATOR = TraceContextTextMapPropagator()
_LEDGER_BYTES = 1 << 20


def derive(kind: str, *parts: str, size: int) -> int:
    """An id of `size` bytes from what it stands for; never 0, which W3C Trace Context reserves.

    SHA-256 over length-prefixed parts, so that no two lists of parts make the same text.
    """
    digest = hashlib.sha256()
    for part in ("runnable-otel", "1", kind, *parts):
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(4, "big"))
        digest.update(data)
    return int.from_bytes(digest.digest()[:size], "big") or 1


def random_trace_id() -> int:
    return secrets.randbits(128) or 1


def random_span_id() -> int:
    return secrets.randbits(64) or 1


class RunRoot(NamedTuple):
    """Where a run hangs: its trace and the span of the run itself."""

    trace_id: int
    span_id: int

    def attempt_span_id(self, step: str, attempt: int) -> int:
        """The span id of one attempt of one step of this run. `step` is the resolved dotted name of the step log."""
        return derive("attempt", f"{self.trace_id:032x}", f"{self.span_id:016x}", step, str(attempt), size=8)


class ChosenIds(IdGenerator):
    """Gives the next span the id that was chosen for it, and all others those of the provider's own generator.

    It stands in for the generator of our own tracer only, never of the provider.
    """

    def __init__(self, wrapped: IdGenerator) -> None:
        self._wrapped = wrapped
        self._local = threading.local()

    @contextmanager
    def choose(self, span_id: int) -> Generator[None, None, None]:
        self._local.span_id = span_id
        try:
            yield
        finally:
            self._local.span_id = 0

    def generate_span_id(self) -> int:
        return getattr(self._local, "span_id", 0) or self._wrapped.generate_span_id()

    def generate_trace_id(self) -> int:
        return self._wrapped.generate_trace_id()

    def is_trace_id_random(self) -> bool:
        return self._wrapped.is_trace_id_random()


_malformed_seen: set[str] = set()


def context_from_environment(environ: Mapping[str, str] | None = None) -> Context | None:
    """The parent that `TRACEPARENT` and `TRACESTATE` name, or None.

    A malformed TRACEPARENT is ignored with one line.
    """
    environ = os.environ if environ is None else environ
    traceparent = environ.get("TRACEPARENT")
    if not traceparent:
        return None
    carrier = {"traceparent": traceparent, "tracestate": environ.get("TRACESTATE", "")}
    context = _PROPAGATOR.extract(carrier, context=Context())
    if trace.get_current_span(context).get_span_context().is_valid:
        return context
    if traceparent not in _malformed_seen:
        _malformed_seen.clear()
        _malformed_seen.add(traceparent)
        logger.warning("TRACEPARENT=%s is not a W3C trace context: ignored", ascii(traceparent)[:80])
    return None


def carrier() -> dict[str, str]:
    """The current span as the environment of a child process: TRACEPARENT and, where it is set, TRACESTATE."""
    headers: dict[str, str] = {}
    _PROPAGATOR.inject(headers)
    return {name.upper(): value for name, value in headers.items()}


def inject(environ: MutableMapping[str, Any]) -> None:
    """Put the current span into the environment of a child process."""
    environ.update(carrier())


class Ledger:
    """Remembers which trace a run id has, so that a retry can link to the attempt before.

    Run ids repeat and runnable's run log has no place for a trace id, so this is a file of ours: one JSON line a run,
    appended; bounded to two files of 1 MiB. What can't be written or read is simply not remembered.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def _file(self) -> Path:
        if self._folder is not None:
            return self._folder / "runs.jsonl"
        state = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
        return Path(state) / "runnable-otel" / "runs.jsonl"

    def remember(self, run_id: str, root: RunRoot, started_ns: int) -> None:
        """Append one run; on a thread of its own, because the caller is the user's."""
        line = json.dumps([run_id[:256], f"{root.trace_id:032x}", f"{root.span_id:016x}", started_ns]) + "\n"
        try:
            threading.Thread(target=self._append, args=(line,), name="runnable-otel-ledger").start()
        except RuntimeError as error:  # no more threads, or the interpreter is shutting down
            logger.debug("run not remembered: %s", error)

    def _append(self, line: str) -> None:
        try:
            file = self._file()
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if file.exists() and file.stat().st_size > _LEDGER_BYTES:
                file.replace(file.with_suffix(".old"))
            # One write of under 4 KiB in append mode: lines of processes at once don't mix.
            with file.open("ab", buffering=0) as stream:
                stream.write(line.encode("utf-8"))
        except OSError as error:
            logger.debug("run not remembered: %s", error)

    def recall(self, run_id: str) -> list[tuple[RunRoot, int]]:
        """The runs of that id, oldest first, each with its start in nanoseconds since 1970."""
        found: list[tuple[RunRoot, int]] = []
        wanted = run_id[:256]
        for file in (self._file().with_suffix(".old"), self._file()):
            try:
                lines = file.read_bytes().splitlines()
            except OSError:
                continue
            for line in lines:
                try:
                    name, trace_id, span_id, started = json.loads(line)
                    if name == wanted:
                        found.append((RunRoot(int(trace_id, 16), int(span_id, 16)), int(started)))
                except (ValueError, TypeError):
                    continue  # a line that another program, or a full disk, left damaged
        return found


LEDGER: Final = Ledger()

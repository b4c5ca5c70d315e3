"""Trace context in and out of a process, and ids that are the same whoever reports the fact."""

from __future__ import annotations

import atexit
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
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

logger = logging.getLogger(__name__)

_PROPAGATOR = TraceContextTextMapPropagator()
_LEDGER_BYTES = 1 << 20
_LEDGER_SECONDS = 0.5  # that a run, or the end of the process, waits for a line: a home that hangs holds it no longer


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

    def node_span_id(self, kind: str, name: str) -> int:
        """The span id of a composite node or a branch of this run, which runs once.

        Args:
            kind: `branch`, or `composite` for all others.
            name: the resolved dotted name of its log.
        """
        return derive(kind, f"{self.trace_id:032x}", f"{self.span_id:016x}", name, size=8)


SEED: Final = "RUNNABLE_OTEL_SEED"
"""The variable with what the pods of one workflow or Kubernetes job have in common, and no other has: its uid."""


def seeded_trace_id(seed: str, run_id: str, indicator: str = "") -> int:
    """The trace id of a run whose processes can't tell each other.

    Args:
        seed: see `SEED`.
        run_id: runnable's run id, which alone would repeat.
        indicator: runnable's retry indicator: Argo may retry a workflow under the uid that it had.
    """
    return derive("trace", seed, run_id, indicator, size=16)


def seeded_root(seed: str, run_id: str, indicator: str = "", trace_id: int = 0) -> RunRoot:
    """The root of such a run; `trace_id` where it joins a trace that is there already."""
    trace_id = trace_id or seeded_trace_id(seed, run_id, indicator)
    return RunRoot(trace_id, derive("root", f"{trace_id:032x}", seed, run_id, indicator, size=8))


class SystemIds(IdGenerator):
    """Ids from the system's randomness. The SDK's own generator draws from the module `random`, which is the user's.

    A task that calls `random.seed` would get other numbers for our drawing, and its spans the ids of another run's.
    """

    def generate_span_id(self) -> int:
        return random_span_id()

    def generate_trace_id(self) -> int:
        return random_trace_id()

    def is_trace_id_random(self) -> bool:
        return True


class ChosenIds(IdGenerator):
    """Gives the next span the id that was chosen for it, and all others random ones, or those of a user's generator.

    It stands in for the generator of our own tracer only, never of the provider.
    """

    def __init__(self, wrapped: IdGenerator) -> None:
        self._wrapped = SystemIds() if type(wrapped) is RandomIdGenerator else wrapped
        self._local = threading.local()

    @contextmanager
    def choose(self, span_id: int, trace_id: int = 0) -> Generator[None, None, None]:
        """Within this, the ids that are not 0 are given; the one of the trace to a span without a parent only."""
        self._local.span_id, self._local.trace_id = span_id, trace_id
        try:
            yield
        finally:
            self._local.span_id = self._local.trace_id = 0

    def generate_span_id(self) -> int:
        return getattr(self._local, "span_id", 0) or self._wrapped.generate_span_id()

    def generate_trace_id(self) -> int:
        return getattr(self._local, "trace_id", 0) or self._wrapped.generate_trace_id()

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


_RUN: Final = "_RUNNABLE_OTEL_RUN"
"""What TRACEPARENT does not say: the root of the run, for the ids that are derived from it, and metrics' dimensions.

Its name does not begin with RUNNABLE_, so runnable gives it to no shell task, and prints it nowhere.
"""


def inject_run(environ: MutableMapping[str, str], root: RunRoot, dimensions: Mapping[str, str], salt: str) -> None:
    """Put a run into the environment of a process that executes a part of it; for `salt` see `Scope.salt`."""
    inject(environ)
    environ[_RUN] = json.dumps([f"{root.trace_id:032x}", f"{root.span_id:016x}", dict(dimensions), salt])


def run_from_environment(trace_id: int, span_id: int) -> tuple[RunRoot, dict[str, str], str]:
    """The run's root, its metrics' dimensions, and the salt; without a word on them the parent span is the root."""
    try:
        trace_name, span_name, dimensions, *more = json.loads(os.environ.get(_RUN, ""))
        root = RunRoot(int(trace_name, 16), int(span_name, 16))
        if root.trace_id == trace_id and root.span_id:
            return root, {str(name): str(value) for name, value in dimensions.items()}, "".join(map(str, more[:1]))
    except (ValueError, TypeError, AttributeError):
        pass  # not set, or not by us
    return RunRoot(trace_id, span_id), {}, ""


class Remembered(NamedTuple):
    """A run as the ledger has it: where it hangs, when it began, what it is called, and its parent's span id or 0."""

    root: RunRoot
    started_ns: int
    name: str
    parent_id: int


class Ledger:
    """Remembers which trace a run id has, so that a retry can link to the attempt before, and `backfill` finds it.

    Run ids repeat and runnable's run log has no place for a trace id, so this is a file of ours: one JSON line a run,
    appended; bounded to two files of 1 MiB. What can't be written or read is simply not remembered.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._last: threading.Thread | None = None

    def _file(self) -> Path:
        if self._folder is not None:
            return self._folder / "runs.jsonl"
        state = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
        return Path(state) / "runnable-otel" / "runs.jsonl"

    def remember(self, run_id: str, root: RunRoot, started_ns: int, name: str = "", parent_id: int = 0) -> None:
        """Append one run; on a thread of its own, because the caller is the user's."""
        ids = f"{root.trace_id:032x}", f"{root.span_id:016x}"
        line = json.dumps([run_id[:256], *ids, started_ns, name[:128], f"{parent_id:016x}"]) + "\n"
        thread = threading.Thread(target=self._append, args=(line,), name="runnable-otel-ledger", daemon=True)
        try:
            thread.start()
            if self._last is None:
                atexit.register(self._wait)
            self._last = thread
        except RuntimeError as error:  # no more threads, or the interpreter is shutting down
            logger.debug("run not remembered: %s", error)

    def _wait(self) -> None:
        if self._last is not None:
            self._last.join(_LEDGER_SECONDS)

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

    def recall(self, run_id: str) -> list[Remembered]:
        """The runs of that id, oldest first; none of a file that takes longer to read than anybody may wait."""
        found: list[Remembered] = []
        reading = threading.Thread(target=lambda: found.extend(self._read(run_id)), daemon=True)
        try:
            reading.start()
            reading.join(_LEDGER_SECONDS)
        except RuntimeError as error:  # no more threads, or the interpreter is shutting down
            logger.debug("run not recalled: %s", error)
        return list(found)

    def _read(self, run_id: str) -> list[Remembered]:
        found: list[Remembered] = []
        wanted = run_id[:256]
        for file in (self._file().with_suffix(".old"), self._file()):
            try:
                lines = file.read_bytes().splitlines()
            except OSError:
                continue
            for line in lines:
                try:
                    of, trace_id, span_id, started, name, parent_id = json.loads(line)
                    if of == wanted:
                        root = RunRoot(int(trace_id, 16), int(span_id, 16))
                        found.append(Remembered(root, int(started), str(name), int(parent_id, 16)))
                except (ValueError, TypeError):
                    continue  # a line that another program, or a full disk, left damaged
        return found


LEDGER: Final = Ledger()

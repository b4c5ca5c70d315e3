"""Whether what a run sent, what arrived, its events and runnable's run log say the same. Values in, values out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple

from runnable_otel import semconv
from runnable_otel.events import (
    OURS,
    PIPELINE_COMPLETED,
    PIPELINE_STARTED,
    TASK_COMPLETED,
    TASK_ERROR,
    TASK_LOG,
    TASK_SKIPPED,
    TASK_STARTED,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from runnable_otel.demo.receiver import ReceivedSpan


class SentSpan(NamedTuple):
    """A span that ended in the child, as the child itself reports it."""

    trace_id: str
    span_id: str
    name: str


class Attempt(NamedTuple):
    """One executed attempt of a task step, as runnable's run log has it."""

    step: str
    number: int
    success: bool


@dataclass(frozen=True)
class Execution:
    """What one process that ran a pipeline left behind: four witnesses of the same facts.

    Attributes:
        sent: the spans that ended in the process, as its second exporter wrote them.
        received: the spans that came over the wire.
        events: what a sink got, in order.
        attempts: those that the process added to the run log.
        success: the run's status in the run log.
    """

    sent: Sequence[SentSpan]
    received: Sequence[ReceivedSpan]
    events: Sequence[Mapping[str, Any]]
    attempts: Sequence[Attempt]
    success: bool


@dataclass(frozen=True)
class Counts:
    """How much of each there was."""

    sent: int = 0
    received: int = 0
    starts: int = 0
    ends: int = 0
    skips: int = 0
    attempts: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    def __str__(self) -> str:
        skips = f", {self.skips} skip" if self.skips else ""
        return (
            f"{self.sent} spans sent, {self.received} received; "
            f"{self.starts} start, {self.ends} end{skips} events; {self.attempts} attempts"
        )


def counts(execution: Execution) -> Counts:
    """Count what there is, right or wrong."""
    edges = Counter(str(event["uid"]).rpartition(":")[2] for event in _own_events(execution))
    skips = sum(event["type"] == TASK_SKIPPED for event in _own_events(execution))
    return Counts(
        sent=len(execution.sent),
        received=len(execution.received),
        starts=edges["start"] - skips,
        ends=edges["end"],
        skips=skips,
        attempts=len(execution.attempts),
    )


def disagreements(execution: Execution) -> list[str]:
    """All that does not agree, one sentence each; empty where each fact is told exactly once by each witness.

    - Each span that ended was received once, and nothing else was.
    - The spans are one trace with one root, the run, which succeeded or failed as the run log says; the code and the
      attribute `status` of each span say the same.
    - Each executed attempt of the run log, of which there is at least one, has one task span, with the same success.
    - Each run and each attempt has one start and one end event, of the type that fits; each skipped step has one event.
    """
    return [
        *_on_the_wire(execution),
        *_in_the_tree(execution),
        *_in_the_run_log(execution),
        *_in_the_events(execution),
    ]


def _on_the_wire(execution: Execution) -> Iterator[str]:
    names = {(span.trace_id, span.span_id): span.name for span in (*execution.received, *execution.sent)}
    sent = Counter((span.trace_id, span.span_id) for span in execution.sent)
    received = Counter((span.trace_id, span.span_id) for span in execution.received)
    for key, name in names.items():
        if (sent[key], received[key]) != (1, 1):
            yield f"the span {name} ({key[1]}) was sent {_times(sent[key])} and received {_times(received[key])}"


def _in_the_tree(execution: Execution) -> Iterator[str]:
    ids = {span.span_id for span in execution.received}
    roots = [span for span in execution.received if span.parent_id not in ids]
    if len(roots) != 1 or len({span.trace_id for span in execution.received}) != 1:
        yield f"the spans are not one trace with one root: the roots are {', '.join(r.name for r in roots) or 'none'}"
    for root in roots:
        if root.kind == "pipeline" and root.failed == execution.success:
            yield f"{root.name}: {_outcome(execution.success)} in the run log, {_outcome(not root.failed)} in its span"
    for span in execution.received:
        status = span.attributes.get(semconv.STATUS)
        if span.failed == (status in (semconv.SUCCESS, semconv.SKIPPED)):
            yield f"{span.name}: {_outcome(not span.failed)} in its span's code, and in its attribute status={status!r}"


def _in_the_run_log(execution: Execution) -> Iterator[str]:
    if not execution.attempts:
        yield "the run log holds no attempt: nothing ran"
    spans: dict[tuple[str, int], list[ReceivedSpan]] = {}
    for span in _executed(execution.received):
        key = (str(span.attributes.get(semconv.STEP_NAME)), int(span.attributes.get(semconv.STEP_ATTEMPT, 0)))
        spans.setdefault(key, []).append(span)
    for attempt in execution.attempts:
        found = spans.pop((attempt.step, attempt.number), [])
        what = f"attempt {attempt.number} of {attempt.step}"
        if len(found) != 1:
            yield f"{what} has {len(found)} spans"
        for span in found:
            if span.failed == attempt.success:
                yield f"{what}: {_outcome(attempt.success)} in the run log, {_outcome(not span.failed)} in its span"
    for (step, number), found in spans.items():
        yield f"attempt {number} of {step} has {len(found)} spans and is not in the run log"


def _in_the_events(execution: Execution) -> Iterator[str]:
    wanted = dict(_wanted_events(execution.received))
    seen = Counter((str(event["uid"]), str(event["type"])) for event in _own_events(execution))
    for uid, kind in sorted({*wanted.items(), *seen}):
        wants = int(wanted.get(uid) == kind)
        if seen[uid, kind] != wants:
            yield f"the event {kind} ({uid}) came {_times(seen[uid, kind])} and should {_times(wants)}"
    for event in execution.events:
        if event["type"] == PIPELINE_COMPLETED and (event.get("status") == "success") != execution.success:
            yield f"the run: {_outcome(execution.success)} in the run log, {event.get('status')} in its last event"


def _wanted_events(spans: Iterable[ReceivedSpan]) -> Iterator[tuple[str, str]]:
    """Uid and type of each event that must have come."""
    for span in spans:
        uid = f"{span.trace_id}:{span.span_id}"
        if span.kind == "pipeline":
            yield f"{uid}:start", PIPELINE_STARTED
            yield f"{uid}:end", PIPELINE_COMPLETED
        elif span.attributes.get(semconv.STATUS) == semconv.SKIPPED:
            yield f"{uid}:start", TASK_SKIPPED
        elif span.kind == "task":
            yield f"{uid}:start", TASK_STARTED
            yield f"{uid}:end", TASK_ERROR if span.failed else TASK_COMPLETED


def _own_events(execution: Execution) -> Iterator[Mapping[str, Any]]:
    """Without the events that a task yields: those have no span of their own."""
    return (event for event in execution.events if event["type"] in OURS - {TASK_LOG})


def _executed(spans: Iterable[ReceivedSpan]) -> Iterator[ReceivedSpan]:
    return (s for s in spans if s.kind == "task" and s.attributes.get(semconv.STATUS) != semconv.SKIPPED)


def _outcome(success: bool) -> str:
    return "a success" if success else "a failure"


def _times(number: int) -> str:
    return {0: "never", 1: "once"}.get(number, f"{number} times")

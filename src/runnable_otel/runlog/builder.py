"""A run log as spans: pure. Names, attributes and ids are those of a run that is watched; see the contract of spans."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, Status, StatusCode, TraceFlags

from runnable_otel import semconv, spans
from runnable_otel._version import __version__
from runnable_otel.capture import OBJECT, Captured, capture
from runnable_otel.propagation import Remembered
from runnable_otel.redact import Redactor
from runnable_otel.runlog.log import (
    IsOurs,
    Log,
    branch_graph,
    graph_of,
    member,
    nanoseconds,
    secret_names,
)
from runnable_otel.settings import CaptureMode, Settings
from runnable_otel.spans import Step

DIED: Final = "ProcessDied: the process ended before the run did"
"""`status` of a run, and of a composite, that was not over when its process ended."""

_SCOPE: Final = InstrumentationScope(semconv.SCOPE, __version__)


class Place(NamedTuple):
    """A step in the run log, and where it is.

    Attributes:
        log: of the step.
        parent: span id of what it is in.
        node: of the graph.
        branch: the dotted name of the branch that it is in; empty at the top.
    """

    log: Log
    parent: int
    node: Log
    branch: str


class Composite(NamedTuple):
    """The spans of a composite node: of what is inside of its branches, and its own with those of its branches."""

    inside: list[ReadableSpan]
    around: list[ReadableSpan]


@dataclass(kw_only=True)
class Builder:
    """Makes the spans of one run.

    Args:
        log: the run log, which is that of all runs of a run id.
        run: the one that is meant.
        is_ours: whether an attempt is one of it.
        settings: bounds of values, and what is redacted.
        secrets: name to value of those that are known here. The tasks of the log were given secrets by name, and their
            values are masked; where one of them is not known, only the names and types of all values are shown.
        resource: that of the spans.
        marks: further attributes of each span.
    """

    log: Log
    run: Remembered
    is_ours: IsOurs
    settings: Settings
    secrets: Mapping[str, str]
    resource: Resource
    marks: Mapping[str, Any] = field(default_factory=dict[str, Any])
    redactor: Redactor = field(init=False)
    mode: CaptureMode = field(init=False)
    _hidden: spans.HiddenItems = field(init=False)

    def __post_init__(self) -> None:
        names = set(secret_names(graph_of(self.log)))
        known = [self.secrets[name] for name in names if self.secrets.get(name)]
        self.redactor = Redactor(self.settings.redact).with_secrets(known)
        # A task may have returned a secret that nobody here can recognise, and a map may have gone over it.
        all_known = len(known) == len(names)
        self.mode = self.settings.capture if all_known or self.settings.capture == "none" else "keys"
        self._hidden = spans.HiddenItems(self._items(everything=not all_known or self.mode == "none"))

    def _items(self, *, everything: bool) -> Iterator[str]:
        """Items of maps that must not show in names: those that are called secret, or all of them."""
        for place in self.everywhere():
            if place.log["step_type"] == "map" and (everything or self.redactor.key(_iterates(place.node))):
                for branch in member(place.log, "branches"):
                    yield branch.removeprefix(f"{place.log['internal_name']}.")

    def named(self, name: str) -> str:
        """A dotted name as it may be shown."""
        return self.redactor.text(self._hidden.masked(name))

    def top(self) -> Iterator[Place]:
        """The steps of the pipeline's own graph."""
        return self._places(member(self.log, "steps"), self.run.root.span_id, graph_of(self.log), "")

    def inside(self, place: Place) -> Iterator[Place]:
        """The steps in the branches of a composite node."""
        for name, inner in member(place.log, "branches").items():
            below = self.run.root.node_span_id("branch", name)
            yield from self._places(inner["steps"], below, branch_graph(place.node, name), name)

    def everywhere(self) -> Iterator[Place]:
        """All steps, each one before what is inside of it."""
        pending = list(self.top())
        while pending:
            place = pending.pop(0)
            yield place
            pending[:0] = self.inside(place)

    def _places(self, steps: Log, parent: int, graph: Log, branch: str) -> Iterator[Place]:
        for log in steps.values():
            yield Place(log, parent, member(member(graph, "nodes"), log["name"]), branch)

    def step(self, place: Place) -> Iterator[ReadableSpan]:
        """The spans of a step, and of all that is inside of it."""
        if place.log["step_type"] == "task":
            yield from self._attempts(place, *self.called(place))
        elif place.log.get("branches"):
            made = self.composite(place)
            yield from (*made.inside, *made.around)

    @staticmethod
    def called(place: Place) -> tuple[str, str]:
        """The command of a task, and its type."""
        node = place.node
        return str(node.get("command") or place.log["name"]), str(node.get("command_type") or "python")

    def job(self, log: Log) -> Iterator[ReadableSpan]:
        """The spans of a job, which is one task; its step is called as the job is."""
        name = self.name
        task = member(member(self.log, "run_config"), "job")
        # runnable gives the number 1 to each attempt of a job.
        given: list[Log] = list(log.get("attempts") or ())
        numbered = [{**each, "attempt_number": number} for number, each in enumerate(given, 1)]
        place = Place({"name": name, "internal_name": name, "attempts": numbered}, self.run.root.span_id, {}, "")
        # A job is called as its function is; the command of a shell job, or the notebook, is not in the run log.
        yield from self._attempts(place, name, str(task.get("task_type") or "python"))

    def run_span(self, made: Sequence[ReadableSpan], before: Sequence[Remembered], *, died: bool) -> ReadableSpan:
        """The span of the run, around all others; `died` where another run of this id took over."""
        is_job = bool(self.log.get("job"))
        key = semconv.JOB_NAME if is_job else semconv.PIPELINE_NAME
        tag = self.redactor.text(str(self.log.get("tag") or ""))
        attributes = spans.run_attributes(key, self.name, self._run_id, self._executor, tag, "")
        status = DIED if died else self._status(str(self.log["status"]), made)
        attributes[semconv.STATUS] = status
        attributes[semconv.CICD_PIPELINE_RESULT] = semconv.RESULT.get(status, "failure")
        started = min([self.run.started_ns, *(span.start_time or 0 for span in made)])
        ended = max([started, *(span.end_time or 0 for span in made)])
        links = [Link(_context(*each.root)) for each in before[-1:]]
        where = self.run.root.span_id, self.run.parent_id
        name = spans.span_name("job" if is_job else "pipeline", self.name)
        return self.span(name, where, attributes, (started, ended), links)

    @property
    def name(self) -> str:
        """What the run is called."""
        config = member(self.log, "run_config")
        known = (
            graph_of(self.log).get("name"),
            config.get("job_definition_file"),
            config.get("pipeline_definition_file"),
        )
        return self.run.name or self.redactor.text(str(next(filter(None, known), "pipeline")))

    @property
    def _executor(self) -> str:
        kind = "job_executor" if self.log.get("job") else "pipeline_executor"
        return str(member(member(self.log, "run_config"), kind).get("service_name", ""))

    @property
    def _run_id(self) -> str:
        return self.redactor.text(str(self.log["run_id"]))

    def _attempts(self, place: Place, command: str, task_type: str) -> Iterator[ReadableSpan]:
        step = str(place.log["internal_name"])
        name = spans.task_name(task_type, self.redactor.text(command[:4096]))
        shown = self.redactor.text(str(place.log.get("name") or step)) if task_type == "shell" else name
        for attempt in filter(self.is_ours, place.log.get("attempts") or ()):
            started, ended = nanoseconds(attempt["start_time"]), nanoseconds(attempt["end_time"])
            number = int(attempt["attempt_number"])
            where = Step(self.named(step), shown, self.named(place.branch), number)
            attributes = spans.task_attributes(self._run_id, where, name, task_type)
            attributes.pop(semconv.PROCESS_PID, None)  # that of this process would be a lie
            attributes[semconv.CICD_PIPELINE_NAME] = spans.text(self.name)
            attributes[semconv.EXECUTOR] = spans.text(self._executor)
            self._values(attributes, attempt)
            ids = self.run.root.attempt_span_id(step, number), place.parent
            yield self.span(spans.span_name("task", shown), ids, attributes, (started, max(started, ended)))

    def _values(self, attributes: dict[str, Any], attempt: Log) -> None:
        inputs = self._capture(member(attempt, "input_parameters"))
        attributes[semconv.INPUTS] = inputs.text
        truncated, redacted = inputs.truncated, inputs.redacted
        if attempt["status"] == "SUCCESS":
            attributes[semconv.STATUS] = semconv.SUCCESS
            if attempt.get("output_parameters"):
                outputs = self._capture(attempt["output_parameters"])
                attributes[semconv.OUTPUTS] = outputs.text
                truncated, redacted = truncated or outputs.truncated, redacted or outputs.redacted
        else:
            message = self.redactor.text(spans.text(attempt.get("message") or "the run log has no cause", 200))
            attributes[semconv.STATUS] = f"TaskFailed: {message}"
            attributes[semconv.ERROR_TYPE] = "TaskFailed"
        if truncated:
            attributes[semconv.TRUNCATED] = True
        if redacted:
            attributes[semconv.REDACTED] = True

    def _capture(self, parameters: Log) -> Captured:
        values = {name: OBJECT if each["kind"] == "object" else each["value"] for name, each in parameters.items()}
        return capture(values, self.settings.max_value_bytes, redactor=self.redactor, mode=self.mode)

    def composite(self, place: Place, *, empty_at: int = 0) -> Composite:
        """The spans of a composite node. It begins with its first attempt and ends with its last: the log says no more.

        Args:
            empty_at: when a branch is that has steps, but no attempt of this run; 0 leaves it out, and the node too
                where all are like that.
        """
        log, own = place.log, self.run.root.node_span_id("composite", place.log["internal_name"])
        made = Composite([], [])
        for name, inner in log["branches"].items():
            below = self.run.root.node_span_id("branch", name)
            places = self._places(inner["steps"], below, branch_graph(place.node, name), name)
            found = [span for each in places for span in self.step(each)]
            made.inside.extend(found)
            if not found and not (empty_at and inner["steps"]):
                continue
            short = name.rpartition(".")[2]
            known = {"map": _iterates(place.node), "loop": "round"}.get(str(log["step_type"]), "")
            step = Step(log["internal_name"], short, name)
            where = below, own
            made.around.append(self._around("branch", known or short, where, step, inner["status"], found, empty_at))
        if made.around or empty_at:
            step = Step(log["internal_name"], log["name"], place.branch)
            where = own, place.parent
            outer = self._around(log["step_type"], log["name"], where, step, log["status"], made.inside, empty_at)
            made.around.append(outer)
        return made

    def _around(
        self,
        kind: str,
        name: str,
        ids: tuple[int, int],
        step: Step,
        status: str,
        made: Sequence[ReadableSpan],
        empty_at: int,
    ) -> ReadableSpan:
        text = self.redactor.text
        shown = Step(self.named(step.name), text(step.short), self.named(step.branch))
        attributes = spans.step_attributes(self._run_id, shown)
        attributes[semconv.STATUS] = self._status(status, made)
        started = min((span.start_time or 0 for span in made), default=empty_at)
        ended = max((span.end_time or 0 for span in made), default=empty_at)
        return self.span(spans.span_name(kind, text(name)), ids, attributes, (started, ended))

    def _status(self, status: str, made: Sequence[ReadableSpan]) -> str:
        """Of a run or a node: success, the cause of a failure inside of it, or that it was not over."""
        if status == "SUCCESS":
            return semconv.SUCCESS
        failed = [span for span in made if span.status.status_code is StatusCode.ERROR]
        # On Argo runnable leaves a branch that failed as it was; that the run is over it says.
        if failed and "FAIL" in (status, self.log["status"]):
            return str(failed[-1].status.description)
        return DIED

    def span(
        self,
        name: str,
        ids: tuple[int, int],
        attributes: Mapping[str, Any],
        times: tuple[int, int],
        links: Sequence[Link] = (),
    ) -> ReadableSpan:
        """A span of this run: `ids` are its own and its parent's or 0, `times` start and end in ns since 1970."""
        trace_id, (own, parent) = self.run.root.trace_id, ids
        status = str(attributes[semconv.STATUS])
        failed = status not in (semconv.SUCCESS, semconv.SKIPPED, semconv.CANCELLED)
        return ReadableSpan(
            name=name,
            context=_context(trace_id, own),
            parent=_context(trace_id, parent) if parent else None,
            resource=self.resource,
            attributes={**attributes, **self.marks},
            links=links,
            status=Status(StatusCode.ERROR, status) if failed else Status(StatusCode.UNSET),
            start_time=times[0],
            end_time=times[1],
            instrumentation_scope=_SCOPE,
        )


def _context(trace_id: int, span_id: int) -> SpanContext:
    return SpanContext(trace_id, span_id, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _iterates(node: Log) -> str:
    """What a map calls its item."""
    return str(node.get("iterate_as") or "item")

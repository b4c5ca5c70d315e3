"""The scope of one attempt of a task step: what it is, gets and gives, and how it ends."""

from __future__ import annotations

import asyncio
import sys
import time
import types
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from opentelemetry import trace

from runnable_otel import semconv, spans
from runnable_otel.capture import Captured
from runnable_otel.errors import Failure
from runnable_otel.events import TASK_COMPLETED, TASK_ERROR, TASK_STARTED
from runnable_otel.jsontext import number
from runnable_otel.output import Output
from runnable_otel.propagation import context_from_environment
from runnable_otel.scopes import Scope, harmless, is_cancellation
from runnable_otel.spans import Origin, Step
from runnable_otel.telemetry import Telemetry


class TaskScope(Scope):
    """One attempt of a task step."""

    kind = "task"

    def __init__(self, telemetry: Telemetry, step: Step | None, name: str, task_type: str, command: str) -> None:
        super().__init__(telemetry)
        self.step, self.task_type, self.command = step, task_type, command
        self.name = name
        self.inputs: Captured | None = None
        self.outputs: Captured | None = None
        self.exit_code: int | None = None
        self.completed = False
        self.announced = False
        self.own_event_follows = False
        self.end_heard = False
        self._times_off = telemetry.times_off
        self.user_metrics: Mapping[str, object] = {}
        self.output: Output | None = None
        queue = telemetry.queue()
        self.queue = self.run.queue if queue is None and self.run else queue

    @property
    def run_id(self) -> str:
        return self.run.run_id if self.run else self.shown(self.telemetry.run_id())

    def opening(self) -> tuple[str, dict[str, Any]]:
        short = self.step.short if self.step and self.task_type == "shell" else self.name
        attributes = spans.task_attributes(self.run_id, self.step, self.name, self.task_type)
        # Whose task it is: a Collector counts span by span, and can't look at the run's.
        attributes.update(self.run.dimensions if self.run else {})
        return spans.span_name("task", short), attributes

    def start_span(self, name: str, attributes: Mapping[str, Any], **more: Any) -> None:
        span_id = 0
        if self.run is not None and self.step is not None:
            span_id = self.run.root.attempt_span_id(self.step.key + self.salt, self.step.attempt)
        context = None
        if self.run is None and not trace.get_current_span().get_span_context().is_valid:
            context = context_from_environment()
        super().start_span(name, attributes, context=context, span_id=span_id, **more)

    def opened(self) -> None:
        self.telemetry.metrics.task_started(self.dimensions)

    @cached_property
    def origin(self) -> Origin:
        assert self.ids is not None
        return Origin(self.ids, self.run_id, self.step, self.task_type)

    @cached_property
    def inputs_object(self) -> dict[str, Any] | None:
        """The inputs as events have them."""
        return spans.json_object(self.inputs)

    @cached_property
    def dimensions(self) -> dict[str, str]:
        run = self.run
        return {
            **(run.dimensions if run else {}),
            semconv.STEP_NAME: spans.text(self.step.short) if self.step else "",
            semconv.TASK_TYPE: self.task_type,
        }

    def started(self, params: Mapping[str, object]) -> None:
        """The task's inputs are known."""
        # runnable's run log counts a map's variable among the inputs of a function, not of a command or notebook.
        is_function = self.task_type in ("python", "async-python")
        maps: Mapping[str, Any] = self.step.maps if self.step and is_function else {}
        self.inputs = self.capture({**params, **maps})
        self.span.set_attribute(semconv.INPUTS, self.inputs.text)
        self._announce()

    def _announce(self) -> None:
        """Send the start, once; a task that fails before its inputs are known starts all the same."""
        if self.announced:
            return
        self.announced = True
        if self.telemetry.hub.wanted(self.queue):
            own = {"inputs": self.inputs_object}
            event = spans.start_event(TASK_STARTED, self.origin, self.started_ns, self.name, own)
            self.telemetry.hub.emit(event, self.queue)

    def succeeded(self, outputs: Mapping[str, object] | None, metrics: Mapping[str, object]) -> None:
        """The task returned. It is over, and a success, only when its span closes without a failure."""
        self.completed = True
        self.user_metrics = metrics
        if outputs:
            self.outputs = self.capture(outputs)

    @harmless
    def say(self, item: Mapping[str, Any]) -> None:
        """An event of the task's own goes on to the sinks."""
        if self.telemetry.hub.wanted():
            mode = self.telemetry.settings.capture
            self.telemetry.hub.emit(spans.custom_event(item, self.origin, time.time_ns(), self.redactor, mode))

    @harmless
    def listen(self) -> Output | None:
        """From now on what the task writes is sent, if that is wanted; None where it is not."""
        if self.output is None and self.telemetry.settings.logs and self.telemetry.hub.wanted(self.queue):
            # An asyncio.Queue may be touched only where its event loop runs.
            one_thread = isinstance(self.queue, asyncio.Queue)
            self.output = Output(self._wrote, lambda: self.redactor, one_thread=one_thread)
        return self.output

    def _wrote(self, stream: str, text: str) -> None:
        self.telemetry.hub.emit(spans.log_event(self.origin, time.time_ns(), self.name, stream, text), self.queue)

    def swallowed(self, exc: BaseException) -> None:
        """runnable catches this exception; the first one, which is the innermost, is the cause."""
        if self.failure is None and not is_cancellation(exc):
            self.failure = self._shell_failure(exc) or self.describe(exc)

    def _shell_failure(self, exc: BaseException) -> Failure | None:
        if not self.exit_code:
            return None
        stderr = self.describe(exc)
        how = f"exit status {self.exit_code}" if self.exit_code > 0 else f"killed by signal {-self.exit_code}"
        message = f"{how}: {stderr.message}" if stderr.message else how
        return Failure("CalledProcessError", "subprocess.CalledProcessError", message, stderr.message)

    def closing(self, exc: BaseException | None) -> tuple[str, bool]:
        self._announce()
        if self.output is not None:
            self.output.close()
        if self.exit_code is not None:
            self.attributes[semconv.PROCESS_EXIT_CODE] = self.exit_code
        self._locate()
        if exc is not None and is_cancellation(exc):
            return semconv.CANCELLED, False
        if exc is not None:
            self.failure = self.see(exc)
        elif self.failure is not None:
            self.record_exception(self.failure)
        elif self._is_unheard:
            return semconv.UNKNOWN, False
        elif not self.completed:
            self.failure = Failure("TaskFailed", "TaskFailed", "runnable reports no cause", "")
            self.record_exception(self.failure)
        if self.failure is not None:
            self.attributes[semconv.ERROR_TYPE] = self.failure.qualified
            return self.status_of(self.failure), True
        if self.outputs is not None:
            self.attributes[semconv.OUTPUTS] = self.outputs.text
        return semconv.SUCCESS, False

    @property
    def _is_unheard(self) -> bool:
        """Whether runnable may have said how the task ended when nobody heard it: the hooks went off meanwhile."""
        return not self.end_heard and self.telemetry.times_off != self._times_off

    def _measured(self) -> Iterator[tuple[str, object]]:
        """What the task measured, but for numbers that look secret or are called so."""
        for name, value in self.user_metrics.items():
            kind = type(value)
            if (kind is int or kind is float) and not self.redactor.key(name):
                text = number(kind, value)[0]
                if self.redactor.text(text) is text:
                    yield self.shown(name), value

    @harmless
    def _locate(self) -> None:
        """Where the task's function stands; known once runnable has imported it."""
        if self.task_type not in ("python", "async-python") or not self.span.is_recording():
            return
        module, _, name = self.command.rpartition(".")
        function = vars(sys.modules.get(module, types)).get(name)
        if isinstance(function, types.FunctionType):
            self.attributes[semconv.CODE_FILE_PATH] = spans.text(self.shown(function.__code__.co_filename))
            self.attributes[semconv.CODE_LINE_NUMBER] = function.__code__.co_firstlineno

    def closed(self, status: str, failed: bool, ended_ns: int) -> None:
        self._announce()
        result = "failure" if failed else semconv.RESULT.get(status, "failure")
        error = self.failure.qualified if failed and self.failure else ""
        self.telemetry.metrics.task_ended(self.dimensions, result, (ended_ns - self.started_ns) / 1e9, error)
        shows_values = self.telemetry.settings.capture == "values"
        if self.user_metrics and shows_values and not failed and status != semconv.CANCELLED:
            self.telemetry.metrics.user_metrics(self.dimensions, dict(self._measured()))
        queue = self.queue
        if status == semconv.UNKNOWN and self._is_unheard and queue is self.telemetry.queue():
            queue = None  # without our hooks runnable has put an event of its own there, which knows the end
        if self.telemetry.hub.wanted(queue):
            kind = TASK_ERROR if failed or status == semconv.CANCELLED else TASK_COMPLETED
            own = {**self._ended_as(status, failed), "inputs": self.inputs_object}
            event = spans.end_event(kind, self.origin, self.started_ns, ended_ns, self.name, own)
            self.telemetry.hub.emit(event, queue)

    def _ended_as(self, status: str, failed: bool) -> dict[str, Any]:
        if failed and self.failure:
            return {"error": status, "stack_trace": self.failure.stacktrace or None}
        if failed or status == semconv.CANCELLED:
            return {"error": status}
        if status == semconv.UNKNOWN:
            return {"status": status}
        return {"outputs": spans.json_object(self.outputs)}

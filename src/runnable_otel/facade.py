"""What runnable sees under the name `logfire`: its runs, tasks and log messages become spans, attributes and events.

runnable calls `logfire.span("task:{task_name}", …)` around a task and `logfire.info("Task started", inputs=…)` inside.
The facade answers these calls on the OpenTelemetry API, with logfire installed or not, so that both give one trace.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from functools import partial
from typing import Any

from opentelemetry import trace

from runnable_otel import spans
from runnable_otel.capture import OBJECT, clip
from runnable_otel.naming import run_name
from runnable_otel.run_scope import RunScope
from runnable_otel.scopes import Scope, current, harmless, redactor_of
from runnable_otel.spans import Step
from runnable_otel.task_scope import TaskScope
from runnable_otel.telemetry import Telemetry
from runnable_otel.user_span import UserSpan

step: ContextVar[tuple[Step, Any] | None] = ContextVar("runnable_otel_step", default=None)
"""The step whose executable runs next, and that executable: set around `TaskNode.execute` and `execute_job`."""

_LEVELS = ("trace", "debug", "info", "notice", "warn", "warning", "error", "exception", "fatal")


class Parameters(dict[str, object]):
    """Parameters as plain values, not yet serialised: what `_safe_serialize_params` gives to the facade."""

    __slots__ = ("metrics",)

    def __init__(self, params: Mapping[str, Any]) -> None:
        # An object parameter's value would be loaded from the catalog: it shows as <object>.
        super().__init__((name, OBJECT if each.kind == "object" else each.value) for name, each in params.items())
        self.metrics = {name: self[name] for name, each in params.items() if each.kind == "metric"}


def run_scope(telemetry: Telemetry, kind: str, *, submits: bool | None = None, seed: str = "") -> RunScope:
    """The scope of the run that runnable's context describes.

    Args:
        kind: `pipeline` or `job`.
        submits: whether this process only submits it; unless told, as its executor says.
        seed: what the processes of the run have in common; see `RunScope`.
    """
    context: Any = sys.modules["runnable.context"].get_run_context()
    executor = context.job_executor if kind == "job" else context.pipeline_executor
    if submits is None:
        submits = not getattr(executor, "_should_setup_run_log_at_traversal", True)
    return RunScope(
        telemetry,
        kind=kind,
        name=run_name(context),
        run_id=context.run_id,
        executor=type(executor).__name__,
        tag=context.tag or "",
        retried=bool(context.is_retry),
        submits=submits,
        seed=seed,
        dag=getattr(context, "dag", None),
    )


class Facade:
    """Stands in for the `logfire` module in `runnable.tasks` and `runnable.context`."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.telemetry = telemetry

    def span(self, template: str, /, **attributes: Any) -> AbstractContextManager[Any]:
        """Open a run or a task; any other span of runnable's is a plain one."""
        scope = self._scope(template, attributes)
        return nullcontext() if scope is None else scope

    @harmless
    def _scope(self, template: str, attributes: Mapping[str, Any]) -> AbstractContextManager[Any] | None:
        if template == "task:{task_name}":
            return self._task(attributes)
        if template in ("pipeline:{pipeline_name}", "job:{job_name}"):
            return run_scope(self.telemetry, template.partition(":")[0])
        return UserSpan(self.telemetry, template, attributes)

    def _task(self, attributes: Mapping[str, Any]) -> TaskScope:
        task_type = str(attributes.get("task_type", ""))
        known = step.get()
        # runnable cuts a shell command before it gets here; the executable has the whole of it.
        command = getattr(known[1], "command", None) if known else None
        command = command if isinstance(command, str) else str(attributes.get("task_name", ""))
        # A command may hold a secret. Beyond what is shown, enough is looked at that no cut can hide its nature.
        name = spans.task_name(task_type, redactor_of(self.telemetry).text(command[:4096]))
        return TaskScope(self.telemetry, known[0] if known else None, name, task_type, command)

    def log(self, level: str, template: str, /, attributes: Mapping[str, Any] | None = None, **more: Any) -> None:
        """One of runnable's log messages: a span event, and for a task what it says."""
        self._message(template, {**(attributes or {}), **more})

    @harmless
    def _message(self, template: str, attributes: Mapping[str, Any]) -> None:
        scope = current.get()
        if scope is None:
            return
        scope.span.add_event(clip(template, 128))
        if isinstance(scope, TaskScope):
            self._task_message(scope, template, attributes)

    def _task_message(self, scope: TaskScope, template: str, attributes: Mapping[str, Any]) -> None:
        if template == "Task started":
            scope.started(attributes.get("inputs") or {})
        elif template == "Task completed":
            outputs = attributes.get("outputs")
            scope.succeeded(outputs, outputs.metrics if isinstance(outputs, Parameters) else {})
        elif template == "Task failed":
            exc = sys.exc_info()[1]
            if exc is not None:
                scope.swallowed(exc)
        else:
            return
        scope.end_heard = template != "Task started"
        # runnable puts an event of its own next: ours, with the same facts, is the one that goes out.
        scope.own_event_follows = True

    def __getattr__(self, name: str) -> Any:
        if name in _LEVELS:
            return partial(self.log, name)
        raise AttributeError(name)


def task_event(telemetry: Telemetry, original: Callable[[dict[str, Any]], None], event: dict[str, Any]) -> None:
    """An event that runnable puts into the caller's queue: its own are the facade's, a task's own passes unchanged."""
    _rich_traceback_omit = True
    scope = current.get()
    if not isinstance(scope, TaskScope):
        original(event)
    elif scope.own_event_follows:
        scope.own_event_follows = False
    else:
        if scope.queue is not None:
            telemetry.hub.put(event, scope.queue)
        scope.say(event)


def shim_methods(telemetry: Telemetry) -> dict[str, Callable[..., Any]]:
    """What the methods of `logfire_api`'s stand-in become: inside a run they make spans and events, else nothing."""

    def span(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        _rich_traceback_omit = True
        del instance
        scope: Scope | None = current.get()
        if scope is None or not args or not isinstance(args[0], str):
            return wrapped(*args, **kwargs)
        public = {name: value for name, value in kwargs.items() if not name.startswith("_")}
        return UserSpan(telemetry, args[0], public, wrapped(*args, **kwargs))

    def message(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        _rich_traceback_omit = True
        del instance
        if current.get() is not None and args and isinstance(args[0], str):
            harmless(_user_message)(telemetry, args[0])
        return wrapped(*args, **kwargs)

    return {"span": span, **dict.fromkeys(_LEVELS, message)}


def _user_message(telemetry: Telemetry, template: str) -> None:
    trace.get_current_span().add_event(clip(redactor_of(telemetry).text(template[:4096]), 256))
